//! The statistics of a trace as tables.

use fragbench_model::TraceStat;

use crate::table::{Row, Table, Value};
use crate::units::{bytes, count, digits, duration_ns};

/// The figures of a trace, one a line.
pub fn trace_table(stat: &TraceStat) -> Table {
    let percent = |part: u64, of: u64| {
        if of == 0 { "–".into() } else { format!("{} %", digits(100.0 * part as f64 / of as f64)) }
    };
    let number = |n: u64| count(n as f64);
    let lines = [
        ("events", number(stat.events)),
        ("duration", duration_ns(stat.duration_s * 1e9)),
        ("threads (most at a time)", format!("{} ({})", stat.threads, stat.threads_peak)),
        ("allocations", number(stat.allocations)),
        ("of them calloc", percent(stat.callocs, stat.allocations)),
        ("of them aligned", percent(stat.aligned, stat.allocations)),
        ("reallocs", number(stat.reallocs)),
        ("of them in place", percent(stat.reallocs_in_place, stat.reallocs)),
        ("reallocs, share of events", percent(stat.reallocs, stat.events)),
        ("frees", number(stat.frees)),
        ("of them on another thread", format!("{} %", digits(100.0 * stat.cross_thread_free_ratio))),
        ("frees of unseen blocks", number(stat.unseen_frees)),
        ("asked for in total", bytes(stat.allocated_bytes as f64)),
        ("live at the peak", bytes(stat.live_peak_bytes as f64)),
        ("the peak after", duration_ns(stat.live_peak_at_us as f64 * 1e3)),
        ("live at the end", bytes(stat.live_end_bytes as f64)),
    ];
    Table {
        corner: "trace".into(),
        columns: vec![String::new()],
        rows: lines.into_iter().map(|(name, text)| row(name, vec![text])).collect(),
        notes: Vec::new(),
    }
}

/// The sizes asked for most often.
pub fn size_table(stat: &TraceStat) -> Table {
    let share = |n: u64| format!("{} %", digits(100.0 * n as f64 / (stat.allocations + stat.reallocs).max(1) as f64));
    Table {
        corner: "size, bytes".into(),
        columns: vec!["objects".into(), "share".into(), "bytes".into()],
        rows: stat
            .top_sizes
            .iter()
            .map(|b| row(&b.from.to_string(), vec![count(b.count as f64), share(b.count), bytes(b.bytes as f64)]))
            .collect(),
        notes: Vec::new(),
    }
}

fn row(label: &str, values: Vec<String>) -> Row {
    let values = values.into_iter().map(|text| Some(Value { text, interval: None, mark: None })).collect();
    Row { label: label.to_owned(), values }
}
