//! The clock of phases and latencies: `CLOCK_MONOTONIC`, read through the vDSO.

pub use crate::sys::{monotonic_ns, sleep_ns};

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
