//! `fragbench tune` as its user sees it: a gain that is there is found and can be applied, and none is made up.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{arg, json, refuse, succeed};

/// A search over glibc's settings on a case in which arenas keep what each held at its peak.
fn tuned(workload: &str, more: &[&str]) -> (serde_json::Value, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let mut arguments = vec!["tune", workload, "--allocator", "glibc", "--max-time", "1s", "--idle", "1ms"];
    arguments.extend(["--format", "json", "-o", arg(&out)]);
    arguments.extend(more);
    (json(&succeed(&arguments)), dir)
}

#[test]
fn too_little_time_recommends_nothing_and_says_so_and_every_file_is_there() {
    let (tuning, dir) = tuned("mysql/connection-storm", &["--sessions", "8", "--emit", "systemd"]);
    assert_eq!(tuning["recommendation"], serde_json::Value::Null);
    assert!(tuning["reasons"][0].as_str().unwrap().contains("--max-time"), "{}", tuning["reasons"]);
    assert_eq!(tuning["emitted"], serde_json::Value::Null, "nothing to apply");
    assert_eq!(tuning["partial"], false);
    let front = tuning["front"].as_array().unwrap();
    assert!(!front.is_empty());
    for point in front {
        for figure in ["memory_bytes", "ops_per_s", "p99_ns"] {
            assert!(point[figure].as_f64().is_some_and(|v| v > 0.0), "{figure} of {point}");
        }
        assert!(point["settings"].is_object(), "{point}");
    }
    let memory: Vec<f64> = front.iter().map(|p| p["memory_bytes"].as_f64().unwrap()).collect();
    assert!(memory.is_sorted(), "{memory:?}");
    let out = dir.path().join("r");
    for file in ["manifest.json", "runs.jsonl", "summary.json", "tuning.json", "tuning.md", "plots/tune.svg"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let finalists = tuning["finalists"].as_array().unwrap();
    assert!((4..=6).contains(&finalists.len()), "{finalists:?}");
    assert!(tuning["dropped"].as_array().unwrap().len() >= 8, "most are dropped on the way");
    // The plan holds the whole search, so the result is rendered again as any other.
    succeed(&["report", arg(&out)]);
}

#[test]
fn what_cannot_be_searched_is_refused() {
    refuse(2, &["tune", "mysql"], &["one workload at a time", "mysql/"]);
    refuse(2, &["tune", "replay/connection-strom"], &["did you mean"]);
    refuse(2, &["tune", "--trace", "/nowhere.fbt"], &["/nowhere.fbt"]);
    refuse(2, &["tune", "mysql/oltp-read-write", "--allocator", "null"], &["null", "no settings"]);
    refuse(2, &["tune", "mysql/oltp-read-write", "--service", "x"], &["--emit"]);
}
