//! A run of a user's command: started under an environment, watched from outside with all its descendants, and recorded in
//! the form of any other run.
//!
//! A program runs to its end. A server is started, loaded once it is ready, watched for a quiet stretch, and stopped.

mod inside;
mod launch;
mod metrics;
mod runner;
mod session;
mod tree;

use std::collections::BTreeMap;
use std::ffi::OsString;

use fragbench_model::{Allocator, Cell, CommandSpec};

use crate::program::Program;
pub use runner::CommandRunner;

/// Variables of the caller that would change an allocator behind the plan's back.
const CLEARED: [&str; 5] = ["MALLOC_", "GLIBC_TUNABLES", "MIMALLOC_", "TCMALLOC_", "FRAGBENCH_"];
/// Marks the processes of a run, so that one whose parent has left is still known as ours.
pub(crate) const MARK: &str = "FRAGBENCH_COMMAND";

/// The words that start a command under an allocator: another C library's loader first, where there is one.
pub(crate) fn words(allocator: &Allocator, command: &CommandSpec, program: &Program) -> Vec<OsString> {
    let mut words = fragbench_allocators::command(allocator, &program.file);
    words.extend(command.words.iter().skip(1).map(OsString::from));
    words
}

/// The environment of each cell's command, padded to equal size: the caller's, less what would change an allocator, and what
/// the cell's allocator needs.
fn command_environments(cells: &[Cell], programs: &BTreeMap<String, Program>) -> Vec<BTreeMap<String, String>> {
    let base: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| {
            name != fragbench_allocators::PRELOAD && !CLEARED.iter().any(|start| name.starts_with(start))
        })
        .collect();
    let bare: Vec<(BTreeMap<String, String>, Vec<OsString>)> = cells
        .iter()
        .map(|cell| {
            let environment =
                base.clone().into_iter().chain(fragbench_allocators::variables(&cell.allocator)).collect();
            let words = match (cell.workload.command(), programs.get(&cell.workload.name())) {
                (Some(command), Some(program)) => words(&cell.allocator, command, program),
                _ => Vec::new(),
            };
            (environment, words)
        })
        .collect();
    let padding = fragbench_allocators::padding(&bare);
    bare.into_iter().zip(padding).map(|((bare, _), padding)| bare.into_iter().chain(padding).collect()).collect()
}

/// What a run of a command needs.
struct CommandRun<'a> {
    command: &'a CommandSpec,
    program: &'a Program,
    allocator: &'a Allocator,
    /// The whole environment.
    environment: &'a BTreeMap<String, String>,
    /// Milliseconds of quiet between the load's end and the stop of a server.
    idle_ms: u64,
}
