//! From the counter's ticks to microseconds of the recording.

use super::state::state;
use crate::spool::ClockPair;

/// A line from counter to microseconds. While a recording lasts it is continued by others, each of which begins where the
/// one before ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Counter where the line begins.
    from: u64,
    /// Microseconds there, times 2⁴⁸.
    base: u128,
    /// Microseconds a tick, times 2⁴⁸.
    scale: u64,
    /// `CLOCK_MONOTONIC` when the recording began, ns.
    start_mono_ns: u64,
}

state!(Clock { from, base, scale, start_mono_ns });

impl Clock {
    /// The line through two points, the first being the recording's start.
    pub(super) fn new((from, to): (ClockPair, ClockPair)) -> Self {
        let ticks = to.tsc.saturating_sub(from.tsc);
        let ns = to.mono_ns.saturating_sub(from.mono_ns);
        Self { from: from.tsc, base: 0, scale: scale(ticks, ns), start_mono_ns: from.mono_ns }
    }

    #[inline(always)]
    pub(super) fn us(&self, tsc: u64) -> u64 {
        (self.fine(tsc) >> 48) as u64
    }

    #[inline(always)]
    fn fine(&self, tsc: u64) -> u128 {
        self.base + u128::from(tsc.saturating_sub(self.from)) * u128::from(self.scale)
    }

    /// Turns the line towards a point that became known.
    pub(super) fn turn(&mut self, to: ClockPair) {
        let ticks = to.tsc.saturating_sub(self.from);
        let ns = u128::from(to.mono_ns.saturating_sub(self.start_mono_ns));
        let us = (ns << 48).div_ceil(1000).saturating_sub(self.base);
        if ticks > 0 && us > 0 {
            self.scale = u64::try_from(us.div_ceil(u128::from(ticks))).unwrap_or(u64::MAX);
        }
    }

    /// Ends the line at a stamp; the next one begins there.
    pub(super) fn go_on_from(&mut self, tsc: u64) {
        (self.base, self.from) = (self.fine(tsc), self.from.max(tsc));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(tsc: u64, us: u64) -> ClockPair {
        ClockPair { tsc, mono_ns: 5_000 + 1000 * us }
    }

    #[test]
    fn lines_meet_where_they_change_and_times_never_go_back() {
        // 2 ticks a µs, then 4, then 1: as a clock that is being adjusted.
        let mut clock = Clock::new((pair(100, 0), pair(300, 100)));
        assert_eq!([100, 102, 299, 300].map(|t| clock.us(t)), [0, 1, 99, 100]);
        // Known at 300; used up to 200.
        clock.go_on_from(200);
        clock.turn(pair(600, 150));
        assert_eq!([0, 200, 204, 600].map(|t| clock.us(t)), [50, 50, 51, 150]);
        clock.go_on_from(600);
        clock.turn(pair(700, 250));
        assert_eq!([600, 650, 700].map(|t| clock.us(t)), [150, 200, 250]);
        // What tells nothing turns nothing.
        clock.turn(pair(600, 300));
        assert_eq!(clock.us(700), 250);
        let mut last = 0;
        for tsc in 0..800 {
            assert!(clock.us(tsc) >= last);
            last = clock.us(tsc);
        }
    }
}
