//! The kernel's side of waiting: thread ids and absolute sleeps.

/// The kernel's number of this thread.
pub(crate) fn thread_id() -> u32 {
    // By number: glibc has the function since 2.30 only. SAFETY: no arguments, no effects.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// Whether a thread of this process has ended altogether, libc's tear-down of its arena and tcache included.
pub(crate) fn thread_is_gone(id: u32) -> bool {
    // SAFETY: signal 0 is never delivered; the call only looks the thread up.
    let status = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id as libc::pid_t, 0) };
    status != 0
}

/// Lets another thread run.
pub(crate) fn yield_now() {
    // SAFETY: no arguments.
    unsafe {
        libc::sched_yield();
    }
}

/// Sleeps until `CLOCK_MONOTONIC` shows `ns`.
pub(crate) fn sleep_until(ns: u64) {
    let time =
        libc::timespec { tv_sec: (ns / 1_000_000_000) as libc::time_t, tv_nsec: (ns % 1_000_000_000) as libc::c_long };
    // SAFETY: the time is valid for the call. A sleep to an absolute time is taken up again after a signal.
    while unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &time, std::ptr::null_mut()) }
        == libc::EINTR
    {}
}
