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

/// Lower and upper end of the middle 95 % of the medians of [`RESAMPLES`] resamples of ascending values.
fn percentiles(sorted: &[f64]) -> (f64, f64) {
    let mut rng = Pcg64Mcg::seed_from_u64(SEED);
    let n = sorted.len();
    let mut times = vec![0_u32; n];
    let mut medians: Vec<f64> = (0..RESAMPLES)
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
        .collect();
    let last = (RESAMPLES - 1) as f64;
    let mut at = |share: f64| *medians.select_nth_unstable_by(share as usize, f64::total_cmp).1;
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
}
