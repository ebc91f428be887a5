//! A curve over events whose number is not known in advance, kept in bounded memory: when there are too many points,
//! neighbours are joined and points stand for twice as many events from then on.

/// Points kept at the most; even.
const MOST: usize = 8192;

/// The curve. Each full point is the mean of equally many events.
#[derive(Debug, Clone)]
pub(crate) struct EventCurve {
    points: Vec<f64>,
    /// Events a point stands for.
    width: u64,
    /// Sum and number of the events that do not fill a point yet.
    sum: f64,
    count: u64,
}

impl Default for EventCurve {
    fn default() -> Self {
        EventCurve { points: Vec::new(), width: 1, sum: 0.0, count: 0 }
    }
}

impl EventCurve {
    /// The value after one more event.
    pub(crate) fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
        if self.count < self.width {
            return;
        }
        self.points.push(self.sum / self.width as f64);
        (self.sum, self.count) = (0.0, 0);
        if self.points.len() == MOST {
            self.points = self.points.chunks_exact(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
            self.width *= 2;
        }
    }

    /// The mean over each of `n` slices of equally many events, a slice's ends falling within points where they must;
    /// zeros when there were no events.
    pub(crate) fn slices(&self, n: usize) -> Vec<f64> {
        let rest = (self.count > 0).then(|| (self.sum / self.count as f64, self.count as f64 / self.width as f64));
        let points = self.points.iter().map(|value| (*value, 1.0)).chain(rest);
        let length = (self.points.len() as f64 + rest.map_or(0.0, |(_, part)| part)) / n as f64;
        let mut slices = vec![0.0; n];
        if length <= 0.0 {
            return slices;
        }
        let mut at = 0.0;
        for (value, part) in points {
            let end = at + part;
            let first = ((at / length) as usize).min(n - 1);
            let last = ((end / length) as usize).min(n - 1);
            for (slice, sum) in slices.iter_mut().enumerate().take(last + 1).skip(first) {
                let (from, to) = (slice as f64 * length, (slice + 1) as f64 * length);
                *sum += value * (end.min(to) - at.max(from)).max(0.0);
            }
            at = end;
        }
        slices.iter_mut().for_each(|sum| *sum /= length);
        slices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(values: impl IntoIterator<Item = f64>) -> EventCurve {
        let mut curve = EventCurve::default();
        values.into_iter().for_each(|value| curve.add(value));
        curve
    }

    fn near(a: &[f64], b: &[f64]) {
        assert!(a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-9), "{a:?} {b:?}");
    }

    #[test]
    fn few_events_fill_slices_by_their_share() {
        near(&curve([1.0, 2.0, 3.0, 4.0]).slices(2), &[1.5, 3.5]);
        // Three events in two slices: the second is half in each.
        near(&curve([1.0, 2.0, 6.0]).slices(2), &[(1.0 + 1.0) / 1.5, (1.0 + 6.0) / 1.5]);
        near(&curve([7.0]).slices(3), &[7.0, 7.0, 7.0]);
        near(&curve([]).slices(2), &[0.0, 0.0]);
    }

    #[test]
    fn many_events_keep_bounded_memory_and_their_means() {
        let n = 10 * MOST + 777;
        let curve = curve((0..n).map(|i| i as f64));
        assert!(curve.points.len() < MOST);
        let slices = curve.slices(4);
        let length = n as f64 / 4.0;
        for (i, mean) in slices.iter().enumerate() {
            let expected = (i as f64 + 0.5) * length - 0.5;
            assert!((mean - expected).abs() < 1.0 + curve.width as f64, "{i}: {mean} {expected}");
        }
    }
}
