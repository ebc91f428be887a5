//! Ranks and the correction for many tests, which both rank tests share.

/// Twice the rank of each of these ascending values; ties share the mean, which doubling keeps whole.
pub(crate) fn doubled_ranks(sorted: &[f64]) -> Vec<usize> {
    let mut ranks = Vec::with_capacity(sorted.len());
    while ranks.len() < sorted.len() {
        let first = ranks.len();
        let tied = sorted[first..].iter().take_while(|value| **value == sorted[first]).count();
        ranks.extend(std::iter::repeat_n(2 * first + tied + 1, tied));
    }
    ranks
}

/// Holm's step-down correction (Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure"): p-values that hold
/// for all of these tests together.
pub(crate) fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut corrected = vec![1.0; p.len()];
    let mut least = 0.0_f64;
    for (step, &i) in order.iter().enumerate() {
        least = least.max((p[i] * (p.len() - step) as f64).min(1.0));
        corrected[i] = least;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_their_rank() {
        assert_eq!(doubled_ranks(&[1.0, 2.0, 2.0, 3.0]), [2, 5, 5, 8]);
        assert!(doubled_ranks(&[]).is_empty());
    }

    #[test]
    fn holm_never_reorders_and_is_milder_than_bonferroni() {
        assert_eq!(holm(&[0.01, 0.04, 0.03]), [0.03, 0.06, 0.06]);
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }
}
