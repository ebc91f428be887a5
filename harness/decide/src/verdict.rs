//! What to do, by small named rules over the effects relative to the baseline. A difference counts as *established* when
//! it is beyond noise ([`fragbench_model::Standing`]) and its whole interval beyond the threshold of relevance; everything
//! else is treated as no difference. The rules, in order:
//!
//! 1. `enough_data`: a baseline, its A/A copy, and [`MIN_REPETITIONS`] blocks; otherwise no statement.
//! 2. `eligible`: the null allocator and cells with a failed or missing workload are out.
//! 3. `worth_it`: something established is better, by relevantly more than the worst loss (throughput, peak, the user's
//!    own metrics) costs.
//! 4. `cheapest`: of those the one that is least trouble to apply and to take back, as long as it gets
//!    [`MOST_OF_THE_GAIN`] of the best one's.
//! 5. `price`: latency is not weighed, but a recommendation whose p99 is established to be worse says so.
//! 6. `unsettled`: where nothing is worth it, but something might be, the answer is that more data is needed.
//!
//! How sure the answer is stands in [`crate::confidence`], what may go wrong in [`crate::risks`].

use std::collections::BTreeMap;

use fragbench_model::{Alternative, Better, Contrast, Settings, Standing, Verdict, VerdictKind, label};

use crate::compare::baseline_of;
use crate::confidence::confidence;
use crate::figures::Figures;
use crate::finding::effect;
use crate::paired::{Aa, LogRatios, block_ratios, effects};
use crate::risk::risks;
use crate::runs::CellRuns;
use crate::{BASELINE, NULL, P99, PEAK};

/// Blocks below which nothing is said.
pub const MIN_REPETITIONS: u32 = 2;
/// Noise of memory above which finding nothing better does not mean that there is nothing.
pub const MAX_NOISE: f64 = 0.15;
/// Share of the best gain at which a change that is less trouble is preferred.
pub const MOST_OF_THE_GAIN: f64 = 0.7;
/// Cautions that say the machine disturbed a run.
pub(crate) const DISTURBED: [&str; 2] = ["foreign_cpu", "steal"];

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
    /// Geometric mean over the workloads and the memory figures ([`Figures`]) of the ratio to the baseline.
    pub memory: Option<Contrast>,
    /// Of the throughput ratio.
    pub throughput: Option<Contrast>,
    /// Of the peak's ratio.
    pub peak: Option<Contrast>,
    /// Of the ratio of the 99th percentile of an allocation's latency; not weighed.
    pub p99: Option<Contrast>,
    /// Of the ratios of further figures that must not become worse, by name.
    pub others: BTreeMap<String, (Better, Contrast)>,
}

/// What the rules look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Workloads with runs of the baseline; none when it did not run.
    pub workloads: usize,
    /// The baseline against itself in memory, joined as in [`Candidate::memory`].
    pub memory_aa: Option<Aa>,
    /// And in throughput.
    pub throughput_aa: Option<Aa>,
    /// Share of the runs that the machine disturbed.
    pub disturbed: f64,
    /// Share from which on a difference is of practical consequence.
    pub relevant: f64,
    /// Every cell but the baseline and those on another C library, in the plan's order. A C library comes with the
    /// distribution: its cells are shown for comparison and never advised.
    pub candidates: Vec<Candidate>,
}

impl Candidate {
    /// Name and settings.
    pub fn label(&self) -> String {
        label(&self.allocator, &self.settings)
    }

    fn is(&self, other: &Candidate) -> bool {
        self.allocator == other.allocator && self.settings == other.settings
    }
}

/// A candidate that is worth a change, and its gain less its cost.
type Worth<'a> = (&'a Candidate, f64);

