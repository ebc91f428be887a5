//! The highest live bytes of the replay, to be held against the recording's.
//!
//! Each thread tells a change once it has grown to a 250th of the recorded peak divided by the number of threads,
//! and all of it when it parks. The sum is therefore never off by more than a 250th, and costs the threads one
//! comparison for each step of recorded time.

use std::sync::atomic::{AtomicI64, Ordering};

/// See the module.
#[derive(Debug)]
pub(crate) struct Peak {
    live: AtomicI64,
    peak: AtomicI64,
    step: u64,
}

impl Peak {
    /// For a recorded peak of `bytes` made by at most `threads` threads at a time.
    pub(crate) fn new(bytes: u64, threads: u64) -> Self {
        let step = bytes / (250 * threads.max(1));
        Self { live: AtomicI64::new(0), peak: AtomicI64::new(0), step }
    }

    /// Changes above this are large enough to be told.
    pub(crate) fn step(&self) -> u64 {
        self.step
    }

    /// Adds a change.
    pub(crate) fn add(&self, change: i64) {
        let live = self.live.fetch_add(change, Ordering::Relaxed) + change;
        if live > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(live, Ordering::Relaxed);
        }
    }

    /// Highest sum so far.
    pub(crate) fn bytes(&self) -> u64 {
        u64::try_from(self.peak.load(Ordering::Relaxed)).unwrap_or(0)
    }
}
