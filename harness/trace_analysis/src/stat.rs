//! What a trace holds, in figures: one pass in recorded order, memory bounded by the live blocks.

use std::collections::HashMap;

use fragbench_model::{Histogram, HistogramBin, LiveCurve, SCHEMA, TraceStat};

use crate::bins::Bins;
use fragbench_trace::{Event, EventKind, Trace, TraceInfo};

/// Points of the live curve besides the peak.
const CURVE_POINTS: u64 = 1_990;
/// Each octave of a histogram is cut into `1 << SUB_BITS` bins of equal width.
const SUB_BITS: u32 = 2;
/// Sizes below this are counted one by one.
const COUNTED_SIZES: usize = 1 << 16;
/// Distinct larger sizes that are counted; any further one is left out of the top sizes.
const LARGE_SIZES: usize = 1 << 16;
/// Length of the list of top sizes.
const TOP: usize = 32;

/// How often each size was asked for.
#[derive(Debug)]
struct Sizes {
    small: Vec<u64>,
    large: HashMap<u64, u64>,
}

impl Sizes {
    fn add(&mut self, size: u64) {
        match self.small.get_mut(size as usize) {
            Some(n) => *n += 1,
            None if self.large.len() < LARGE_SIZES => *self.large.entry(size).or_insert(0) += 1,
            None => {
                if let Some(n) = self.large.get_mut(&size) {
                    *n += 1;
                }
            }
        }
    }

    fn top(&self) -> Histogram {
        let small = self.small.iter().enumerate().map(|(size, n)| (size as u64, *n)).filter(|(_, n)| *n > 0);
        let mut all: Vec<(u64, u64)> = small.chain(self.large.iter().map(|(s, n)| (*s, *n))).collect();
        all.sort_by_key(|(size, n)| (std::cmp::Reverse(*n), *size));
        all.truncate(TOP);
        all.into_iter().map(|(from, count)| HistogramBin { from, to: from + 1, count, bytes: from * count }).collect()
    }
}

/// Before the first event.
fn nothing_seen(info: &TraceInfo) -> TraceStat {
    TraceStat {
        schema: SCHEMA,
        events: 0,
        allocations: 0,
        callocs: 0,
        aligned: 0,
        reallocs: 0,
        reallocs_in_place: 0,
        frees: 0,
        cross_thread_free_ratio: 0.0,
        unseen_frees: 0,
        threads: info.threads,
        threads_peak: 0,
        allocated_bytes: 0,
        live_peak_bytes: 0,
        live_peak_at_us: 0,
        live_end_bytes: 0,
        duration_s: info.duration_s,
        sizes: Histogram::new(),
        lifetimes: Histogram::new(),
        top_sizes: Histogram::new(),
        live: LiveCurve::default(),
    }
}

/// Statistics of a trace. Damaged blocks are passed over.
pub fn stat(trace: &Trace) -> TraceStat {
    let info = trace.info();
    let duration_us = (info.duration_s * 1e6).round() as u64;
    let step = duration_us.div_ceil(CURVE_POINTS).max(1);
    let mut s = nothing_seen(&info);
    let mut sizes = Bins::new(SUB_BITS + 1, SUB_BITS);
    let mut lifetimes = Bins::new(SUB_BITS + 1, SUB_BITS);
    let mut counts = Sizes { small: vec![0; COUNTED_SIZES], large: HashMap::new() };
    let (mut live, mut cross, mut running, mut next_point) = (0u64, 0u64, 0u64, 0u64);
    let mut events = trace.events_in_order();
    let mut first_thread = false;
    for event in &mut events {
        if event.at_us >= next_point {
            s.live.at_us.push(event.at_us);
            s.live.live_bytes.push(live);
            next_point = (event.at_us / step + 1) * step;
        }
        if event.thread == 0 && !first_thread && !matches!(event.kind, EventKind::System { .. }) {
            first_thread = true;
            running += 1;
        }
        let Event { at_us, kind, size, before, .. } = event;
        match kind {
            EventKind::Malloc | EventKind::Calloc | EventKind::Aligned(_) => {
                s.allocations += 1;
                s.callocs += u64::from(kind == EventKind::Calloc);
                s.aligned += u64::from(matches!(kind, EventKind::Aligned(_)));
            }
            EventKind::Realloc { moved } => {
                s.reallocs += 1;
                s.reallocs_in_place += u64::from(!moved);
                s.unseen_frees += u64::from(before.is_none());
            }
            EventKind::Free => {
                s.frees += 1;
                match before {
                    Some(b) => {
                        cross += u64::from(b.thread != event.thread);
                        lifetimes.add(at_us.saturating_sub(b.born_us), b.size);
                    }
                    None => s.unseen_frees += 1,
                }
            }
            EventKind::ThreadStart => running += 1,
            EventKind::ThreadExit => running = running.saturating_sub(1),
            EventKind::System { .. } => continue,
        }
        s.threads_peak = s.threads_peak.max(running);
        if matches!(kind, EventKind::ThreadStart | EventKind::ThreadExit) {
            continue;
        }
        s.events += 1;
        live = live.saturating_sub(before.map_or(0, |b| b.size));
        if kind != EventKind::Free {
            live = live.saturating_add(size);
            s.allocated_bytes = s.allocated_bytes.saturating_add(size);
            sizes.add(size, size);
            counts.add(size);
        }
        if live > s.live_peak_bytes {
            s.live_peak_bytes = live;
            s.live_peak_at_us = at_us;
        }
    }
    s.live.at_us.push(duration_us.max(s.live.at_us.last().copied().unwrap_or(0)));
    s.live.live_bytes.push(live);
    let at = s.live.at_us.partition_point(|t| *t <= s.live_peak_at_us);
    s.live.at_us.insert(at, s.live_peak_at_us);
    s.live.live_bytes.insert(at, s.live_peak_bytes);
    s.live_end_bytes = live;
    s.cross_thread_free_ratio = if s.frees > 0 { cross as f64 / s.frees as f64 } else { 0.0 };
    s.sizes = sizes.histogram();
    s.lifetimes = lifetimes.histogram();
    s.top_sizes = counts.top();
    s
}
