//! The recording's own clock, for replays that keep its gaps: allocators that give memory back after some time need
//! them.

use std::sync::atomic::{AtomicU64, Ordering};

use fragbench_engine::clock::monotonic_ns;

use crate::sys::sleep_until;

/// Gaps below this are not worth a sleep, which the kernel ends about this late by default.
const SLACK_NS: u64 = 50_000;

/// Recorded time on the wall's clock.
#[derive(Debug)]
pub(crate) struct Paced {
    speed: f64,
    /// `CLOCK_MONOTONIC` of the recording's start; 0: not yet begun.
    start_ns: AtomicU64,
    late_ns: AtomicU64,
}

impl Paced {
    /// `speed` is positive: 2 is twice as fast as recorded.
    pub(crate) fn new(speed: f64) -> Self {
        Self { speed, start_ns: AtomicU64::new(0), late_ns: AtomicU64::new(0) }
    }

    /// The recording begins now.
    pub(crate) fn begin(&self) {
        self.start_ns.store(monotonic_ns(), Ordering::Relaxed);
    }

    fn wall_ns(&self, us: u64) -> u64 {
        self.start_ns.load(Ordering::Relaxed) + (us as f64 * 1000.0 / self.speed) as u64
    }

    /// Returns when it is time for operations at `us`; answers the recorded time up to which nobody need ask again.
    pub(crate) fn wait(&self, us: u64) -> u64 {
        let (target, now) = (self.wall_ns(us), monotonic_ns());
        if target > now + SLACK_NS {
            sleep_until(target);
        } else if now > target + self.late_ns.load(Ordering::Relaxed) {
            self.late_ns.fetch_max(now - target, Ordering::Relaxed);
        }
        us + ((SLACK_NS as f64 * self.speed / 1000.0) as u64).max(1)
    }

    /// Most by which an operation came later than it should have.
    pub(crate) fn late_ns(&self) -> u64 {
        self.late_ns.load(Ordering::Relaxed)
    }
}
