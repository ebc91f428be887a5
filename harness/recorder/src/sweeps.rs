//! Sweeps: now and then, when some thread writes its block, what waits in the buffers of the others is written too, so that
//! who packs the spool while it grows knows how far it is whole. There is no thread for it and no timer: in a program that
//! does not allocate nothing has to be swept.
//!
//! A sweep asks the owners of buffers that hold something to write it; what they have not written by the next sweep is
//! written for them, once as long as they rest. So an event is written twice at most, and a thread that works is never kept
//! waiting.

use core::sync::atomic::{AtomicU64, Ordering};

use fragbench_trace::spool::format::BlockKind;

use crate::process::Process;
use crate::{clock, raw};

/// Added to the time between two sweeps for each buffer in use: thousands of threads are not asked to write all the time.
const NS_A_BUFFER: u64 = 50_000;

/// All zero when not set up.
pub(crate) struct Sweeps {
    /// Least time between two, 0 for none.
    every_ns: AtomicU64,
    /// `CLOCK_MONOTONIC` before which there is none, ns.
    due_ns: AtomicU64,
    /// Quantum when the last one asked, 0 before the first.
    asked: AtomicU64,
}

impl Sweeps {
    pub(crate) const fn new() -> Self {
        Self { every_ns: AtomicU64::new(0), due_ns: AtomicU64::new(0), asked: AtomicU64::new(0) }
    }

    pub(crate) fn set_up(&self, every_ms: u64) {
        self.every_ns.store(every_ms.saturating_mul(1_000_000), Ordering::Relaxed);
    }

    /// Sweeps when it is time. With signals blocked, without a lock.
    pub(crate) fn sweep(&self, process: &Process) {
        let every = self.every_ns.load(Ordering::Relaxed);
        if every == 0 {
            return;
        }
        let now = raw::clock_ns(libc::CLOCK_MONOTONIC);
        let due = self.due_ns.load(Ordering::Relaxed);
        let next = now + every + NS_A_BUFFER * process.pool.in_use();
        if now < due || self.due_ns.compare_exchange(due, next, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return;
        }
        // Before any buffer is looked at: what is stamped from here on may be missing.
        let q = clock::quantum();
        let mut whole = true;
        process.pool.each(|buffer| {
            let _owner = buffer.lock.hold();
            // SAFETY: under the buffer's lock.
            let block = unsafe { buffer.sweep(|| process.clock()) };
            // A failure shows again, and is dealt with, when the next block is written.
            whole = block.is_none_or(|block| process.file.append(block).is_ok());
            whole
        });
        // Owners who were asked at the last sweep have written since, or it was done for them.
        let asked = self.asked.swap(q, Ordering::AcqRel);
        if whole && asked != 0 {
            process.mark(BlockKind::Swept, asked);
        }
    }
}
