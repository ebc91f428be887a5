//! How far two shapes are apart. Pure functions of `fragbench_model::Shape`s.
//!
//! *KS* is Kolmogorov and Smirnov's statistic, the largest difference between two cumulative distributions, here over the
//! edges of the histograms' bins: 0 for equal histograms, 1 for disjoint ones. What differs only within a bin (3 % of
//! a size above 1 KiB, 25 % of a lifetime) is not seen.
//!
//! *NRMSE* is the root of the mean square difference of two curves, over the same slices of normalised time, divided by
//! the range (highest less lowest) of the reference: 0.1 says that one is off by a tenth of the other's swing. Over
//! slices of equally many events it compares work that runs at another pace, such as a model that executes no queries.

use fragbench_model::{Distances, Histogram, HistogramBin, Shape};

/// How far `shape` is from `reference`.
pub fn distances(shape: &Shape, reference: &Shape) -> Distances {
    let (by_count, by_bytes) = (|b: &HistogramBin| b.count, |b: &HistogramBin| b.bytes);
    let points = |share: fn(&Shape) -> Option<f64>| Some(100.0 * (share(shape)? - share(reference)?));
    let starts = |s: &Shape| s.thread_starts.iter().sum::<u64>();
    Distances {
        sizes_by_count_ks: ks(&shape.sizes, &reference.sizes, by_count),
        sizes_by_bytes_ks: ks(&shape.sizes, &reference.sizes, by_bytes),
        lifetimes_us_ks: ks(&shape.lifetimes_us, &reference.lifetimes_us, by_count),
        lifetimes_events_ks: ks(&shape.lifetimes_events, &reference.lifetimes_events, by_count),
        cross_thread_points: points(Shape::cross_thread_ratio),
        realloc_points: points(Shape::realloc_ratio),
        unfreed_points: points(Shape::unfreed_ratio),
        live_nrmse: nrmse(&shape.live_growth_bytes, &reference.live_growth_bytes),
        live_events_nrmse: nrmse(&shape.live_growth_by_event_bytes, &reference.live_growth_by_event_bytes),
        thread_starts_ks: slices_ks(&shape.thread_starts, &reference.thread_starts),
        thread_starts_ratio: multiple(starts(shape), starts(reference)),
        threads_peak_ratio: multiple(shape.threads_peak, reference.threads_peak),
    }
}

/// The KS distance of two histograms of the same bins by a weight of each bin: max over all edges e of
/// |Σ_{bins below e} w_a / Σ w_a − Σ_{bins below e} w_b / Σ w_b|. `None` when one of them weighs nothing.
pub fn ks(a: &Histogram, b: &Histogram, weight: impl Fn(&HistogramBin) -> u64) -> Option<f64> {
    let total = |h: &Histogram| h.iter().map(|bin| weight(bin) as f64).sum::<f64>();
    let totals = (total(a), total(b));
    if totals.0 <= 0.0 || totals.1 <= 0.0 {
        return None;
    }
    let (mut i, mut j, mut below, mut most) = (0, 0, (0.0, 0.0), 0.0f64);
    while i < a.len() || j < b.len() {
        let edge = a.get(i).into_iter().chain(b.get(j)).map(|bin| bin.from).min().unwrap_or(u64::MAX);
        if let Some(bin) = a.get(i).filter(|bin| bin.from == edge) {
            below.0 += weight(bin) as f64;
            i += 1;
        }
        if let Some(bin) = b.get(j).filter(|bin| bin.from == edge) {
            below.1 += weight(bin) as f64;
            j += 1;
        }
        most = most.max((below.0 / totals.0 - below.1 / totals.1).abs());
    }
    Some(most)
}

/// KS distance of counts over the same slices; `None` when one of them counts nothing.
fn slices_ks(a: &[u64], b: &[u64]) -> Option<f64> {
    let histogram = |counts: &[u64]| -> Histogram {
        let bins = counts.iter().zip(0..);
        bins.map(|(&count, from)| HistogramBin { from, to: from + 1, count, bytes: 0 }).collect()
    };
    ks(&histogram(a), &histogram(b), |bin| bin.count)
}

