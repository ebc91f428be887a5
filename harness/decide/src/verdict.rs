//! What to do, by small named rules over the effects relative to the baseline. A difference counts as *established* when
//! it is beyond noise ([`fragbench_model::Standing`]); a gain must be *of consequence* besides, its whole interval beyond the
//! threshold of relevance. What is not established is neither a gain nor a loss. The rules, in order:
//!
//! 1. `enough_data`: a baseline, its A/A copy, and [`MIN_REPETITIONS`] blocks; otherwise no statement.
//! 2. `eligible`: the null allocator and cells with a failed or missing workload are out.
//! 3. `worth_it`: something established is better, by relevantly more than the worst established loss costs: of memory, peak,
//!    the user's own metrics, and time. Time is weighed in the server's processor time where it is known
//!    ([`crate::price`]), of which a change may cost [`MOST_OF_THE_SERVER`]; else by throughput.
//! 4. `least_trouble`: of those that come within [`NEAR_THE_BEST`] of the best one the one that is least trouble to apply and
//!    to take back, sets least, and sets the mildest values.
//! 5. Latency and page faults are not weighed; the sentences name them as a price where they are established to be worse.
//! 6. `unsettled`: where nothing is worth it, but something might be, the answer is that more data is needed.
//!
//! How sure the answer is stands in [`crate::confidence`], what may go wrong in [`crate::risks`].

use std::cmp::Reverse;

use fragbench_model::{Alternative, Better, Contrast, Reason, Settings, Standing, Verdict, VerdictKind};

use crate::confidence::confidence;
use crate::evidence::{Candidate, Evidence};
use crate::price::price;
use crate::risk::risks;

/// Blocks below which nothing is said.
pub const MIN_REPETITIONS: u32 = 2;
/// Noise of memory above which finding nothing better does not mean that there is nothing.
pub const MAX_NOISE: f64 = 0.15;
/// How much more than the best change one may take, of memory and time together, to be preferred for being less trouble.
pub const NEAR_THE_BEST: f64 = 0.1;
/// Share of the server's processor time that a change may cost.
pub const MOST_OF_THE_SERVER: f64 = 0.1;

/// A candidate that is worth a change, and its gain less its cost.
type Worth<'a> = (&'a Candidate, f64);

/// Applies the rules.
pub fn judge(evidence: &Evidence) -> Verdict {
    let mut verdict = decide(evidence);
    (verdict.confidence, verdict.doubts) = confidence(evidence, &verdict);
    if let Some(change) = &verdict.change {
        verdict.risks = risks(&change.name, &change.settings);
    }
    verdict
}

fn decide(evidence: &Evidence) -> Verdict {
    if let Err(reason) = enough_data(evidence) {
        return verdict(evidence, VerdictKind::NotEnoughData, None, vec![reason]);
    }
    let mut others = Vec::new();
    let mut worth: Vec<Worth> = Vec::new();
    for candidate in evidence.candidates.iter().filter(|c| !c.is_null()) {
        match eligible(candidate, evidence).and_then(|()| worth_it(candidate, evidence)) {
            Ok(gain) => worth.push((candidate, gain)),
            Err(reason) => others.push(reason),
        }
    }
    worth.sort_by(|a, b| b.1.total_cmp(&a.1));
    let Some((chosen, gain)) = least_trouble(&worth, evidence) else { return nothing_worth_it(evidence, others) };
    let (best, most) = worth[0];
    let is = |c: &Candidate, other: &Candidate| c.change.is(&other.change);
    let mut reasons = vec![Reason::Recommended(Box::new(chosen.tried()))];
    if !is(chosen, best) {
        reasons.push(Reason::LessTrouble { best: Box::new(best.tried()), share: gain / most });
    }
    reasons.extend([Reason::WeighedBy, Reason::Counted(evidence.bars())]);
    let further = worth.iter().filter(|(c, _)| !is(c, chosen) && !is(c, best));
    reasons.extend(further.map(|(c, _)| Reason::AlsoWorthIt(Box::new(c.tried()))));
    reasons.extend(others);
    let kind = if same_allocator(chosen, evidence) { VerdictKind::Tune } else { VerdictKind::Switch };
    let mut verdict = verdict(evidence, kind, Some(chosen), reasons);
    verdict.alternatives = worth
        .iter()
        .filter(|(c, _)| !is(c, chosen))
        .map(|(c, gain)| Alternative {
            allocator: c.change.name.clone(),
            settings: c.change.settings.clone(),
            memory_ratio: c.effects.memory.map(|e| e.ratio),
            throughput_ratio: c.effects.throughput.map(|e| e.ratio),
            price: price(&c.effects, &evidence.weighing),
            share_of_best: gain / most,
        })
        .collect();
    verdict
}

