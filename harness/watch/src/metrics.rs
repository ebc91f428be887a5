//! Readings as OpenMetrics, and a server that answers a scrape.
//!
//! Source: the OpenMetrics specification 1.0; names end in their unit.

use std::sync::atomic::AtomicU64;

use fragbench_model::HeapBytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use tiny_http::{Header, Request, Response};

use fragbench_model::Reading;

/// What a scrape is answered with.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Process {
    pid: u32,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Part {
    pid: u32,
    name: String,
    part: String,
}

type Bytes = Gauge<u64, AtomicU64>;
/// A figure of a process: its name, what it is, its value.
type Figure = (&'static str, &'static str, fn(&Reading) -> Option<u64>);
/// A part of a heap: its name, its bytes.
type PartOf = (&'static str, fn(&HeapBytes) -> u64);

/// The text of a scrape: one set of figures a process. What a process does not tell is left out, never zero.
pub fn openmetrics(readings: &[Reading]) -> String {
    let mut registry = Registry::with_prefix("fragbench");
    let per_process: [Figure; 4] = [
        ("process_virtual_memory", "Address space of the process", |r| Some(r.vm_bytes)),
        ("process_resident_memory", "Resident memory of the process", |r| Some(r.rss_bytes)),
        ("process_swapped_memory", "Swapped memory of the process", |r| Some(r.swap_bytes)),
        ("trim_predicted_release", "What malloc_trim(0) would release", |r| r.predicted_release_bytes),
    ];
    for (name, help, value) in per_process {
        let family = Family::<Process, Bytes>::default();
        for reading in readings {
            value(reading).map(|value| family.get_or_create(&process(reading)).set(value));
        }
        registry.register_with_unit(name, help, Unit::Bytes, family);
    }
    let counts: [Figure; 3] = [
        ("process_threads", "Threads of the process", |r| Some(r.threads)),
        ("arenas", "Arenas of glibc malloc", |r| r.heap.map(|_| r.arenas.len() as u64)),
        ("heap_readable", "Whether the heap could be read: 1 or 0", |r| Some(u64::from(r.heap.is_some()))),
    ];
    for (name, help, value) in counts {
        let family = Family::<Process, Bytes>::default();
        for reading in readings {
            value(reading).map(|value| family.get_or_create(&process(reading)).set(value));
        }
        registry.register(name, help, family);
    }
    // A partition of the heap, and beside it what of it is resident.
    let parts: [PartOf; 7] = [
        ("live", |h| h.live_bytes),
        ("free", |h| h.free_bytes),
        ("tcache", |h| h.tcache_bytes),
        ("top", |h| h.top_bytes),
        ("own", |h| h.own_bytes),
        ("foreign", |h| h.foreign_bytes),
        ("unknown", |h| h.unknown_bytes),
    ];
    let resident: [PartOf; 3] =
        [("all", |h| h.resident_bytes), ("free", |h| h.free_resident_bytes), ("top", |h| h.top_resident_bytes)];
    let heap = |name: &str, help: &str, parts: &[PartOf]| {
        let family = Family::<Part, Bytes>::default();
        for (reading, heap) in readings.iter().filter_map(|reading| Some((reading, reading.heap.as_ref()?))) {
            for (part, value) in parts {
                let Process { pid, name } = process(reading);
                family.get_or_create(&Part { pid, name, part: (*part).to_owned() }).set(value(heap));
            }
        }
        (name.to_owned(), help.to_owned(), family)
    };
    for (name, help, family) in [
        heap("heap", "The heap of glibc malloc by what it is; the parts add up to all of it", &parts),
        heap("heap_resident", "What of the heap is in memory: all of it, free chunks, tops", &resident),
    ] {
        registry.register_with_unit(name, help, Unit::Bytes, family);
    }
    let faults = Family::<Part, Counter>::default();
    let survey = Family::<Process, Gauge<f64, AtomicU64>>::default();
    for reading in readings {
        for (part, value) in [("minor", reading.minor_faults), ("major", reading.major_faults)] {
            let Process { pid, name } = process(reading);
            faults.get_or_create(&Part { pid, name, part: part.to_owned() }).inc_by(value);
        }
        survey.get_or_create(&process(reading)).set(reading.survey_ms / 1e3);
    }
    registry.register("process_page_faults", "Page faults of the process since it started", faults);
    registry.register_with_unit("survey_duration", "What reading the heap took", Unit::Seconds, survey);
    registry.register("processes_watched", "Processes watched", ConstGauge::new(readings.len() as u64));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}

fn process(reading: &Reading) -> Process {
    // The encoder writes labels as they are, and a process may call itself anything.
    let name = reading.name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    Process { pid: reading.pid, name }
}

/// Answers a request: `/metrics` with the readings that `readings` takes, `/` with a word about it.
///
/// # Errors
/// When the answer cannot be sent.
pub fn respond(request: Request, readings: impl FnOnce() -> Vec<Reading>) -> std::io::Result<()> {
    let plain = |text: &str, status: u16| Response::from_string(text).with_status_code(status);
    match request.url().split('?').next() {
        Some("/metrics") => {
            let mut response = Response::from_string(openmetrics(&readings()));
            if let Ok(header) = Header::from_bytes("Content-Type", CONTENT_TYPE) {
                response.add_header(header);
            }
            request.respond(response)
        }
        Some("/") => request.respond(plain("fragbench export: the figures are at /metrics\n", 200)),
        _ => request.respond(plain("not here; the figures are at /metrics\n", 404)),
    }
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
