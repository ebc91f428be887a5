//! What happened between two readings, by named rules.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reading::Reading;

/// Less than this is no event, bytes.
const NOTABLE: u64 = 8 << 20;
/// Fewer threads are no burst.
const BURST: u64 = 8;

/// An event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Free memory went back to the kernel while what is live stayed: bytes. A trim, or a top that shrank.
    GivenBack(u64),
    /// So many threads more: at least 8 and a quarter.
    ThreadsStarted(u64),
    /// So many threads fewer.
    ThreadsEnded(u64),
    /// So many arenas more.
    ArenasMade(u64),
    /// Memory was read back from swap or disk: major faults.
    MajorFaults(u64),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::GivenBack(bytes) => write!(f, "{} MiB of free memory given back", bytes >> 20),
            Event::ThreadsStarted(n) => write!(f, "{n} threads started"),
            Event::ThreadsEnded(n) => write!(f, "{n} threads ended"),
            Event::ArenasMade(1) => write!(f, "1 arena made"),
            Event::ArenasMade(n) => write!(f, "{n} arenas made"),
            Event::MajorFaults(n) => write!(f, "{n} major faults"),
        }
    }
}

/// Events between a reading and the next.
pub fn events(before: &Reading, after: &Reading) -> Vec<Event> {
    let mut events = Vec::new();
    if let (Some(was), Some(is)) = (&before.heap, &after.heap) {
        let idle = |heap: &fragbench_model::HeapBytes| heap.free_resident_bytes + heap.top_resident_bytes;
        let fell = was.resident_bytes.saturating_sub(is.resident_bytes);
        let given = idle(was).saturating_sub(idle(is)).min(fell);
        if given >= NOTABLE {
            events.push(Event::GivenBack(given));
        }
    }
    let burst = |from: u64, to: u64| to.checked_sub(from).filter(|n| *n >= BURST && n * 4 >= from);
    events.extend(burst(before.threads, after.threads).map(Event::ThreadsStarted));
    events.extend(burst(after.threads, before.threads).map(Event::ThreadsEnded));
    let arenas = after.arenas.len().saturating_sub(before.arenas.len()) as u64;
    if arenas > 0 && !before.arenas.is_empty() {
        events.push(Event::ArenasMade(arenas));
    }
    let faults = after.major_faults.saturating_sub(before.major_faults);
    if faults > 0 {
        events.push(Event::MajorFaults(faults));
    }
    events
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::reading::ArenaReading;
    use fragbench_model::HeapBytes;

    /// A server of 300 MiB.
    pub(crate) fn reading() -> Reading {
        let main = HeapBytes {
            system_bytes: 120 << 20,
            resident_bytes: 100 << 20,
            live_bytes: 40 << 20,
            free_bytes: 70 << 20,
            free_resident_bytes: 52 << 20,
            top_bytes: 10 << 20,
            top_resident_bytes: 8 << 20,
            ..HeapBytes::default()
        };
        let second = HeapBytes { system_bytes: 60 << 20, resident_bytes: 50 << 20, live_bytes: 1 << 20, ..main };
        Reading {
            pid: 4711,
            name: "mariadbd".into(),
            unix_s: 1_700_000_000.0,
            vm_bytes: 2 << 30,
            rss_bytes: 300 << 20,
            swap_bytes: 0,
            threads: 14,
            minor_faults: 100_000,
            major_faults: 3,
            heap: Some(HeapBytes { system_bytes: 180 << 20, resident_bytes: 150 << 20, live_bytes: 41 << 20, ..main }),
            predicted_release_bytes: Some(50 << 20),
            arenas: vec![
                ArenaReading { main: true, threads: Some(1), bytes: main },
                ArenaReading { main: false, threads: Some(13), bytes: second },
            ],
            lacks: None,
            survey_ms: 12.5,
        }
    }

    #[test]
    fn nothing_happens_between_equal_readings() {
        assert_eq!(events(&reading(), &reading()), []);
    }

    #[test]
    fn each_event_by_its_rule() {
        let mut after = reading();
        after.threads = 64;
        after.arenas.push(after.arenas[1].clone());
        after.major_faults = 5;
        let seen = events(&reading(), &after);
        assert_eq!(seen, [Event::ThreadsStarted(50), Event::ArenasMade(1), Event::MajorFaults(2)]);
        assert_eq!(events(&after, &reading()), [Event::ThreadsEnded(50)]);

        let mut trimmed = reading();
        let heap = trimmed.heap.as_mut().unwrap();
        heap.free_resident_bytes -= 40 << 20;
        heap.resident_bytes -= 40 << 20;
        assert_eq!(events(&reading(), &trimmed), [Event::GivenBack(40 << 20)]);
        // Free memory that was taken into use again was not given back.
        let mut used = reading();
        let heap = used.heap.as_mut().unwrap();
        heap.free_resident_bytes -= 40 << 20;
        heap.live_bytes += 40 << 20;
        assert_eq!(events(&reading(), &used), []);
    }

    #[test]
    fn a_heap_that_cannot_be_read_makes_no_events() {
        let blind = Reading { heap: None, predicted_release_bytes: None, arenas: Vec::new(), ..reading() };
        assert_eq!(events(&reading(), &blind), []);
        assert_eq!(events(&blind, &reading()), []);
    }
}
