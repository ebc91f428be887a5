//! Axes: range, ticks at round values of the unit, and the way from a value to a pixel.

use fragbench_model::Unit;

use crate::units;

/// How values become distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    Log,
}

/// An axis: its range in values and where it lies in pixels (`from` may lie past `to`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    pub(crate) lo: f64,
    pub(crate) hi: f64,
    pub(crate) scale: Scale,
    pub(crate) unit: Unit,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Axis {
    /// From zero to a little above the greatest value.
    pub(crate) fn from_zero(values: impl IntoIterator<Item = f64>, unit: Unit) -> Axis {
        let top = values.into_iter().filter(|v| v.is_finite()).fold(0.0, f64::max);
        Axis { lo: 0.0, hi: if top > 0.0 { top * 1.06 } else { 1.0 }, scale: Scale::Linear, unit, from: 0.0, to: 1.0 }
    }

    /// Around the values; from zero when the least is small beside the greatest.
    pub(crate) fn around(values: impl IntoIterator<Item = f64>, unit: Unit) -> Axis {
        let values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let zero = Axis::from_zero(values.iter().copied(), unit);
        if values.is_empty() || least < 0.45 * zero.hi {
            return zero;
        }
        let greatest = zero.hi / 1.06;
        let pad = 0.12 * (greatest - least).max(0.05 * greatest);
        Axis { lo: (least - pad).max(0.0), hi: greatest + pad, ..zero }
    }

    /// Logarithmic, over the values above zero, padded by a fifth of a decade.
    pub(crate) fn log(values: impl IntoIterator<Item = f64>, unit: Unit) -> Axis {
        let (mut lo, mut hi) = (f64::INFINITY, 0.0_f64);
        for v in values.into_iter().filter(|v| v.is_finite() && *v > 0.0) {
            (lo, hi) = (lo.min(v), hi.max(v));
        }
        if hi <= 0.0 {
            (lo, hi) = (1.0, 10.0);
        }
        Axis { lo: lo / 1.5, hi: hi * 1.5, scale: Scale::Log, unit, from: 0.0, to: 1.0 }
    }

    pub(crate) fn placed(self, from: f64, to: f64) -> Axis {
        Axis { from, to, ..self }
    }

    /// Pixel of a value; values outside the range are held at its ends.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.lo) / (self.hi - self.lo),
            Scale::Log => (value.max(self.lo) / self.lo).ln() / (self.hi / self.lo).ln(),
        };
        self.from + (self.to - self.from) * share.clamp(0.0, 1.0)
    }

    /// Round values within the range, at most about `most` of them.
    pub(crate) fn ticks(&self, most: usize) -> Vec<f64> {
        let most = most.max(2);
        match self.scale {
            Scale::Linear => {
                let step = self.round_step((self.hi - self.lo) / most as f64);
                let first = (self.lo / step).ceil() as i64;
                let last = (self.hi / step).floor() as i64;
                (first..=last).map(|i| i as f64 * step).collect()
            }
            Scale::Log => {
                // Steps by powers of 2 for bytes, of 10 else: each tick is a round number of its unit.
                let base: f64 = if self.unit == Unit::Bytes { 2.0 } else { 10.0 };
                let (first, last) = (self.lo.log(base).ceil() as i32, self.hi.log(base).floor() as i32);
                let powers = (last - first + 1).max(1);
                let ticks = |stride: i32| {
                    (first..=last).filter(|p| p.rem_euclid(stride) == 0).map(|p| base.powi(p)).collect::<Vec<_>>()
                };
                let mut stride = 1;
                while powers / stride > most as i32 {
                    stride = if self.unit == Unit::Bytes { stride * 2 } else { stride + 1 };
                }
                let found = ticks(stride);
                if found.len() >= 2 {
                    return found;
                }
                // Less than two powers in the range: 1, 2, 5 within them.
                (first - 1..=last)
                    .flat_map(|p| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi((f64::from(p) * base.log10()).floor() as i32)))
                    .filter(|v| (self.lo..=self.hi).contains(v))
                    .fold(Vec::new(), |mut list, v| {
                        if list.last() != Some(&v) {
                            list.push(v);
                        }
                        list
                    })
            }
        }
    }

    /// The least round step not below `least`: 1, 2, 4, 8 … of a binary unit for bytes, 1, 2, 5 of a power of ten
    /// else; whole numbers for counts.
    fn round_step(&self, least: f64) -> f64 {
        if self.unit == Unit::Bytes {
            return 2f64.powf(least.max(1.0).log2().ceil());
        }
        let power = 10f64.powf(least.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= least * 0.999).unwrap_or(least);
        if self.unit == Unit::Count { step.max(1.0) } else { step }
    }

    /// Text of a tick.
    pub(crate) fn tick_label(&self, value: f64) -> String {
        if value == 0.0 {
            return "0".into();
        }
        let text = match self.unit {
            Unit::Bytes => units::bytes(value),
            Unit::Seconds => units::duration_ns(value * 1e9),
            Unit::Milliseconds => units::duration_ns(value * 1e6),
            Unit::Nanoseconds => units::duration_ns(value),
            Unit::PerSecond => format!("{}/s", units::count(value)),
            Unit::Count => units::count(value),
            Unit::Ratio => units::digits(value),
        };
        // Round values need no zeros behind the point: `1.50 s` is `1.5 s`.
        let (number, unit) = text.split_once([' ', '/']).map_or((text.as_str(), ""), |(n, _)| (n, &text[n.len()..]));
        let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
        format!("{number}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_in_their_unit() {
        let labels = |a: Axis, n| a.ticks(n).iter().map(|v| a.tick_label(*v)).collect::<Vec<_>>();
        let mib = 1024.0 * 1024.0;
        let bytes = Axis::from_zero([700.0 * mib], Unit::Bytes);
        assert_eq!(labels(bytes, 4), ["0", "256 MiB", "512 MiB"]);
        assert_eq!(labels(Axis::from_zero([17.0], Unit::Count), 5), ["0", "5", "10", "15"]);
        assert_eq!(labels(Axis::from_zero([1.0], Unit::Count), 5), ["0", "1"]);
        assert_eq!(labels(Axis::log([30.0, 2e6], Unit::Nanoseconds), 9), ["100 ns", "1 µs", "10 µs", "100 µs", "1 ms"]);
        assert_eq!(labels(Axis::from_zero([2.2], Unit::Seconds), 5), ["0", "500 ms", "1 s", "1.5 s", "2 s"]);
    }

    #[test]
    fn values_outside_and_empty_ranges_do_no_harm() {
        let empty = Axis::from_zero([], Unit::Bytes).placed(0.0, 100.0);
        assert_eq!(empty.at(5.0), 100.0);
        assert_eq!(Axis::log([], Unit::Bytes).placed(0.0, 9.0).at(0.0), 0.0);
        let same = Axis::around([5.0, 5.0], Unit::PerSecond).placed(0.0, 10.0);
        assert!((4.0..6.0).contains(&same.at(5.0)));
        let huge = Axis::log([1.0, 1e18], Unit::Bytes);
        assert!(huge.ticks(6).len() <= 9, "{:?}", huge.ticks(6));
    }
}
