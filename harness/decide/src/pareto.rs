//! The Pareto front of memory against throughput: the cells of which no other holds less memory and is at least
//! as fast.

/// Indices of the points `(memory, throughput)` on the front, by ascending memory. Points that are not finite are
/// never on it; of equal points the first stands for all.
pub fn pareto_front(points: &[(f64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> =
        (0..points.len()).filter(|&i| points[i].0.is_finite() && points[i].1.is_finite()).collect();
    order.sort_by(|&a, &b| points[a].0.total_cmp(&points[b].0).then(points[b].1.total_cmp(&points[a].1)));
    let mut fastest = f64::NEG_INFINITY;
    order.retain(|&i| {
        let on_front = points[i].1 > fastest;
        fastest = fastest.max(points[i].1);
        on_front
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_beaten_on_both_axes_is_left_out() {
        let points = [(100.0, 10.0), (50.0, 8.0), (60.0, 7.0), (50.0, 8.0), (120.0, 9.0), (f64::NAN, 99.0)];
        assert_eq!(pareto_front(&points), vec![1, 0]);
        assert!(pareto_front(&[]).is_empty());
    }

    #[test]
    fn every_point_left_out_is_beaten_by_one_on_the_front() {
        let points: Vec<(f64, f64)> = (0..50).map(|i| (f64::from(i * 37 % 50), f64::from(i * 23 % 41))).collect();
        let front = pareto_front(&points);
        for (i, p) in points.iter().enumerate() {
            let beaten = front.iter().any(|&f| points[f].0 <= p.0 && points[f].1 >= p.1);
            assert!(front.contains(&i) || beaten, "{p:?}");
        }
    }
}
