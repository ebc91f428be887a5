//! Latencies of sampled calls, in `hdrhistogram`s that are made before the thread's first call.

use fragbench_model::{LatencySummary, Percentiles};
use hdrhistogram::Histogram;

/// Kinds of calls that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// malloc, calloc, aligned allocation.
    Malloc,
    /// free.
    Free,
    /// realloc.
    Realloc,
}

/// Longest latency told apart: anything longer counts as this.
const HIGHEST_NS: u64 = 60_000_000_000;

/// One histogram a kind of call; values good to 1 % or 1 ns.
#[derive(Debug)]
pub(crate) struct Latency {
    calls: [Histogram<u32>; 3],
}

impl Latency {
    pub(crate) fn new() -> Latency {
        let histogram = || {
            Histogram::new_with_bounds(1, HIGHEST_NS, 2)
                .unwrap_or_else(|error| unreachable!("constant bounds: {error}"))
        };
        Latency { calls: [histogram(), histogram(), histogram()] }
    }

    pub(crate) fn record(&mut self, call: Call, ns: u64) {
        self.calls[call as usize].saturating_record(ns);
    }

    pub(crate) fn add(&mut self, other: &Latency) {
        for (sum, part) in self.calls.iter_mut().zip(&other.calls) {
            sum.add(part).unwrap_or_else(|error| unreachable!("equal bounds: {error}"));
        }
    }

    pub(crate) fn summary(&self) -> LatencySummary {
        let percentiles = |call: Call| {
            let h = &self.calls[call as usize];
            (!h.is_empty()).then(|| Percentiles {
                count: h.len(),
                p50: h.value_at_quantile(0.5),
                p99: h.value_at_quantile(0.99),
                p999: h.value_at_quantile(0.999),
                max: h.max(),
            })
        };
        LatencySummary {
            malloc: percentiles(Call::Malloc),
            free: percentiles(Call::Free),
            realloc: percentiles(Call::Realloc),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_kept_apart_and_what_was_not_timed_is_missing() {
        let (mut a, mut b) = (Latency::new(), Latency::new());
        (1..=100).for_each(|ns| a.record(Call::Malloc, ns));
        b.record(Call::Malloc, 1_000_000);
        b.record(Call::Free, u64::MAX);
        a.add(&b);
        let summary = a.summary();
        let malloc = summary.malloc.unwrap();
        assert_eq!((malloc.count, malloc.p50), (101, 51));
        assert!((990_000..=1_010_000).contains(&malloc.max));
        assert!(summary.free.unwrap().max >= HIGHEST_NS);
        assert_eq!(summary.realloc, None);
    }
}
