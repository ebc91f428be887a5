//! What happened between two readings, by named rules.

use fragbench_model::{Event, HeapBytes, Reading};

/// Less than this is no event, bytes.
const NOTABLE: u64 = 8 << 20;
/// Fewer threads are no burst.
const BURST: u64 = 8;

/// Events between a reading and the next.
pub fn events(before: &Reading, after: &Reading) -> Vec<Event> {
    let mut events = Vec::new();
    if let (Some(was), Some(is)) = (&before.heap, &after.heap) {
        let idle = |heap: &HeapBytes| heap.free_resident_bytes + heap.top_resident_bytes;
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

/// Events of readings of one process in order, each with the seconds from the first reading to the one that shows it.
pub fn events_of(readings: &[Reading]) -> Vec<(f64, Event)> {
    let begun = readings.first().map_or(0.0, |first| first.unix_s);
    let pairs = readings.windows(2);
    pairs.flat_map(|pair| events(&pair[0], &pair[1]).into_iter().map(move |e| (pair[1].unix_s - begun, e))).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use fragbench_model::ArenaReading;

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
            malloc: Some("glibc".into()),
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
