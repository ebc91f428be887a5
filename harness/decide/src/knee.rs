//! The knee of a front: where going on for less memory begins to cost more than it gives. The point farthest below the
//! straight line between the front's ends, both axes scaled to the front's extent.
//!
//! Source: I. Das, "On characterizing the 'knee' of the Pareto curve based on Normal-Boundary Intersection", Structural
//! Optimization 18 (1999), for two objectives.

/// Index of the knee among points `(cost, cost)` of a front, less is better in both, in ascending order of the first.
/// `None` of fewer than three points, or where none lies beyond the line by a twentieth of the front's extent: a straight
/// front has no knee.
pub fn knee(front: &[(f64, f64)]) -> Option<usize> {
    const LEAST: f64 = 0.05;
    let (first, last) = (front.first()?, front.last()?);
    let (width, height) = (last.0 - first.0, first.1 - last.1);
    if front.len() < 3 || width <= 0.0 || height <= 0.0 {
        return None;
    }
    // The line from (0, 1) to (1, 0): how far a point lies on the better side of it.
    let depth = |p: &(f64, f64)| 1.0 - (p.0 - first.0) / width - (p.1 - last.1) / height;
    let (index, depth) = (1..front.len() - 1).map(|i| (i, depth(&front[i]))).max_by(|a, b| a.1.total_cmp(&b.1))?;
    (depth >= LEAST).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corner_of_a_bent_front_is_found_in_any_unit() {
        let front = [(1.0, 10.0), (1.2, 4.0), (2.0, 2.0), (5.0, 1.5), (9.0, 1.0)];
        assert_eq!(knee(&front), Some(2));
        let scaled: Vec<(f64, f64)> = front.iter().map(|(a, b)| (a * 1e9, b * 1e-3 - 7.0)).collect();
        assert_eq!(knee(&scaled), Some(2));
    }

    #[test]
    fn straight_bulging_and_short_fronts_have_none() {
        assert_eq!(knee(&[(0.0, 2.0), (1.0, 1.0), (2.0, 0.0)]), None);
        assert_eq!(knee(&[(0.0, 2.0), (1.9, 1.9), (2.0, 0.0)]), None);
        assert_eq!(knee(&[(0.0, 2.0), (2.0, 0.0)]), None);
        assert_eq!(knee(&[]), None);
    }
}
