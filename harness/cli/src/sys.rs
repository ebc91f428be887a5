//! System calls of this room without a safe wrapper in the standard library.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Waits for the end of a process with a limit (`pidfd_open(2)`).
pub(crate) struct EndWatch(OwnedFd);

impl EndWatch {
    /// Watches a child we have not yet waited for.
    pub(crate) fn new(pid: u32) -> io::Result<Self> {
        // SAFETY: a plain system call; the result is checked.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Whether it has ended, waited for up to `limit`; a signal ends the wait early.
    pub(crate) fn within(&self, limit: Duration) -> io::Result<bool> {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let millis = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid pollfd.
        match unsafe { libc::poll(&mut poll, 1, millis) } {
            0 => Ok(false),
            n if n > 0 => Ok(true),
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => Ok(false),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Passes a signal on to a process we started and have not yet waited for.
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: a plain system call; a process that has just ended gives ESRCH, which needs no answer.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Waits for a child that has ended, if it has.
pub(crate) fn reap(pid: u32) {
    // SAFETY: a plain system call that does not wait; a child of another name gives ECHILD, which needs no answer.
    unsafe { libc::waitpid(pid as libc::pid_t, std::ptr::null_mut(), libc::WNOHANG) };
}

/// From now on processes whose parent ends become children of this one (`PR_SET_CHILD_SUBREAPER`). Where the kernel refuses,
/// they become init's.
pub(crate) fn adopt_orphans() {
    // SAFETY: a plain system call with numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// Effective user id of this process.
pub(crate) fn effective_uid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

/// `CLOCK_MONOTONIC`, nanoseconds: the recorder's clock.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec and the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Now, by the local clock, in a format of `strftime(3)` whose text is shorter than 64 bytes.
pub(crate) fn local_time(format: &str) -> String {
    let Ok(format) = std::ffi::CString::new(format) else { return String::new() };
    let mut text = [0_u8; 64];
    // SAFETY: `tm` is plain data for which zero is valid; `time` with a null pointer only returns the time.
    let (mut tm, now) = unsafe { (std::mem::zeroed(), libc::time(std::ptr::null_mut())) };
    // SAFETY: both pointers are valid; what does not fit is not written, and 0 returned.
    let length = unsafe {
        libc::localtime_r(&now, &mut tm);
        libc::strftime(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), &tm)
    };
    String::from_utf8_lossy(&text[..length]).into_owned()
}

/// Version of the C library this program runs on.
pub(crate) fn libc_version() -> String {
    // SAFETY: returns a static C string.
    unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) }.to_string_lossy().into_owned()
}
