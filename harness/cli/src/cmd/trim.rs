//! `fragbench trim`: has a live process's malloc give back what it does not need (of glibc's that is `malloc_trim(0)`), and
//! says what it released beside what was predicted, and what it cost.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use fragbench_ask::{AskError, Limits, Purged, Surveyed, Trimmed};
use fragbench_report::{bytes, duration_ns};

use crate::options::Format;
use crate::sizes::{parse_duration, parse_pid};
use crate::{Outcome, there};

/// Have a live process's malloc give back what it does not need: effect and cost, before and after
///
/// Of glibc's malloc that is malloc_trim(0), beside the prediction; of jemalloc, mimalloc and tcmalloc their own purge.
/// Whose heap it is, is told before: the one that the dynamic linker finds for the process's malloc, or --allocator.
///
/// The call is made through gdb, in the process's first thread; the other threads run meanwhile. It is refused while any
/// thread is inside malloc, which is checked before anything is called. What it will release is predicted from a survey
/// while all threads stand still for it, no longer than --still.
///
/// Example: fragbench trim $(pidof mariadbd)
#[derive(Debug, Args)]
pub(crate) struct Trim {
    /// Process
    #[arg(value_parser = parse_pid)]
    pid: u32,
    #[command(flatten)]
    visit: VisitOptions,
    /// Longest survey while the process stands still. Where it takes longer, the prediction is made from a survey taken
    /// while it ran, which a process at work has changed by the time of the call
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "1s")]
    still: Duration,
    /// Which allocator's heap, where there are several; without it the one that malloc is
    #[arg(long, value_name = "NAME", value_parser = ["glibc", "jemalloc", "mimalloc", "tcmalloc"])]
    allocator: Option<String>,
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
        there::require(self.pid)?;
        // A static program without symbols does not tell; then a survey says whether there is a heap of glibc's.
        let owner = match fragbench_ask::heap(self.pid) {
            Ok(heap) => Some(heap),
            Err(AskError::NotAsked { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let used = owner.as_ref().map_or("glibc", |heap| heap.allocator.as_str());
        let chosen = self.allocator.as_deref().unwrap_or(used);
        let limits = Limits { still: self.still, ..self.visit.limits() };
        let mut notes: Vec<String> = Vec::new();
        if used != chosen {
            notes.push(format!("malloc of this process is {used}'s, not {chosen}'s"));
        }
        let others = owner.iter().flat_map(|heap| &heap.others).filter(|other| *other != chosen);
        notes.extend(
            others.map(|other| format!("{other} is in this process as well: `fragbench trim --allocator {other}`")),
        );
        let (mut value, text, released) = if chosen == "glibc" {
            let trimmed = fragbench_ask::trim(self.pid, &limits)?;
            (serde_json::to_value(&trimmed)?, text(&trimmed), trimmed.released_bytes)
        } else {
            let purged = fragbench_ask::purge(self.pid, Some(chosen), &limits)?;
            notes.extend(purged.reach.clone());
            (serde_json::to_value(&purged)?, purged_text(&purged), purged.released_bytes)
        };
        // The heap of one that malloc is not, and nothing came of it: it was the wrong heap.
        let in_vain = used != chosen && released == 0;
        if in_vain {
            notes.push("nothing was given back: nobody uses this heap".into());
        }
        match self.format {
            Format::Json => {
                value["allocator"] = chosen.into();
                value["notes"] = notes.into();
                say!("{}", serde_json::to_string_pretty(&value)?);
            }
            Format::Text => {
                put!("heap of {chosen}\n{text}");
                notes.iter().for_each(|note| put!("! {note}\n"));
            }
        }
        Ok(if in_vain { Outcome::FellShort } else { Outcome::Success })
    }
}

fn purged_text(purged: &Purged) -> String {
    let b = |n: u64| bytes(n as f64);
    let pair = |before: u64, after: u64| format!("{:>10}  {:>10}", b(before), b(after));
    let mut lines = vec![
        (String::new(), format!("{:>10}  {:>10}", "before", "after")),
        ("RSS".into(), pair(purged.rss_before_bytes, purged.rss_after_bytes)),
    ];
    for (name, before) in &purged.before {
        let after = purged.after.get(name).map_or_else(String::new, |after| b(*after));
        lines.push((name.clone(), format!("{:>10}  {after:>10}", b(*before))));
    }
    lines.push(("released".into(), format!("{:>10}", b(purged.released_bytes))));
    let ms = |n: f64| duration_ns(n * 1e6);
    lines.push(("calls".into(), format!("{:>10}  while the other threads ran", ms(purged.call_ms))));
    lines.push(("stood still".into(), format!("{:>10}  all threads", ms(purged.stopped_ms))));
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(16);
    lines.iter().map(|(name, value)| format!("{}\n", format!("{name:<width$} {value}").trim_end())).collect()
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
