//! Signals and named pipes, behind safe calls.

use std::ffi::CString;
use std::io::{Error, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Sends a signal to a child we have not yet waited for.
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: a plain system call; a process that has just ended gives ESRCH, which needs no answer.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Makes a named pipe.
pub(crate) fn named_pipe(path: &Path) -> Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a C string that outlives the call.
    if unsafe { libc::mkfifo(path.as_ptr(), 0o600) } == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