/// Gathers the evidence: joins the cells of one allocator and its settings over the workloads of the baseline.
pub(crate) fn evidence(cells: &[CellRuns], figures: &Figures, relevant: f64) -> Evidence {
    let workloads: Vec<String> =
        cells.iter().filter(|c| c.is_baseline() && !c.ok.is_empty()).map(|c| c.cell.workload.name()).collect();
    let of = |same: &dyn Fn(&CellRuns) -> bool| -> Vec<&CellRuns> {
        cells.iter().filter(|c| same(c) && workloads.contains(&c.cell.workload.name())).collect()
    };
    let joined = |same: &[&CellRuns], metrics: &[&str]| -> Option<LogRatios> {
        let parts: Vec<_> = same
            .iter()
            .filter_map(|c| Some((c, baseline_of(cells, &c.cell.workload.name())?)))
            .flat_map(|(c, base)| metrics.iter().map(move |m| (c, base, m)))
            // A figure the baseline lacks too (no idle stretch was run) is no lack of the candidate.
            .filter(|(_, base, metric)| !base.values(metric).is_empty())
            .map(|(c, base, metric)| block_ratios(c, base, metric))
            .collect();
        LogRatios::joined(&parts)
    };
    let copies = of(&|c| c.cell.aa);
    let mut groups: Vec<Vec<&CellRuns>> = Vec::new();
    for cell in cells.iter().filter(|c| !c.cell.aa && !c.is_baseline() && c.cell.allocator.libc.is_none()) {
        let (name, settings) = (&cell.cell.allocator.name, &cell.cell.allocator.settings);
        let same =
            |c: &CellRuns| !c.cell.aa && c.cell.allocator.name == *name && c.cell.allocator.settings == *settings;
        if !groups.iter().any(|group| group.iter().any(|c| same(c))) {
            let group = of(&same);
            groups.push(if group.is_empty() { vec![cell] } else { group });
        }
    }
    // One correction a figure, over all candidates that may be advised.
    let effects_in = |metrics: &[&str]| -> Vec<Option<Contrast>> {
        let aa = joined(&copies, metrics).map(|copies| Aa::new(&copies));
        let ratios: Vec<Option<LogRatios>> = groups.iter().map(|group| joined(group, metrics)).collect();
        let advised = |group: &[&CellRuns]| group.iter().all(|c| c.cell.allocator.name != NULL);
        let (mut theirs, mut null): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
        for (group, ratios) in groups.iter().zip(&ratios) {
            if let Some(ratios) = ratios {
                if advised(group) { &mut theirs } else { &mut null }.push((ratios.clone(), aa));
            }
        }
        let (mut theirs, mut null) = (effects(&theirs, relevant).into_iter(), effects(&null, relevant).into_iter());
        groups
            .iter()
            .zip(&ratios)
            .map(|(group, ratios)| {
                ratios.as_ref()?;
                if advised(group) { theirs.next() } else { null.next() }
            })
            .collect()
    };
    let memory = effects_in(&figures.memory);
    let throughput = effects_in(&[figures.throughput]);
    let peak = effects_in(&[PEAK]);
    let p99 = effects_in(&[P99]);
    let others: Vec<(&str, Better, Vec<Option<Contrast>>)> =
        figures.others.iter().map(|(name, better)| (*name, *better, effects_in(&[name]))).collect();
    let candidates = groups
        .iter()
        .enumerate()
        .map(|(i, group)| Candidate {
            allocator: group[0].cell.allocator.name.clone(),
            settings: group[0].cell.allocator.settings.clone(),
            workloads: group.iter().filter(|c| !c.ok.is_empty()).count(),
            failed: group.iter().map(|c| c.failed.len()).sum(),
            memory: memory[i],
            throughput: throughput[i],
            peak: peak[i],
            p99: p99[i],
            others: others
                .iter()
                .filter_map(|(name, better, effects)| Some(((*name).to_owned(), (*better, effects[i]?))))
                .collect(),
        })
        .collect();
    let runs = || cells.iter().flat_map(|c| &c.ok);
    let disturbed = runs().filter(|r| r.cautions.iter().any(|c| DISTURBED.contains(&c.kind.as_str()))).count();
    Evidence {
        workloads: workloads.len(),
        memory_aa: joined(&copies, &figures.memory).map(|copies| Aa::new(&copies)),
        throughput_aa: joined(&copies, &[figures.throughput]).map(|copies| Aa::new(&copies)),
        disturbed: disturbed as f64 / runs().count().max(1) as f64,
        relevant,
        candidates,
    }
}

