//! What to do, by small named rules over the effects relative to the baseline. A difference counts as *established* when
//! it is beyond noise ([`fragbench_model::Standing`]); a gain must be *of consequence* besides, its whole interval beyond the
//! threshold of relevance. What is not established is neither a gain nor a loss. The rules, in order:
//!
//! 1. `enough_data`: a baseline, its A/A copy, and [`MIN_REPETITIONS`] blocks; otherwise no statement.
//! 2. `eligible`: the null allocator and cells with a failed or missing workload are out.
//! 3. `worth_it`: something established is better, by relevantly more than the worst established loss costs: of memory, peak,
//!    the user's own metrics, and time. Time is weighed in the server's processor time where it is known
//!    ([`crate::price`]), else by throughput.
//! 4. `cheapest`: of those the one that is least trouble to apply and to take back, as long as it gets
//!    [`MOST_OF_THE_GAIN`] of the best one's.
//! 5. `price`: latency and page faults are not weighed, but a recommendation where they are established to be worse says so.
//! 6. `unsettled`: where nothing is worth it, but something might be, the answer is that more data is needed.
//!
//! How sure the answer is stands in [`crate::confidence`], what may go wrong in [`crate::risks`].

use fragbench_model::{Alternative, Better, Contrast, Standing, Verdict, VerdictKind, Weighing};

use crate::confidence::confidence;
use crate::evidence::{Candidate, Evidence};
use crate::price::price as price_of;
use crate::risk::risks;
use crate::words::{bars, gains, price, worse_notes};

/// Blocks below which nothing is said.
pub const MIN_REPETITIONS: u32 = 2;
/// Noise of memory above which finding nothing better does not mean that there is nothing.
pub const MAX_NOISE: f64 = 0.15;
/// Share of the best gain at which a change that is less trouble is preferred.
pub const MOST_OF_THE_GAIN: f64 = 0.7;

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
    let mut reasons = Vec::new();
    let mut worth: Vec<Worth> = Vec::new();
    for candidate in evidence.candidates.iter().filter(|c| !c.is_null()) {
        match eligible(candidate, evidence).and_then(|()| worth_it(candidate, evidence)) {
            Ok(gain) => worth.push((candidate, gain)),
            Err(reason) => reasons.push(reason),
        }
    }
    worth.sort_by(|a, b| b.1.total_cmp(&a.1));
    let Some((chosen, share)) = cheapest(&worth, evidence) else { return nothing_worth_it(evidence, reasons) };
    let best = worth[0].0;
    let same = evidence.baseline.as_ref().is_some_and(|baseline| baseline.name == chosen.change.name);
    let kind = if same { VerdictKind::Tune } else { VerdictKind::Switch };
    let over = if evidence.workloads == 1 { "In the one workload" } else { "In the geometric mean over all workloads" };
    let mut why = vec![format!(
        "{over}, {} has {} relative to {}{}.",
        chosen.label(),
        gains(chosen, evidence),
        evidence.baseline_words(),
        price(chosen)
    )];
    if !chosen.change.is(&best.change) {
        why.push(format!(
            "{} would gain more ({}{}), but {} gets {:.0} % of that gain and is less trouble.",
            best.label(),
            gains(best, evidence),
            price(best),
            if kind == VerdictKind::Tune { "this setting" } else { "this" },
            100.0 * share
        ));
    }
    why.push(weighed_by(evidence));
    let leading = why.len();
    why.push(format!(
        "Resident memory is heap RSS at its peak and after idling, where it was measured, joined by their geometric mean; a difference counts beyond {}.",
        bars(evidence)
    ));
    why.extend(
        worth
            .iter()
            .filter(|(c, _)| !c.change.is(&chosen.change) && !c.change.is(&best.change))
            .map(|(c, _)| format!("Also worth it: {}: {}{}.", c.label(), gains(c, evidence), price(c))),
    );
    why.extend(reasons);
    let mut verdict = verdict(evidence, kind, Some(chosen), why);
    verdict.leading = leading;
    verdict.alternatives = worth
        .iter()
        .filter(|(c, _)| !c.change.is(&chosen.change))
        .map(|(c, gain)| Alternative {
            allocator: c.change.name.clone(),
            settings: c.change.settings.clone(),
            memory_ratio: c.memory.map(|e| e.ratio),
            throughput_ratio: c.throughput.map(|e| e.ratio),
            price: c.cost.and_then(|cost| price_of(&cost, &evidence.weighing)),
            share_of_best: gain / worth[0].1,
        })
        .collect();
    verdict
}

