//! Stacks of the harness's threads: on memory files, with a guard page, kept for the next thread when one has ended.

use std::sync::{Mutex, PoisonError};

use super::mapping;

/// Usable size. Thread-local storage of all loaded libraries is carved from it as well; workloads do not recurse
/// deeply.
const SIZE: usize = 256 << 10;
const GUARD: usize = 4096;

static SPARE: Mutex<Vec<Stack>> = Mutex::new(Vec::new());

/// A stack that no thread runs on.
#[derive(Debug)]
pub(crate) struct Stack {
    base: *mut u8,
}

// SAFETY: a stack is owned by who holds it.
unsafe impl Send for Stack {}

impl Stack {
    /// A recycled stack or a fresh one; `None` when there is no memory for it.
    pub(crate) fn take() -> Option<Stack> {
        if let Some(stack) = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Some(stack);
        }
        let base = mapping::map(GUARD + SIZE);
        if base.is_null() {
            return None;
        }
        // SAFETY: the first page of a mapping nobody uses yet.
        if unsafe { libc::mprotect(base.cast(), GUARD, libc::PROT_NONE) } != 0 {
            // SAFETY: as above.
            unsafe { mapping::unmap(base, GUARD + SIZE) };
            return None;
        }
        Some(Stack { base })
    }

    /// Lowest usable address and size, as `pthread_attr_setstack` wants them.
    pub(crate) fn range(&self) -> (*mut u8, usize) {
        (self.base.wrapping_add(GUARD), SIZE)
    }

    /// Gives a stack back for the next thread. The thread that ran on it has been joined.
    pub(crate) fn give_back(self) {
        SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }
}