/// Applies the rules.
pub fn judge(evidence: &Evidence) -> Verdict {
    let mut verdict = decide(evidence);
    (verdict.confidence, verdict.doubts) = confidence(evidence, &verdict);
    if let (VerdictKind::Switch | VerdictKind::Tune, Some(allocator)) = (verdict.kind, &verdict.allocator) {
        verdict.risks = risks(allocator, &verdict.settings);
    }
    verdict
}

fn decide(evidence: &Evidence) -> Verdict {
    if let Err(reason) = enough_data(evidence) {
        return verdict(evidence, VerdictKind::NotEnoughData, None, vec![reason]);
    }
    let mut reasons = Vec::new();
    let mut worth: Vec<Worth> = Vec::new();
    for candidate in evidence.candidates.iter().filter(|c| c.allocator != NULL) {
        match eligible(candidate, evidence).and_then(|()| worth_it(candidate, evidence)) {
            Ok(gain) => worth.push((candidate, gain)),
            Err(reason) => reasons.push(reason),
        }
    }
    worth.sort_by(|a, b| b.1.total_cmp(&a.1));
    let Some((chosen, share)) = cheapest(&worth) else { return nothing_worth_it(evidence, reasons) };
    let best = worth[0].0;
    let kind = if chosen.allocator == BASELINE { VerdictKind::Tune } else { VerdictKind::Switch };
    let over = if evidence.workloads == 1 { "In the one workload" } else { "In the geometric mean over all workloads" };
    let mut why = vec![format!(
        "{over}, {} has {} relative to {BASELINE} with default settings{}.",
        chosen.label(),
        gains(chosen),
        price(chosen)
    )];
    if !chosen.is(best) {
        why.push(format!(
            "{} would gain more ({}{}), but {} gets {:.0} % of that gain and is less trouble.",
            best.label(),
            gains(best),
            price(best),
            if kind == VerdictKind::Tune { "this setting" } else { "this" },
            100.0 * share
        ));
    }
    why.push(format!(
        "Resident memory is heap RSS at its peak and after idling, where it was measured, joined by their geometric mean; a difference counts beyond {}.",
        bars(evidence)
    ));
    why.extend(
        worth
            .iter()
            .filter(|(c, _)| !c.is(chosen) && !c.is(best))
            .map(|(c, _)| format!("Also worth it: {}: {}{}.", c.label(), gains(c), price(c))),
    );
    why.extend(reasons);
    let mut verdict = verdict(evidence, kind, Some(chosen), why);
    verdict.alternatives = worth
        .iter()
        .filter(|(c, _)| !c.is(chosen))
        .map(|(c, gain)| Alternative {
            allocator: c.allocator.clone(),
            settings: c.settings.clone(),
            memory_ratio: c.memory.map(|e| e.ratio),
            throughput_ratio: c.throughput.map(|e| e.ratio),
            share_of_best: gain / worth[0].1,
        })
        .collect();
    verdict
}

fn verdict(evidence: &Evidence, kind: VerdictKind, chosen: Option<&Candidate>, reasons: Vec<String>) -> Verdict {
    Verdict {
        kind,
        allocator: chosen.map(|c| c.allocator.clone()),
        settings: chosen.map(|c| c.settings.clone()).unwrap_or_default(),
        memory_ratio: chosen.and_then(|c| c.memory).map(|e| e.ratio),
        throughput_ratio: chosen.and_then(|c| c.throughput).map(|e| e.ratio),
        memory_noise: evidence.memory_aa.map(|aa| aa.floor),
        throughput_noise: evidence.throughput_aa.map(|aa| aa.floor),
        reasons,
        confidence: None,
        doubts: Vec::new(),
        risks: Vec::new(),
        alternatives: Vec::new(),
    }
}

