//! What happens inside malloc, shown: the mechanism in words and the heap as it lay at each stage.

use std::fmt::Write;

use fragbench_model::{CaseFact, HeapStage, Kept};

use crate::heap_map::heap_map;
use crate::plots::{Plot, heap_plot};
use crate::units::bytes;

/// Columns where there is no terminal.
const WIDTH: u16 = 100;

/// What a stage is and what the heap comes to there.
fn heading(stage: &HeapStage) -> String {
    let b = &stage.bytes;
    let (name, size) = (stage_name(stage), |n: u64| bytes(n as f64));
    let mut parts = vec![format!("live {}", size(b.live_bytes))];
    let mut part = |what: &str, n: u64| {
        if n > 0 {
            parts.push(format!("{what} {}", size(n)));
        }
    };
    part("free in bins", b.free_bytes);
    part("in tcaches", b.tcache_bytes);
    part("tops", b.top_bytes);
    format!("{name}: {} of {} in memory ({})", size(b.resident_bytes), size(b.system_bytes), parts.join(", "))
}

fn stage_name(stage: &HeapStage) -> String {
    if stage.name == "purged" { "after malloc_trim(0)".into() } else { format!("at the end of `{}`", stage.name) }
}

/// What `malloc_trim` released beside what the survey before it predicted.
fn released(before: &HeapStage, after: &HeapStage) -> String {
    let released = before.bytes.resident_bytes.saturating_sub(after.bytes.resident_bytes);
    let predicted = before.trim.predicted_release_bytes;
    format!("It released {}; predicted: {}.", bytes(released as f64), bytes(predicted as f64))
}

/// What is free, in memory, and stays whatever `malloc_trim` does; `None` where that is nothing of size.
fn kept(stage: &HeapStage) -> Option<String> {
    let words = |reason: Kept| match reason {
        Kept::Tcache => Some("in tcaches"),
        Kept::ThreadTop => Some("in the tops of thread arenas"),
        Kept::Fragment => Some("on pages shared with live chunks"),
        _ => None,
    };
    let parts: Vec<String> = stage
        .trim
        .kept
        .iter()
        .filter(|(_, n)| **n >= stage.map.cell_bytes)
        .filter_map(|(reason, n)| Some(format!("{} {}", bytes(*n as f64), words(*reason)?)))
        .collect();
    (!parts.is_empty()).then(|| format!("malloc_trim would leave {}.", parts.join(", ")))
}

/// For a terminal.
pub(super) fn explanation(fact: &CaseFact, stages: &[HeapStage], width: Option<u16>, colour: bool) -> String {
    let width = usize::from(width.unwrap_or(WIDTH));
    let mut out = String::from("\nWhat happens\n");
    for (i, step) in fact.mechanism.iter().enumerate() {
        let options = textwrap::Options::new(width).initial_indent("  ").subsequent_indent("     ");
        let _ = writeln!(out, "{}", textwrap::fill(&format!("{}. {step}", i + 1), options));
    }
    for (i, stage) in stages.iter().enumerate() {
        let _ = writeln!(out, "\n{}", textwrap::fill(&heading(stage), width));
        let purged = i.checked_sub(1).map(|before| &stages[before]).filter(|_| stage.name == "purged");
        if let Some(words) = purged.map(|before| released(before, stage)).or_else(|| kept(stage)) {
            let _ = writeln!(out, "{}", textwrap::fill(&words, width));
        }
        out.push_str(&heap_map(&stage.map, width, colour));
    }
    out.push('\n');
    out
}

/// For a page; `None` where there is nothing to draw.
pub(super) fn drawing(fact: &CaseFact, stages: &[HeapStage]) -> Option<Plot> {
    let headings: Vec<String> = stages.iter().map(heading).collect();
    let maps: Vec<_> = headings.iter().map(String::as_str).zip(stages.iter().map(|stage| &stage.map)).collect();
    maps.iter().any(|(_, map)| !map.rows.is_empty()).then(|| heap_plot(&maps, &fact.name))
}
