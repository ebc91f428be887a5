//! The rank-sum test of two unpaired samples (Wilcoxon 1945; Mann and Whitney 1947, "On a Test of Whether one of Two Random
//! Variables is Stochastically Larger than the Other"): could the labels A and B as well stand the other way round?
//!
//! Runs of the same thing may exchange their labels whatever law they follow, so the permutation distribution of the
//! rank sum is exact for resident memory too, which jumps between a few values. Ties get the mean of their ranks.

use statrs::distribution::{ContinuousCDF, Normal};

use crate::ranks::doubled_ranks;

/// Values in all up to which the distribution is counted out; above, the normal law is as good.
const EXACT: usize = 40;

/// Two-sided p-value: the share of all ways to label the values whose rank sum is as far from its mean as the one seen. 1
/// when one side is empty.
pub(crate) fn rank_sum(a: &[f64], b: &[f64]) -> f64 {
    let (few, many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if few.is_empty() {
        return 1.0;
    }
    let mut all: Vec<(f64, bool)> = few.iter().map(|v| (*v, true)).chain(many.iter().map(|v| (*v, false))).collect();
    all.sort_unstable_by(|x, y| x.0.total_cmp(&y.0));
    let ranks = doubled_ranks(&all.iter().map(|(value, _)| *value).collect::<Vec<_>>());
    let sum = ranks.iter().zip(&all).filter(|(_, (_, of_few))| *of_few).map(|(rank, _)| rank).sum();
    if ranks.len() <= EXACT { exact(&ranks, few.len(), sum) } else { normal(&ranks, few.len(), sum) }
}

/// The smallest p-value that so many runs can have: all of one side beyond all of the other.
pub(crate) fn least_p(a: usize, b: usize) -> f64 {
    // Two of all (a + b) over a labellings.
    let labellings = (1..=a.min(b)).fold(1.0_f64, |ways, k| ways * (a.max(b) + k) as f64 / k as f64);
    (2.0 / labellings).min(1.0)
}

/// Counts the subsets of `n` ranks by their sum.
fn exact(ranks: &[usize], n: usize, sum: usize) -> f64 {
    let total: usize = ranks.iter().sum();
    let mut ways = vec![vec![0.0_f64; total + 1]; n + 1];
    ways[0][0] = 1.0;
    for &rank in ranks {
        for k in (1..=n).rev() {
            let (fewer, more) = ways.split_at_mut(k);
            for at in rank..=total {
                more[0][at] += fewer[k - 1][at - rank];
            }
        }
    }
    // In whole numbers: the mean is n · total / N.
    let distance = |sum: usize| (sum * ranks.len()).abs_diff(n * total);
    let far = |at: &usize| distance(*at) >= distance(sum);
    let share: f64 = (0..=total).filter(far).map(|at| ways[n][at]).sum();
    (share / ways[n].iter().sum::<f64>()).min(1.0)
}

/// The same from the normal law, with the variance that ties leave and a correction for continuity.
fn normal(ranks: &[usize], n: usize, sum: usize) -> f64 {
    let (all, n) = (ranks.len() as f64, n as f64);
    let mean = ranks.iter().sum::<usize>() as f64 / all;
    let squares: f64 = ranks.iter().map(|r| (*r as f64 - mean).powi(2)).sum();
    let deviation = (n * (all - n) / (all * (all - 1.0)) * squares).sqrt();
    let distance = ((sum as f64 - n * mean).abs() - 1.0).max(0.0);
    if deviation == 0.0 { 1.0 } else { (2.0 * Normal::standard().cdf(-distance / deviation)).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_published_table() {
        // Mann and Whitney's table for n = m = 5: U = 2 is the two-sided 5 % point (0.0317), 3 is beyond it (0.0556).
        let a = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert!((rank_sum(&a, &[6.0, 7.0, 8.0, 9.0, 10.0]) - 2.0 / 252.0).abs() < 1e-12);
        assert!((rank_sum(&a, &[3.5, 6.0, 7.0, 8.0, 9.0]) - 8.0 / 252.0).abs() < 1e-12, "U = 2");
        assert!((rank_sum(&a, &[2.5, 6.0, 7.0, 8.0, 9.0]) - 14.0 / 252.0).abs() < 1e-12, "U = 3");
        assert_eq!(rank_sum(&a, &a), 1.0);
        assert_eq!(rank_sum(&[7.0; 6], &[7.0; 9]), 1.0);
        assert_eq!(rank_sum(&[], &a), 1.0);
        // Two of 1 1 1 2 2, by hand: of ten labellings three are as seen, and two twos lie farther from the mean.
        assert!((rank_sum(&[1.0, 1.0], &[1.0, 2.0, 2.0]) - 0.4).abs() < 1e-12);
    }

    #[test]
    fn the_sides_may_be_exchanged_and_complete_separation_is_the_least() {
        let (a, b) = ([3.0, 1.0, 4.0, 1.5], [9.0, 2.6, 5.0, 3.5, 8.0, 9.0]);
        assert_eq!(rank_sum(&a, &b), rank_sum(&b, &a));
        for (n, m) in [(1, 1), (2, 3), (4, 4), (6, 15), (15, 15)] {
            let low: Vec<f64> = (0..n).map(f64::from).collect();
            let high: Vec<f64> = (0..m).map(|i| 100.0 + f64::from(i)).collect();
            let (seen, least) = (rank_sum(&low, &high), least_p(n as usize, m as usize));
            assert!((seen / least - 1.0).abs() < 1e-9, "{n} {m}: {seen} {least}");
        }
    }

    #[test]
    fn the_normal_law_joins_on() {
        let all: Vec<f64> = (0..40).map(|i| f64::from(i % 13)).collect();
        let ranks = |mut values: Vec<f64>| {
            values.sort_unstable_by(f64::total_cmp);
            doubled_ranks(&values)
        };
        let ranks = ranks(all);
        let total: usize = ranks.iter().sum();
        for sum in [total / 2 - 150, total / 2 - 80, total / 2 + 100] {
            let (exact, normal) = (exact(&ranks, 20, sum), normal(&ranks, 20, sum));
            assert!((exact / normal - 1.0).abs() < 0.05, "{exact} {normal}");
        }
        let (low, high): (Vec<f64>, Vec<f64>) = ((0..30).map(f64::from).collect(), (30..60).map(f64::from).collect());
        assert!(rank_sum(&low, &high) < 1e-8);
        assert_eq!(rank_sum(&[1.0; 30], &[1.0; 30]), 1.0);
    }
}
