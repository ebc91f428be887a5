//! The shape of a trace over a window of time: one pass in recorded order, memory bounded by the live blocks.
//!
//! A recording of a server holds its start-up, which a model of its load does not; so what is compared is a window, and
//! in it the blocks that are allocated there. `fragbench_model::Shape` says what each figure counts.

use std::ops::Range;

use fragbench_model::{SLICES, Shape};

use crate::bins::Bins;
use crate::curve::EventCurve;
use crate::objects::ByObject;
use crate::observe::Observer;
use fragbench_trace::Trace;
use fragbench_trace::{Event, EventKind};

/// Measures the shape of a trace within `window_us`, microseconds since the recording began; the end may lie past the
/// recording's and is then its end. Damaged blocks of the file are passed over.
pub fn shape(trace: &Trace, window_us: Range<u64>) -> Shape {
    let mut gauge = Gauge::of(trace, window_us);
    // The reader need not go past the window.
    let end_us = gauge.window.end;
    trace.events_in_order().take_while(|event| event.at_us < end_us).for_each(|event| gauge.event(&event));
    gauge.finish()
}

/// The same of events in recorded order. Threads that never start or exit in the events run from their first one on.
pub fn shape_of(events: impl IntoIterator<Item = Event>, window_us: Range<u64>) -> Shape {
    let mut gauge = Gauge::new(window_us.start..window_us.end.max(window_us.start));
    for event in events {
        gauge.event(&event);
    }
    gauge.finish()
}

/// A block of the window that lives: the number of the event that made it, and when that was.
#[derive(Debug, Clone, Copy)]
struct Born {
    event: u64,
    at_us: u64,
}

/// Measures a shape as an observer; see [`shape()`].
#[derive(Debug)]
pub struct Gauge {
    window: Range<u64>,
    shape: Shape,
    sizes: Bins,
    lifetimes_us: Bins,
    lifetimes_events: Bins,
    born: ByObject<Born>,
    /// Events of the malloc API so far.
    events: u64,
    live: u64,
    running: u64,
    first_thread: bool,
    /// Until when `areas` has been summed.
    now_us: u64,
    /// Live bytes × microseconds of each slice.
    areas: Vec<f64>,
    by_event: EventCurve,
}

impl Observer for Gauge {
    fn event(&mut self, event: &Event) {
        if event.at_us < self.window.end {
            self.see(event);
        }
    }
}

impl Gauge {
    /// Of a window of a trace, of which it is shown all events.
    pub fn of(trace: &Trace, window_us: Range<u64>) -> Gauge {
        let end_us = (trace.info().duration_s * 1e6).round() as u64 + 1;
        Gauge::new(window_us.start..window_us.end.min(end_us).max(window_us.start))
    }

    fn new(window: Range<u64>) -> Gauge {
        let shape = Shape {
            from_us: window.start,
            to_us: window.end,
            blocks: 0,
            callocs: 0,
            aligned: 0,
            reallocs: 0,
            frees: 0,
            cross_thread_frees: 0,
            sizes: Vec::new(),
            lifetimes_us: Vec::new(),
            lifetimes_events: Vec::new(),
            live_start_bytes: 0,
            live_growth_bytes: Vec::new(),
            live_growth_by_event_bytes: Vec::new(),
            thread_starts: vec![0; SLICES],
            thread_exits: vec![0; SLICES],
            threads_peak: 0,
        };
        Gauge {
            now_us: window.start,
            window,
            shape,
            sizes: Bins::of_sizes(),
            lifetimes_us: Bins::of_lifetimes(),
            lifetimes_events: Bins::of_lifetimes(),
            born: ByObject::default(),
            events: 0,
            live: 0,
            running: 0,
            first_thread: false,
            areas: vec![0.0; SLICES],
            by_event: EventCurve::default(),
        }
    }

    /// Microseconds from the window's start to the start of a slice; slices differ by less than their rounding.
    fn slice_start(&self, slice: usize) -> f64 {
        (self.window.end - self.window.start) as f64 * slice as f64 / SLICES as f64
    }

