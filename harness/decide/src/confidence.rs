//! How sure a verdict is, and what would make it surer. Each doubt is one small rule that says what to do about it.

use fragbench_model::{Confidence, Contrast, Standing, Verdict, VerdictKind};

use crate::evidence::{Candidate, Evidence};
use crate::paired::blocks_needed;

/// Share of disturbed runs above which the machine is in doubt.
const MANY_DISTURBED: f64 = 0.2;

/// Confidence and doubts.
pub(crate) fn confidence(evidence: &Evidence, verdict: &Verdict) -> (Option<Confidence>, Vec<String>) {
    if verdict.kind == VerdictKind::NotEnoughData {
        // The reasons say already what is missing.
        return (None, Vec::new());
    }
    let rules = [too_few_blocks, wide_for_leave, baseline_differs, disturbed];
    let doubts: Vec<(Confidence, String)> = rules.iter().filter_map(|rule| rule(evidence, verdict)).collect();
    let level = match doubts.iter().map(|(level, _)| level).max_by_key(|level| rank(**level)) {
        Some(worst) => *worst,
        None => Confidence::High,
    };
    (Some(level), doubts.into_iter().map(|(_, text)| text).collect())
}

fn rank(level: Confidence) -> u8 {
    match level {
        Confidence::High => 0,
        Confidence::Medium => 1,
        Confidence::Low => 2,
    }
}

/// A rule: what lowers the confidence to which level, with what would raise it.
type Doubt = Option<(Confidence, String)>;

/// The candidates whose effects carry the verdict: the one recommended, or all.
fn carrying<'a>(evidence: &'a Evidence, verdict: &Verdict) -> Vec<&'a Candidate> {
    let chosen = |c: &&Candidate| verdict.change.as_ref().is_some_and(|change| change.is(&c.change));
    match verdict.kind {
        VerdictKind::Switch | VerdictKind::Tune => evidence.candidates.iter().filter(chosen).collect(),
        VerdictKind::Leave | VerdictKind::NotEnoughData => {
            evidence.candidates.iter().filter(|c| !c.is_null()).collect()
        }
    }
}

fn effects(c: &Candidate) -> impl Iterator<Item = &Contrast> {
    [&c.memory, c.weighed_time()].into_iter().flatten()
}

/// Signs of fewer blocks than the corrected test needs cannot exclude chance: what is said is preliminary.
fn too_few_blocks(evidence: &Evidence, verdict: &Verdict) -> Doubt {
    let carrying = carrying(evidence, verdict);
    let fewest = carrying.iter().flat_map(|c| effects(c)).map(|e| e.ratio.n).min()?;
    let compared = evidence.candidates.iter().filter(|c| !c.is_null()).count();
    let needed = blocks_needed(compared);
    (fewest < needed).then(|| {
        let text = format!(
            "this is preliminary: {fewest} blocks cannot exclude chance, which takes {needed} with {compared} cells compared; \
             --reps 15 would"
        );
        (Confidence::Low, text)
    })
}

/// "Leave" is sure only where a gain of consequence is excluded, not where it was not seen.
fn wide_for_leave(evidence: &Evidence, verdict: &Verdict) -> Doubt {
    if verdict.kind != VerdictKind::Leave {
        return None;
    }
    let may_gain = |c: &&&Candidate| {
        c.memory.is_some_and(|e| e.standing == Standing::Noise && e.ratio.lo < 1.0 - evidence.relevant)
    };
    let carrying = carrying(evidence, verdict);
    let open: Vec<String> = carrying.iter().filter(may_gain).map(|c| c.label()).collect();
    (!open.is_empty()).then(|| {
        let text = format!(
            "the intervals of {} still reach past the threshold of relevance; more blocks would narrow them (--precision {:.0}%)",
            open.join(", "),
            50.0 * evidence.relevant
        );
        (Confidence::Medium, text)
    })
}

/// The baseline differs from its own copy beyond chance: something else than the allocator made a difference.
fn baseline_differs(evidence: &Evidence, _verdict: &Verdict) -> Doubt {
    let differs: Vec<&str> = [("memory", evidence.memory_aa), (evidence.weighing.what(), evidence.time_aa())]
        .iter()
        .filter(|(_, aa)| aa.is_some_and(|aa| aa.differs))
        .map(|(what, _)| *what)
        .collect();
    (!differs.is_empty()).then(|| {
        let text = format!(
            "the baseline differs from its own copy in {} (one comparison in twenty does by chance); a second result would tell",
            differs.join(" and ")
        );
        (Confidence::Medium, text)
    })
}

/// Runs that other processes or the hypervisor disturbed.
fn disturbed(evidence: &Evidence, _verdict: &Verdict) -> Doubt {
    (evidence.disturbed > MANY_DISTURBED).then(|| {
        let text = format!(
            "{:.0} % of the runs were disturbed by other processes or the hypervisor; a quieter machine would help",
            100.0 * evidence.disturbed
        );
        (Confidence::Medium, text)
    })
}
