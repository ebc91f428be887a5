//! Two results beside each other, as printed: every kind of change, cell and condition, by snapshot.

use fragbench_model::Diff;
use fragbench_report::{diff_markdown, diff_text};
use serde_json::{Value, json};

const NAMES: (&str, &str) = ("results/main (fragbench 0.1.0)", "results/branch_2 (fragbench 0.1.0)");

fn figure(a: f64, factor: f64, p: Option<f64>, change: &str) -> Value {
    let around = |median: f64| json!({ "median": median, "lo": 0.99 * median, "hi": 1.01 * median, "n": 12 });
    json!({ "a": around(a), "b": around(a * factor), "ratio": around(factor), "p": p, "change": change })
}

fn cell(workload: &str, allocator: &str, settings: Value, figures: Value, lacking: Value) -> Value {
    json!({ "workload": workload, "allocator": allocator, "settings": settings, "runs_a": 12, "runs_b": 12, "failed_a": 0,
        "failed_b": 0, "refused": null, "figures": figures, "lacking": lacking })
}

fn diff() -> Diff {
    let name = |allocator: &str| json!({ "workload": "mysql/oltp", "allocator": allocator, "settings": {} });
    let value = json!({
        "schema": 1, "outcome": "regression", "reasons": ["2 of 8 figures became relevantly worse."], "relevant": 0.05,
        "to_baseline": false, "metrics": ["heap_rss_peak_bytes", "ops_per_s", "tps_per_s"], "comparisons": 8,
        "runs_needed": 6, "cautions": ["3 of 96 runs of B were disturbed by other processes or the hypervisor."],
        "conditions": [
            { "what": "CPU", "a": "AMD EPYC", "b": null, "bears_on": "time" },
            { "what": "jemalloc", "a": "build id 0123", "b": "build id 4567", "bears_on": "memory and time" }
        ],
        "cells": [
            cell("mysql/oltp", "glibc", json!({}), json!({
                "heap_rss_peak_bytes": figure(2e8, 1.2, Some(0.0004), "worse"),
                "ops_per_s": figure(2e6, 0.8, Some(0.0004), "worse") }), json!({})),
            cell("mysql/oltp", "glibc", json!({ "MALLOC_ARENA_MAX": "2" }), json!({
                "heap_rss_peak_bytes": figure(1e8, 0.7, Some(0.0004), "better"),
                "ops_per_s": figure(2e6, 1.03, Some(0.01), "slight") }), json!({})),
            cell("mysql/storm", "jemalloc", json!({}), json!({
                "heap_rss_peak_bytes": figure(1e8, 1.0, Some(1.0), "noise"),
                "tps_per_s": figure(300.0, 2.0, None, "too_few_runs") }), json!({ "ops_per_s": "B does not have it" })),
            cell("mysql/none", "null", json!({}), json!({}), json!({})),
        ],
        "only_in_a": [name("old_one")], "only_in_b": [name("new<one>")]
    });
    serde_json::from_value(value).expect("a diff")
}

#[test]
fn for_a_terminal() {
    insta::assert_snapshot!("diff_text", diff_text(&diff(), NAMES.0, NAMES.1, None, false));
    let narrow = diff_text(&diff(), NAMES.0, NAMES.1, Some(60), false);
    let table = narrow.lines().skip_while(|l| *l != "mysql/oltp").take_while(|l| !l.is_empty());
    assert!(table.clone().count() > 5 && table.clone().all(|l| l.chars().count() <= 60), "{narrow}");
    assert!(diff_text(&diff(), NAMES.0, NAMES.1, None, true).contains("\u{1b}["));
}

#[test]
fn for_a_pull_request() {
    insta::assert_snapshot!("diff_markdown", diff_markdown(&diff(), NAMES.0, NAMES.1));
}

#[test]
fn relative_figures_are_not_shown_in_units() {
    let text = diff_markdown(&Diff { to_baseline: true, ..diff() }, "A", "B");
    assert!(text.contains(" times the baseline's; 12 and 12 runs"), "{text}");
    assert!(!text.contains("MiB") && text.contains("ratios to the baseline's run of the same block"), "{text}");
}
