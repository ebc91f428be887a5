//! A run of a user's command: started under an environment, watched from outside with all its descendants, and recorded in
//! the form of any other run.
//!
//! A program runs to its end. A server is started, loaded once it is ready, watched for a quiet stretch, and stopped.

mod asked;
mod caller;
mod files;
mod fits;
mod image;
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

/// Marks what is started beside a run, so that what it leaves behind is not taken for the command's.
pub(crate) const MARK: &str = "FRAGBENCH_COMMAND";
/// Its value.
pub(crate) const ASIDE: &str = "aside";

/// The words that start a command under an allocator: another C library's loader first, where there is one.
pub(crate) fn words(allocator: &Allocator, command: &CommandSpec, program: &Program) -> Vec<OsString> {
    let mut words = fragbench_allocators::command(allocator, &program.file);
    words.extend(command.words.iter().skip(1).map(OsString::from));
    words
}

/// This process's environment, as far as it is text.
fn own_environment() -> BTreeMap<String, String> {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}

/// What of the caller's own settings of allocators is left out of which cells of a plan of commands: a sentence each.
pub fn left_out(cells: &[Cell]) -> Vec<String> {
    let of_commands = cells.iter().filter(|cell| cell.workload.command().is_some()).map(|cell| &cell.allocator);
    caller::left_out(&own_environment(), of_commands)
}

/// The environment of each cell's command, padded to equal size: the caller's, less what would change what the cell is about,
/// and what the cell's allocator needs.
fn command_environments(cells: &[Cell], programs: &BTreeMap<String, Program>) -> Vec<BTreeMap<String, String>> {
    let base = own_environment();
    let bare: Vec<(BTreeMap<String, String>, Vec<OsString>)> = cells
        .iter()
        .map(|cell| {
            let environment = caller::environment(&base, &cell.allocator);
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
    /// What of it is the cell's.
    variables: &'a BTreeMap<String, String>,
    /// Milliseconds of quiet between the load's end and the stop of a server.
    idle_ms: u64,
}
