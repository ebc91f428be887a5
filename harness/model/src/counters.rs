//! The page of counters that the worker writes and the parent reads while sampling: one cache line a
//! thread, single writer, no lock. Memory shared by a memfd that the worker inherits.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// File descriptor under which the worker inherits the counter page.
pub const COUNTERS_FD: i32 = 3;
/// First word of a counter page.
pub const COUNTERS_MAGIC: u64 = u64::from_le_bytes(*b"fbcount1");
/// Threads that may have a line of their own at the same time; a line is handed on when its thread ends.
pub const MAX_THREAD_COUNTERS: usize = 1 << 15;

/// What one thread has done so far. Each field has a single writer, so plain relaxed stores suffice.
/// A thread that frees another's block goes below zero; only the sums over all threads have a meaning.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct ThreadCounters {
    /// Bytes asked for and not yet freed.
    pub live_bytes: AtomicI64,
    /// Blocks not yet freed.
    pub live_blocks: AtomicI64,
    /// Completed calls of the malloc API.
    pub ops: AtomicU64,
    /// Times this thread had to wait for another thread's operation.
    pub waits: AtomicU64,
    /// Nanoseconds spent in those waits.
    pub wait_ns: AtomicU64,
}

/// The whole page. `used` only grows.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct CounterPage {
    /// [`COUNTERS_MAGIC`], written by the parent.
    pub magic: AtomicU64,
    /// Lines ever handed out: a reader needs to sum no more than these.
    pub used: AtomicU32,
    /// Recorded time to which the work has come, nanoseconds since its start; 0 where it goes by no such clock.
    pub recorded_ns: AtomicU64,
    /// One line a thread.
    pub threads: [ThreadCounters; MAX_THREAD_COUNTERS],
}

/// Sums over all threads at one moment (each line read once; the moment is as wide as the reading).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CounterSums {
    /// Bytes asked for and not yet freed.
    pub live_bytes: i64,
    /// Blocks not yet freed.
    pub live_blocks: i64,
    /// Completed calls.
    pub ops: u64,
    /// Waits for other threads.
    pub waits: u64,
    /// Nanoseconds spent waiting.
    pub wait_ns: u64,
}

impl CounterPage {
    /// Sums the lines handed out so far.
    pub fn sums(&self) -> CounterSums {
        let used = (self.used.load(Ordering::Acquire) as usize).min(MAX_THREAD_COUNTERS);
        let mut sums = CounterSums::default();
        for line in &self.threads[..used] {
            sums.live_bytes += line.live_bytes.load(Ordering::Relaxed);
            sums.live_blocks += line.live_blocks.load(Ordering::Relaxed);
            sums.ops += line.ops.load(Ordering::Relaxed);
            sums.waits += line.waits.load(Ordering::Relaxed);
            sums.wait_ns += line.wait_ns.load(Ordering::Relaxed);
        }
        sums
    }
}