    fn slice(&self, at_us: u64) -> usize {
        let length = (self.window.end - self.window.start).max(1);
        ((u128::from(at_us - self.window.start) * SLICES as u128 / u128::from(length)) as usize).min(SLICES - 1)
    }

    /// Adds the live bytes that have stood since the last event, slice by slice, up to `to_us`.
    fn stand(&mut self, to_us: u64) {
        if to_us <= self.now_us {
            return;
        }
        let (mut from, to) = ((self.now_us - self.window.start) as f64, (to_us - self.window.start) as f64);
        for slice in self.slice(self.now_us)..=self.slice(to_us) {
            let end = self.slice_start(slice + 1).min(to);
            self.areas[slice] += (end - from).max(0.0) * self.live as f64;
            from = from.max(end);
        }
        self.now_us = to_us;
    }

    fn see(&mut self, event: &Event) {
        let inside = event.at_us >= self.window.start;
        if matches!(event.kind, EventKind::System { .. }) {
            return;
        }
        if inside {
            self.stand(event.at_us);
        }
        let slice = inside.then(|| self.slice(event.at_us));
        if event.thread == 0 && !self.first_thread {
            // The program's first thread has no start of its own; it is nobody's arrival.
            self.first_thread = true;
            self.running += 1;
        }
        match event.kind {
            EventKind::ThreadStart => {
                self.running += 1;
                slice.into_iter().for_each(|s| self.shape.thread_starts[s] += 1);
            }
            EventKind::ThreadExit => {
                self.running = self.running.saturating_sub(1);
                slice.into_iter().for_each(|s| self.shape.thread_exits[s] += 1);
            }
            _ => {
                self.events += 1;
                if inside {
                    self.count(event);
                }
                self.live = self.live.saturating_sub(event.before.map_or(0, |b| b.size));
                if event.kind != EventKind::Free {
                    self.live = self.live.saturating_add(event.size);
                }
                if inside {
                    self.by_event.add(self.live as f64);
                }
            }
        }
        if inside {
            self.shape.threads_peak = self.shape.threads_peak.max(self.running);
        } else {
            self.shape.live_start_bytes = self.live;
            self.shape.threads_peak = self.running;
        }
    }

    /// Counts an event of the malloc API within the window.
    fn count(&mut self, event: &Event) {
        let Event { kind, size, at_us, .. } = *event;
        let Some(object) = event.object else { return };
        match kind {
            EventKind::Free => {
                let (Some(born), Some(before)) = (self.born.remove(&object), event.before) else { return };
                self.shape.frees += 1;
                self.shape.cross_thread_frees += u64::from(before.thread != event.thread);
                self.lifetimes_us.add(at_us.saturating_sub(born.at_us), before.size);
                self.lifetimes_events.add(self.events - born.event, before.size);
            }
            EventKind::Realloc { .. } if event.before.is_some() => {
                if self.born.contains_key(&object) {
                    self.shape.reallocs += 1;
                    self.sizes.add(size, size);
                }
            }
            // A realloc of a block that was never seen: an old block, of which nothing is known.
            EventKind::Realloc { .. } => {}
            _ => {
                self.shape.blocks += 1;
                self.shape.callocs += u64::from(kind == EventKind::Calloc);
                self.shape.aligned += u64::from(matches!(kind, EventKind::Aligned(_)));
                self.sizes.add(size, size);
                self.born.insert(object, Born { event: self.events, at_us });
            }
        }
    }

