//! Percentile bootstrap of a median and of a ratio of medians over paired runs (Efron and Tibshirani 1993,
//! "An Introduction to the Bootstrap", chapter 13). Resident memory is multimodal over runs, so medians and
//! resampling instead of a mean and a normal law.
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
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// Median with its 95 % interval. Values that are not finite are left out; `None` when none is left.
pub fn median_interval(values: &[f64]) -> Option<Interval> {
    let values: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let n = values.len();
    let centre = median(&values)?;
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (lo, hi) = if n < 3 || least == greatest {
        (least, greatest)
    } else {
        let mut drawn = vec![0.0; n];
        resampled(|rng| {
            drawn.fill_with(|| values[rng.random_range(0..n)]);
            median_in_place(&mut drawn)
        })
    };
    Some(Interval { median: centre, lo, hi, n: n as u32 })
}

/// Ratio of the medians of `(value, baseline)` pairs with its 95 % interval; pairs are resampled whole, so what hit
/// both of a pair (a slow stretch of the machine) does not widen it. `None` of no pair or a baseline not above zero.
pub fn ratio_interval(pairs: &[(f64, f64)]) -> Option<Interval> {
    geometric_ratio_interval(std::slice::from_ref(&pairs))
}

/// Geometric mean over groups (workloads) of each group's ratio of medians, with its 95 % interval; every group is
/// resampled on its own. `n` is the number of pairs of the smallest group. `None` when a group has no pair or a
/// value not above zero.
pub fn geometric_ratio_interval<P: AsRef<[(f64, f64)]>>(groups: &[P]) -> Option<Interval> {
    let groups: Vec<&[(f64, f64)]> = groups.iter().map(AsRef::as_ref).collect();
    let n = groups.iter().map(|g| g.len()).min()?;
    let positive = |&(a, b): &(f64, f64)| a.is_finite() && b.is_finite() && a > 0.0 && b > 0.0;
    if n == 0 || !groups.iter().all(|g| g.iter().all(positive)) {
        return None;
    }
    let mut scratch = Scratch::default();
    let centre = geometric_mean(groups.iter().map(|g| scratch.ratio_of_medians(g.iter().copied())));
    let (lo, hi) = if n < 3 {
        let ends = |pick: fn(f64, f64) -> f64, start: f64| {
            geometric_mean(groups.iter().map(|g| g.iter().map(|(a, b)| a / b).fold(start, pick)))
        };
        // With two pairs the ratio of medians may leave the range of the single ratios by a hair.
        (ends(f64::min, f64::INFINITY).min(centre), ends(f64::max, 0.0).max(centre))
    } else {
        resampled(|rng| {
            geometric_mean(
                groups.iter().map(|g| scratch.ratio_of_medians((0..g.len()).map(|_| g[rng.random_range(0..g.len())]))),
            )
        })
    };
    Some(Interval { median: centre, lo, hi, n: n as u32 })
}

/// Room for the two sides of the pairs, kept between resamples.
#[derive(Default)]
struct Scratch {
    above: Vec<f64>,
    below: Vec<f64>,
}

impl Scratch {
    fn ratio_of_medians(&mut self, pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
        self.above.clear();
        self.below.clear();
        for (above, below) in pairs {
            self.above.push(above);
            self.below.push(below);
        }
        median_in_place(&mut self.above) / median_in_place(&mut self.below)
    }
}

fn geometric_mean(ratios: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = ratios.len() as f64;
    (ratios.map(f64::ln).sum::<f64>() / n).exp()
}

/// Lower and upper end of the middle 95 % of [`RESAMPLES`] draws of a statistic.
fn resampled(mut statistic: impl FnMut(&mut Pcg64Mcg) -> f64) -> (f64, f64) {
    let mut rng = Pcg64Mcg::seed_from_u64(SEED);
    let mut draws: Vec<f64> = (0..RESAMPLES).map(|_| statistic(&mut rng)).collect();
    draws.sort_unstable_by(f64::total_cmp);
    let last = (RESAMPLES - 1) as f64;
    (draws[(TAIL * last).floor() as usize], draws[((1.0 - TAIL) * last).ceil() as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twelve draws of the irwin-hall law stand for a normal one.
    fn normal(rng: &mut Pcg64Mcg) -> f64 {
        (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
    }

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
        let covered = (0..trials)
            .filter(|_| {
                let values: Vec<f64> = (0..15).map(|_| 100.0 + normal(&mut rng)).collect();
                let i = median_interval(&values).unwrap();
                i.lo <= 100.0 && 100.0 <= i.hi
            })
            .count();
        assert!((180..=199).contains(&covered), "{covered} of {trials}");
    }

    #[test]
    fn a_known_ratio_is_found_and_pairing_narrows_it() {
        let mut rng = Pcg64Mcg::seed_from_u64(2);
        // The machine's speed swings by a factor of two between repetitions and hits both of a pair.
        let pairs: Vec<(f64, f64)> = (0..20)
            .map(|_| {
                let speed = 1.0 + rng.random::<f64>();
                (0.8 * speed * (1.0 + 0.005 * normal(&mut rng)), speed)
            })
            .collect();
        let paired = ratio_interval(&pairs).unwrap();
        assert!(paired.lo <= 0.8 && 0.8 <= paired.hi, "{paired:?}");
        let alone = median_interval(&pairs.iter().map(|p| p.0).collect::<Vec<_>>()).unwrap();
        assert!((paired.hi - paired.lo) / paired.median < 0.2 * (alone.hi - alone.lo) / alone.median);
    }

    #[test]
    fn groups_are_joined_by_their_geometric_mean() {
        let half = vec![(1.0, 2.0); 3];
        let double = vec![(6.0, 3.0); 4];
        let joined = geometric_ratio_interval(&[half, double]).unwrap();
        assert!((joined.median - 1.0).abs() < 1e-12 && (joined.hi - joined.lo).abs() < 1e-12);
        assert_eq!(joined.n, 3);
        assert_eq!(ratio_interval(&[(1.0, 0.0)]), None);
        assert_eq!(geometric_ratio_interval::<Vec<(f64, f64)>>(&[]), None);
        let two = ratio_interval(&[(1.0, 2.0), (3.0, 2.0)]).unwrap();
        assert_eq!((two.lo, two.median, two.hi), (0.5, 1.0, 1.5));
    }

    #[test]
    fn the_same_values_give_the_same_interval() {
        let values = [3.1, 2.7, 9.4, 4.4, 5.0, 2.2, 7.3];
        assert_eq!(median_interval(&values), median_interval(&values));
    }
}
