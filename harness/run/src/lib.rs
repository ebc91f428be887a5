//! From a plan to records: order the runs, start a worker for each, sample it from outside, keep what it was.
//!
//! It refuses to plot, to judge and to run anything inside this process: what is measured is always a fresh
//! process, a worker or a command of the user's.

mod agreement;
mod badcase;
mod binary;
mod command;
mod course;
mod environment;
mod execute;
mod host;
mod merge;
mod metrics;
mod placement;
mod plan;
mod results;
mod rung;
mod sampler;
mod shard;
mod sys;
mod worker;

pub use agreement::Agreement;
pub use badcase::{CaseRun, case_figures, case_runs, median_figures, spread_figures};
pub use binary::WorkerBinary;
pub use command::{CommandRun, OwnMalloc, Program, ProgramError, command_environments, run_command};
pub use course::{RunLimits, run_once, run_watched};
pub use environment::environments;
pub use execute::{Event, Execution, Runner, WorkerRunner, execute};
pub use host::{build_id, host, library_fact, own_libc, own_libc_file};
pub use merge::{Merged, Source, merge};
pub use plan::{Selection, add_block, build};
pub use results::ResultDir;
pub use rung::add_rung_block;
pub use shard::{shard_of, take_shard, whole_plan};
pub use worker::{allocator_version, check, describe, describe_cases};
