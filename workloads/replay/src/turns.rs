//! First operations and exits of threads, one at a time and in recorded order.
//!
//! glibc gives a thread its arena at its first allocation and takes it back when the thread is torn down, which is
//! after its last instruction of ours; so the turn after an exit waits until the kernel knows the thread no more.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::sys::{thread_id, thread_is_gone};

/// Whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    next: AtomicU64,
    /// Kernel's number of the thread whose exit was the last turn; 0: the last turn was none.
    leaving: AtomicU32,
}

impl Turns {
    /// Whether turn `number` has come, and the one before is over.
    pub(crate) fn has_come(&self, number: u64) -> bool {
        if self.next.load(Ordering::Acquire) != number {
            return false;
        }
        let leaving = self.leaving.load(Ordering::Relaxed);
        leaving == 0 || thread_is_gone(leaving)
    }

    /// The turn that had come is over.
    pub(crate) fn pass(&self) {
        self.leaving.store(0, Ordering::Relaxed);
        self.next.fetch_add(1, Ordering::Release);
    }

    /// The turn that had come is this thread's exit, which is over when it is gone.
    pub(crate) fn pass_and_exit(&self) {
        self.leaving.store(thread_id(), Ordering::Relaxed);
        self.next.fetch_add(1, Ordering::Release);
    }
}
