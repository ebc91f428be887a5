//! A futex mutex that fits in zeroed memory. Its holders block all signals ([`Quiet`](crate::raw::Quiet)), so it is
//! safe to take from a signal handler. Not fair, never held for longer than some writes.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::raw;

/// 0 free, 1 held, 2 held and waited for.
#[repr(transparent)]
pub(crate) struct Lock(AtomicU32);

pub(crate) struct Held<'a>(&'a Lock);

impl Lock {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    pub(crate) fn hold(&self) -> Held<'_> {
        if self.0.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            while self.0.swap(2, Ordering::Acquire) != 0 {
                let args = [self.0.as_ptr() as usize, libc::FUTEX_WAIT as usize, 2, 0, 0, 0];
                // SAFETY: waits on our own word.
                unsafe { raw::syscall(libc::SYS_futex, args) };
            }
        }
        Held(self)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.0.0.swap(0, Ordering::Release) == 2 {
            let args = [self.0.0.as_ptr() as usize, libc::FUTEX_WAKE as usize, 1, 0, 0, 0];
            // SAFETY: wakes waiters of our own word.
            unsafe { raw::syscall(libc::SYS_futex, args) };
        }
    }
}
