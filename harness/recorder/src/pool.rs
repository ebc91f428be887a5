//! The buffers of one process image: those in use, and a few free ones for the threads to come. A thread that ends
//! gives its buffer back, so thousands of short threads need no more buffers than live at one time.

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::buffer::{BUFFER_LEN, Buffer};
use crate::lock::Lock;
use crate::raw;

/// Free buffers kept; more are unmapped.
const FREE_KEPT: usize = 32;

/// All zero when there are none.
#[repr(C)]
pub(crate) struct Pool {
    lock: Lock,
    all: UnsafeCell<*mut Buffer>,
    free: UnsafeCell<*mut Buffer>,
    free_count: UnsafeCell<usize>,
    in_use: AtomicU32,
    mapped: AtomicU64,
    mapped_peak: AtomicU64,
}

// SAFETY: the cells are used under `lock`; everything else is atomic.
unsafe impl Sync for Pool {}

// All methods but those that only read a number are called with signals blocked.
impl Pool {
    pub(crate) const fn new() -> Self {
        Self {
            lock: Lock::new(),
            all: UnsafeCell::new(ptr::null_mut()),
            free: UnsafeCell::new(ptr::null_mut()),
            free_count: UnsafeCell::new(0),
            in_use: AtomicU32::new(0),
            mapped: AtomicU64::new(0),
            mapped_peak: AtomicU64::new(0),
        }
    }

    /// Bytes mapped for buffers.
    pub(crate) fn mapped(&self) -> u64 {
        self.mapped.load(Ordering::Relaxed)
    }

    /// Most bytes that were mapped at one time.
    pub(crate) fn mapped_peak(&self) -> u64 {
        self.mapped_peak.load(Ordering::Relaxed)
    }

    /// Buffers in use.
    pub(crate) fn in_use(&self) -> u64 {
        self.in_use.load(Ordering::Relaxed).into()
    }

    /// Most bytes that can be waiting in buffers.
    pub(crate) fn waiting_most(&self) -> u64 {
        u64::from(self.in_use.load(Ordering::Relaxed)) * BUFFER_LEN as u64
    }

    /// A buffer for a thread, used or new.
    pub(crate) fn take(&self) -> Option<&'static Buffer> {
        let _held = self.lock.hold();
        // SAFETY: the lists are the lock's.
        unsafe {
            let reused = *self.free.get();
            let p = if reused.is_null() {
                let p = raw::map_shared(BUFFER_LEN)?.cast::<Buffer>();
                // A forked child must not write where its parent does; see `process`.
                raw::madvise(p.cast(), BUFFER_LEN, libc::MADV_DONTFORK);
                let head = *self.all.get();
                *(*p).next.get() = head;
                if let Some(head) = head.as_ref() {
                    *head.prev.get() = p;
                }
                *self.all.get() = p;
                let mapped = self.mapped.fetch_add(BUFFER_LEN as u64, Ordering::Relaxed) + BUFFER_LEN as u64;
                self.mapped_peak.fetch_max(mapped, Ordering::Relaxed);
                p
            } else {
                *self.free.get() = *(*reused).next_free.get();
                *self.free_count.get() -= 1;
                reused
            };
            self.in_use.fetch_add(1, Ordering::Relaxed);
            Some(&*p)
        }
    }

    /// Takes back a flushed buffer.
    ///
    /// # Safety
    /// By its owner, who forgets it.
    pub(crate) unsafe fn give_back(&self, buffer: &'static Buffer) {
        let _held = self.lock.hold();
        self.in_use.fetch_sub(1, Ordering::Relaxed);
        let p = (&raw const *buffer).cast_mut();
        // SAFETY: the lists are the lock's, and so is a buffer without owner.
        unsafe {
            if *self.free_count.get() < FREE_KEPT {
                *buffer.next_free.get() = *self.free.get();
                *self.free.get() = p;
                *self.free_count.get() += 1;
                return;
            }
            let (prev, next) = (*buffer.prev.get(), *buffer.next.get());
            match prev.as_ref() {
                Some(b) => *b.next.get() = next,
                None => *self.all.get() = next,
            }
            if let Some(b) = next.as_ref() {
                *b.prev.get() = prev;
            }
            raw::unmap(p.cast(), BUFFER_LEN);
        }
        self.mapped.fetch_sub(BUFFER_LEN as u64, Ordering::Relaxed);
    }

    /// Shows each buffer until one is refused; none of them goes away meanwhile.
    pub(crate) fn each(&self, mut show: impl FnMut(&Buffer) -> bool) {
        let _held = self.lock.hold();
        // SAFETY: under the lock the list is whole and its buffers stay mapped.
        unsafe {
            let mut p = *self.all.get();
            while let Some(b) = p.as_ref() {
                if !show(b) {
                    break;
                }
                p = *b.next.get();
            }
        }
    }
}