fn verdict(evidence: &Evidence, kind: VerdictKind, chosen: Option<&Candidate>, reasons: Vec<Reason>) -> Verdict {
    let effects = chosen.map(|c| &c.effects);
    Verdict {
        kind,
        allocator: chosen.map(|c| c.change.name.clone()),
        settings: chosen.map(|c| c.change.settings.clone()).unwrap_or_default(),
        change: chosen.map(|c| c.change.clone()),
        baseline: evidence.baseline.clone(),
        workloads: evidence.workloads,
        memory_ratio: effects.and_then(|e| e.memory).map(|e| e.ratio),
        throughput_ratio: effects.and_then(|e| e.throughput).map(|e| e.ratio),
        memory_noise: evidence.memory_aa.map(|aa| aa.floor),
        throughput_noise: evidence.throughput_aa.map(|aa| aa.floor),
        weighing: evidence.weighing,
        price: effects.and_then(|e| price(e, &evidence.weighing)),
        reasons,
        confidence: None,
        doubts: Vec::new(),
        risks: Vec::new(),
        alternatives: Vec::new(),
    }
}

/// Rule 1. Without a baseline, its noise and repeated blocks nothing can be told from chance.
fn enough_data(evidence: &Evidence) -> Result<(), Reason> {
    if evidence.workloads == 0 {
        return Err(Reason::NoBaseline);
    }
    if evidence.candidates.iter().all(Candidate::is_null) {
        return Err(Reason::OnlyBaseline);
    }
    for (of_memory, aa) in [(true, evidence.memory_aa), (false, evidence.time_aa())] {
        if aa.is_none() {
            return Err(Reason::NoCopy { of_memory });
        }
    }
    let most = evidence.candidates.iter().filter_map(|c| c.effects.memory).map(|m| m.ratio.n).max().unwrap_or(0);
    if most < MIN_REPETITIONS {
        return Err(Reason::TooFewPairs { most, least: MIN_REPETITIONS });
    }
    Ok(())
}

/// Rule 2. A cell that failed somewhere is no recommendation, however good its other figures.
fn eligible(c: &Candidate, evidence: &Evidence) -> Result<(), Reason> {
    if c.failed > 0 {
        return Err(Reason::Failed { label: c.label(), runs: c.failed });
    }
    let enough = |e: &Option<Contrast>| e.is_some_and(|e| e.ratio.n >= MIN_REPETITIONS);
    if c.workloads < evidence.workloads || !enough(&c.effects.memory) || !enough(c.weighed_time()) {
        return Err(Reason::Lacking(c.label()));
    }
    Ok(())
}

/// Whether a difference is beyond noise: what may be counted, as a gain or as a loss.
fn established(e: &Contrast) -> bool {
    e.standing != Standing::Noise
}

/// What a candidate gains: 1 − memory × time, established differences of consequence only; of memory alone where nothing else
/// is sought.
fn gain(c: &Candidate, evidence: &Evidence) -> f64 {
    let counted = |e: &&Contrast| established(e) && e.relevant;
    let memory = c.effects.memory.as_ref().filter(counted).map_or(1.0, |e| e.ratio.median.min(1.0));
    let time = match &c.effects.cost {
        _ if evidence.memory_alone => 1.0,
        Some(cost) => Some(cost).filter(counted).map_or(1.0, |e| e.ratio.median.min(1.0)),
        None => c.effects.throughput.as_ref().filter(counted).map_or(1.0, |e| 1.0 / e.ratio.median.max(1.0)),
    };
    1.0 - memory * time
}

/// What it costs: the greatest established loss of memory, peak, time or another figure.
fn loss(c: &Candidate) -> f64 {
    let worse = |e: &Contrast, better: Better| match better {
        Better::Less => e.ratio.median - 1.0,
        Better::More => 1.0 - e.ratio.median,
    };
    let effects = &c.effects;
    let time = effects.cost.map_or((effects.throughput, Better::More), |cost| (Some(cost), Better::Less));
    [time, (effects.memory, Better::Less), (effects.peak, Better::Less)]
        .into_iter()
        .filter_map(|(e, better)| Some((e?, better)))
        .chain(effects.others.values().map(|(better, e)| (*e, *better)))
        .filter(|(e, _)| established(e))
        .map(|(e, better)| worse(&e, better))
        .fold(0.0, f64::max)
}

