//! The verdict in words, the one place where its sentences are made: a headline, a paragraph for reports, lines for the
//! terminal, every reason, every doubt.

use fragbench_decide::{AS_LINKED, BASELINE, MOST_OF_THE_SERVER, is_plain_glibc};
use fragbench_model::{Allocator, Confidence, Doubt, Reason, Summary, Verdict, VerdictKind, Weighing, label};

use crate::words::{bars, beside, gains, in_words, price, worse_notes};

/// What would give a verdict more data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoreBy {
    /// More blocks of a plan.
    Blocks,
    /// More time for a search.
    Time,
}

/// What to do in a few words.
pub fn headline(v: &Verdict) -> String {
    let name = v.allocator.as_deref().map(|a| label(a, &v.settings)).unwrap_or_default();
    let baseline = v.baseline.as_ref();
    match v.kind {
        VerdictKind::Switch if v.allocator.as_deref() == Some(AS_LINKED) => "Leave the program as it is linked.".into(),
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
    for reason in v.reasons.iter().filter(|reason| reason.is_finding()) {
        text.push_str(&format!(" {}", sentence(reason, v, MoreBy::Blocks)));
    }
    // Below 1 a program leaves part of what it asked for untouched: true, but no finding.
    if let Some((cell, ratio)) = worst_baseline(summary).filter(|(_, ratio)| *ratio >= 1.0) {
        text.push_str(&format!(
            " At its peak {} held {ratio:.2} times the live bytes (worst workload: {cell}).",
            in_words(v.baseline.as_ref())
        ));
    }
    if let Some(level) = v.confidence {
        text.push_str(&format!(" Confidence: {}.", sure(level, &doubts(v, MoreBy::Blocks))));
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
pub fn advice(v: &Verdict) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = v
        .alternatives
        .iter()
        .map(|a| {
            let memory = a.memory_ratio.map(|r| format!("memory {:+.0} %", 100.0 * (r.median - 1.0)));
            let speed = match &a.price {
                Some(price) => {
                    let beside = beside(price);
                    let beside = if beside.is_empty() { beside } else { format!(", {beside}") };
                    Some(format!("the server's CPU {:+.1} %{beside}", 100.0 * (price.cpu_ratio.median - 1.0)))
                }
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

/// Every reason in a sentence, the finding first.
pub fn reasons(v: &Verdict, more: MoreBy) -> Vec<String> {
    v.reasons.iter().map(|reason| sentence(reason, v, more)).collect()
}

/// What keeps the confidence down, each with what would raise it.
pub fn doubts(v: &Verdict, more: MoreBy) -> Vec<String> {
    v.doubts.iter().map(|doubt| doubt_text(doubt, v, more)).collect()
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

fn sentence(reason: &Reason, v: &Verdict, more: MoreBy) -> String {
    let baseline = in_words(v.baseline.as_ref());
    let gains = |tried| gains(tried, &v.weighing);
    match reason {
        Reason::Recommended(tried) => {
            let over =
                if v.workloads == 1 { "In the one workload" } else { "In the geometric mean over all workloads" };
            let beside = v.price.as_ref().map(beside).filter(|text| !text.is_empty());
            let price = beside.map(|text| format!(" ({text})")).unwrap_or_default() + &price(tried);
            format!("{over}, {} has {} relative to {baseline}{price}.", tried.label(), gains(tried))
        }
        Reason::LessTrouble { best, share } => format!(
            "{} would gain more ({}{}), but {} gets {:.0} % of that gain and is less trouble.",
            best.label(),
            gains(best),
            price(best),
            if v.kind == VerdictKind::Tune { "this setting" } else { "this" },
            100.0 * share
        ),
        Reason::WeighedBy => weighed_by(v),
        Reason::Counted(counted) if more == MoreBy::Time => {
            format!("A difference counts beyond {}.", bars(counted, &v.weighing))
        }
        Reason::Counted(counted) => format!(
            "Where heap RSS at its peak and after idling were both measured they are joined by their geometric mean; a difference \
             counts beyond {}.",
            bars(counted, &v.weighing)
        ),
        Reason::AlsoWorthIt(tried) => format!("Also worth it: {}: {}{}.", tried.label(), gains(tried), price(tried)),
        Reason::NothingBetter(passed) => {
            format!("Nothing tried is better than {baseline} by more than {}.", bars(passed, &v.weighing))
        }
        Reason::Unsettled { labels, relevant } => {
            let how = match more {
                MoreBy::Blocks => format!("more blocks would (--reps, or --precision {:.0}%)", 50.0 * relevant),
                MoreBy::Time => "more blocks would: give it longer with --max-time".to_owned(),
            };
            format!("{} may be worth it, but the runs do not settle it: {how}.", labels.join(" and "))
        }
        Reason::NoisyBaseline(noise) => format!(
            "The baseline's memory differs from itself by up to {:.0} %, so a gain below that could not be seen; repeat on a \
             quieter machine or with more repetitions.",
            100.0 * noise
        ),
        Reason::NoBaseline | Reason::OnlyBaseline | Reason::NoCopy { .. } | Reason::TooFewPairs { .. } => {
            lacking(reason, v, more)
        }
        Reason::Failed { label, runs } => format!("{label} is not considered: {runs} of its runs failed."),
        Reason::Lacking(label) => {
            format!("{label} is not considered: it lacks runs in some of the {} workloads.", v.workloads)
        }
        Reason::NotBetter(tried) => format!("{} is not relevantly better: {}.", tried.label(), gains(tried)),
        Reason::CostsItsGain { tried, more } => {
            let so = if *more { "more than" } else { "about what" };
            format!("{} costs {so} it gains: {}{}.", tried.label(), gains(tried), worse_notes(tried))
        }
        Reason::TooDear(tried) => format!(
            "{} costs more than {:.0} % of the server's processor time: {}.",
            tried.label(),
            100.0 * MOST_OF_THE_SERVER,
            gains(tried)
        ),
    }
}

/// What keeps a verdict from being given at all.
fn lacking(reason: &Reason, v: &Verdict, more: MoreBy) -> String {
    let baseline = in_words(v.baseline.as_ref());
    match (reason, more) {
        (Reason::NoBaseline | Reason::NoCopy { .. }, MoreBy::Time) => format!(
            "No run of {baseline} and of its copy succeeded, or the time did not suffice for both: give it longer with --max-time."
        ),
        (Reason::OnlyBaseline, MoreBy::Time) => {
            format!("The time did not suffice for more than {baseline}: give it longer with --max-time.")
        }
        (Reason::NoBaseline, MoreBy::Blocks) => format!(
            "No run of {baseline} succeeded, so there is nothing to compare with; run it too (--allocator {}).",
            v.baseline.as_ref().map_or(BASELINE, |a| &a.name)
        ),
        (Reason::NoCopy { of_memory }, MoreBy::Blocks) => format!(
            "The baseline was not run against itself, so the noise of {} is unknown; let a run finish with its A/A copies.",
            if *of_memory { "memory" } else { v.weighing.what() }
        ),
        (Reason::TooFewPairs { most, least }, more) => format!(
            "Each cell has at most {most} run that can be paired with the baseline's; at least {least} are needed ({}).",
            match more {
                MoreBy::Blocks => format!("--reps {}", least + 1),
                MoreBy::Time => "give it longer with --max-time".to_owned(),
            }
        ),
        _ => format!(
            "Only {baseline} was run; name another allocator or setting to compare with (other versions of glibc are shown, not \
             advised)."
        ),
    }
}

/// What time was weighed by, in a sentence.
fn weighed_by(v: &Verdict) -> String {
    match &v.weighing {
        Weighing::ServerTime { cpu_s, span_s, workloads } => {
            let of = if *workloads < v.workloads {
                format!(" (in {workloads} of the {} workloads, whose server's is known)", v.workloads)
            } else {
                String::new()
            };
            format!(
                "Time is weighed by the server's own: extra processor time as a share of the {cpu_s:.3} s the server used in \
                 {span_s:.1} s{of}; throughput of the replayed calls decides nothing."
            )
        }
        Weighing::Command => "Time is weighed by the command's own throughput.".to_owned(),
        Weighing::Loop => {
            "This judges a loop of allocations: what the server used besides is not known, and a difference of \
                           throughput is far smaller in a server, which does other work between its calls."
                .to_owned()
        }
    }
}

fn doubt_text(doubt: &Doubt, v: &Verdict, more: MoreBy) -> String {
    match doubt {
        Doubt::TooFewBlocks { blocks, needed, compared } => {
            let how = match more {
                MoreBy::Blocks => "--reps 15 would",
                MoreBy::Time => {
                    "until then what every block agrees on counts; to settle it give it longer with --max-time"
                }
            };
            format!(
                "this is preliminary: {blocks} blocks cannot exclude chance, which takes {needed} with {compared} cells compared; \
                 {how}"
            )
        }
        Doubt::Wide { labels, relevant } => format!(
            "the intervals of {} still reach past the threshold of relevance; more blocks would narrow them ({})",
            labels.join(", "),
            match more {
                MoreBy::Blocks => format!("--precision {:.0}%", 50.0 * relevant),
                MoreBy::Time => "--max-time".to_owned(),
            }
        ),
        Doubt::BaselineDiffers { in_memory, in_time } => {
            let of = [(*in_memory, "memory"), (*in_time, v.weighing.what())];
            let of: Vec<&str> = of.iter().filter(|(differs, _)| *differs).map(|(_, what)| *what).collect();
            format!(
                "the baseline differs from its own copy in {} (one comparison in twenty does by chance); a second result would tell",
                of.join(" and ")
            )
        }
        Doubt::Disturbed(share) => format!(
            "{:.0} % of the runs were disturbed by other processes or the hypervisor; a quieter machine would help",
            100.0 * share
        ),
    }
}
