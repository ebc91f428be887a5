//! `process_vm_readv`, behind a safe call.

use std::io::{Error, Result};

use crate::target::Part;

/// Entries the kernel takes in one call (`UIO_MAXIOV`).
const MOST: usize = 1024;

/// Reads every part it can from another process. A part that cannot be read whole is left not done, and the next one is
/// tried.
///
/// # Errors
/// Anything but an address that is not there.
pub(crate) fn read_process(pid: u32, parts: &mut [Part<'_>]) -> Result<()> {
    let mut next = 0;
    while next < parts.len() {
        let end = parts.len().min(next + MOST);
        let batch = &mut parts[next..end];
        let entry = |base: *mut u8, len: usize| libc::iovec { iov_base: base.cast(), iov_len: len };
        let local: Vec<_> = batch.iter_mut().map(|p| entry(p.into.as_mut_ptr(), p.into.len())).collect();
        let remote: Vec<_> = batch.iter().map(|p| entry(p.address as *mut u8, p.into.len())).collect();
        // SAFETY: the local entries are exclusive borrows that outlive the call; the kernel checks the remote ones and
        // never writes to them.
        let got = unsafe {
            libc::process_vm_readv(
                pid as libc::pid_t,
                local.as_ptr(),
                local.len() as libc::c_ulong,
                remote.as_ptr(),
                remote.len() as libc::c_ulong,
                0,
            )
        };
        let mut left = match usize::try_from(got) {
            Ok(bytes) => bytes,
            Err(_) => match Error::last_os_error() {
                e if e.raw_os_error() == Some(libc::EFAULT) => 0,
                e => return Err(e),
            },
        };
        let mut done = 0;
        for part in batch.iter_mut() {
            let Some(rest) = left.checked_sub(part.into.len()) else { break };
            left = rest;
            part.done = true;
            done += 1;
        }
        // The first part that was not read is the one at fault.
        next += if done == batch.len() { done } else { done + 1 };
    }
    Ok(())
}