fn verdict(evidence: &Evidence, kind: VerdictKind, chosen: Option<&Candidate>, reasons: Vec<String>) -> Verdict {
    Verdict {
        kind,
        allocator: chosen.map(|c| c.change.name.clone()),
        settings: chosen.map(|c| c.change.settings.clone()).unwrap_or_default(),
        change: chosen.map(|c| c.change.clone()),
        baseline: evidence.baseline.clone(),
        memory_ratio: chosen.and_then(|c| c.memory).map(|e| e.ratio),
        throughput_ratio: chosen.and_then(|c| c.throughput).map(|e| e.ratio),
        memory_noise: evidence.memory_aa.map(|aa| aa.floor),
        throughput_noise: evidence.throughput_aa.map(|aa| aa.floor),
        weighing: evidence.weighing,
        price: chosen.and_then(|c| c.cost).and_then(|cost| price_of(&cost, &evidence.weighing)),
        reasons,
        leading: 1,
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
            "No run of {} succeeded, so there is nothing to compare with; run it too (--allocator {}).",
            evidence.baseline_words(),
            evidence.baseline.as_ref().map_or(crate::BASELINE, |a| &a.name)
        ));
    }
    if evidence.candidates.iter().all(Candidate::is_null) {
        return Err(format!(
            "Only {} was run; name another allocator or setting to compare with (other versions of glibc are shown, not advised).",
            evidence.baseline_words()
        ));
    }
    for (what, aa) in [("memory", evidence.memory_aa), (evidence.weighing.what(), evidence.time_aa())] {
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
    if c.workloads < evidence.workloads || !enough(&c.memory) || !enough(c.weighed_time()) {
        return Err(format!(
            "{} is not considered: it lacks runs in some of the {} workloads.",
            c.label(),
            evidence.workloads
        ));
    }
    Ok(())
}

/// Whether a difference is beyond noise: what may be counted, as a gain or as a loss.
pub(crate) fn established(e: &Contrast) -> bool {
    e.standing != Standing::Noise
}

/// What a candidate gains: 1 − memory × time, established differences of consequence only.
fn gain(c: &Candidate) -> f64 {
    let counted = |e: &&Contrast| established(e) && e.relevant;
    let memory = c.memory.as_ref().filter(counted).map_or(1.0, |e| e.ratio.median.min(1.0));
    let time = match &c.cost {
        Some(cost) => Some(cost).filter(counted).map_or(1.0, |e| e.ratio.median.min(1.0)),
        None => c.throughput.as_ref().filter(counted).map_or(1.0, |e| 1.0 / e.ratio.median.max(1.0)),
    };
    1.0 - memory * time
}

/// What it costs: the greatest established loss of memory, peak, time or another figure.
fn loss(c: &Candidate) -> f64 {
    let worse = |e: &Contrast, better: Better| match better {
        Better::Less => e.ratio.median - 1.0,
        Better::More => 1.0 - e.ratio.median,
    };
    let time = c.cost.map_or((c.throughput, Better::More), |cost| (Some(cost), Better::Less));
    [time, (c.memory, Better::Less), (c.peak, Better::Less)]
        .into_iter()
        .filter_map(|(e, better)| Some((e?, better)))
        .chain(c.others.values().map(|(better, e)| (*e, *better)))
        .filter(|(e, _)| established(e))
        .map(|(e, better)| worse(&e, better))
        .fold(0.0, f64::max)
}

