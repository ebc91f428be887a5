//! Readings as OpenMetrics.
//!
//! Source: the OpenMetrics specification 1.0: names end in their unit, samples of a family stand together, label values
//! escape `\\`, `"` and the line's end, the text ends with `# EOF`.

use std::fmt::{Display, Write};

use fragbench_model::{HeapBytes, Reading};

/// A figure of a process: its name, what it is, its value.
type Figure = (&'static str, &'static str, fn(&Reading) -> Option<u64>);
/// A part of a heap: its name, its bytes.
type PartOf = (&'static str, fn(&HeapBytes) -> u64);

/// In bytes.
const BYTES: [Figure; 4] = [
    ("process_virtual_memory", "Address space of the process", |r| Some(r.vm_bytes)),
    ("process_resident_memory", "Resident memory of the process", |r| Some(r.rss_bytes)),
    ("process_swapped_memory", "Swapped memory of the process", |r| Some(r.swap_bytes)),
    ("trim_predicted_release", "What malloc_trim(0) would release", |r| r.predicted_release_bytes),
];
/// Numbers of things.
const COUNTS: [Figure; 3] = [
    ("process_threads", "Threads of the process", |r| Some(r.threads)),
    ("arenas", "Arenas of glibc malloc", |r| r.heap.map(|_| r.arenas.len() as u64)),
    ("heap_readable", "Whether the heap that the process uses could be read: 1 or 0", |r| {
        Some(u64::from(r.heap.is_some()))
    }),
];
/// A partition of the heap.
const PARTS: [PartOf; 7] = [
    ("live", |h| h.live_bytes),
    ("free", |h| h.free_bytes),
    ("tcache", |h| h.tcache_bytes),
    ("top", |h| h.top_bytes),
    ("own", |h| h.own_bytes),
    ("foreign", |h| h.foreign_bytes),
    ("unknown", |h| h.unknown_bytes),
];
/// Beside it, what of it is resident.
const RESIDENT: [PartOf; 3] =
    [("all", |h| h.resident_bytes), ("free", |h| h.free_resident_bytes), ("top", |h| h.top_resident_bytes)];

/// The text of a scrape: one set of figures a process. What a process does not tell is left out, never zero.
pub fn openmetrics(readings: &[Reading]) -> String {
    let mut text = Exposition::default();
    for (name, help, value) in BYTES {
        text.family(name, "gauge", Some("bytes"), help);
        text.samples(readings, |r| value(r).map(|value| (None, value)));
    }
    for (name, help, value) in COUNTS {
        text.family(name, "gauge", None, help);
        text.samples(readings, |r| value(r).map(|value| (None, value)));
    }
    for (name, help, parts) in [
        ("heap", "The heap of glibc malloc by what it is; the parts add up to all of it", &PARTS[..]),
        ("heap_resident", "What of the heap is in memory: all of it, free chunks, tops", &RESIDENT[..]),
    ] {
        text.family(name, "gauge", Some("bytes"), help);
        text.samples(readings, |r| {
            r.heap.iter().flat_map(|heap| parts.iter().map(|p| (Some(("part", p.0)), p.1(heap))))
        });
    }
    text.family("process_page_faults", "counter", None, "Page faults of the process since it started");
    text.samples(readings, |r| {
        [("minor", r.minor_faults), ("major", r.major_faults)].map(|(kind, n)| (Some(("part", kind)), n))
    });
    text.family("malloc", "info", None, "Whose malloc the process uses, as far as its files tell");
    text.samples(readings, |r| r.malloc.as_deref().map(|malloc| (Some(("malloc", malloc)), 1)));
    text.family("survey_duration", "gauge", Some("seconds"), "What reading the heap took");
    text.samples(readings, |r| [(None, r.survey_ms / 1e3)]);
    text.family("processes_watched", "gauge", None, "Processes watched");
    text.sample(&[], readings.len());
    text.end()
}

/// The text as it grows.
#[derive(Default)]
struct Exposition {
    text: String,
    /// Name of the samples of the family that was begun last.
    name: String,
}

impl Exposition {
    /// Begins a family. Writing to a string does not fail, here and below.
    fn family(&mut self, name: &str, kind: &str, unit: Option<&str>, help: &str) {
        let unit_end = unit.map_or_else(String::new, |unit| format!("_{unit}"));
        let name = format!("fragbench_{name}{unit_end}");
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        if let Some(unit) = unit {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.text, "# HELP {name} {help}.");
        self.name = match kind {
            "counter" => name + "_total",
            "info" => name + "_info",
            _ => name,
        };
    }

    /// The samples of every process: for each the label beside number and name, if there is one, and the value.
    fn samples<'a, V: Display, I: IntoIterator<Item = (Option<(&'a str, &'a str)>, V)>>(
        &mut self,
        readings: &'a [Reading],
        of: impl Fn(&'a Reading) -> I,
    ) {
        for reading in readings {
            let pid = reading.pid.to_string();
            for (label, value) in of(reading) {
                let own = [("pid", pid.as_str()), ("name", reading.name.as_str())];
                let labels: Vec<_> = own.into_iter().chain(label).collect();
                self.sample(&labels, value);
            }
        }
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&self.name);
        for (i, (name, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{name}=\"{}\"", if i == 0 { '{' } else { ',' }, escape(value));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    fn end(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }
}

/// A label's value: a process may call itself anything.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::reading;

    #[test]
    fn every_figure_with_its_unit_and_whose_it_is() {
        let other = Reading { pid: 9, name: "od\"d\n".into(), heap: None, predicted_release_bytes: None, ..reading() };
        let text = openmetrics(&[reading(), other]);
        for line in [
            "# TYPE fragbench_heap_bytes gauge",
            "# UNIT fragbench_heap_bytes bytes",
            "fragbench_process_resident_memory_bytes{pid=\"4711\",name=\"mariadbd\"} 314572800",
            "fragbench_heap_bytes{pid=\"4711\",name=\"mariadbd\",part=\"live\"} 42991616",
            "fragbench_heap_resident_bytes{pid=\"4711\",name=\"mariadbd\",part=\"free\"} 54525952",
            "fragbench_trim_predicted_release_bytes{pid=\"4711\",name=\"mariadbd\"} 52428800",
            "fragbench_process_page_faults_total{pid=\"4711\",name=\"mariadbd\",part=\"major\"} 3",
            "fragbench_survey_duration_seconds{pid=\"4711\",name=\"mariadbd\"} 0.0125",
            "fragbench_heap_readable{pid=\"9\",name=\"od\\\"d\\n\"} 0",
            "# TYPE fragbench_malloc info",
            "fragbench_malloc_info{pid=\"4711\",name=\"mariadbd\",malloc=\"glibc\"} 1",
            "fragbench_processes_watched 2",
        ] {
            assert!(text.lines().any(|l| l == line), "`{line}` in\n{text}");
        }
        assert!(!text.contains("fragbench_heap_bytes{pid=\"9\""), "what is not known is left out");
        assert!(text.ends_with("# EOF\n"));
        // Rules and dashboard ask for figures that are there.
        for file in [include_str!("../prometheus/alerts.yml"), include_str!("../grafana/dashboard.json")] {
            let words = file.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let asked: Vec<&str> = words.filter(|word| word.starts_with("fragbench_")).collect();
            assert!(asked.len() > 5);
            for name in asked {
                assert!(text.contains(&format!("\n{name}{{")), "{name}");
            }
        }
    }
}
