//! Whether a bad case came out as its fact sheet says, and what each remedy did about it.
//!
//! A remedy is judged by the share of the *excess* that is gone: what of the case's figure lies above the floor, the
//! part that would be there anyway (live bytes, mostly), each taken from its own run.

use fragbench_model::{
    Bound, CaseFact, CaseOutcome, CaseStatus, Check, Effect, Expectation, ExpectedEffect, Figures, GlibcVersion,
    Remedy, RemedyOutcome,
};

/// Share of the excess that is gone from which on a remedy cures.
pub const CURES: f64 = 0.9;
/// Share from which on it helps.
pub const HELPS: f64 = 0.2;
/// Share by which there is more from which on it hurts.
pub const HURTS: f64 = 0.2;

/// What a remedy's run gave: figures, or why there are none.
pub type RemedyRun = (&'static Remedy, Result<Figures, String>);

/// The effect that a share of the excess amounts to.
fn effect(gone: f64) -> Effect {
    match gone {
        gone if gone >= CURES => Effect::Cures,
        gone if gone >= HELPS => Effect::Helps,
        gone if gone <= -HURTS => Effect::Hurts,
        _ => Effect::Nothing,
    }
}

/// Judges a case: the untreated run's figures, or why there are none, and the remedies'.
pub fn judge_case(
    fact: &CaseFact,
    glibc: GlibcVersion,
    untreated: Result<Figures, String>,
    remedies: Vec<RemedyRun>,
) -> CaseOutcome {
    let mut outcome = CaseOutcome {
        name: fact.name.clone(),
        status: CaseStatus::Differs,
        failure: None,
        figures: Figures::new(),
        spread: Figures::new(),
        timed: fact.timed(),
        checks: Vec::new(),
        remedies: Vec::new(),
        heap: Vec::new(),
    };
    let Some(expectation) = fact.expectation(glibc) else {
        outcome.failure = Some(format!("nothing is written down about {} in glibc {glibc}", fact.name));
        return outcome;
    };
    match untreated {
        Ok(figures) => outcome.figures = figures,
        Err(reason) => {
            outcome.failure = Some(reason);
            return outcome;
        }
    }
    outcome.checks = expectation.bounds.iter().map(|bound| check(bound, &outcome.figures)).collect();
    // Where the case is absent there is nothing to cure.
    if expectation.present {
        let mut treated: Vec<RemedyOutcome> =
            remedies.into_iter().map(|run| judge_remedy(fact, expectation, &outcome.figures, run)).collect();
        // What has no figure by nature (a purge of address space, arenas of an allocator without any) did not apply.
        treated.retain(|remedy| remedy.effect.is_some() || remedy.failure.is_some() || !remedy.expected.is_empty());
        outcome.checks.extend(treated.iter().filter_map(|remedy| remedy_check(fact, remedy)));
        treated.sort_by(|a, b| rank(a).partial_cmp(&rank(b)).unwrap_or(std::cmp::Ordering::Equal));
        outcome.remedies = treated;
    }
    outcome.status = match (outcome.checks.iter().all(|check| check.ok), expectation.present) {
        (false, _) => CaseStatus::Differs,
        (true, true) => CaseStatus::Reproduced,
        (true, false) => CaseStatus::NotPresent,
    };
    outcome
}

fn check(bound: &Bound, figures: &Figures) -> Check {
    let value = bound.value(figures);
    Check {
        what: bound.what.clone(),
        figure: bound.figure.clone(),
        of: bound.of.clone(),
        least: bound.least,
        most: bound.most,
        bound: bound.to_string(),
        value,
        ok: value.is_some_and(|value| bound.holds(value)),
    }
}

fn judge_remedy(fact: &CaseFact, expectation: &Expectation, untreated: &Figures, run: RemedyRun) -> RemedyOutcome {
    let (remedy, result) = run;
    let expected = expectation.effects.iter().find(|e| e.remedy == remedy.name);
    let mut outcome = RemedyOutcome {
        name: remedy.name.to_owned(),
        effect: None,
        expected: expected.map(|ExpectedEffect { effects, .. }| effects.clone()).unwrap_or_default(),
        judged: None,
        gone_ratio: None,
        figures: Figures::new(),
        failure: None,
    };
    match result {
        Ok(figures) => outcome.figures = figures,
        Err(reason) => {
            outcome.failure = Some(reason);
            return outcome;
        }
    }
    let judged = &fact.judged;
    let figure = if remedy.after_purge { judged.purged.as_ref() } else { Some(&judged.figure) };
    outcome.judged = figure.and_then(|name| outcome.figures.get(name)).copied();
    let excess = |value: Option<f64>, figures: &Figures| Some((value? - judged.floor.value(figures)?).max(0.0));
    let before = excess(untreated.get(&judged.figure).copied(), untreated);
    let after = excess(outcome.judged, &outcome.figures);
    outcome.gone_ratio =
        before.zip(after).filter(|(before, _)| *before > 0.0).map(|(before, after)| 1.0 - after / before);
    outcome.effect = outcome.gone_ratio.map(effect);
    outcome
}

/// The check that a remedy does what is claimed of it; `None` where nothing is claimed.
fn remedy_check(fact: &CaseFact, remedy: &RemedyOutcome) -> Option<Check> {
    if remedy.expected.is_empty() {
        return None;
    }
    let words: Vec<&str> = remedy.expected.iter().map(|effect| effect.word()).collect();
    Some(Check {
        what: format!("remedy {}", remedy.name),
        figure: fact.judged.figure.clone(),
        of: None,
        least: None,
        most: None,
        bound: words.join(" or "),
        value: remedy.gone_ratio,
        ok: remedy.effect.is_some_and(|effect| remedy.expected.contains(&effect)),
    })
}

/// Best first: by effect, within it by what is left; what could not be judged comes last.
fn rank(remedy: &RemedyOutcome) -> (u8, f64) {
    let class = match remedy.effect {
        Some(Effect::Cures) => 0,
        Some(Effect::Helps) => 1,
        Some(Effect::Nothing) => 2,
        Some(Effect::Hurts) => 3,
        None => 4,
    };
    // Remedies that do nothing stay in the table's order: their differences are noise.
    (class, if class == 2 { 0.0 } else { -remedy.gone_ratio.unwrap_or(0.0) })
}
