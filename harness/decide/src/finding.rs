//! The verdict in words: a paragraph for reports, lines for the terminal.

use fragbench_model::{Allocator, Confidence, Contrast, Interval, Standing, Summary, Verdict, VerdictKind, label};

use crate::BASELINE;
use crate::baseline::{in_words, is_plain_glibc};

/// An effect in words, with the noise floor beside the claim: `38 % less resident memory (34 % to 41 %, noise floor
/// 0.8 %)`. Where it does not stand out nothing is claimed: `throughput not told apart from noise (-4 %, noise floor 6 %)`.
pub fn effect(effect: &Contrast, what: &str) -> String {
    let Interval { median, lo, hi, n } = effect.ratio;
    let floor = effect.noise.map_or("noise unknown".to_owned(), |noise| format!("noise floor {}", percent(noise)));
    let (from, to) = if median < 1.0 { (hi, lo) } else { (lo, hi) };
    let claim = |seen: &str| {
        let direction = if median < 1.0 { "less" } else { "more" };
        let small = if effect.relevant { "" } else { ", not clearly of consequence" };
        format!(
            "{} {direction} {what}{seen} ({} to {}, {floor}{small})",
            percent((median - 1.0).abs()),
            percent(change(from, median)),
            percent(change(to, median))
        )
    };
    match effect.standing {
        Standing::Significant => claim(""),
        Standing::Preliminary => claim(&format!(" in all {n} runs")),
        Standing::Noise => format!("{what} not told apart from noise ({:+.0} %, {floor})", 100.0 * (median - 1.0)),
    }
}

/// How far an end of the interval is from 1 in the direction of the median; negative on the other side.
fn change(end: f64, median: f64) -> f64 {
    if median < 1.0 { 1.0 - end } else { end - 1.0 }
}

/// Small shares with a decimal, others without.
pub(crate) fn percent(share: f64) -> String {
    let value = 100.0 * share;
    if value.abs() < 0.95 { format!("{value:.1} %") } else { format!("{value:.0} %") }
}

/// What to do in a few words.
pub fn headline(v: &Verdict) -> String {
    let name = v.allocator.as_deref().map(|a| label(a, &v.settings)).unwrap_or_default();
    let baseline = v.baseline.as_ref();
    match v.kind {
        VerdictKind::Switch => format!("Switch to {name}."),
        VerdictKind::Tune => {
            let how = v.change.as_ref().map(Allocator::instruction).filter(|how| !how.is_empty());
            let how = how.unwrap_or_else(|| "set nothing".to_owned());
            format!("Keep {} and {how}.", baseline.map_or(BASELINE, |a| a.name.as_str()))
        }
        VerdictKind::Leave => match baseline {
            Some(a) if !is_plain_glibc(&a.name, &a.settings) => format!("Leave {} as it is.", in_words(baseline)),
            _ => format!("Leave {BASELINE} as it is."),
        },
        VerdictKind::NotEnoughData => "No recommendation: not enough data.".to_owned(),
    }
}

/// What the result says and how sure it is, in one paragraph.
pub fn finding(summary: &Summary) -> String {
    let v = &summary.verdict;
    let mut text = headline(v);
    // The first reasons carry the figures; the others are in the report.
    for reason in v.reasons.iter().take(v.leading) {
        text.push_str(&format!(" {reason}"));
    }
    // Below 1 a program leaves part of what it asked for untouched: true, but no finding.
    if let Some((cell, ratio)) = worst_baseline(summary).filter(|(_, ratio)| *ratio >= 1.0) {
        text.push_str(&format!(
            " At its peak {} held {ratio:.2} times the live bytes (worst workload: {cell}).",
            in_words(v.baseline.as_ref())
        ));
    }
    if let Some(level) = v.confidence {
        text.push_str(&format!(" Confidence: {}.", sure(level, &v.doubts)));
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

/// What follows the finding on a terminal: other changes that are worth it, and the risks of the one recommended, each with
/// its source.
pub fn advice(summary: &Summary) -> Vec<(String, String)> {
    let v = &summary.verdict;
    let mut lines: Vec<(String, String)> = v
        .alternatives
        .iter()
        .map(|a| {
            let memory = a.memory_ratio.map(|r| format!("memory {:+.0} %", 100.0 * (r.median - 1.0)));
            let speed = match &a.price {
                Some(price) => Some(format!("the server's CPU {:+.1} %", 100.0 * (price.cpu_ratio.median - 1.0))),
                None => a.throughput_ratio.map(|r| format!("throughput {:+.0} %", 100.0 * (r.median - 1.0))),
            };
            let figures: Vec<String> = memory.into_iter().chain(speed).collect();
            ("instead".to_owned(), format!("{}: {}", label(&a.allocator, &a.settings), figures.join(", ")))
        })
        .collect();
    lines.extend(
        v.risks.iter().map(|risk| ("risk".to_owned(), format!("{}: {} [{}]", risk.name, risk.text, risk.source))),
    );
    lines
}

/// A level of confidence with what would raise it.
fn sure(level: Confidence, doubts: &[String]) -> String {
    let word = match level {
        Confidence::High => "high",
        Confidence::Medium => "medium",
        Confidence::Low => "low",
    };
    if doubts.is_empty() { word.to_owned() } else { format!("{word}; {}", doubts.join("; ")) }
}

fn worst_baseline(summary: &Summary) -> Option<(&str, f64)> {
    summary
        .cells
        .iter()
        .filter(|c| match &summary.verdict.baseline {
            Some(baseline) => c.allocator == baseline.name && c.settings == baseline.settings,
            None => is_plain_glibc(&c.allocator, &c.settings),
        })
        .filter_map(|c| Some((c.workload.as_str(), c.metrics.get("rss_peak_over_live_peak_ratio")?.median)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}
