//! What to do, by small named rules over the ratios to the baseline. A difference counts as *established* when its
//! whole interval lies beyond both the noise floor (the baseline against itself on this machine) and [`RELEVANT`];
//! everything else is treated as no difference. The rules, in order:
//!
//! 1. `enough_data`: a baseline, its A/A copy, and [`MIN_REPETITIONS`] pairs; otherwise no statement.
//! 2. `eligible`: the null allocator and cells with a failed or missing workload are out.
//! 3. `worth_it`: something established is better, by relevantly more than the worst loss (throughput, peak) costs.
//! 4. `tune_is_enough`: of those left the one with the greatest gain less cost is taken, but a setting of glibc with
//!    [`MOST_OF_THE_GAIN`] of that is preferred to a switch.

use std::collections::BTreeMap;

use fragbench_model::{Interval, Settings, Verdict, VerdictKind, label};

use crate::compare::{baseline_of, pairs};
use crate::finding::effect;
use crate::runs::CellRuns;
use crate::{BASELINE, MEMORY, NULL, PEAK, THROUGHPUT, geometric_ratio_interval};

/// A difference below this share is of no practical consequence, however certain.
pub const RELEVANT: f64 = 0.05;
/// Pairs of runs in every workload below which nothing is said.
pub const MIN_REPETITIONS: u32 = 2;
/// Noise of memory above which finding nothing better does not mean that there is nothing.
pub const MAX_NOISE: f64 = 0.15;
/// Share of the best gain at which a setting is preferred to another allocator: a setting can be taken back by a
/// restart and needs no new package.
pub const MOST_OF_THE_GAIN: f64 = 0.7;

/// One allocator with one choice of settings, over all workloads, relative to the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Allocator's name.
    pub allocator: String,
    /// Its settings.
    pub settings: Settings,
    /// Workloads of the baseline it has figures for.
    pub workloads: usize,
    /// Runs that failed.
    pub failed: usize,
    /// Geometric mean over the workloads and the figures of [`MEMORY`] of the ratio to the baseline.
    pub memory: Option<Interval>,
    /// Of the throughput ratio.
    pub throughput: Option<Interval>,
    /// Of the peak's ratio.
    pub peak: Option<Interval>,
}

/// What the rules look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Workloads with runs of the baseline; none when it did not run.
    pub workloads: usize,
    /// Noise floor by metric.
    pub noise: BTreeMap<String, f64>,
    /// Every cell but the baseline and those on another C library, in the plan's order. A C library comes with the
    /// distribution: its cells are shown for comparison and never advised.
    pub candidates: Vec<Candidate>,
}

impl Candidate {
    /// Name and settings.
    pub fn label(&self) -> String {
        label(&self.allocator, &self.settings)
    }
}

/// Noise of the memory figures: the greatest of those that have an A/A pair; `None` without one.
pub fn memory_noise(noise: &BTreeMap<String, f64>) -> Option<f64> {
    MEMORY.iter().filter_map(|m| noise.get(*m)).copied().reduce(f64::max)
}

/// Gathers the evidence: joins the cells of one allocator and its settings over the workloads of the baseline.
pub fn evidence(cells: &[CellRuns], noise: &BTreeMap<String, f64>) -> Evidence {
    let workloads: Vec<String> =
        cells.iter().filter(|c| c.is_baseline() && !c.ok.is_empty()).map(|c| c.cell.workload.name()).collect();
    let mut candidates: Vec<Candidate> = Vec::new();
    for cell in cells.iter().filter(|c| !c.cell.aa && !c.is_baseline() && c.cell.allocator.libc.is_none()) {
        let (name, settings) = (&cell.cell.allocator.name, &cell.cell.allocator.settings);
        if candidates.iter().any(|c| c.allocator == *name && c.settings == *settings) {
            continue;
        }
        let same: Vec<&CellRuns> = cells
            .iter()
            .filter(|c| !c.cell.aa && c.cell.allocator.name == *name && c.cell.allocator.settings == *settings)
            .filter(|c| workloads.contains(&c.cell.workload.name()))
            .collect();
        let ratio = |metrics: &[&str]| {
            let groups: Vec<Vec<(f64, f64)>> = same
                .iter()
                .filter_map(|c| Some((c, baseline_of(cells, &c.cell.workload.name())?)))
                .flat_map(|(c, base)| metrics.iter().map(move |m| (c, base, m)))
                // A figure the baseline lacks too (no idle stretch was run) is no lack of the candidate.
                .filter(|(_, base, metric)| !base.values(metric).is_empty())
                .map(|(c, base, metric)| pairs(c, base, metric))
                .collect();
            geometric_ratio_interval(&groups)
        };
        candidates.push(Candidate {
            allocator: name.clone(),
            settings: settings.clone(),
            workloads: same.iter().filter(|c| !c.ok.is_empty()).count(),
            failed: same.iter().map(|c| c.failed.len()).sum(),
            memory: ratio(&MEMORY),
            throughput: ratio(&[THROUGHPUT]),
            peak: ratio(&[PEAK]),
        });
    }
    Evidence { workloads: workloads.len(), noise: noise.clone(), candidates }
}

