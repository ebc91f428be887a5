//! Two results beside each other: simulated ones with known differences, and what cannot be compared.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use fragbench_decide::{DiffQuestion, diff, diff_metrics};
use fragbench_model::{Better, Change, Diff, DiffOutcome, Manifest, RunRecord, SCHEMA};
use rand::SeedableRng;
use rand_distr::{Distribution, Normal};
use rand_pcg::Pcg64Mcg;
use serde_json::json;

const PEAK: &str = "heap_rss_peak_bytes";
const OPS: &str = "ops_per_s";

/// What a made-up result is like.
#[derive(Clone)]
struct Like {
    seed: u64,
    runs: u32,
    /// Speed of the machine, which all cells share.
    machine: f64,
    /// Allocators, each with the factor on its memory and on its speed.
    cells: Vec<(&'static str, f64, f64)>,
}

type Measured = (Manifest, Vec<RunRecord>);

/// A result with two percent of noise in every figure.
fn result(like: &Like) -> Measured {
    let cells: Vec<_> = like
        .cells
        .iter()
        .map(|(name, ..)| {
            json!({ "workload": { "kind": "named", "name": "w", "parameters": {} }, "aa": false,
                "allocator": { "name": name, "kind": "other", "library": null, "settings": {}, "environment": {}, "notes": [] } })
        })
        .collect();
    let runs: Vec<_> = (0..like.runs)
        .flat_map(|repetition| (0..like.cells.len()).map(move |cell| (repetition, cell)))
        .enumerate()
        .map(|(run, (repetition, cell))| json!({ "run": run, "cell": cell, "repetition": repetition }))
        .collect();
    let manifest = json!({
        "schema": SCHEMA, "command": [], "version": "0.1.0", "revision": null, "started_unix_s": 0, "ended_unix_s": 9,
        "host": { "kernel": "k", "cpus": 2, "cpu": "one" },
        "libraries": [{ "name": "libc", "file": "libc.so.6", "version": "2.36", "build_id": "93ac61ec5a8eb1396f9fbd" }],
        "sample_interval_ns": 5_000_000, "mem_limit_bytes": 1, "timeout_s": 1, "profile": "quick",
        "plan": { "seed": 1, "cells": cells, "runs": runs }, "aa": [],
        "common": { "schema": SCHEMA, "workload": { "kind": "named", "name": "w", "parameters": {} }, "threads": null,
            "seed": 1, "scale": 1.0, "touch": "page", "thp": false, "latency_every": 0, "idle_ms": 0, "epilogue": true }
    });
    let manifest: Manifest = serde_json::from_value(manifest).unwrap();
    let mut rng = Pcg64Mcg::seed_from_u64(like.seed);
    let noise = Normal::new(0.0, 0.02).unwrap();
    let mut around = |value: f64| value * f64::exp(noise.sample(&mut rng));
    let records = manifest
        .plan
        .runs
        .iter()
        .map(|run| {
            let (allocator, memory, speed) = like.cells[run.cell];
            serde_json::from_value(json!({
                "schema": SCHEMA, "run": run.run, "workload": "w", "allocator": allocator, "settings": {},
                "repetition": run.repetition, "aa": false, "status": "ok", "started_unix_s": 0, "attempt": 1,
                "environment": {}, "proof": null, "phases": [], "load": {}, "sampler_cpu_ratio": null, "samples": null,
                "cautions": [],
                "metrics": { PEAK: around(1e8 * memory), OPS: around(1e6 * speed * like.machine) },
                "done": { "ops": 10, "live_end_bytes": 20, "checksum": 30 + run.repetition, "work_ns": 1,
                    "threads_started": 1, "harness_vm_bytes": 0, "facts": {},
                    "latency": { "malloc": null, "free": null, "realloc": null } }
            }))
            .unwrap()
        })
        .collect();
    (manifest, records)
}

fn before() -> Like {
    Like { seed: 1, runs: 12, machine: 1.0, cells: vec![("glibc", 1.0, 1.0), ("mine", 0.8, 1.1)] }
}

fn after(change: impl FnOnce(&mut Like)) -> Like {
    let mut like = Like { seed: 2, ..before() };
    change(&mut like);
    like
}

fn question() -> DiffQuestion {
    DiffQuestion {
        metrics: vec![(PEAK.into(), Better::Less), (OPS.into(), Better::More)],
        relevant: 0.05,
        to_baseline: false,
    }
}

fn compare(a: &Measured, b: &Measured) -> Diff {
    diff((&a.0, &a.1), (&b.0, &b.1), &question())
}

fn change(diff: &Diff, allocator: &str, metric: &str) -> Change {
    diff.cells.iter().find(|c| c.cell.allocator == allocator).unwrap().figures[metric].change
}

#[test]
fn known_shifts_are_found_in_their_direction() {
    let a = result(&before());
    let b = result(&after(|like| like.cells = vec![("glibc", 0.9, 1.1), ("mine", 0.92, 0.97)]));
    let diff = compare(&a, &b);
    assert_eq!(change(&diff, "glibc", PEAK), Change::Better);
    assert_eq!(change(&diff, "glibc", OPS), Change::Better);
    assert_eq!(change(&diff, "mine", PEAK), Change::Worse, "15 % more memory");
    assert_eq!(change(&diff, "mine", OPS), Change::Worse, "12 % slower");
    assert_eq!(diff.outcome, DiffOutcome::Regression);
    assert_eq!(diff.reasons, ["2 of 4 figures became relevantly worse."]);
    assert_eq!((diff.comparisons, diff.runs_needed), (4, 5));
    let figure = diff.cells[1].figures[PEAK];
    assert!(figure.ratio.lo < 1.15 && 1.15 < figure.ratio.hi && figure.p.unwrap() < 0.001, "{figure:?}");
    // The other way round it is the other way round.
    let back = compare(&b, &a);
    assert_eq!(change(&back, "mine", PEAK), Change::Better);
    assert_eq!(back.outcome, DiffOutcome::Regression, "glibc's then");
    // Beyond chance is not of consequence.
    let slightly =
        compare(&a, &result(&after(|like| like.cells = vec![("glibc", 1.0, 1.0), ("mine", 0.8 * 1.04, 1.1)])));
    assert_eq!(change(&slightly, "mine", PEAK), Change::Slight);
    assert_eq!(slightly.outcome, DiffOutcome::NoRegression);
}

#[test]
fn equal_results_differ_no_more_often_than_said() {
    // Every difference beyond chance counts, of whatever size, in four cells and two figures.
    let four =
        |seed| Like { seed, runs: 10, cells: ["a", "b", "c", "d"].map(|name| (name, 1.0, 1.0)).to_vec(), ..before() };
    let claims = (0..40)
        .filter(|i| {
            let diff = compare(&result(&four(1000 + i)), &result(&four(2000 + i)));
            assert_eq!(diff.comparisons, 8);
            diff.cells.iter().flat_map(|c| c.figures.values()).any(|f| f.change != Change::Noise)
        })
        .count();
    // More than this many of 40 come from a rate of 5 % less than once in a thousand times.
    assert!(claims <= 7, "{claims} of 40");
    let a = result(&before());
    assert_eq!(compare(&a, &a).outcome, DiffOutcome::NoRegression);
}

#[test]
fn with_too_few_runs_there_is_no_regression_and_no_green_light() {
    let few = |seed, memory| result(&Like { seed, runs: 3, cells: vec![("mine", memory, 1.0)], ..before() });
    let diff = compare(&few(1, 1.0), &few(2, 10.0));
    assert_eq!(change(&diff, "mine", PEAK), Change::TooFewRuns);
    assert_eq!(diff.cells[0].figures[PEAK].p, None);
    assert_eq!(diff.outcome, DiffOutcome::CannotCompare);
    assert!(diff.reasons[0].contains("5 runs a cell in each result would, for 2 comparisons"), "{:?}", diff.reasons);
    let enough = |seed, memory| result(&Like { seed, runs: 5, cells: vec![("mine", memory, 1.0)], ..before() });
    assert_eq!(compare(&enough(1, 1.0), &enough(2, 10.0)).outcome, DiffOutcome::Regression, "five runs do suffice");
}

#[test]
fn relative_to_the_baseline_another_machine_is_no_difference() {
    let a = result(&before());
    let faster = result(&after(|like| like.machine = 1.5));
    assert_eq!(change(&compare(&a, &faster), "mine", OPS), Change::Better);
    let relative = DiffQuestion { to_baseline: true, ..question() };
    let diff = |b: &Measured| fragbench_decide::diff((&a.0, &a.1), (&b.0, &b.1), &relative);
    assert_eq!(change(&diff(&faster), "mine", OPS), Change::Noise);
    assert!(diff(&faster).cells[0].figures.is_empty(), "the baseline is not compared with itself");
    let worse = result(&after(|like| (like.machine, like.cells[1].2) = (1.5, 0.95)));
    assert_eq!(change(&compare(&a, &worse), "mine", OPS), Change::Better, "the machine hides it");
    assert_eq!(change(&diff(&worse), "mine", OPS), Change::Worse);
    let alone = result(&after(|like| like.cells.retain(|c| c.0 == "mine")));
    let without = diff(&alone);
    assert_eq!(without.outcome, DiffOutcome::CannotCompare);
    assert_eq!(without.cells[0].lacking[OPS], "B does not have it");
}

#[test]
fn missing_cells_and_figures_are_named() {
    let a = result(&before());
    let mut b = result(&after(|like| like.cells[0].0 = "new"));
    let diff = compare(&a, &b);
    assert_eq!(diff.only_in_a.iter().map(|c| c.allocator.as_str()).collect::<Vec<_>>(), ["glibc"]);
    assert_eq!(diff.only_in_b.iter().map(|c| c.allocator.as_str()).collect::<Vec<_>>(), ["new"]);
    assert_eq!((diff.cells.len(), diff.outcome), (1, DiffOutcome::NoRegression));

    for (value, why) in [
        (Some(0.0), "it is zero or no number"),
        (Some(f64::NAN), "it is zero or no number"),
        (None, "B does not have it"),
    ] {
        for record in b.1.iter_mut() {
            match value {
                Some(value) => record.metrics.insert(OPS.into(), value),
                None => record.metrics.remove(OPS),
            };
        }
        let diff = compare(&a, &b);
        assert!(diff.cells[0].lacking[OPS].starts_with(why), "{:?}", diff.cells[0].lacking);
        assert!(!diff.cells[0].figures.contains_key(OPS) && diff.cells[0].figures.contains_key(PEAK));
    }
    let other = result(&after(|like| like.cells = vec![("other", 1.0, 1.0)]));
    let diff = compare(&a, &other);
    assert_eq!(
        (diff.outcome, diff.reasons[0].as_str()),
        (DiffOutcome::CannotCompare, "The results have no cell in common.")
    );
}

#[test]
fn a_cell_that_only_fails_now_is_a_regression() {
    let (a, mut b) = (result(&before()), result(&after(|_| {})));
    for record in b.1.iter_mut().filter(|r| r.allocator == "mine") {
        let failed = json!({ "status": "failed", "kind": "crashed", "reason": "signal 11" });
        let mut value = serde_json::to_value(&record).unwrap();
        value.as_object_mut().unwrap().extend(failed.as_object().unwrap().clone());
        *record = serde_json::from_value(value).unwrap();
    }
    let diff = compare(&a, &b);
    assert_eq!(diff.outcome, DiffOutcome::Regression);
    assert_eq!(diff.reasons, ["w under mine succeeded in A, and all its runs in B failed."]);
    assert_eq!(diff.cautions, ["12 runs of B failed and count for nothing."]);
    assert_eq!(compare(&b, &a).outcome, DiffOutcome::NoRegression, "what failed before and succeeds now is none");
}

#[test]
fn other_work_is_refused_and_other_conditions_are_named() {
    let a = result(&before());
    let mut b = result(&after(|_| {}));
    b.0.host.cpu = Some("two".into());
    b.0.libraries[0].build_id = Some("0123456789abcdef".into());
    b.0.common.driver.as_mut().unwrap().scale = 2.0;
    let diff = compare(&a, &b);
    let conditions: Vec<(&str, Option<&str>)> =
        diff.conditions.iter().map(|c| (c.what.as_str(), c.b.as_deref())).collect();
    assert_eq!(conditions, [("CPU", Some("two")), ("scale", Some("2")), ("libc", Some("2.36, build id 0123456789ab"))]);
    assert_eq!(diff.outcome, DiffOutcome::NoRegression, "other conditions are told, not judged");

    b.1.iter_mut().filter(|r| r.allocator == "mine").for_each(|r| r.done.as_mut().unwrap().checksum += 1);
    let diff = compare(&a, &b);
    assert!(diff.cells[1].refused.as_ref().is_some_and(|why| why.contains("other work")), "{:?}", diff.cells[1]);
    assert!(diff.cells[1].figures.is_empty() && !diff.cells[0].figures.is_empty());
    assert_eq!(diff.outcome, DiffOutcome::CannotCompare);
    b.1.iter_mut().for_each(|r| r.done.as_mut().unwrap().adaptive = true);
    assert_eq!(compare(&a, &b).outcome, DiffOutcome::NoRegression, "work that depends on addresses is not compared");

    b.0.common.driver.as_mut().unwrap().touch = fragbench_model::Touch::Full;
    let diff = compare(&a, &b);
    assert!(diff.cells.iter().all(|c| c.refused.as_ref().is_some_and(|why| why.contains("--touch page and full"))));
}

#[test]
fn figures_are_chosen_by_name_and_known_by_their_direction() {
    let (a, b) = (result(&before()).0, result(&after(|_| {})).0);
    let named = |name: &str| diff_metrics(&a, &b, &[name.to_owned()]);
    assert_eq!(named("purge_ms"), Ok(vec![("purge_ms".into(), Better::Less)]));
    assert!(named("purge").is_err_and(|e| e.contains("no figure purge")));
    assert!(named("arena_count").is_err_and(|e| e.contains("only describes")));
    let usual: Vec<String> = diff_metrics(&a, &b, &[]).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(usual, [PEAK, "heap_rss_end_bytes", "heap_rss_idle_bytes", OPS, "malloc_p99_ns", "cpu_s"]);
}
