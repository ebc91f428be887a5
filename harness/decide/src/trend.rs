//! What a recording of a process over time comes to: the first fifth of its readings against the last fifth, by medians.
//! It is a description of what was seen, not a forecast; a process that warmed up meanwhile looks like one that grows.

use fragbench_model::{Reading, Trend, TrendKind};

use crate::bootstrap::median;

/// Readings below which nothing is said.
pub const LEAST_READINGS: usize = 10;
/// A change of what is resident below this share of it is none.
const NOTABLE: f64 = 0.05;
/// Nor is one below this, bytes.
const LEAST_BYTES: f64 = (1 << 20) as f64;
/// Live bytes that make up this share of a rise explain it.
const EXPLAINS: f64 = 0.5;

/// The trend of readings of one process, in order. `None` of fewer than [`LEAST_READINGS`].
pub fn trend(readings: &[Reading]) -> Option<Trend> {
    if readings.len() < LEAST_READINGS {
        return None;
    }
    let fifth = readings.len() / 5;
    let (early, late) = (&readings[..fifth], &readings[readings.len() - fifth..]);
    let of = |part: &[Reading], value: fn(&Reading) -> Option<u64>| {
        median(&part.iter().filter_map(|r| Some(value(r)? as f64)).collect::<Vec<_>>())
    };
    let change = |value| Some(of(late, value)? - of(early, value)?);
    let resident = change(|r| Some(r.rss_bytes))?;
    let heap = change(|r| r.heap.map(|heap| heap.resident_bytes));
    let live = change(|r| r.heap.map(|heap| heap.live_bytes));
    let before = of(early, |r| Some(r.rss_bytes))?;
    let kind = if resident.abs() < (NOTABLE * before).max(LEAST_BYTES) {
        TrendKind::Steady
    } else if resident < 0.0 {
        TrendKind::Falls
    } else {
        match (heap, live) {
            (Some(_), Some(live)) if live >= EXPLAINS * resident => TrendKind::LiveRises,
            (Some(heap), Some(live)) if heap - live.max(0.0) >= EXPLAINS * resident => TrendKind::HeldRises,
            (Some(heap), Some(_)) if heap < EXPLAINS * resident => TrendKind::OutsideRises,
            (Some(_), Some(_)) => TrendKind::MixedRise,
            _ => TrendKind::Rises,
        }
    };
    Some(Trend { kind, resident_bytes: resident, heap_bytes: heap, live_bytes: live })
}

#[cfg(test)]
mod tests {
    use fragbench_model::HeapBytes;

    use super::*;

    /// Readings whose resident, heap and live bytes go from one to the other, MiB.
    fn course(rss: [u64; 2], heap: [u64; 2], live: [u64; 2]) -> Vec<Reading> {
        let between = |[from, to]: [u64; 2], i: u64| ((from * (19 - i) + to * i) << 20) / 19;
        let reading = |i| Reading {
            rss_bytes: between(rss, i),
            heap: Some(HeapBytes {
                resident_bytes: between(heap, i),
                live_bytes: between(live, i),
                ..HeapBytes::default()
            }),
            ..Reading::default()
        };
        (0..20).map(reading).collect()
    }

    fn kind(rss: [u64; 2], heap: [u64; 2], live: [u64; 2]) -> TrendKind {
        trend(&course(rss, heap, live)).unwrap().kind
    }

    #[test]
    fn each_kind_on_a_labelled_course() {
        assert_eq!(kind([100, 300], [80, 280], [70, 265]), TrendKind::LiveRises);
        assert_eq!(kind([100, 300], [80, 280], [70, 72]), TrendKind::HeldRises);
        assert_eq!(kind([100, 300], [80, 85], [70, 72]), TrendKind::OutsideRises);
        assert_eq!(kind([100, 300], [80, 190], [70, 110]), TrendKind::MixedRise);
        assert_eq!(kind([100, 102], [80, 82], [70, 30]), TrendKind::Steady);
        assert_eq!(kind([300, 100], [280, 80], [70, 70]), TrendKind::Falls);
    }

    #[test]
    fn without_a_heap_only_the_rise_is_said_and_a_short_recording_says_nothing() {
        let mut blind = course([100, 300], [80, 280], [70, 265]);
        blind.iter_mut().for_each(|reading| reading.heap = None);
        let trend_of_it = trend(&blind).unwrap();
        assert_eq!((trend_of_it.kind, trend_of_it.live_bytes), (TrendKind::Rises, None));
        assert_eq!(trend(&blind[..9]), None);
    }

    #[test]
    fn a_single_peak_is_no_trend() {
        let mut peak = course([100, 100], [80, 80], [70, 70]);
        peak[19].rss_bytes = 900 << 20;
        assert_eq!(trend(&peak).unwrap().kind, TrendKind::Steady);
    }
}