/// Rule 1. Without a baseline, its noise and repeated blocks nothing can be told from chance.
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
    for (what, aa) in [("memory", evidence.memory_aa), ("throughput", evidence.throughput_aa)] {
        if aa.is_none() {
            return Err(format!(
                "The baseline was not run against itself, so the noise of {what} is unknown; let a run finish with its A/A copies."
            ));
        }
    }
    let most = evidence.candidates.iter().filter_map(|c| c.memory).map(|m| m.ratio.n).max().unwrap_or(0);
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
    let enough = |e: &Option<Contrast>| e.is_some_and(|e| e.ratio.n >= MIN_REPETITIONS);
    if c.workloads < evidence.workloads || !enough(&c.memory) || !enough(&c.throughput) {
        return Err(format!(
            "{} is not considered: it lacks runs in some of the {} workloads.",
            c.label(),
            evidence.workloads
        ));
    }
    Ok(())
}

/// Whether a difference is beyond noise and of consequence.
fn established(e: &Contrast) -> bool {
    e.standing != Standing::Noise && e.relevant
}

/// What a candidate gains: 1 − memory per throughput, established differences only.
fn gain(c: &Candidate) -> f64 {
    let memory = c.memory.filter(|e| established(e) && e.ratio.median < 1.0).map_or(0.0, |e| 1.0 - e.ratio.median);
    let speed = c.throughput.filter(|e| established(e) && e.ratio.median > 1.0).map_or(0.0, |e| e.ratio.median - 1.0);
    1.0 - (1.0 - memory) / (1.0 + speed)
}

/// What it costs: the greatest loss of throughput, memory, peak or another figure. A loss counts at its median as soon as
/// that is outside the noise floor: who recommends a change has to bear the doubt.
fn loss(c: &Candidate) -> f64 {
    let worse = |e: &Contrast, better: Better| match better {
        Better::Less => e.ratio.median - 1.0,
        Better::More => 1.0 - e.ratio.median,
    };
    let counted = |e: &Contrast, better: Better| {
        Some(worse(e, better)).filter(|loss| *loss > e.noise.unwrap_or(f64::INFINITY)).unwrap_or(0.0)
    };
    let own = [(c.throughput, Better::More), (c.memory, Better::Less), (c.peak, Better::Less)];
    own.iter()
        .filter_map(|(e, better)| Some(counted(e.as_ref()?, *better)))
        .chain(c.others.values().map(|(better, e)| counted(e, *better)))
        .fold(0.0, f64::max)
}

/// Rule 3.
fn worth_it(c: &Candidate, evidence: &Evidence) -> Result<f64, String> {
    let (gain, loss) = (gain(c), loss(c));
    if gain <= 0.0 {
        return Err(format!("{} is not relevantly better: {}.", c.label(), gains(c)));
    }
    let net = gain - loss;
    if net < evidence.relevant {
        let so = if net < 0.0 { "more than" } else { "about what" };
        return Err(format!("{} costs {so} it gains: {}{}.", c.label(), gains(c), worse_notes(c)));
    }
    Ok(net)
}

/// How much trouble a change is to make and to take back: an arena limit is a line in a unit file; other settings of glibc
/// freeze its dynamic thresholds; another allocator needs a package, and its settings knowledge of it.
fn trouble(c: &Candidate) -> u32 {
    let limit_only = c.settings.len() == 1 && c.settings.keys().all(|key| key.to_lowercase().contains("arena_max"));
    match (c.allocator == BASELINE, c.settings.is_empty()) {
        (true, _) if limit_only => 0,
        (true, _) => 1,
        (false, true) => 2,
        (false, false) => 3,
    }
}

/// Rule 4: what to recommend of `worth`, best first, and its share of the best one's gain.
fn cheapest<'a>(worth: &[Worth<'a>]) -> Option<Worth<'a>> {
    let best = worth.first()?.1;
    worth
        .iter()
        .map(|(c, gain)| (*c, gain / best))
        .filter(|(_, share)| *share >= MOST_OF_THE_GAIN)
        .min_by(|a, b| trouble(a.0).cmp(&trouble(b.0)).then(b.1.total_cmp(&a.1)))
}

