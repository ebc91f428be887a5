//! The phases of a role: its life cut where what it does changes.
//!
//! Activity is drawn as three curves over the life: allocations so far, bytes asked for so far, live bytes. They are
//! approximated by straight pieces (Ramer 1972; Douglas and Peucker 1973): the piece that strays most is cut where it
//! strays most, until none strays by more than [`TOLERANCE`] or there are [`PHASES`] of them.

/// Points of a life at which a phase may begin.
pub(super) const GRID: usize = 2048;
/// Most phases of a role.
const PHASES: usize = 16;
/// Share of a curve's range by which a piece may stray.
const TOLERANCE: f64 = 0.008;

/// Curves of a role over its life; position `i` is the share `i / GRID`.
#[derive(Debug, Clone)]
pub(super) struct Curves {
    pub(super) allocations: Vec<f64>,
    pub(super) bytes: Vec<f64>,
    /// Changes of live bytes.
    pub(super) live: Vec<f64>,
}

impl Default for Curves {
    fn default() -> Self {
        Curves { allocations: vec![0.0; GRID], bytes: vec![0.0; GRID], live: vec![0.0; GRID] }
    }
}

impl Curves {
    /// Allocations, bytes asked for, and the range of live bytes.
    pub(super) fn weights(&self) -> [f64; 3] {
        let sums = self.live.iter().scan(0.0, |sum, change| {
            *sum += change;
            Some(*sum)
        });
        let (low, high) = sums.fold((0.0f64, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
        [self.allocations.iter().sum(), self.bytes.iter().sum(), high - low]
    }
}

/// Running sums, as shares of their range.
fn summed(changes: &[f64]) -> Vec<f64> {
    let mut curve = vec![0.0];
    let mut sum = 0.0;
    for change in changes {
        sum += change;
        curve.push(sum);
    }
    let (low, high) = curve.iter().fold((0.0f64, 0.0f64), |(l, h), v| (l.min(*v), h.max(*v)));
    if high > low {
        curve.iter_mut().for_each(|v| *v /= high - low);
    }
    curve
}

/// Where each phase begins, as positions on the grid; the first is 0. The less a role's share of all that happens, the
/// less exact it needs to be.
pub(super) fn cut(curves: &Curves, share: f64) -> Vec<usize> {
    let curves = [summed(&curves.allocations), summed(&curves.bytes), summed(&curves.live)];
    let tolerance = TOLERANCE / share.max(1e-9);
    let mut cuts = vec![0, GRID];
    while cuts.len() <= PHASES {
        let worst = cuts
            .windows(2)
            .filter_map(|w| strays(&curves, w[0], w[1]))
            .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        match worst {
            Some((by, at)) if by > tolerance => {
                let place = cuts.partition_point(|c| *c < at);
                cuts.insert(place, at);
            }
            _ => break,
        }
    }
    cuts.pop();
    cuts
}

/// By how much a straight line from `from` to `to` strays from the curves at the most, and where.
fn strays(curves: &[Vec<f64>; 3], from: usize, to: usize) -> Option<(f64, usize)> {
    let at = |curve: &[f64], i: usize| {
        let share = (i - from) as f64 / (to - from) as f64;
        (curve[i] - curve[from] - share * (curve[to] - curve[from])).abs()
    };
    (from + 1..to)
        .map(|i| (curves.iter().map(|c| at(c, i)).fold(0.0, f64::max), i))
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_cut_where_its_pace_changes() {
        let mut curves = Curves::default();
        curves.allocations[200..700].fill(1.0);
        curves.live[200] = 10.0;
        let cuts = cut(&curves, 1.0);
        assert!([0, 200, 201, 700].iter().all(|c| cuts.contains(c)), "{cuts:?}");
        assert!(cuts.len() <= PHASES && cuts.is_sorted(), "{cuts:?}");
        assert_eq!(cut(&Curves::default(), 1.0), [0]);
    }
}
