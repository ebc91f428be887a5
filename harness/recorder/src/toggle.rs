//! The signal that starts and stops recording.

use core::ptr;

use crate::process::PROCESS;

/// Takes the signal over. A program that later installs a handler of its own for it takes it back.
pub(crate) fn listen(signal: i32) {
    // SAFETY: all-zero bytes are a valid `sigaction`; the handler only does what is allowed in one.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(i32) as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal, &raw const action, ptr::null_mut());
    }
}

extern "C" fn on_signal(_: i32) {
    PROCESS.toggle();
}