/// Rule 5: what a change costs in latency, where that is beyond noise and of consequence.
fn price(c: &Candidate) -> String {
    let worse = c.p99.filter(|e| established(e) && e.ratio.median > 1.0);
    worse.map_or(String::new(), |e| format!(", at the price of {}", effect(&e, "p99 latency of an allocation")))
}

/// Rule 6. Where the median alone would make a candidate worth it, but chance or the width of its interval forbids to say
/// so.
fn unsettled(c: &Candidate, evidence: &Evidence) -> bool {
    let promises = |e: Option<Contrast>, better: fn(f64) -> f64| {
        e.is_some_and(|e| !established(&e) && better(e.ratio.median) >= evidence.relevant)
    };
    let memory = promises(c.memory, |r| 1.0 - r);
    let speed = promises(c.throughput, |r| r - 1.0);
    eligible(c, evidence).is_ok() && (memory || speed) && {
        let promised = c.memory.map_or(0.0, |e| (1.0 - e.ratio.median).max(0.0))
            + c.throughput.map_or(0.0, |e| (e.ratio.median - 1.0).max(0.0));
        promised - loss(c) >= evidence.relevant
    }
}

fn nothing_worth_it(evidence: &Evidence, mut reasons: Vec<String>) -> Verdict {
    let noise = evidence.memory_aa.map_or(f64::INFINITY, |aa| aa.floor);
    let unsettled: Vec<String> = evidence
        .candidates
        .iter()
        .filter(|c| c.allocator != NULL && unsettled(c, evidence))
        .map(Candidate::label)
        .collect();
    if noise > MAX_NOISE {
        let reason = format!(
            "The baseline's memory differs from itself by up to {:.0} %, so a gain below that could not be seen; repeat on a quieter machine or with more repetitions.",
            100.0 * noise
        );
        reasons.insert(0, reason);
    } else if !unsettled.is_empty() {
        reasons.insert(
            0,
            format!(
                "{} may be worth it, but the runs do not settle it: more blocks would (--reps, or --precision {:.0}%).",
                unsettled.join(" and "),
                100.0 * evidence.relevant / 2.0
            ),
        );
    } else {
        let reason =
            format!("Nothing tried is better than {BASELINE} with default settings by more than {}.", bars(evidence));
        reasons.insert(0, reason);
        let mut leave = verdict(evidence, VerdictKind::Leave, None, reasons);
        leave.allocator = Some(BASELINE.into());
        return leave;
    }
    verdict(evidence, VerdictKind::NotEnoughData, None, reasons)
}

fn gains(c: &Candidate) -> String {
    let memory = c.memory.map(|e| effect(&e, "resident memory"));
    let speed = c.throughput.map(|e| effect(&e, "throughput"));
    [memory, speed].into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// What else became worse, beyond noise.
fn worse_notes(c: &Candidate) -> String {
    let noted = |e: &Contrast, worse: f64| worse > e.noise.unwrap_or(f64::INFINITY);
    let mut text = String::new();
    if let Some(peak) = c.peak.filter(|e| noted(e, e.ratio.median - 1.0)) {
        text.push_str(&format!(", its peak {:.0} % higher", 100.0 * (peak.ratio.median - 1.0)));
    }
    for (name, (better, e)) in &c.others {
        let change = e.ratio.median - 1.0;
        let worse = if *better == Better::Less { change } else { -change };
        if noted(e, worse) {
            text.push_str(&format!(", {name} {:+.0} %", 100.0 * change));
        }
    }
    text
}

/// What a difference must pass, in words.
fn bars(evidence: &Evidence) -> String {
    let percent = |aa: Option<Aa>| aa.map_or("unknown".to_owned(), |aa| format!("{:.1} %", 100.0 * aa.floor));
    format!(
        "the noise floor ({} for memory, {} for throughput: the baseline against itself) and the relevance threshold of {:.0} %",
        percent(evidence.memory_aa),
        percent(evidence.throughput_aa),
        100.0 * evidence.relevant
    )
}
