//! Why a process was not asked, and in which state it was left.

use std::time::Duration;

use fragbench_inspect::InspectError;
use fragbench_proc::ProcError;

use crate::Busy;

/// Errors of this crate. In every case the process runs on as if nothing had been tried, unless
/// [`AskError::Unsound`] says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Its heap or its state cannot be read.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// There is no gdb.
    #[error("`{0}` is not there; install gdb (Debian: apt install gdb) or name one with --gdb")]
    NoGdb(String),
    /// The kernel forbids it.
    #[error("process {pid} may not be traced: {why}; {fix}")]
    Forbidden {
        /// Process.
        pid: u32,
        /// What forbids it.
        why: String,
        /// The one command that changes it.
        fix: String,
    },
    /// Somebody else traces it, or it is stopped.
    #[error("process {pid} is {state}; {fix}")]
    NotFree {
        /// Process.
        pid: u32,
        /// What it is.
        state: String,
        /// What to do.
        fix: String,
    },
    /// It is of a kind that cannot be recorded by attachment.
    #[error("process {pid} cannot be attached to: {why}; {fix}")]
    Unsuited {
        /// Process.
        pid: u32,
        /// What speaks against it.
        why: String,
        /// What can be done.
        fix: String,
    },
    /// The file that holds malloc does not export a function.
    #[error("{object} exports no `{function}`, so it cannot be called; is this glibc?")]
    NoFunction {
        /// File.
        object: String,
        /// Function.
        function: &'static str,
    },
    /// malloc is an allocator's that cannot be asked.
    #[error("malloc of process {pid} is {allocator}'s: {why}")]
    NotAsked {
        /// Process.
        pid: u32,
        /// Allocator.
        allocator: String,
        /// Why not, and what can be done.
        why: String,
    },
    /// A thread was inside malloc at every look.
    #[error(
        "refused: {busy} at each of {looks} looks, and a call could wait for that for ever; nothing was called, the \
         process runs on. Try when it is less busy, or with a longer --patience"
    )]
    Busy {
        /// What was seen last.
        busy: Busy,
        /// How often was looked.
        looks: u64,
    },
    /// The limit has passed; the process runs on as before.
    #[error(
        "{what} was not done within {} s; gdb has been ended and the process is running again{after}",
        limit.as_secs_f64()
    )]
    Timeout {
        /// What was under way.
        what: String,
        /// Limit.
        limit: Duration,
        /// What became of the call.
        after: &'static str,
    },
    /// gdb refused something.
    #[error("gdb, asked for {what}: {said}")]
    Gdb {
        /// What was asked.
        what: String,
        /// Its answer.
        said: String,
    },
    /// gdb could not be spoken with.
    #[error("gdb: {0}")]
    Io(#[from] std::io::Error),
    /// The process is not as it was before.
    #[error("process {pid} was not left as it was found: {why}")]
    Unsound {
        /// Process.
        pid: u32,
        /// What is wrong.
        why: String,
    },
}

impl From<ProcError> for AskError {
    fn from(error: ProcError) -> Self {
        AskError::Inspect(error.into())
    }
}