/// Applies the rules.
pub fn judge(evidence: &Evidence) -> Verdict {
    if let Err(reason) = enough_data(evidence) {
        return verdict(VerdictKind::NotEnoughData, None, vec![reason]);
    }
    let mut reasons = Vec::new();
    let mut worth: Vec<(&Candidate, f64)> = Vec::new();
    for candidate in evidence.candidates.iter().filter(|c| c.allocator != NULL) {
        match eligible(candidate, evidence).and_then(|()| worth_it(candidate, evidence)) {
            Ok(gain) => worth.push((candidate, gain)),
            Err(reason) => reasons.push(reason),
        }
    }
    let best = |of: &dyn Fn(&Candidate) -> bool| {
        worth.iter().filter(|(c, _)| of(c)).max_by(|a, b| a.1.total_cmp(&b.1)).copied()
    };
    let Some((mut chosen, gain)) = best(&|_| true) else {
        let (noise, _) = noises(evidence);
        if noise > MAX_NOISE {
            let reason = format!(
                "The baseline's memory differs from itself by up to {:.0} %, so a gain below that could not be seen; repeat on a quieter machine or with more repetitions.",
                100.0 * noise
            );
            reasons.insert(0, reason);
            return verdict(VerdictKind::NotEnoughData, None, reasons);
        }
        let noise = floors(evidence);
        reasons
            .insert(0, format!("Nothing tried is better than {BASELINE} with default settings by more than {noise}."));
        let mut leave = verdict(VerdictKind::Leave, None, reasons);
        leave.allocator = Some(BASELINE.into());
        return leave;
    };
    let mut why = Vec::new();
    if chosen.allocator != BASELINE
        && let Some((setting, share)) = best(&|c| c.allocator == BASELINE)
        && tune_is_enough(share, gain)
    {
        why.push(format!(
            "{} would gain more ({}), but this setting gets {:.0} % of that gain without another allocator.",
            chosen.label(),
            gains(chosen, evidence),
            100.0 * share / gain
        ));
        chosen = setting;
    }
    let kind = if chosen.allocator == BASELINE { VerdictKind::Tune } else { VerdictKind::Switch };
    why.insert(0, {
        let over =
            if evidence.workloads == 1 { "In the one workload" } else { "In the geometric mean over all workloads" };
        format!(
            "{over}, {} has {} relative to {BASELINE} with default settings.",
            chosen.label(),
            gains(chosen, evidence)
        )
    });
    let beyond = format!(
        "Resident memory is heap RSS at its peak and after idling, joined by their geometric mean; a difference counts beyond {}.",
        floors(evidence)
    );
    why.push(beyond);
    why.extend(
        worth
            .iter()
            .filter(|(c, _)| *c != chosen)
            .map(|(c, _)| format!("Also worth it: {}: {}.", c.label(), gains(c, evidence))),
    );
    why.extend(reasons);
    verdict(kind, Some(chosen), why)
}

fn verdict(kind: VerdictKind, chosen: Option<&Candidate>, reasons: Vec<String>) -> Verdict {
    Verdict {
        kind,
        allocator: chosen.map(|c| c.allocator.clone()),
        settings: chosen.map(|c| c.settings.clone()).unwrap_or_default(),
        memory_ratio: chosen.and_then(|c| c.memory),
        throughput_ratio: chosen.and_then(|c| c.throughput),
        reasons,
    }
}

/// Rule 1. Without a baseline, its noise and repeated pairs nothing can be told from chance.
fn enough_data(evidence: &Evidence) -> Result<(), String> {
    if evidence.workloads == 0 {
        return Err(format!(
            "No run of {BASELINE} with default settings succeeded, so there is nothing to compare with; run it too (--allocator {BASELINE})."
        ));
    }
    if !evidence.candidates.iter().any(|c| c.allocator != NULL) {
        return Err(format!(
            "Only {BASELINE} with default settings was run; name another allocator or setting to compare with (other versions of glibc are shown, not advised)."
        ));
    }
    for metric in [PEAK, THROUGHPUT] {
        if !evidence.noise.contains_key(metric) {
            return Err(format!(
                "The baseline was not run against itself, so the noise of {metric} is unknown; let a run finish with its A/A copies."
            ));
        }
    }
    let most = evidence.candidates.iter().filter_map(|c| c.memory).map(|m| m.n).max().unwrap_or(0);
    if most < MIN_REPETITIONS {
        return Err(format!(
            "Each cell has at most {most} run that can be paired with the baseline's; at least {MIN_REPETITIONS} are needed (--reps {}).",
            MIN_REPETITIONS + 1
        ));
    }
    Ok(())
}

