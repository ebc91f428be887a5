//! `fragbench`: what a server's allocator does with its memory, measured.
//!
//! One file a subcommand below `cmd`. Exit status: 0 success, 1 the thing asked about failed or fell short,
//! 2 wrong usage.

// What is printed goes through `output`, which shows what would act on a terminal.
#![warn(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod output;

mod arguments;
mod blocks;
mod cases;
mod cmd;
mod command;
mod companions;
mod conclude;
mod emission;
mod environments;
mod freeze;
mod generated;
mod glibc;
mod heap_stages;
mod huge_pages;
mod interrupt;
mod limits;
mod nearest;
mod option_file;
mod options;
mod parameters;
mod parquet_file;
mod progress;
mod recorded;
mod recording;
mod same_load;
mod sizes;
mod sys;
mod there;
mod thrift;
mod tuning;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Allocator benchmarks and fragmentation reproductions for servers that hold more memory than they use.
#[derive(Parser)]
#[command(name = "fragbench", version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Run(cmd::run::Run),
    List(cmd::list::List),
    Badcase(cmd::badcase::Badcase),
    Record(cmd::record::Record),
    Trace(cmd::trace::Trace),
    Replay(cmd::replay::Replay),
    Compare(Box<cmd::compare::Compare>),
    Merge(cmd::merge::Merge),
    Report(cmd::report::Report),
    Diff(cmd::diff::Diff),
    Inspect(cmd::inspect::Inspect),
    Trim(cmd::trim::Trim),
    Syscalls(cmd::syscalls::Syscalls),
    Watch(cmd::watch::Watch),
    Export(cmd::export::Export),
    Tune(Box<cmd::tune::Tune>),
    Doctor(cmd::doctor::Doctor),
    #[cfg(feature = "dist")]
    #[command(hide = true)]
    Generate(cmd::generate::Generate),
}

/// How a verb ended when no error stopped it.
pub(crate) enum Outcome {
    /// Exit status 0.
    Success,
    /// The thing asked about failed or fell short: exit status 1.
    FellShort,
    /// The exit status of a program that was run.
    Status(u8),
}

/// An error in what the user asked for, told apart from a failure of what was done: exit status 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Makes an error a matter of usage.
pub(crate) fn usage(error: impl std::fmt::Display) -> anyhow::Error {
    Usage(error.to_string()).into()
}

/// `--version --verbose`, which the parser would answer by the version alone.
fn wants_versions() -> bool {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let either = |short: &str, long: &str| arguments.iter().any(|a| a == short || a == long);
    arguments.len() == 2 && either("-V", "--version") && either("-v", "--verbose")
}

fn main() -> ExitCode {
    if wants_versions() {
        match cmd::doctor::versions() {
            Ok(text) => put!("{text}"),
            Err(error) => note!("fragbench: {error:#}"),
        }
        return ExitCode::SUCCESS;
    }
    let cli = match arguments::parse() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let outcome = match cli.verb {
        Verb::Run(verb) => verb.go(),
        Verb::List(verb) => verb.go(),
        Verb::Badcase(verb) => verb.go(),
        Verb::Record(verb) => verb.go(),
        Verb::Trace(verb) => verb.go(),
        Verb::Replay(verb) => verb.go(),
        Verb::Compare(verb) => verb.go(),
        Verb::Merge(verb) => verb.go(),
        Verb::Report(verb) => verb.go(),
        Verb::Diff(verb) => verb.go(),
        Verb::Inspect(verb) => verb.go(),
        Verb::Trim(verb) => verb.go(),
        Verb::Syscalls(verb) => verb.go(),
        Verb::Watch(verb) => verb.go(),
        Verb::Export(verb) => verb.go(),
        Verb::Tune(verb) => verb.go(),
        Verb::Doctor(verb) => verb.go(),
        #[cfg(feature = "dist")]
        Verb::Generate(verb) => verb.go(),
    };
    match outcome {
        Ok(Outcome::Success) => ExitCode::SUCCESS,
        Ok(Outcome::FellShort) => ExitCode::from(1),
        Ok(Outcome::Status(status)) => ExitCode::from(status),
        Err(error) => {
            // A reader that closed the pipe early (head, less) is no failure worth a word.
            let closed = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
            if error.chain().any(|cause| cause.downcast_ref().is_some_and(closed)) {
                return ExitCode::SUCCESS;
            }
            note!("fragbench: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}
