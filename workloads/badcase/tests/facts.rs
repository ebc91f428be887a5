//! Every case's fact sheet is whole, and every check of it can fail: figures that keep to all bounds give the expected
//! status, and pushing any one of them just past any bound gives `differs`, as does any remedy that does otherwise.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;

use fragbench_badcase::facts;
use fragbench_decide::judge_case;
use fragbench_model::{
    Bound, CaseFact, CaseStatus, Effect, Expectation, Figures, GlibcVersion, REMEDIES, glibc, remedy,
};

/// Versions of glibc from before the oldest boundary to past the newest.
fn versions() -> impl Iterator<Item = GlibcVersion> {
    (10..60).map(glibc)
}

/// A version that lies in the expectation.
fn version_of(expectation: &Expectation) -> GlibcVersion {
    versions().find(|version| expectation.glibc.contains(*version)).unwrap()
}

/// The limits that all bounds together leave a figure, absolute. `None` when a figure it depends on is not known yet.
fn limits(bounds: &[Bound], figure: &str, known: &Figures) -> Option<(f64, f64)> {
    let (mut low, mut high) = (0.0f64, f64::INFINITY);
    for bound in bounds.iter().filter(|bound| bound.figure == figure) {
        let of = match &bound.of {
            Some(of) => *known.get(of)?,
            None => 1.0,
        };
        low = low.max(bound.least.map_or(0.0, |least| least * of));
        high = high.min(bound.most.map_or(f64::INFINITY, |most| most * of));
    }
    Some((low, high))
}

/// Figures that keep to every bound.
fn within(fact: &CaseFact, bounds: &[Bound]) -> Figures {
    let names: BTreeSet<&String> =
        bounds.iter().flat_map(|b| std::iter::once(&b.figure).chain(&b.of)).chain([&fact.judged.figure]).collect();
    let mut figures = Figures::new();
    while figures.len() < names.len() {
        let before = figures.len();
        for name in &names {
            if !figures.contains_key(*name)
                && let Some((low, high)) = limits(bounds, name, &figures)
            {
                assert!(low <= high, "{}: no value of {name} keeps to all bounds", fact.name);
                let value = match (low, high) {
                    (low, f64::INFINITY) if low > 0.0 => low * 1.001,
                    (_, f64::INFINITY) => 1e9,
                    (low, high) => (low + high) / 2.0,
                };
                figures.insert((*name).clone(), value);
            }
        }
        assert!(figures.len() > before, "{}: bounds refer to each other in a circle", fact.name);
    }
    figures
}

/// Bounds only: the remedies have a test of their own.
fn status(fact: &CaseFact, version: GlibcVersion, figures: &Figures) -> CaseStatus {
    judge_case(fact, version, Ok(figures.clone()), Vec::new()).status
}

#[test]
fn every_version_of_glibc_lies_in_exactly_one_expectation() {
    for fact in facts() {
        for version in versions() {
            let n = fact.expectations.iter().filter(|e| e.glibc.contains(version)).count();
            assert_eq!(n, 1, "{} in glibc {version}", fact.name);
        }
        assert!(fact.expectations.iter().any(|e| e.present), "{} exists nowhere", fact.name);
    }
}

#[test]
fn fact_sheets_are_whole() {
    for fact in facts() {
        let name = &fact.name;
        assert!(
            fact.summary.len() > 20 && !fact.summary.ends_with('.'),
            "{name}: a summary is one line without a stop"
        );
        assert!(fact.mechanism.len() >= 2 && !fact.sources.is_empty() && !fact.symptoms.is_empty(), "{name}");
        assert!(fact.memory_bytes > 0 && fact.memory_bytes <= 1 << 30, "{name}: keep a run below 1 GiB");
        for action in &fact.actions {
            assert!(
                REMEDIES.iter().any(|r| r.action == Some(action.as_str())),
                "{name}: no remedy has action {action}"
            );
        }
        for expectation in &fact.expectations {
            assert!(!expectation.bounds.is_empty(), "{name}: nothing is checked in {}", expectation.glibc);
            for bound in &expectation.bounds {
                assert!(bound.least.is_some() || bound.most.is_some(), "{name}: {bound}");
                assert!(!bound.what.is_empty(), "{name}: {bound}");
            }
            let mut claimed = BTreeSet::new();
            for effect in &expectation.effects {
                let known = remedy(&effect.remedy);
                assert!(known.is_some(), "{name}: there is no remedy {}", effect.remedy);
                assert!(
                    known.unwrap().action.is_none_or(|a| fact.actions.iter().any(|x| x == a)),
                    "{name}: {effect:?}"
                );
                assert!(claimed.insert(&effect.remedy), "{name}: {} is claimed twice", effect.remedy);
                assert!((1..=2).contains(&effect.effects.len()), "{name}: {effect:?}");
            }
            assert!(!expectation.present || claimed.len() >= 3, "{name}: too little is claimed of remedies");
        }
    }
}

