//! The clock of phases and latencies: `CLOCK_MONOTONIC` of the wall, whatever the allocator is told (`timeline`).

use crate::timeline::sys;

/// `CLOCK_MONOTONIC` in nanoseconds.
#[inline]
pub fn monotonic_ns() -> u64 {
    sys::clock_ns(libc::CLOCK_MONOTONIC)
}

/// Sleeps on the monotonic clock without touching any heap.
pub fn sleep_ns(ns: u64) {
    let time = libc::timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 };
    sys::sleep(libc::CLOCK_MONOTONIC, 0, &time, std::ptr::null_mut());
}

/// Cost of one reading in nanoseconds: the least mean over batches, so that an interruption does not count.
pub fn cost_ns() -> f64 {
    const BATCH: u32 = 1000;
    let mut least = f64::INFINITY;
    for _ in 0..50 {
        let start = monotonic_ns();
        for _ in 0..BATCH {
            std::hint::black_box(monotonic_ns());
        }
        least = least.min((monotonic_ns() - start) as f64 / f64::from(BATCH));
    }
    least
}
