//! Wilcoxon's signed-rank test on paired differences (Wilcoxon 1945, "Individual Comparisons by Ranking Methods"):
//! could these differences as well have had the opposite signs?
//!
//! Two copies of the same thing, run in the same block in shuffled order, may be exchanged, so under "no difference" each
//! difference has either sign with probability one half, whatever law it follows. The test is therefore exact for
//! resident memory too, which jumps between a few values. Zeros are left out, ties get the mean of their ranks.

use statrs::distribution::{ContinuousCDF, Normal};

use crate::ranks::doubled_ranks;

/// Differences up to which the distribution is counted out; above, the normal law is as good.
const EXACT: usize = 60;

/// Fewest blocks whose signs can exclude chance at the 5 % level: all of six on one side happen once in 32 times.
pub const MIN_BLOCKS: u32 = 6;

/// Two-sided p-value; 1 when nothing differs.
pub(crate) fn signed_rank(differences: &[f64]) -> f64 {
    let mut d: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    if d.is_empty() {
        return 1.0;
    }
    d.sort_unstable_by(|a, b| a.abs().total_cmp(&b.abs()));
    let ranks = doubled_ranks(&d.iter().map(|d| d.abs()).collect::<Vec<_>>());
    let total: usize = ranks.iter().sum();
    let positive: usize = ranks.iter().zip(&d).filter(|(_, d)| **d > 0.0).map(|(rank, _)| rank).sum();
    let smaller = positive.min(total - positive);
    let tail = if d.len() <= EXACT { exact_tail(&ranks, smaller) } else { normal_tail(&ranks, smaller) };
    (2.0 * tail).min(1.0)
}

/// Share of all assignments of signs whose positive ranks add up to at most `sum`.
fn exact_tail(ranks: &[usize], sum: usize) -> f64 {
    let mut share = vec![0.0_f64; sum + 1];
    share[0] = 1.0;
    for &rank in ranks {
        for at in (0..=sum).rev() {
            let with = if at >= rank { share[at - rank] } else { 0.0 };
            share[at] = 0.5 * (share[at] + with);
        }
    }
    share.iter().sum()
}

/// The same from the normal law, with the variance that ties leave and a correction for continuity.
fn normal_tail(ranks: &[usize], sum: usize) -> f64 {
    let mean = ranks.iter().sum::<usize>() as f64 / 2.0;
    let deviation = ranks.iter().map(|r| (r * r) as f64 / 4.0).sum::<f64>().sqrt();
    Normal::standard().cdf((sum as f64 + 1.0 - mean) / deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_published_table() {
        // Wilcoxon's table: n = 10, rank sum 8 is the 5 % point, two-sided (0.0488); n = 15, 25 (0.0479).
        let with_sum = |n: i32, negative: &[i32]| -> f64 {
            signed_rank(&(1..=n).map(|r| f64::from(if negative.contains(&r) { -r } else { r })).collect::<Vec<_>>())
        };
        assert!((with_sum(10, &[8]) - 0.0488).abs() < 5e-5);
        assert!(with_sum(10, &[9]) > 0.05);
        assert!((with_sum(15, &[12, 13]) - 0.0479).abs() < 5e-5);
        assert_eq!(signed_rank(&[1.0; 6]), 2.0 / 64.0, "six of one sign, all tied");
        assert!(signed_rank(&[1.0; 5]) > 0.05, "five never suffice");
        assert_eq!(signed_rank(&[0.0, 0.0]), 1.0);
        assert_eq!(signed_rank(&[1.0, -1.0, 2.0, -2.0]), 1.0);
    }

    #[test]
    fn the_normal_law_joins_on() {
        let d: Vec<f64> = (1..=60).map(|i| f64::from(if i % 3 == 0 { -i } else { i })).collect();
        let ranks = doubled_ranks(&d.iter().map(|d| d.abs()).collect::<Vec<_>>());
        let sum = ranks.iter().zip(&d).filter(|(_, d)| **d < 0.0).map(|(r, _)| r).sum();
        let (exact, normal) = (exact_tail(&ranks, sum), normal_tail(&ranks, sum));
        assert!((exact / normal - 1.0).abs() < 0.03, "{exact} {normal}");
    }
}
