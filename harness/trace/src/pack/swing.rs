//! By how much threads shift memory within short windows of time; see the `swing` fields of [`crate::Totals`].
//!
//! What one thread gains and another loses counts, twice; what all gain or lose together does not.
//! Only windows at whose start and end the live bytes are near their peak count: there a replay's error is what one
//! sees. What the final peak is shows only at the end, so the measure begins anew whenever the peak so far has grown.

use super::state::state;

/// Windows measured, µs.
const WINDOWS_US: [u64; 4] = [200, 1_000, 5_000, 25_000];

/// Live bytes that miss the peak by no more than this part of it are near it; a peak that has grown by more is new.
const NEAR_PART: u64 = 10;

/// A thread's allocated less its freed bytes: now, and when it first changed within the current windows.
#[derive(Debug, Default, Clone, Copy)]
struct Balance {
    bytes: i64,
    seen: [u64; WINDOWS_US.len()],
    before: [i64; WINDOWS_US.len()],
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Swing {
    now_us: u64,
    /// Number of the current window, from 1.
    current: [u64; WINDOWS_US.len()],
    /// Threads whose balance changed in it.
    changed: [Vec<u32>; WINDOWS_US.len()],
    threads: Vec<Balance>,
    /// Whether the live bytes were near the peak when the window began.
    near: [bool; WINDOWS_US.len()],
    most: [u64; WINDOWS_US.len()],
    /// Peak that `most` stands for.
    peak: [u64; WINDOWS_US.len()],
}

state!(Balance { bytes, seen, before });
state!(Swing { now_us, current, changed, threads, near, most, peak });

impl Swing {
    /// What follows happens at `us`; so far so many bytes are live, and at most `peak` were.
    #[inline]
    pub(super) fn now(&mut self, us: u64, live: u64, peak: u64) {
        if us != self.now_us || self.current[0] == 0 {
            self.now_us = us;
            for (i, window) in WINDOWS_US.into_iter().enumerate() {
                let number = us / window + 1;
                if number != self.current[i] {
                    self.close(i, live, peak);
                    self.current[i] = number;
                }
            }
        }
    }

    fn close(&mut self, window: usize, live: u64, peak: u64) {
        let changed = self.changed[window].drain(..).map(|t| &self.threads[t as usize]);
        let (mut sum, mut net) = (0, 0);
        for change in changed.map(|b| b.bytes - b.before[window]) {
            sum += change.unsigned_abs();
            net += change;
        }
        let shifted = sum - net.unsigned_abs();
        let nearly = peak - peak / NEAR_PART;
        let near = live > 0 && live >= nearly;
        if self.peak[window] < nearly {
            self.peak[window] = peak;
            self.most[window] = 0;
        }
        if near && self.near[window] {
            self.most[window] = self.most[window].max(shifted);
        }
        self.near[window] = near;
    }

    /// A thread's balance changes.
    #[inline]
    pub(super) fn add(&mut self, thread: usize, bytes: i64) {
        if self.threads.len() <= thread {
            self.threads.resize(thread + 1, Balance::default());
        }
        let balance = &mut self.threads[thread];
        // Each window is a whole number of the first.
        let changed = balance.seen[0] != self.current[0];
        for (i, current) in self.current.into_iter().enumerate().filter(|_| changed) {
            if balance.seen[i] != current {
                balance.seen[i] = current;
                balance.before[i] = balance.bytes;
                self.changed[i].push(thread as u32);
            }
        }
        balance.bytes += bytes;
    }

    /// The greatest swing in each window's length.
    pub(super) fn finish(mut self, live: u64, peak: u64) -> [u64; WINDOWS_US.len()] {
        (0..WINDOWS_US.len()).for_each(|i| self.close(i, live, peak));
        self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swing(steps: &[(u64, usize, i64)]) -> [u64; 4] {
        let (mut swing, mut live, mut peak) = (Swing::default(), 0u64, 0);
        for &(us, thread, bytes) in steps {
            swing.now(us, live, peak);
            swing.add(thread, bytes);
            live = live.saturating_add_signed(bytes);
            peak = peak.max(live);
        }
        swing.finish(live, peak)
    }

    #[test]
    fn changes_count_by_thread_and_window_near_the_peak() {
        let ramp = [(0, 0, 100_000), (10, 1, 50_000), (30_000, 1, 0), (60_000, 1, 0)];
        assert_eq!(swing(&ramp), [0; 4], "growth of all is no shift");
        // 100 bytes handed over within 200 µs, 70 taken and given back, and 30 more within 1 ms.
        let near = [(10, 0, 100), (150, 1, -100), (300, 0, 70), (310, 0, -70), (900, 1, 30), (1_200, 1, 5)];
        let near = near.map(|(us, t, b)| (75_000 + us, t, b));
        assert_eq!(swing(&[&ramp[..], &near[..]].concat()), [200, 140, 130, 130]);
        // A higher peak makes the first one's windows irrelevant.
        let higher = [(150_000, 2, 50_000), (180_000, 2, 0), (210_000, 2, 30), (210_010, 1, -10)];
        assert_eq!(swing(&[&ramp[..], &near[..], &higher[..]].concat()), [20; 4]);
    }
}
