//! Two shapes side by side, with how far they are apart.

use fragbench_model::{Distances, Shape};

use crate::table::{Row, Table, Value};
use crate::units::{bytes, count, digits, duration_ns};

/// Both shapes and their distances, one figure a line; what cannot be had is left empty.
pub fn distance_table(shape: &Shape, reference: &Shape, distances: &Distances) -> Table {
    let row = |label: &str, figure: &dyn Fn(&Shape) -> Option<String>, apart: Option<String>| Row {
        label: label.to_owned(),
        values: [figure(shape), figure(reference), apart].map(|text| text.map(plain)).to_vec(),
    };
    let none = |_: &Shape| None;
    let number = |n: u64| Some(count(n as f64));
    let percent = |ratio: Option<f64>| ratio.map(|r| format!("{} %", digits(100.0 * r)));
    let ks = |value: Option<f64>| value.map(|v| format!("KS {v:.3}"));
    let points = |value: Option<f64>| value.map(|v| format!("{v:+.1} points"));
    let times = |value: Option<f64>| value.map(|v| format!("×{v:.2}"));
    let requested = |s: &Shape| Some(bytes(s.sizes.iter().map(|b| b.bytes as f64).sum()));
    let growth = |s: &Shape| s.live_growth_bytes.last().map(|b| bytes(*b));
    let highest = |s: &Shape| s.live_growth_bytes.iter().copied().max_by(f64::total_cmp).map(bytes);
    let d = distances;
    Table {
        corner: "window".into(),
        columns: vec!["trace".into(), "reference".into(), "distance".into()],
        rows: vec![
            row("length", &|s| Some(duration_ns(s.seconds() * 1e9)), None),
            row("blocks", &|s| number(s.blocks), None),
            row("asked for in total", &requested, None),
            row("sizes, by count", &none, ks(d.sizes_by_count_ks)),
            row("sizes, by bytes", &none, ks(d.sizes_by_bytes_ks)),
            row("lifetimes, time", &none, ks(d.lifetimes_us_ks)),
            row("lifetimes, events", &none, ks(d.lifetimes_events_ks)),
            row("freed on another thread", &|s| percent(s.cross_thread_ratio()), points(d.cross_thread_points)),
            row("reallocs among requests", &|s| percent(s.realloc_ratio()), points(d.realloc_points)),
            row("not freed in the window", &|s| percent(s.unfreed_ratio()), points(d.unfreed_points)),
            row("live growth, highest", &highest, d.live_nrmse.map(|v| format!("NRMSE {} %", digits(100.0 * v)))),
            row(
                "live growth, last",
                &growth,
                d.live_events_nrmse.map(|v| format!("NRMSE over events {} %", digits(100.0 * v))),
            ),
            row("threads started", &|s| number(s.thread_starts.iter().sum()), times(d.thread_starts_ratio)),
            row("their times", &none, ks(d.thread_starts_ks)),
            row("most threads at a time", &|s| number(s.threads_peak), times(d.threads_peak_ratio)),
        ],
        notes: Vec::new(),
    }
}

fn plain(text: String) -> Value {
    Value { text, interval: None, mark: None }
}
