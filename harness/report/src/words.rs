//! Effects, gains and prices in words.

use fragbench_decide::{AS_LINKED, BASELINE};
use fragbench_model::{Allocator, Bars, Better, Contrast, Interval, Price, Standing, Tried, Weighing};

use crate::units::duration_ns;

/// An effect in words, with the noise floor beside the claim: `38 % less resident memory (34 % to 41 %, noise floor
/// 0.8 %)`. Where it does not stand out nothing is claimed: `throughput not told apart from noise (-4 %, noise floor 6 %)`.
pub(crate) fn effect(effect: &Contrast, what: &str) -> String {
    let Interval { median, lo, hi, n } = effect.ratio;
    let floor = noise_floor(effect);
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

fn noise_floor(effect: &Contrast) -> String {
    effect.noise.map_or("noise unknown".to_owned(), |noise| format!("noise floor {}", percent(noise)))
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

/// The baseline in words: `glibc with default settings`, `glibc arena_max=2`, `as it is linked`.
pub(crate) fn in_words(baseline: Option<&Allocator>) -> String {
    match baseline {
        None => format!("{BASELINE} with default settings"),
        Some(a) if a.name == AS_LINKED => "the program as it is linked".to_owned(),
        Some(a) if a.settings.is_empty() => format!("{} with default settings", a.name),
        Some(a) => a.label(),
    }
}

/// Memory and what time is weighed by.
pub(crate) fn gains(tried: &Tried, weighing: &Weighing) -> String {
    let memory = tried.effects.memory.map(|e| effect(&e, "resident memory"));
    let time = match (&tried.effects.cost, weighing) {
        (Some(cost), Weighing::ServerTime { cpu_s, .. }) => Some(server_time(cost, *cpu_s)),
        _ => tried.effects.throughput.map(|e| effect(&e, "throughput")),
    };
    [memory, time].into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// `1.4 s more of the server's 17 s of processor time (8 %, 6 % to 9 %, noise floor 2 %)`.
pub(crate) fn server_time(cost: &Contrast, cpu_s: f64) -> String {
    let Interval { median, lo, hi, .. } = cost.ratio;
    let floor = noise_floor(cost);
    let of = format!("of the server's {cpu_s:.3} s of processor time");
    if cost.standing == Standing::Noise {
        return format!("no more {of} than noise ({:+.1} %, {floor})", 100.0 * (median - 1.0));
    }
    let direction = if median < 1.0 { "less" } else { "more" };
    let by = (median - 1.0).abs();
    let (from, to) = if median < 1.0 { (1.0 - hi, 1.0 - lo) } else { (lo - 1.0, hi - 1.0) };
    format!("{:.3} s {direction} {of} ({}, {} to {}, {floor})", by * cpu_s, percent(by), percent(from), percent(to))
}

/// What a change costs that is not weighed, where that is beyond noise and of consequence: latency, page faults and the
/// longest call.
pub(crate) fn price(tried: &Tried) -> String {
    let e = &tried.effects;
    let worse = |e: &Option<Contrast>, what: &str| {
        e.filter(|e| e.standing != Standing::Noise && e.relevant && e.ratio.median > 1.0).map(|e| effect(&e, what))
    };
    let longest = e
        .longest_ns
        .filter(|(own, base)| *own > 2.0 * base)
        .map(|(own, base)| format!("a longest call of {} instead of {}", duration_ns(own), duration_ns(base)));
    let parts: Vec<String> = [worse(&e.p99, "p99 latency of an allocation"), worse(&e.faults, "page faults"), longest]
        .into_iter()
        .flatten()
        .collect();
    if parts.is_empty() { String::new() } else { format!(", at the price of {}", parts.join(" and ")) }
}

/// Page faults and the longest stall, which stand beside the price in the server's time: `page faults +12 %, longest call 1.2 ms
/// instead of 0.8 ms`.
pub(crate) fn beside(price: &Price) -> String {
    let faults = price.faults_ratio.map(|faults| format!("page faults {:+.0} %", 100.0 * (faults.median - 1.0)));
    let longest = price
        .longest_ns
        .zip(price.baseline_longest_ns)
        .map(|(own, base)| format!("longest call {} instead of {}", duration_ns(own), duration_ns(base)));
    faults.into_iter().chain(longest).collect::<Vec<_>>().join(", ")
}

/// What else became worse, beyond noise.
pub(crate) fn worse_notes(tried: &Tried) -> String {
    let mut text = String::new();
    let established = |e: &Contrast| e.standing != Standing::Noise;
    if let Some(peak) = tried.effects.peak.filter(|e| established(e) && e.ratio.median > 1.0) {
        text.push_str(&format!(", its peak {:.0} % higher", 100.0 * (peak.ratio.median - 1.0)));
    }
    for (name, (better, e)) in &tried.effects.others {
        let change = e.ratio.median - 1.0;
        let worse = if *better == Better::Less { change } else { -change };
        if established(e) && worse > 0.0 {
            text.push_str(&format!(", {name} {:+.0} %", 100.0 * change));
        }
    }
    text
}

/// What a difference must pass, in words.
pub(crate) fn bars(bars: &Bars, weighing: &Weighing) -> String {
    let floor = |floor: Option<f64>| floor.map_or("unknown".to_owned(), |floor| format!("{:.1} %", 100.0 * floor));
    format!(
        "the noise floor ({} for memory, {} for {}: the baseline against itself) and the relevance threshold of {:.0} %",
        floor(bars.memory),
        floor(bars.time),
        weighing.what(),
        100.0 * bars.relevant
    )
}