    /// What was measured.
    pub fn finish(mut self) -> Shape {
        self.stand(self.window.end);
        let start = self.shape.live_start_bytes as f64;
        self.shape.live_growth_bytes = (0..SLICES)
            .map(|slice| {
                let length = self.slice_start(slice + 1) - self.slice_start(slice);
                if length > 0.0 { self.areas[slice] / length - start } else { 0.0 }
            })
            .collect();
        self.shape.live_growth_by_event_bytes = self.by_event.slices(SLICES).iter().map(|live| live - start).collect();
        self.shape.sizes = self.sizes.histogram();
        self.shape.lifetimes_us = self.lifetimes_us.histogram();
        self.shape.lifetimes_events = self.lifetimes_events.histogram();
        self.shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_trace::Before;

    fn event(thread: u32, at_us: u64, kind: EventKind) -> Event {
        Event { thread, at_us, kind, object: None, size: 0, before: None, resident_pages: None }
    }

    fn made(thread: u32, at_us: u64, object: u64, size: u64) -> Event {
        Event { object: Some(object), size, ..event(thread, at_us, EventKind::Malloc) }
    }

    /// A free, or a realloc to `size`, of what `was` made.
    fn later(was: &Event, thread: u32, at_us: u64, kind: EventKind, size: u64) -> Event {
        let before = Before { size: was.size, thread: was.thread, born_us: was.at_us };
        Event { object: was.object, before: Some(before), size, ..event(thread, at_us, kind) }
    }

    #[test]
    fn a_window_counts_the_blocks_made_in_it() {
        let old = made(0, 10, 0, 1000);
        let a = made(0, 100, 1, 64);
        let b = made(0, 120, 2, 100);
        let grown = later(&a, 0, 140, EventKind::Realloc { moved: true }, 128);
        let events = [
            old,
            event(1, 50, EventKind::ThreadStart),
            a,
            b,
            event(2, 130, EventKind::ThreadStart),
            grown,
            later(&old, 1, 150, EventKind::Free, 1000),
            later(&grown, 1, 160, EventKind::Free, 128),
            event(2, 170, EventKind::ThreadExit),
            made(1, 200, 3, 8),
        ];
        let s = shape_of(events, 100..200);
        assert_eq!((s.blocks, s.reallocs, s.frees, s.cross_thread_frees), (2, 1, 1, 1));
        assert_eq!(s.sizes.iter().map(|b| (b.from, b.count)).collect::<Vec<_>>(), [(64, 1), (100, 1), (128, 1)]);
        // From the second event to the sixth; 60 µs, in a bin of 56 to 63.
        assert_eq!(s.lifetimes_events.iter().map(|b| (b.from, b.to)).collect::<Vec<_>>(), [(4, 5)]);
        assert_eq!(s.lifetimes_us.iter().map(|b| (b.from, b.to)).collect::<Vec<_>>(), [(56, 64)]);
        assert_eq!(
            (s.realloc_ratio(), s.cross_thread_ratio(), s.unfreed_ratio()),
            (Some(1.0 / 3.0), Some(1.0), Some(0.5))
        );
        // One slice a microsecond: +64 from 100, +164 from 120, +228 from 140, -772 from 150, -900 from 160.
        assert_eq!(s.live_start_bytes, 1000);
        let at = |us: usize| s.live_growth_bytes[us - 100];
        assert_eq!(
            [at(100), at(119), at(120), at(140), at(150), at(160), at(199)],
            [64.0, 64.0, 164.0, 228.0, -772.0, -900.0, -900.0]
        );
        assert_eq!((s.thread_starts[30], s.thread_starts.iter().sum::<u64>(), s.thread_exits[70]), (1, 1, 1));
        assert_eq!(s.threads_peak, 3);
    }

    #[test]
    fn slices_hold_the_mean_of_what_stood_in_them() {
        // 1000 µs in 100 slices of 10 µs: 50 bytes from 5 µs to 25 µs.
        let a = made(0, 5, 0, 50);
        let s = shape_of([a, later(&a, 0, 25, EventKind::Free, 50)], 0..1000);
        assert_eq!(&s.live_growth_bytes[..4], [25.0, 50.0, 25.0, 0.0]);
        // Two events: 50 bytes live after the first, none after the second, whenever that was.
        let by_event = &s.live_growth_by_event_bytes;
        let near = |slice: usize, live: f64| (by_event[slice] - live).abs() < 1e-9;
        assert!(near(0, 50.0) && near(49, 50.0) && near(50, 0.0) && near(99, 0.0), "{by_event:?}");
    }

    #[test]
    fn nothing_gives_nothing() {
        let s = shape_of([], 0..0);
        assert_eq!((s.blocks, s.realloc_ratio(), s.cross_thread_ratio(), s.unfreed_ratio()), (0, None, None, None));
        assert_eq!(s.live_growth_bytes, vec![0.0; SLICES]);
        assert_eq!(s.live_growth_by_event_bytes, vec![0.0; SLICES]);
    }
}