/// √(mean (x − y)²) / (max y − min y) over slices of normalised time. `None` when the reference does not move, or the
/// curves have different numbers of slices.
pub fn nrmse(curve: &[f64], reference: &[f64]) -> Option<f64> {
    if curve.len() != reference.len() || reference.is_empty() {
        return None;
    }
    let (low, high) =
        reference.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(*y), high.max(*y)));
    let squares: f64 = curve.iter().zip(reference).map(|(x, y)| (x - y).powi(2)).sum();
    (high > low).then(|| (squares / reference.len() as f64).sqrt() / (high - low))
}

fn multiple(of: u64, reference: u64) -> Option<f64> {
    (reference > 0).then(|| of as f64 / reference as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::shape;
    use fragbench_trace::Trace;
    use fragbench_trace::synth::{Shape as Program, program};
    use fragbench_trace::{PackOptions, Totals, pack_source};

    fn histogram(bins: &[(u64, u64)]) -> Histogram {
        bins.iter().map(|&(from, count)| HistogramBin { from, to: from + 1, count, bytes: from * count }).collect()
    }

    #[test]
    fn ks_by_hand() {
        let count = |b: &HistogramBin| b.count;
        let bytes = |b: &HistogramBin| b.bytes;
        // Cumulative 1/4, 3/4, 1 against 1/2, 1/2, 1: the second edge differs by 1/4, as does the first.
        let (a, b) = (histogram(&[(10, 1), (20, 2), (40, 1)]), histogram(&[(10, 2), (40, 2)]));
        assert_eq!(ks(&a, &b, count), Some(0.25));
        // Bytes 10, 40, 40 of 90 against 20, 80 of 100: at 20, 50/90 − 20/100.
        assert!((ks(&a, &b, bytes).unwrap() - (50.0 / 90.0 - 0.2)).abs() < 1e-12);
        assert_eq!(ks(&a, &a, count), Some(0.0));
        assert_eq!(ks(&histogram(&[(1, 5)]), &histogram(&[(2, 7)]), count), Some(1.0));
        assert_eq!(ks(&a, &Vec::new(), count), None);
        // Counts may differ by any factor.
        assert_eq!(ks(&histogram(&[(1, 10), (3, 30)]), &histogram(&[(1, 1), (3, 3)]), count), Some(0.0));
    }

    #[test]
    fn nrmse_by_hand() {
        assert_eq!(nrmse(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), Some(0.0));
        // Differences 2, 0, 2, 0: root of the mean square √2, range 10.
        let error = nrmse(&[2.0, 5.0, 12.0, 0.0], &[0.0, 5.0, 10.0, 0.0]).unwrap();
        assert!((error - 2f64.sqrt() / 10.0).abs() < 1e-12);
        assert_eq!(nrmse(&[1.0], &[1.0]), None);
        assert_eq!(nrmse(&[1.0], &[1.0, 2.0]), None);
    }

    fn measured(program: &fragbench_trace::synth::Program) -> Shape {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.fbt");
        pack_source(program, &path, &PackOptions::default(), Totals::default()).unwrap();
        shape(&Trace::open(&path).unwrap(), 0..u64::MAX)
    }

    #[test]
    fn equal_traces_have_no_distance_and_others_have() {
        let plain = Program { threads: 4, events: 5_000, cross: 200, realloc: 100, ..Program::default() };
        let a = measured(&program(&Program { thread_life: 300, ..plain.clone() }));
        let zero = distances(&a, &a);
        let all = [
            zero.sizes_by_count_ks,
            zero.sizes_by_bytes_ks,
            zero.lifetimes_us_ks,
            zero.lifetimes_events_ks,
            zero.cross_thread_points,
            zero.realloc_points,
            zero.unfreed_points,
            zero.live_nrmse,
            zero.live_events_nrmse,
            zero.thread_starts_ks,
        ];
        assert_eq!(all, [Some(0.0); 10]);
        assert_eq!((zero.thread_starts_ratio, zero.threads_peak_ratio), (Some(1.0), Some(1.0)));
        let b = measured(&program(&Program { threads: 2, cross: 0, max_size: 512, ..plain }));
        let far = distances(&b, &a);
        assert!(far.sizes_by_count_ks.unwrap() > 0.3, "{far:?}");
        assert!(far.cross_thread_points.unwrap() < -5.0, "{far:?}");
        assert_eq!(far.threads_peak_ratio, Some(0.5));
    }
}
