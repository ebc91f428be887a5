//! What the recorded process held over time: samples of its memory from outside, each with its own time.
//!
//! A sample is taken about once a second, more often in the first second. A moment that was missed (the process was being
//! replaced by `exec`, its files could not be read, the sampler came too late) is counted, and shows as a wider distance
//! between two samples; nothing is filled in.
//!
//! As bytes: LEB128 numbers: fields of a sample (at most 63; fewer or more than this version knows are no fault), missed
//! moments, then the samples. A sample is its distance in µs from the one before, a bit set of the fields that could be had
//! (lowest first, in the order of [`MemorySample`]), and each of these as the zigzag difference in KiB from the last that
//! was had.
//!
//! Source: proc(5), `statm`, `status`, `smaps`.

use serde::Serialize;

use crate::varint::{get, put, unzigzag, zigzag};

/// Fields of a sample beside its time.
const FIELDS: usize = 5;

/// The process at one moment. Bytes; what could not be read is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemorySample {
    /// Since the recording began, µs.
    pub at_us: u64,
    /// Address space (`VmSize`).
    pub vm_bytes: Option<u64>,
    /// Resident, of all kinds (`VmRSS`); the recorder's own buffers, which are shared memory, are in it.
    pub rss_bytes: Option<u64>,
    /// Anonymous resident memory (`RssAnon`).
    pub anon_bytes: Option<u64>,
    /// Of that, what is no stack of a thread and no written data of program or libraries: heap, arenas, and anonymous
    /// mappings, the program's own included. What a replay's heap is comparable with.
    pub heap_bytes: Option<u64>,
    /// Anonymous memory in transparent huge pages (`AnonHugePages`).
    pub huge_bytes: Option<u64>,
}

impl MemorySample {
    fn fields(&self) -> [Option<u64>; FIELDS] {
        [self.vm_bytes, self.rss_bytes, self.anon_bytes, self.heap_bytes, self.huge_bytes]
    }

    fn of(at_us: u64, fields: [Option<u64>; FIELDS]) -> Self {
        let [vm_bytes, rss_bytes, anon_bytes, heap_bytes, huge_bytes] = fields;
        Self { at_us, vm_bytes, rss_bytes, anon_bytes, heap_bytes, huge_bytes }
    }
}

/// Samples in order of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemorySeries {
    /// The samples; times never decrease.
    pub samples: Vec<MemorySample>,
    /// Moments at which a sample was due and none could be taken.
    pub missed: u64,
}

/// A series in figures. Bytes; `None` where no sample has the field.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemorySummary {
    /// Samples.
    pub samples: u64,
    /// Moments at which a sample was due and none could be taken.
    pub missed: u64,
    /// Longest time between two samples, seconds.
    pub widest_gap_s: f64,
    /// Time of the last sample, seconds since the recording began.
    pub last_at_s: f64,
    /// Greatest address space.
    pub vm_peak_bytes: Option<u64>,
    /// Greatest resident memory.
    pub rss_peak_bytes: Option<u64>,
    /// Greatest anonymous memory.
    pub anon_peak_bytes: Option<u64>,
    /// Its mean over time.
    pub anon_mean_bytes: Option<u64>,
    /// At the last sample.
    pub anon_end_bytes: Option<u64>,
    /// Greatest anonymous memory without stacks and data of files.
    pub heap_peak_bytes: Option<u64>,
    /// Its mean over time.
    pub heap_mean_bytes: Option<u64>,
    /// At the last sample.
    pub heap_end_bytes: Option<u64>,
    /// Share of anonymous memory that is in huge pages, over all samples.
    pub huge_ratio: Option<f64>,
}