/// Rule 3.
fn worth_it(c: &Candidate, evidence: &Evidence) -> Result<f64, Reason> {
    let gain = gain(c, evidence);
    let tried = || Box::new(c.tried());
    if gain <= 0.0 {
        return Err(Reason::NotBetter(tried()));
    }
    let net = gain - loss(c);
    if net < evidence.relevant {
        return Err(Reason::CostsItsGain { tried: tried(), more: net < 0.0 });
    }
    if c.effects.cost.is_some_and(|e| established(&e) && e.ratio.median > 1.0 + MOST_OF_THE_SERVER) {
        return Err(Reason::TooDear(tried()));
    }
    Ok(net)
}

fn same_allocator(c: &Candidate, evidence: &Evidence) -> bool {
    evidence.baseline.as_ref().is_some_and(|baseline| baseline.name == c.change.name)
}

/// How much trouble a change is to make and to take back: an arena limit is a line in a unit file; other settings of glibc
/// freeze its dynamic thresholds; another allocator needs a package, and its settings knowledge of it. Then how much is set.
fn trouble(c: &Candidate, evidence: &Evidence) -> (u32, usize) {
    let settings = &c.change.settings;
    let limit_only = settings.len() == 1 && settings.keys().all(|key| key.to_lowercase().ends_with("arena_max"));
    let kind = match (same_allocator(c, evidence), settings.is_empty()) {
        (true, _) if limit_only => 0,
        (true, _) => 1,
        (false, true) => 2,
        (false, false) => 3,
    };
    (kind, settings.len())
}

/// Limits, thresholds, counts and intervals are the milder the greater they are.
fn mildness(settings: &Settings) -> Vec<u64> {
    settings.values().map(|value| value.parse().unwrap_or(0)).collect()
}

/// Rule 4: what to recommend of `worth`, best first.
fn least_trouble<'a>(worth: &[Worth<'a>], evidence: &Evidence) -> Option<Worth<'a>> {
    let best = worth.first()?.1;
    let near: Vec<&Worth> =
        worth.iter().filter(|(_, gain)| 1.0 - gain <= (1.0 - best) * (1.0 + NEAR_THE_BEST)).collect();
    let (chosen, _) = near.iter().min_by_key(|(c, _)| trouble(c, evidence))?;
    let same_keys = |c: &Candidate| {
        c.change.name == chosen.change.name && c.change.settings.keys().eq(chosen.change.settings.keys())
    };
    near.into_iter().filter(|(c, _)| same_keys(c)).min_by_key(|(c, _)| Reverse(mildness(&c.change.settings))).copied()
}

/// Rule 6. Where the median alone would make a candidate worth it, but chance or the width of its interval forbids to say
/// so.
fn unsettled(c: &Candidate, evidence: &Evidence) -> bool {
    let promised = |e: &Option<Contrast>, better: Better| {
        e.map_or(0.0, |e| match better {
            Better::Less => 1.0 - e.ratio.median,
            Better::More => e.ratio.median - 1.0,
        })
        .max(0.0)
    };
    let open = |e: &Option<Contrast>| e.is_some_and(|e| !established(&e) || !e.relevant);
    let effects = &c.effects;
    let time = if effects.cost.is_some() { (&effects.cost, Better::Less) } else { (&effects.throughput, Better::More) };
    let speed = if evidence.memory_alone { 0.0 } else { promised(time.0, time.1) };
    let memory = promised(&effects.memory, Better::Less);
    let promises = open(&effects.memory) && memory >= evidence.relevant || open(time.0) && speed >= evidence.relevant;
    eligible(c, evidence).is_ok() && promises && memory + speed - loss(c) >= evidence.relevant
}

fn nothing_worth_it(evidence: &Evidence, others: Vec<Reason>) -> Verdict {
    let noise = evidence.memory_aa.map_or(f64::INFINITY, |aa| aa.floor);
    let unsettled: Vec<String> =
        evidence.candidates.iter().filter(|c| !c.is_null() && unsettled(c, evidence)).map(Candidate::label).collect();
    let finding = if noise > MAX_NOISE {
        vec![Reason::NoisyBaseline(noise)]
    } else if !unsettled.is_empty() {
        vec![Reason::Unsettled { labels: unsettled, relevant: evidence.relevant }]
    } else {
        let finding = [Reason::NothingBetter(evidence.bars()), Reason::WeighedBy];
        let reasons = finding.into_iter().chain(others).collect();
        let mut leave = verdict(evidence, VerdictKind::Leave, None, reasons);
        let baseline = evidence.baseline.as_ref();
        leave.allocator = Some(baseline.map_or(crate::BASELINE.to_owned(), |a| a.name.clone()));
        leave.settings = baseline.map(|a| a.settings.clone()).unwrap_or_default();
        return leave;
    };
    verdict(evidence, VerdictKind::NotEnoughData, None, finding.into_iter().chain(others).collect())
}
