//! The finding in a paragraph, for the terminal and the head of the report.

use fragbench_model::{Interval, Summary, VerdictKind, label};

use crate::{BASELINE, THROUGHPUT, is_baseline, memory_noise};

/// A ratio to the baseline in words: `38 % less resident memory (34 % to 41 %)`. When the interval reaches into the
/// noise floor nothing is claimed: `throughput not told apart from noise (-4 %)`.
pub fn effect(ratio: &Interval, noise: f64, what: &str) -> String {
    let percent = |r: f64| format!("{:.0} %", 100.0 * (r - 1.0).abs());
    if ratio.hi < 1.0 - noise {
        format!("{} less {what} ({} to {})", percent(ratio.median), percent(ratio.hi), percent(ratio.lo))
    } else if ratio.lo > 1.0 + noise {
        format!("{} more {what} ({} to {})", percent(ratio.median), percent(ratio.lo), percent(ratio.hi))
    } else {
        format!("{what} not told apart from noise ({:+.0} %)", 100.0 * (ratio.median - 1.0))
    }
}

/// What the result says and how sure it is, in one paragraph.
pub fn finding(summary: &Summary) -> String {
    let v = &summary.verdict;
    let name = v.allocator.as_deref().map(|a| label(a, &v.settings)).unwrap_or_default();
    let mut text = match v.kind {
        VerdictKind::Switch => format!("Switch to {name}."),
        VerdictKind::Tune => {
            let lines: Vec<String> = v.settings.iter().map(|(k, x)| format!("{k}={x}")).collect();
            format!("Keep {BASELINE} and set {}.", lines.join(" "))
        }
        VerdictKind::Leave => format!("Leave {BASELINE} as it is."),
        VerdictKind::NotEnoughData => "No recommendation: not enough data.".to_owned(),
    };
    // The first reason carries the figures; the others are in the report.
    if let Some(first) = v.reasons.first() {
        text.push_str(&format!(" {first}"));
    }
    if v.kind == VerdictKind::Tune
        && let Some(second) = v.reasons.get(1).filter(|r| r.contains("would gain more"))
    {
        text.push_str(&format!(" {second}"));
    }
    // Below 1 a program leaves part of what it asked for untouched: true, but no finding.
    if let Some((cell, ratio)) = worst_baseline(summary).filter(|(_, ratio)| *ratio >= 1.0) {
        text.push_str(&format!(
            " At its peak {BASELINE} with default settings held {ratio:.2} times the live bytes (worst workload: {cell})."
        ));
    }
    if let (Some(memory), Some(speed)) = (memory_noise(&summary.noise_floor), summary.noise_floor.get(THROUGHPUT))
        && matches!(v.kind, VerdictKind::Switch | VerdictKind::Tune)
    {
        text.push_str(&format!(
            " Noise floor: {:.1} % for memory, {:.1} % for throughput.",
            100.0 * memory,
            100.0 * speed
        ));
    }
    let failed: u32 = summary.cells.iter().map(|c| c.failed).sum();
    let runs: u32 = failed + summary.cells.iter().map(|c| c.runs).sum::<u32>();
    if failed > 0 {
        text.push_str(&format!(" {failed} of {runs} runs failed and count for nothing."));
    }
    if summary.partial {
        text.push_str(" The plan was not finished: these figures are partial.");
    }
    text
}

fn worst_baseline(summary: &Summary) -> Option<(&str, f64)> {
    summary
        .cells
        .iter()
        .filter(|c| is_baseline(&c.allocator, &c.settings))
        .filter_map(|c| Some((c.workload.as_str(), c.metrics.get("rss_peak_over_live_peak_ratio")?.median)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}
