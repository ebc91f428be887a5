//! Sets of addresses as ascending ranges that do not touch: which pages are present, what trimming would release.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A set of addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Runs(Vec<(u64, u64)>);

impl Runs {
    /// From ascending ranges; those that touch are joined, empty ones left out.
    pub fn new(ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for range in ranges.into_iter().filter(|r| r.start < r.end) {
            match runs.last_mut() {
                Some(last) if last.1 >= range.start => last.1 = last.1.max(range.end),
                _ => runs.push((range.start, range.end)),
            }
        }
        Runs(runs)
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(start, end)| *start..*end)
    }

    /// Number of addresses.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// What lies in both.
    pub fn and(&self, other: &Runs) -> Runs {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            both.push(x.0.max(y.0)..x.1.min(y.1));
            if x.1 < y.1 {
                a.next()
            } else {
                b.next()
            };
        }
        Runs::new(both)
    }

    /// What lies here and not in `other`.
    pub fn without(&self, other: &Runs) -> Runs {
        let mut left = Vec::new();
        let mut cut = other.0.as_slice();
        for &(start, end) in &self.0 {
            let mut at = start;
            cut = &cut[cut.partition_point(|c| c.1 <= start)..];
            for &(from, to) in cut.iter().take_while(|c| c.0 < end) {
                left.push(at..from);
                at = to;
            }
            left.push(at..end);
        }
        Runs::new(left)
    }

    /// Addresses of a range that are in the set. For many ranges in ascending order [`Runs::sweep`] is faster.
    pub fn overlap(&self, range: Range<u64>) -> u64 {
        let first = self.0.partition_point(|run| run.1 <= range.start);
        Sweep { runs: &self.0[first..] }.overlap(range)
    }

    /// For sweeps in ascending order.
    pub fn sweep(&self) -> Sweep<'_> {
        Sweep { runs: &self.0 }
    }
}

/// Measures ascending ranges against a set, each run of which is visited once.
#[derive(Debug, Clone)]
pub struct Sweep<'r> {
    runs: &'r [(u64, u64)],
}

impl Sweep<'_> {
    /// Addresses of the range that are in the set. Ranges must begin in ascending order.
    pub fn overlap(&mut self, range: Range<u64>) -> u64 {
        while let [first, rest @ ..] = self.runs
            && first.1 <= range.start
        {
            self.runs = rest;
        }
        let within = self.runs.iter().take_while(|run| run.0 < range.end);
        within.map(|run| run.1.min(range.end) - run.0.max(range.start)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(ranges: &[Range<u64>]) -> Runs {
        Runs::new(ranges.iter().cloned())
    }

    #[test]
    fn sets_are_joined_cut_and_measured() {
        let a = runs(&[0..10, 10..20, 30..40, 50..50]);
        assert_eq!(a, runs(&[0..20, 30..40]));
        assert_eq!(a.bytes(), 30);
        assert_eq!(a.and(&runs(&[5..35, 36..37])), runs(&[5..20, 30..35, 36..37]));
        assert_eq!(a.without(&runs(&[5..6, 18..32, 39..60])), runs(&[0..5, 6..18, 32..39]));
        assert_eq!(a.without(&Runs::default()), a);
        let mut sweep = a.sweep();
        let measured: Vec<u64> = [0..3, 3..15, 15..35, 35..35, 35..99].into_iter().map(|r| sweep.overlap(r)).collect();
        assert_eq!(measured, [3, 12, 10, 0, 5]);
        let measured: Vec<u64> = [35..99, 15..35, 0..3].into_iter().map(|r| a.overlap(r)).collect();
        assert_eq!(measured, [5, 10, 3]);
    }
}
