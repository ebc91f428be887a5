//! Histograms whose bins are exact for small values and a fixed share of the value above.

use fragbench_model::{Histogram, HistogramBin};

/// Values below `1 << exact_bits` have a bin each; above, each octave is cut into `1 << sub_bits` bins of equal width.
#[derive(Debug, Clone)]
pub(crate) struct Bins {
    exact_bits: u32,
    sub_bits: u32,
    counts: Vec<Count>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    count: u64,
    bytes: u64,
}

impl Bins {
    /// Sizes: exact below 1 KiB, 32 bins an octave above.
    pub(crate) fn of_sizes() -> Bins {
        Bins::new(10, 5)
    }

    /// Lifetimes: exact below 8, 4 bins an octave above.
    pub(crate) fn of_lifetimes() -> Bins {
        Bins::new(3, 2)
    }

    pub(crate) fn new(exact_bits: u32, sub_bits: u32) -> Bins {
        assert!(exact_bits > sub_bits);
        Bins { exact_bits, sub_bits, counts: Vec::new() }
    }

    /// Number of a value's bin.
    pub(crate) fn bin(&self, v: u64) -> usize {
        if v >> self.exact_bits == 0 {
            return v as usize;
        }
        let octave = v.ilog2();
        let within = (v >> (octave - self.sub_bits)) - (1 << self.sub_bits);
        ((1u64 << self.exact_bits) + (u64::from(octave - self.exact_bits) << self.sub_bits) + within) as usize
    }

    /// Least value of a bin; the largest number there is past the last.
    pub(crate) fn from(&self, bin: usize) -> u64 {
        let Some(above) = (bin as u64).checked_sub(1 << self.exact_bits) else { return bin as u64 };
        let octave = self.exact_bits + (above >> self.sub_bits) as u32;
        if octave > 63 {
            return u64::MAX;
        }
        let within = above & ((1 << self.sub_bits) - 1);
        (within + (1 << self.sub_bits)) << (octave - self.sub_bits)
    }

    /// Least value of the bin that a value falls in.
    pub(crate) fn floor(&self, v: u64) -> u64 {
        self.from(self.bin(v))
    }

    pub(crate) fn add(&mut self, v: u64, bytes: u64) {
        let bin = self.bin(v);
        if self.counts.len() <= bin {
            self.counts.resize(bin + 1, Count::default());
        }
        self.counts[bin].count += 1;
        self.counts[bin].bytes = self.counts[bin].bytes.saturating_add(bytes);
    }

    pub(crate) fn histogram(&self) -> Histogram {
        let filled = self.counts.iter().enumerate().filter(|(_, c)| c.count > 0);
        filled
            .map(|(i, c)| HistogramBin { from: self.from(i), to: self.from(i + 1), count: c.count, bytes: c.bytes })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_meet_and_hold_what_falls_in_them() {
        for bins in [Bins::of_sizes(), Bins::of_lifetimes(), Bins::new(3, 2)] {
            for v in (0..5000).chain([1 << 40, (1 << 40) - 1, u64::MAX - 1]) {
                let (from, to) = (bins.from(bins.bin(v)), bins.from(bins.bin(v) + 1));
                assert!(from <= v && v < to, "{v}: {from}..{to}");
                assert!(v > 1 << 62 || to - from <= (v >> bins.sub_bits).max(1), "{v}: {from}..{to}");
            }
        }
        let sizes = Bins::of_sizes();
        assert_eq!((sizes.from(1023), sizes.from(1024), sizes.from(1025)), (1023, 1024, 1056));
    }
}
