//! From a plan to records: order the runs, start a worker for each, sample it from outside, keep what it was.
//!
//! It refuses to plot, to judge and to run anything inside this process: what is measured is always a fresh
//! process, a worker or a command of the user's.

mod badcase;
mod campaign;
mod command;
mod host;
mod merge;
mod plan;
mod program;
mod results;
mod shard;
mod sys;
mod worker;

pub use badcase::{CaseRun, case_conditions, case_figures, case_runs, case_spec, median_figures, spread_figures};
pub use campaign::{Agreement, Event, Execution, Runner, WorkerRunner, add_rung_block, execute};
pub use command::{CommandRun, command_environments, run_command};
pub use host::{build_id, host, library_fact, own_libc, own_libc_file};
pub use merge::{Merged, Source, merge};
pub use plan::{Selection, add_block, build};
pub use program::{OwnMalloc, Program, ProgramError, is_musl_loader, program_file};
pub use results::ResultDir;
pub use shard::{shard_of, take_shard, whole_plan};
pub use worker::{
    RunLimits, WorkerBinary, allocator_version, check, describe, describe_cases, environments, run_once, run_watched,
};
