//! From a plan to records: order the runs, start a worker for each, sample it from outside, keep what it was.
//!
//! It refuses to plot, to judge and to run anything inside this process: what is measured is always a fresh
//! process, a worker or a command of the user's.

mod badcase;
mod campaign;
mod command;
mod complaint;
mod host;
mod merge;
pub mod places;
mod plan;
mod program;
mod results;
mod session;
mod shard;
mod sys;
mod worker;

pub use badcase::{
    CaseRun, PlannedCase, case_conditions, case_figures, case_runs, median_figures, planned_cases, spread_figures,
};
pub use campaign::{
    Campaign, Ending, Event, Order, Outlook, Resolve, Runner, Schedule, Search, StoppingRule, finalists,
};
pub use command::{CommandRunner, left_out};
pub use host::{build_id, host, library_fact, own_glibc, own_libc, own_libc_file};
pub use merge::{Merged, Source, merge};
pub use plan::{Selection, add_block, build, of_cells};
pub use program::{OwnMalloc, Program, ProgramError, is_musl_loader, program_file};
pub use results::{Conditions, ResultDir, default_directory, new_manifest, note_versions, unix_now};
pub use session::RunLimits;
pub use shard::{shard_of, take_shard, whole_plan};
pub use worker::{OnBarrier, WorkerBinary, WorkerRunner, allocator_version, check, describe, describe_cases};