/// Rule 3.
fn worth_it(c: &Candidate, evidence: &Evidence) -> Result<f64, String> {
    let (gain, loss) = (gain(c), loss(c));
    if gain <= 0.0 {
        return Err(format!("{} is not relevantly better: {}.", c.label(), gains(c, evidence)));
    }
    let net = gain - loss;
    if net < evidence.relevant {
        let so = if net < 0.0 { "more than" } else { "about what" };
        return Err(format!("{} costs {so} it gains: {}{}.", c.label(), gains(c, evidence), worse_notes(c)));
    }
    Ok(net)
}

/// How much trouble a change is to make and to take back: an arena limit is a line in a unit file; other settings of glibc
/// freeze its dynamic thresholds; another allocator needs a package, and its settings knowledge of it.
fn trouble(c: &Candidate, evidence: &Evidence) -> u32 {
    let settings = &c.change.settings;
    let limit_only = settings.len() == 1 && settings.keys().all(|key| key.to_lowercase().ends_with("arena_max"));
    let same = evidence.baseline.as_ref().is_some_and(|baseline| baseline.name == c.change.name);
    match (same, settings.is_empty()) {
        (true, _) if limit_only => 0,
        (true, _) => 1,
        (false, true) => 2,
        (false, false) => 3,
    }
}

/// Rule 4: what to recommend of `worth`, best first, and its share of the best one's gain.
fn cheapest<'a>(worth: &[Worth<'a>], evidence: &Evidence) -> Option<Worth<'a>> {
    let best = worth.first()?.1;
    worth
        .iter()
        .map(|(c, gain)| (*c, gain / best))
        .filter(|(_, share)| *share >= MOST_OF_THE_GAIN)
        .min_by(|a, b| trouble(a.0, evidence).cmp(&trouble(b.0, evidence)).then(b.1.total_cmp(&a.1)))
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
    let time = if c.cost.is_some() { (&c.cost, Better::Less) } else { (&c.throughput, Better::More) };
    let (memory, speed) = (promised(&c.memory, Better::Less), promised(time.0, time.1));
    let promises = open(&c.memory) && memory >= evidence.relevant || open(time.0) && speed >= evidence.relevant;
    eligible(c, evidence).is_ok() && promises && memory + speed - loss(c) >= evidence.relevant
}

fn nothing_worth_it(evidence: &Evidence, mut reasons: Vec<String>) -> Verdict {
    let noise = evidence.memory_aa.map_or(f64::INFINITY, |aa| aa.floor);
    let unsettled: Vec<String> =
        evidence.candidates.iter().filter(|c| !c.is_null() && unsettled(c, evidence)).map(Candidate::label).collect();
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
        let (than, bars) = (evidence.baseline_words(), bars(evidence));
        reasons.insert(0, format!("Nothing tried is better than {than} by more than {bars}."));
        reasons.push(weighed_by(evidence));
        let mut leave = verdict(evidence, VerdictKind::Leave, None, reasons);
        let baseline = evidence.baseline.as_ref();
        leave.allocator = Some(baseline.map_or(crate::BASELINE.to_owned(), |a| a.name.clone()));
        leave.settings = baseline.map(|a| a.settings.clone()).unwrap_or_default();
        return leave;
    }
    verdict(evidence, VerdictKind::NotEnoughData, None, reasons)
}

/// What time was weighed by, in a sentence.
fn weighed_by(evidence: &Evidence) -> String {
    match &evidence.weighing {
        Weighing::ServerTime { cpu_s, span_s, workloads } => {
            let of = if *workloads < evidence.workloads {
                format!(" (in {workloads} of the {} workloads, whose server's is known)", evidence.workloads)
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
