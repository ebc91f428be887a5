//! The calls into libc and the kernel, each behind a safe function. None of them allocates from the heap.

use core::ffi::{CStr, c_void};
use core::mem::MaybeUninit;

/// Stack of the thread: enough for malloc_trim, which walks lists.
const STACK_BYTES: usize = 64 << 10;

/// Bytes of an environment variable.
pub(crate) fn variable(name: &CStr) -> Option<&'static [u8]> {
    // SAFETY: a C string; called before the program runs, so nothing changes the environment meanwhile.
    unsafe {
        let text = libc::getenv(name.as_ptr());
        (!text.is_null()).then(|| CStr::from_ptr(text).to_bytes())
    }
}

/// Starts a detached thread in which every signal is blocked. Where it cannot be started, none runs: the program's own
/// work goes first.
pub(crate) fn start_thread(entry: extern "C" fn(*mut c_void) -> *mut c_void, argument: *mut c_void) {
    // SAFETY: every value is initialised by the call before it is used; the mask is inherited by the new thread and put
    // back in this one.
    unsafe {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        let mut attributes = MaybeUninit::uninit();
        let mut thread = MaybeUninit::uninit();
        libc::sigfillset(all.as_mut_ptr());
        if libc::pthread_attr_init(attributes.as_mut_ptr()) != 0
            || libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) != 0
        {
            return;
        }
        libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK_BYTES);
        libc::pthread_attr_setdetachstate(attributes.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
        libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), entry, argument);
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), core::ptr::null_mut());
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
    }
}

/// The monotonic clock.
pub(crate) fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: an out-parameter of the right type.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The monotonic clock as the kernel has it: what a call has cost stays the machine's time where the program answers for the
/// C library's clock.
pub(crate) fn wall_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: an out-parameter of the right type.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Sleeps until a moment of the monotonic clock.
pub(crate) fn sleep_until(at_ns: u64) {
    let at = libc::timespec { tv_sec: (at_ns / 1_000_000_000) as _, tv_nsec: (at_ns % 1_000_000_000) as _ };
    // SAFETY: a valid time; no remainder is asked for, since the time is absolute. No signal reaches this thread.
    unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &raw const at, core::ptr::null_mut()) };
}

/// glibc's `malloc_trim(0)`.
pub(crate) fn malloc_trim() {
    // SAFETY: takes an integer.
    unsafe { libc::malloc_trim(0) };
}
