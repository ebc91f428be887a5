//! Whether the process that a command is about is there.

use anyhow::{Result, anyhow};
use fragbench_proc::{ProcError, Process};

/// Refuses a process that is not there, before anything is begun.
///
/// # Errors
/// Says whether it never was or has ended, and how to find one that runs.
pub(crate) fn require(pid: u32) -> Result<()> {
    if Process::live(pid).runs() { Ok(()) } else { Err(gone(pid)) }
}

/// An error in reading a process, by its number rather than by the file that failed.
pub(crate) fn explain(pid: u32, error: ProcError) -> anyhow::Error {
    match error {
        ProcError::Gone(_) => gone(pid),
        other => other.into(),
    }
}

fn gone(pid: u32) -> anyhow::Error {
    if Process::live(pid).is_listed() {
        return anyhow!("process {pid} has ended and waits for its parent: it has no memory any more");
    }
    anyhow!("there is no process {pid} (any more): `ps -e` lists those there are, `pidof -s NAME` finds one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_there_or_it_is_said() {
        assert!(require(std::process::id()).is_ok());
        assert!(require(i32::MAX as u32).is_err_and(|error| error.to_string().contains("pidof")));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        while Process::live(pid).runs() {
            std::thread::yield_now();
        }
        assert!(require(pid).is_err_and(|error| error.to_string().contains("waits for its parent")));
        child.wait().unwrap();
    }
}
