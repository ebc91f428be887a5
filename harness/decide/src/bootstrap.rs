//! Percentile bootstrap of a median (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13).
//! Resident memory is multimodal over runs, so medians and resampling instead of a mean and a normal law; percentile and
//! not BCa, whose acceleration is estimated by a jackknife, which fails for medians (the same, section 10.6).
//!
//! Below three values no resampling can say anything: the interval is then the range of what was seen.
//! From three to five values it mostly is that range too, which is the honest answer of so few runs.

use fragbench_model::Interval;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Resamples an interval is made of.
pub const RESAMPLES: usize = 10_000;
/// Share of the resamples left out at either end: a 95 % interval.
const TAIL: f64 = 0.025;
/// Fixed, so that the same records give the same summary byte for byte.
const SEED: u64 = 0x66_72_61_67_62_65_6e_63;

/// Median of the finite values; the mean of the middle two when their number is even. `None` of no value.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut values: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    (!values.is_empty()).then(|| median_in_place(&mut values))
}

fn median_in_place(values: &mut [f64]) -> f64 {
    let (n, middle) = (values.len(), values.len() / 2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if n % 2 == 1 {
        return upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    f64::midpoint(lower, upper)
}

/// Median with its 95 % interval. Values that are not finite are left out; `None` when none is left.
pub fn median_interval(values: &[f64]) -> Option<Interval> {
    let mut values: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    values.sort_unstable_by(f64::total_cmp);
    let (least, greatest) = (*values.first()?, *values.last()?);
    let n = values.len();
    let (lo, hi) = if n < 3 || least == greatest { (least, greatest) } else { percentiles(&values) };
    Some(Interval { median: median_in_place(&mut values), lo, hi, n: n as u32 })
}

/// Ratio of the medians of two samples that are not paired, `b` over `a`, with its 95 % interval: each sample is resampled by
/// itself. The range of all ratios below three values on either side. `n` is the smaller number; `None` where a sample is
/// empty or has a value that is not above zero.
pub(crate) fn ratio_interval(b: &[f64], a: &[f64]) -> Option<Interval> {
    let positive = |values: &[f64]| !values.is_empty() && values.iter().all(|v| v.is_finite() && *v > 0.0);
    if !positive(a) || !positive(b) {
        return None;
    }
    let ascending = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let (mut a, mut b) = (ascending(a), ascending(b));
    let n = a.len().min(b.len());
    let (lo, hi) = if n < 3 {
        (b[0] / a[a.len() - 1], b[b.len() - 1] / a[0])
    } else {
        let mut rng = Pcg64Mcg::seed_from_u64(SEED);
        let of_a = resampled_medians(&a, &mut rng);
        let of_b = resampled_medians(&b, &mut rng);
        middle(of_b.iter().zip(of_a).map(|(b, a)| b / a).collect())
    };
    Some(Interval { median: median_in_place(&mut b) / median_in_place(&mut a), lo, hi, n: n as u32 })
}

/// Lower and upper end of the middle 95 % of the medians of [`RESAMPLES`] resamples of ascending values.
fn percentiles(sorted: &[f64]) -> (f64, f64) {
    middle(resampled_medians(sorted, &mut Pcg64Mcg::seed_from_u64(SEED)))
}

/// Medians of [`RESAMPLES`] resamples of ascending values.
fn resampled_medians(sorted: &[f64], rng: &mut Pcg64Mcg) -> Vec<f64> {
    let n = sorted.len();
    let mut times = vec![0_u32; n];
    (0..RESAMPLES)
        .map(|_| {
            times.fill(0);
            (0..n).for_each(|_| times[rng.random_range(0..n)] += 1);
            // How often each value was drawn says which one stands in the middle, without sorting.
            let at = |rank: usize| {
                let mut seen = 0;
                let place = times.iter().position(|&t| {
                    seen += t as usize;
                    seen > rank
                });
                sorted[place.unwrap_or(n - 1)]
            };
            let upper = at(n / 2);
            if n % 2 == 1 { upper } else { f64::midpoint(at(n / 2 - 1), upper) }
        })
        .collect()
}

/// Lower and upper end of the middle 95 % of [`RESAMPLES`] values.
fn middle(mut values: Vec<f64>) -> (f64, f64) {
    let last = (RESAMPLES - 1) as f64;
    let mut at = |share: f64| *values.select_nth_unstable_by(share as usize, f64::total_cmp).1;
    (at((TAIL * last).floor()), at(((1.0 - TAIL) * last).ceil()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::{Distribution, Normal};

    #[test]
    fn few_values_give_their_range() {
        assert_eq!(median_interval(&[]), None);
        assert_eq!(median_interval(&[f64::NAN]), None);
        assert_eq!(median_interval(&[7.0]), Some(Interval { median: 7.0, lo: 7.0, hi: 7.0, n: 1 }));
        assert_eq!(median_interval(&[4.0, 2.0]), Some(Interval { median: 3.0, lo: 2.0, hi: 4.0, n: 2 }));
        let three = median_interval(&[5.0, 1.0, 3.0]).unwrap();
        // One resample in four has the least value as its median: both ends belong to the middle 95 %.
        assert_eq!((three.lo, three.median, three.hi), (1.0, 3.0, 5.0));
    }

    #[test]
    fn the_interval_covers_the_true_median_about_as_often_as_it_says() {
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        let trials = 200;
        let normal = Normal::new(100.0, 1.0).unwrap();
        let covered = (0..trials)
            .filter(|_| {
                let values: Vec<f64> = normal.sample_iter(&mut rng).take(15).collect();
                let i = median_interval(&values).unwrap();
                i.lo <= 100.0 && 100.0 <= i.hi
            })
            .count();
        assert!((180..=199).contains(&covered), "{covered} of {trials}");
    }

    #[test]
    fn the_same_values_give_the_same_interval() {
        let values = [3.1, 2.7, 9.4, 4.4, 5.0, 2.2, 7.3];
        assert_eq!(median_interval(&values), median_interval(&values));
    }
    #[test]
    fn the_ratio_of_two_unpaired_medians_covers_the_truth() {
        let mut rng = Pcg64Mcg::seed_from_u64(3);
        let (normal, trials) = (Normal::new(100.0, 2.0).unwrap(), 200);
        let mut draw =
            |n: usize, factor: f64| -> Vec<f64> { normal.sample_iter(&mut rng).take(n).map(|v| factor * v).collect() };
        let covered = (0..trials)
            .filter(|_| {
                let i = ratio_interval(&draw(12, 1.3), &draw(15, 1.0)).unwrap();
                assert_eq!(i.n, 12);
                i.lo <= 1.3 && 1.3 <= i.hi
            })
            .count();
        assert!((180..=200).contains(&covered), "{covered} of {trials}");
        assert_eq!(
            ratio_interval(&[2.0, 4.0], &[1.0, 2.0, 2.0]),
            Some(Interval { median: 1.5, lo: 1.0, hi: 4.0, n: 2 }),
            "few values give the range of all ratios"
        );
        for wrong in [&[][..], &[0.0, 1.0], &[f64::NAN, 1.0], &[-1.0]] {
            assert_eq!(ratio_interval(&[1.0], wrong), None);
            assert_eq!(ratio_interval(wrong, &[1.0]), None);
        }
    }
}
