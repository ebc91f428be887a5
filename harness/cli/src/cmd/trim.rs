//! `fragbench trim`: calls `malloc_trim(0)` in a live process on purpose, and says what it released beside what was
//! predicted, and what it cost.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use fragbench_ask::{Limits, Surveyed, Trimmed};
use fragbench_report::{bytes, duration_ns};

use crate::Outcome;
use crate::options::Format;
use crate::sizes::parse_duration;

/// Call malloc_trim(0) in a live process: effect and cost, before and after, beside the prediction
///
/// The call is made through gdb, in the process's first thread; the other threads run meanwhile. It is refused while any
/// thread is inside malloc, which is checked before anything is called. What it will release is predicted from a survey
/// while all threads stand still for it, no longer than --still.
///
/// Example: fragbench trim $(pidof mariadbd)
#[derive(Debug, Args)]
pub(crate) struct Trim {
    /// Process
    pid: u32,
    #[command(flatten)]
    visit: VisitOptions,
    /// Longest survey while the process stands still. Where it takes longer, the prediction is made from a survey taken
    /// while it ran, which a process at work has changed by the time of the call
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "1s")]
    still: Duration,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What a call in a live process may take.
#[derive(Debug, Args)]
pub(crate) struct VisitOptions {
    /// Longest stay in the process; a call that waits is then taken back and gdb is ended, and the process runs on
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "10s")]
    timeout: Duration,
    /// How long to wait for a moment in which no thread is inside malloc
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "5s")]
    patience: Duration,
    /// The gdb to use
    #[arg(long, value_name = "PROGRAM", default_value = "gdb")]
    gdb: String,
}

impl VisitOptions {
    pub(crate) fn limits(&self) -> Limits {
        Limits { gdb: self.gdb.clone(), timeout: self.timeout, patience: self.patience, ..Limits::default() }
    }
}

impl Trim {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let trimmed = fragbench_ask::trim(self.pid, &Limits { still: self.still, ..self.visit.limits() })?;
        match self.format {
            Format::Json => say!("{}", serde_json::to_string_pretty(&trimmed)?),
            Format::Text => put!("{}", text(&trimmed)),
        }
        Ok(Outcome::Success)
    }
}

fn text(trimmed: &Trimmed) -> String {
    let b = |n: u64| bytes(n as f64);
    let ms = |n: f64| duration_ns(n * 1e6);
    let pair = |before: u64, after: u64| format!("{:>10}  {:>10}", b(before), b(after));
    let (before, after) = (&trimmed.before, &trimmed.after);
    let mut lines = vec![
        ("", format!("{:>10}  {:>10}", "before", "after")),
        ("RSS", pair(trimmed.rss_before_bytes, trimmed.rss_after_bytes)),
        ("heap, resident", pair(before.resident_bytes, after.resident_bytes)),
        ("heap, live", pair(before.live_bytes, after.live_bytes)),
        ("free, resident", pair(before.free_resident_bytes, after.free_resident_bytes)),
        ("tops, resident", pair(before.top_resident_bytes, after.top_resident_bytes)),
        ("", String::new()),
        ("released", format!("{:>10}", b(trimmed.released_bytes))),
        (
            "predicted",
            format!(
                "{:>10}  off by {:.2} % of RSS",
                b(trimmed.predicted_release_bytes),
                100.0 * trimmed.prediction_error_ratio
            ),
        ),
        ("", format!("{:>10}  from a survey of {}", "", ms(trimmed.survey_ms)) + surveyed(trimmed.surveyed)),
        ("call", format!("{:>10}  while the other threads ran", ms(trimmed.call_ms))),
        (
            "stood still",
            format!("{:>10}  all threads, in {} stop{}", ms(trimmed.stopped_ms), trimmed.stops, s(trimmed.stops)),
        ),
    ];
    let kept: Vec<(&str, String)> =
        trimmed.kept.iter().map(|(reason, n)| ("", format!("{:>10}  {}", b(*n), reason.name()))).collect();
    if !kept.is_empty() {
        lines.push(("", String::new()));
        lines.push(("What stays resident of the heap, by what holds it", String::new()));
        lines.extend(kept);
    }
    lines.iter().map(|(name, value)| format!("{}\n", format!("{name:<16} {value}").trim_end())).collect()
}

fn surveyed(surveyed: Surveyed) -> &'static str {
    match surveyed {
        Surveyed::Stopped => " while the process stood still",
        Surveyed::Running => " while the process ran, right before the stop (--still)",
    }
}

fn s(n: u64) -> &'static str {
    if n == 1 { "" } else { "s" }
}