/// Rule 2. A cell that failed somewhere is no recommendation, however good its other figures.
fn eligible(c: &Candidate, evidence: &Evidence) -> Result<(), String> {
    if c.failed > 0 {
        return Err(format!("{} is not considered: {} of its runs failed.", c.label(), c.failed));
    }
    let enough = |i: &Option<Interval>| i.is_some_and(|i| i.n >= MIN_REPETITIONS);
    if c.workloads < evidence.workloads || !enough(&c.memory) || !enough(&c.throughput) {
        return Err(format!(
            "{} is not considered: it lacks runs in some of the {} workloads.",
            c.label(),
            evidence.workloads
        ));
    }
    Ok(())
}

/// Rule 3. What a candidate gains (1 − memory per throughput, established differences only) less what it costs (the
/// greatest loss of throughput, mean or peak memory), if that is relevant. A loss counts at its median as soon as
/// that is outside the noise: who recommends a change has to bear the doubt.
fn worth_it(c: &Candidate, evidence: &Evidence) -> Result<f64, String> {
    let (memory_noise, speed_noise) = noises(evidence);
    let memory_gain = c.memory.map_or(0.0, |i| if i.hi < 1.0 - bar(memory_noise) { 1.0 - i.median } else { 0.0 });
    let speed_gain = c.throughput.map_or(0.0, |i| if i.lo > 1.0 + bar(speed_noise) { i.median - 1.0 } else { 0.0 });
    let past = |noise: f64, loss: Option<f64>| loss.filter(|l| *l > noise).unwrap_or(0.0);
    let speed_loss = past(speed_noise, c.throughput.map(|i| 1.0 - i.median));
    let memory_loss = past(memory_noise, c.memory.map(|i| i.median - 1.0));
    let peak_loss = past(memory_noise, c.peak.map(|i| i.median - 1.0));
    let gain = 1.0 - (1.0 - memory_gain) / (1.0 + speed_gain);
    if gain <= 0.0 {
        return Err(format!("{} is not relevantly better: {}.", c.label(), gains(c, evidence)));
    }
    let loss = speed_loss.max(memory_loss).max(peak_loss);
    let net = gain - loss;
    if net < RELEVANT {
        let so = if net < 0.0 { "more than" } else { "about what" };
        return Err(format!("{} costs {so} it gains: {}{}.", c.label(), gains(c, evidence), peak_note(c, peak_loss)));
    }
    Ok(net)
}

/// Rule 4.
fn tune_is_enough(setting: f64, best: f64) -> bool {
    setting >= MOST_OF_THE_GAIN * best
}

/// How far from 1 an interval must lie to count.
fn bar(noise: f64) -> f64 {
    noise.max(RELEVANT)
}

fn gains(c: &Candidate, evidence: &Evidence) -> String {
    let (memory_noise, speed_noise) = noises(evidence);
    let memory = c.memory.map(|i| effect(&i, memory_noise, "resident memory"));
    let speed = c.throughput.map(|i| effect(&i, speed_noise, "throughput"));
    [memory, speed].into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// Noise of memory and of throughput; unknown noise hides everything.
fn noises(evidence: &Evidence) -> (f64, f64) {
    let speed = evidence.noise.get(THROUGHPUT).copied();
    (memory_noise(&evidence.noise).unwrap_or(f64::INFINITY), speed.unwrap_or(f64::INFINITY))
}

fn peak_note(c: &Candidate, loss: f64) -> String {
    match c.peak {
        Some(peak) if loss > 0.0 => format!(", its peak {:.0} % higher", 100.0 * (peak.median - 1.0)),
        _ => String::new(),
    }
}

fn floors(evidence: &Evidence) -> String {
    let (memory, speed) = noises(evidence);
    format!(
        "the noise floor ({:.1} % for memory, {:.1} % for throughput: the baseline against itself) and the relevance threshold of {:.0} %",
        100.0 * memory,
        100.0 * speed,
        100.0 * RELEVANT
    )
}
