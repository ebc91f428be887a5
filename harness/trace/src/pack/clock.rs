//! From the counter's ticks to microseconds of the recording.

use crate::spool::ClockPair;

/// A line from counter to microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Counter when the recording began.
    from: u64,
    /// Microseconds a tick, times 2⁴⁸.
    scale: u64,
}

impl Clock {
    /// The line through two points, the first being the recording's start.
    pub(super) fn new((from, to): (ClockPair, ClockPair)) -> Self {
        let ticks = to.tsc.saturating_sub(from.tsc);
        let ns = to.mono_ns.saturating_sub(from.mono_ns);
        Self { from: from.tsc, scale: scale(ticks, ns) }
    }

    #[inline(always)]
    pub(super) fn us(&self, tsc: u64) -> u64 {
        ((u128::from(tsc.saturating_sub(self.from)) * u128::from(self.scale)) >> 48) as u64
    }

    /// How many ticks take `ns`.
    pub(super) fn ticks(&self, ns: u64) -> u64 {
        u64::try_from((u128::from(ns) << 48) / (1000 * u128::from(self.scale.max(1)))).unwrap_or(u64::MAX)
    }
}

fn scale(ticks: u64, ns: u64) -> u64 {
    // A recording without length: any rate will do.
    let (ticks, ns) = if ticks == 0 || ns == 0 { (1, 1) } else { (ticks, ns) };
    // Rounded up, so that a whole number of microseconds is not cut to the one before.
    let scale = (u128::from(ns) << 48).div_ceil(1000 * u128::from(ticks));
    // No counter is that slow.
    u64::try_from(scale).unwrap_or(u64::MAX)
}
