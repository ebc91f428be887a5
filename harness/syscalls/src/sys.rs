//! Signals, named pipes and children that end with us, behind safe calls.

use std::ffi::CString;
use std::io::{Error, Result};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The child gets `signal` when this process ends, however it ends: a tracer that outlives us would keep its hold on the
/// process it traces (`PR_SET_PDEATHSIG`, prctl(2)). It is sent when the thread that spawns ends, so that one has to stay
/// until the child has ended.
pub(crate) fn end_with_us(command: &mut Command, signal: i32) {
    let us = std::process::id();
    let prepare = move || {
        // SAFETY: a plain system call; its result is checked.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong) } != 0 {
            return Err(Error::last_os_error());
        }
        // We may have ended before that was set; whoever the parent is now, it is not us.
        // SAFETY: always succeeds.
        if unsafe { libc::getppid() } as u32 != us {
            return Err(Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes two system calls and takes no memory.
    unsafe { command.pre_exec(prepare) };
}

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