#[test]
fn every_bound_can_fail() {
    for fact in facts() {
        for expectation in &fact.expectations {
            let version = version_of(expectation);
            let good = within(&fact, &expectation.bounds);
            let expected = if expectation.present { CaseStatus::Reproduced } else { CaseStatus::NotPresent };
            assert_eq!(status(&fact, version, &good), expected, "{}: {good:?}", fact.name);
            for bound in &expectation.bounds {
                let of = bound.of.as_ref().map_or(1.0, |of| good[of]);
                // A thousandth past the limit, or one unit where the limit is nothing.
                let outside = [
                    bound.least.map(|least| least * of * 0.999 - 1e-3),
                    bound.most.map(|most| most * of * 1.001 + 1e-3),
                ];
                for value in outside.into_iter().flatten() {
                    let mut bad = good.clone();
                    bad.insert(bound.figure.clone(), value);
                    assert_eq!(
                        status(&fact, version, &bad),
                        CaseStatus::Differs,
                        "{}: {bound} with {value}",
                        fact.name
                    );
                }
                let mut missing = good.clone();
                missing.remove(&bound.figure);
                assert_eq!(status(&fact, version, &missing), CaseStatus::Differs, "{}: without {bound}", fact.name);
            }
            assert_eq!(
                judge_case(&fact, version, Err("the worker died".into()), Vec::new()).status,
                CaseStatus::Differs
            );
        }
    }
}

/// Figures of a remedy's run that amount to `effect`.
fn amounting_to(fact: &CaseFact, untreated: &Figures, after_purge: bool, effect: Effect) -> Figures {
    let mut figures = untreated.clone();
    let floor = fact.judged.floor.value(untreated).unwrap();
    let excess = untreated[&fact.judged.figure] - floor;
    assert!(excess > 0.0, "{}: no excess to cure in {untreated:?}", fact.name);
    let left = match effect {
        Effect::Cures => 0.05,
        Effect::Helps => 0.5,
        Effect::Nothing => 1.0,
        Effect::Hurts => 1.5,
    };
    let judged = if after_purge { fact.judged.purged.clone().unwrap() } else { fact.judged.figure.clone() };
    figures.insert(judged, floor + left * excess);
    figures
}

#[test]
fn every_claim_about_a_remedy_can_fail() {
    let all = [Effect::Cures, Effect::Helps, Effect::Nothing, Effect::Hurts];
    for fact in facts() {
        for expectation in fact.expectations.iter().filter(|e| e.present) {
            let version = version_of(expectation);
            let mut untreated = within(&fact, &expectation.bounds);
            if let Some(floor) = &fact.judged.floor.figure {
                // Little would be there anyway, unless a bound says otherwise.
                untreated.entry(floor.clone()).or_insert(1.0);
            }
            for claim in &expectation.effects {
                let remedy = remedy(&claim.remedy).unwrap();
                for effect in all {
                    let treated = amounting_to(&fact, &untreated, remedy.after_purge, effect);
                    let outcome = judge_case(&fact, version, Ok(untreated.clone()), vec![(remedy, Ok(treated))]);
                    assert_eq!(outcome.remedies[0].effect, Some(effect), "{}: {}", fact.name, claim.remedy);
                    let expected =
                        if claim.effects.contains(&effect) { CaseStatus::Reproduced } else { CaseStatus::Differs };
                    assert_eq!(outcome.status, expected, "{}: {} {effect:?}", fact.name, claim.remedy);
                }
                let failed = judge_case(&fact, version, Ok(untreated.clone()), vec![(remedy, Err("died".into()))]);
                assert_eq!(failed.status, CaseStatus::Differs, "{}: {} without a run", fact.name, claim.remedy);
            }
        }
    }
}
