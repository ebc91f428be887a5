//! How sure a verdict is, and what would make it surer. Each doubt is one small rule.

use fragbench_model::{Confidence, Contrast, Doubt, Standing, Verdict, VerdictKind};

use crate::evidence::{Candidate, Evidence};
use crate::paired::blocks_needed;

/// Share of disturbed runs above which the machine is in doubt.
const MANY_DISTURBED: f64 = 0.2;

/// Confidence and doubts.
pub(crate) fn confidence(evidence: &Evidence, verdict: &Verdict) -> (Option<Confidence>, Vec<Doubt>) {
    if verdict.kind == VerdictKind::NotEnoughData {
        // The reasons say already what is missing.
        return (None, Vec::new());
    }
    let rules = [too_few_blocks, wide_for_leave, baseline_differs, disturbed];
    let doubts: Vec<Doubt> = rules.iter().filter_map(|rule| rule(evidence, verdict)).collect();
    let level = match doubts.as_slice() {
        [] => Confidence::High,
        [Doubt::TooFewBlocks { .. }, ..] => Confidence::Low,
        _ => Confidence::Medium,
    };
    (Some(level), doubts)
}

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
    [&c.effects.memory, c.weighed_time()].into_iter().flatten()
}

/// Signs of fewer blocks than the corrected test needs cannot exclude chance: what is said is preliminary.
fn too_few_blocks(evidence: &Evidence, verdict: &Verdict) -> Option<Doubt> {
    let blocks = carrying(evidence, verdict).iter().flat_map(|c| effects(c)).map(|e| e.ratio.n).min()?;
    let compared = evidence.candidates.iter().filter(|c| !c.is_null()).count();
    let needed = blocks_needed(compared);
    (blocks < needed).then_some(Doubt::TooFewBlocks { blocks, needed, compared })
}

/// "Leave" is sure only where a gain of consequence is excluded, not where it was not seen.
fn wide_for_leave(evidence: &Evidence, verdict: &Verdict) -> Option<Doubt> {
    if verdict.kind != VerdictKind::Leave {
        return None;
    }
    let may_gain = |c: &&&Candidate| {
        c.effects.memory.is_some_and(|e| e.standing == Standing::Noise && e.ratio.lo < 1.0 - evidence.relevant)
    };
    let carrying = carrying(evidence, verdict);
    let labels: Vec<String> = carrying.iter().filter(may_gain).map(|c| c.label()).collect();
    (!labels.is_empty()).then_some(Doubt::Wide { labels, relevant: evidence.relevant })
}

/// The baseline differs from its own copy beyond chance: something else than the allocator made a difference.
fn baseline_differs(evidence: &Evidence, _verdict: &Verdict) -> Option<Doubt> {
    let [in_memory, in_time] = [evidence.memory_aa, evidence.time_aa()].map(|aa| aa.is_some_and(|aa| aa.differs));
    (in_memory || in_time).then_some(Doubt::BaselineDiffers { in_memory, in_time })
}

/// Runs that other processes or the hypervisor disturbed.
fn disturbed(evidence: &Evidence, _verdict: &Verdict) -> Option<Doubt> {
    (evidence.disturbed > MANY_DISTURBED).then_some(Doubt::Disturbed(evidence.disturbed))
}
