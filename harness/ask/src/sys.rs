//! Signals, behind a safe call.

/// Sends a signal to a process that is there (one we started and have not waited for, or the one that was asked).
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: a plain system call; a process that has just ended gives ESRCH, which needs no answer.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}