impl MemorySeries {
    /// Leaves out what lies behind the trace's end.
    pub(crate) fn end_at(&mut self, us: u64) {
        self.samples.retain(|s| s.at_us <= us);
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 * self.samples.len() + 8);
        put(&mut out, FIELDS as u64);
        put(&mut out, self.missed);
        let (mut at, mut last) = (0, [0i64; FIELDS]);
        for sample in &self.samples {
            put(&mut out, sample.at_us.saturating_sub(at));
            at = at.max(sample.at_us);
            let fields = sample.fields();
            put(&mut out, fields.iter().enumerate().map(|(i, f)| u64::from(f.is_some()) << i).sum());
            for (last, kib) in last.iter_mut().zip(fields).filter_map(|(l, f)| Some((l, (f? >> 10) as i64))) {
                put(&mut out, zigzag(kib - *last));
                *last = kib;
            }
        }
        out
    }

    /// Reads what `to_bytes` wrote; `None` for bytes that are no series.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut at = 0;
        let known = get(bytes, &mut at)?;
        let mut series = Self { samples: Vec::new(), missed: get(bytes, &mut at)? };
        if known > 63 {
            return None;
        }
        let (mut us, mut last) = (0u64, [0i64; 64]);
        while at < bytes.len() {
            us = us.checked_add(get(bytes, &mut at)?)?;
            let present = get(bytes, &mut at)?;
            if present >> known != 0 {
                return None;
            }
            let mut fields = [None; FIELDS];
            for i in (0..known as usize).filter(|i| present >> i & 1 == 1) {
                last[i] = last[i].checked_add(unzigzag(get(bytes, &mut at)?))?;
                let value = u64::try_from(last[i]).ok()?.checked_mul(1024)?;
                if let Some(field) = fields.get_mut(i) {
                    *field = Some(value);
                }
            }
            series.samples.push(MemorySample::of(us, fields));
        }
        Some(series)
    }

    /// The series in figures; `None` when there is no sample.
    pub fn summary(&self) -> Option<MemorySummary> {
        let last = self.samples.last()?;
        let peak = |of: fn(&MemorySample) -> Option<u64>| self.samples.iter().filter_map(of).max();
        let end = |of: fn(&MemorySample) -> Option<u64>| self.samples.iter().rev().find_map(of);
        let both = self.samples.iter().filter_map(|s| Some((s.huge_bytes? as f64, s.anon_bytes? as f64)));
        let (huge, anon) = both.fold((0.0, 0.0), |(h, a), (huge, anon)| (h + huge, a + anon));
        let gaps = self.samples.windows(2).map(|w| w[1].at_us - w[0].at_us);
        Some(MemorySummary {
            samples: self.samples.len() as u64,
            missed: self.missed,
            widest_gap_s: gaps.max().unwrap_or(0) as f64 / 1e6,
            last_at_s: last.at_us as f64 / 1e6,
            vm_peak_bytes: peak(|s| s.vm_bytes),
            rss_peak_bytes: peak(|s| s.rss_bytes),
            anon_peak_bytes: peak(|s| s.anon_bytes),
            anon_mean_bytes: self.mean(|s| s.anon_bytes),
            anon_end_bytes: end(|s| s.anon_bytes),
            heap_peak_bytes: peak(|s| s.heap_bytes),
            heap_mean_bytes: self.mean(|s| s.heap_bytes),
            heap_end_bytes: end(|s| s.heap_bytes),
            huge_ratio: (anon > 0.0).then(|| huge / anon),
        })
    }

    /// Mean over the time from the first to the last sample that has the field: between two samples the mean of both.
    fn mean(&self, of: fn(&MemorySample) -> Option<u64>) -> Option<u64> {
        let points: Vec<(u64, f64)> = self.samples.iter().filter_map(|s| Some((s.at_us, of(s)? as f64))).collect();
        let time = (points.last()?.0 - points.first()?.0) as f64;
        if time == 0.0 {
            return points.last().map(|p| p.1 as u64);
        }
        let area: f64 = points.windows(2).map(|w| (w[1].0 - w[0].0) as f64 * (w[0].1 + w[1].1) / 2.0).sum();
        Some((area / time) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_us: u64, kib: [Option<u64>; FIELDS]) -> MemorySample {
        MemorySample::of(at_us, kib.map(|kib| kib.map(|kib| kib << 10)))
    }

    fn series() -> MemorySeries {
        MemorySeries {
            samples: vec![
                sample(20_000, [Some(9000), Some(800), Some(400), None, None]),
                sample(1_000_000, [Some(9000), Some(8000), Some(4000), Some(3000), Some(2048)]),
                sample(4_000_000, [Some(5000), Some(700), Some(1000), Some(100), Some(0)]),
            ],
            missed: 2,
        }
    }

    #[test]
    fn a_series_comes_back_and_one_cut_short_is_refused() {
        let bytes = series().to_bytes();
        assert_eq!(MemorySeries::from_bytes(&bytes), Some(series()));
        assert_eq!(MemorySeries::from_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(MemorySeries::from_bytes(&[]), None);
    }

    #[test]
    fn fields_of_a_later_version_are_passed_over() {
        // Six fields: one sample with the first and the sixth.
        let mut bytes = vec![6, 0, 10, 0b10_0001];
        bytes.extend([zigzag(4) as u8, zigzag(9) as u8]);
        let read = MemorySeries::from_bytes(&bytes).unwrap();
        assert_eq!(read.samples, [sample(10, [Some(4), None, None, None, None])]);
        assert_eq!(MemorySeries::from_bytes(&[1, 0, 10, 0b10, 2]), None, "a field that was not announced");
    }

    #[test]
    fn the_mean_is_over_time_and_what_is_behind_the_end_is_left_out() {
        let mut series = series();
        let all = series.summary().unwrap();
        assert_eq!(all.heap_mean_bytes, Some(1550 << 10), "halfway between two samples three seconds apart");
        assert_eq!((all.anon_peak_bytes, all.anon_end_bytes), (Some(4000 << 10), Some(1000 << 10)));
        assert_eq!((all.widest_gap_s, all.missed), (3.0, 2));
        assert_eq!(all.huge_ratio, Some(2048.0 / 5000.0));
        series.end_at(2_000_000);
        assert_eq!(series.summary().unwrap().anon_end_bytes, Some(4000 << 10));
        assert_eq!(MemorySeries::default().summary(), None);
    }
}
