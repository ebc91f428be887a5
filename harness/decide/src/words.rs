//! What effects amount to in words: gains, prices, losses, and what a difference has to pass.

use fragbench_model::{Better, Contrast, Interval, Standing, Weighing};

use crate::evidence::{Candidate, Evidence};
use crate::finding::{effect, percent};
use crate::paired::Aa;
use crate::verdict::established;

/// Memory and what time is weighed by.
pub(crate) fn gains(c: &Candidate, evidence: &Evidence) -> String {
    let memory = c.memory.map(|e| effect(&e, "resident memory"));
    let time = match (&c.cost, &evidence.weighing) {
        (Some(cost), Weighing::ServerTime { cpu_s, .. }) => Some(server_time(cost, *cpu_s)),
        _ => c.throughput.map(|e| effect(&e, "throughput")),
    };
    [memory, time].into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// `1.4 s more of the server's 17 s of processor time (8 %, 6 % to 9 %, noise floor 2 %)`.
pub(crate) fn server_time(cost: &Contrast, cpu_s: f64) -> String {
    let Interval { median, lo, hi, .. } = cost.ratio;
    let floor = cost.noise.map_or("noise unknown".to_owned(), |noise| format!("noise floor {}", percent(noise)));
    let of = format!("of the server's {cpu_s:.3} s of processor time");
    if cost.standing == Standing::Noise {
        return format!("no more {of} than noise ({:+.1} %, {floor})", 100.0 * (median - 1.0));
    }
    let direction = if median < 1.0 { "less" } else { "more" };
    let change = (median - 1.0).abs();
    let (from, to) = if median < 1.0 { (1.0 - hi, 1.0 - lo) } else { (lo - 1.0, hi - 1.0) };
    format!(
        "{:.3} s {direction} {of} ({}, {} to {}, {floor})",
        change * cpu_s,
        percent(change),
        percent(from),
        percent(to)
    )
}

/// What a change costs that is not weighed, where that is beyond noise and of consequence: latency, page faults and the
/// longest call.
pub(crate) fn price(c: &Candidate) -> String {
    let worse = |e: &Option<Contrast>, what: &str| {
        e.filter(|e| established(e) && e.relevant && e.ratio.median > 1.0).map(|e| effect(&e, what))
    };
    let longest = c
        .longest_ns
        .filter(|(own, base)| *own > 2.0 * base)
        .map(|(own, base)| format!("a longest call of {:.1} ms instead of {:.1} ms", own / 1e6, base / 1e6));
    let parts: Vec<String> = [worse(&c.p99, "p99 latency of an allocation"), worse(&c.faults, "page faults"), longest]
        .into_iter()
        .flatten()
        .collect();
    if parts.is_empty() { String::new() } else { format!(", at the price of {}", parts.join(" and ")) }
}

/// What else became worse, beyond noise.
pub(crate) fn worse_notes(c: &Candidate) -> String {
    let mut text = String::new();
    if let Some(peak) = c.peak.filter(|e| established(e) && e.ratio.median > 1.0) {
        text.push_str(&format!(", its peak {:.0} % higher", 100.0 * (peak.ratio.median - 1.0)));
    }
    for (name, (better, e)) in &c.others {
        let change = e.ratio.median - 1.0;
        let worse = if *better == Better::Less { change } else { -change };
        if established(e) && worse > 0.0 {
            text.push_str(&format!(", {name} {:+.0} %", 100.0 * change));
        }
    }
    text
}

/// What a difference must pass, in words.
pub(crate) fn bars(evidence: &Evidence) -> String {
    let floor = |aa: Option<Aa>| aa.map_or("unknown".to_owned(), |aa| format!("{:.1} %", 100.0 * aa.floor));
    format!(
        "the noise floor ({} for memory, {} for {}: the baseline against itself) and the relevance threshold of {:.0} %",
        floor(evidence.memory_aa),
        floor(evidence.time_aa()),
        evidence.weighing.what(),
        100.0 * evidence.relevant
    )
}
