//! Telling the processor what is read soon, and the file system what is not read again.

use std::fs::File;
use std::os::fd::AsRawFd;

/// Brings the cache line of `it` nearer. Only a hint: what it points to is not used.
#[inline(always)]
pub(super) fn prefetch<T>(it: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction exists on every x86-64 and cannot fault; the address is a reference's.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(it).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = it;
}

/// Gives the space of whole pages within a part of a file back; they read as zeros. Some file systems cannot do that.
pub(super) fn punch(file: &File, at: u64, len: u64) -> std::io::Result<()> {
    const PAGE: u64 = 4096;
    let (from, to) = (at.next_multiple_of(PAGE), (at + len) / PAGE * PAGE);
    if from >= to {
        return Ok(());
    }
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: a system call on an open descriptor; no memory is passed.
    let done = unsafe { libc::fallocate64(file.as_raw_fd(), mode, from as i64, (to - from) as i64) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
