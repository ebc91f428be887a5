//! `fragbench tune` as its user sees it: a gain that is there is found and can be applied, and none is made up.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{arg, compiled, json, refuse, runs, succeed};

/// A search over glibc's settings on a case in which arenas keep what each held at its peak.
fn tuned(workload: &str, more: &[&str]) -> (serde_json::Value, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let mut arguments = vec!["tune", workload, "--allocator", "glibc", "--max-time", "3s", "--idle", "1ms"];
    arguments.extend(["--format", "json", "-o", arg(&out)]);
    arguments.extend(more);
    (json(&succeed(&arguments)), dir)
}

#[test]
fn where_nothing_can_be_told_apart_nothing_is_recommended_and_every_file_is_there() {
    let (tuning, dir) = tuned("mysql/connection-storm", &["--sessions", "8", "--relevant", "60%", "--emit", "systemd"]);
    assert_eq!(tuning["recommendation"], serde_json::Value::Null);
    // On a slow machine for want of blocks, on a fast one for want of a difference.
    let reason = tuning["reasons"][0].as_str().unwrap();
    assert!(reason.contains("--max-time") || reason.contains("Nothing tried is better"), "{reason}");
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
    // On a slow machine fewer are tried, and none is passed over in silence.
    let count = |of: &str| tuning[of].as_array().map_or(0, Vec::len);
    assert!(count("finalists") + count("dropped") + count("untried") >= 14, "{tuning}");
    assert_eq!(count("finalists") + count("dropped") + 1, tuning["tried"].as_u64().unwrap() as usize);
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
    refuse(2, &["tune", "mysql/oltp-read-write", "--", "true"], &["cannot be used with"]);
    refuse(
        2,
        &["tune", "mysql/oltp-read-write", "--max-time", "1s", "--prepare", "true"],
        &["--prepare", "after `--`"],
    );
    refuse(2, &["tune", "--set", "a=1", "--", "true"], &["cannot be used with"]);
    refuse(2, &["tune", "--memory", "idle", "--", "true"], &["--memory peak", "--load"]);
    refuse(2, &["tune", "--", "no-such-program-here"], &["no such program"]);
}

#[test]
fn no_run_is_begun_that_would_end_after_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let tuned = |time: &str, name: &str| {
        let out = dir.path().join(name);
        let line = ["tune", "--max-time", time, "--format", "json", "-o", arg(&out), "--", "sleep", "0.4"];
        let output = common::run(&line);
        let tuning = json(&common::stdout(&output));
        let records = std::fs::read_to_string(out.join("runs.jsonl")).unwrap_or_default().lines().count();
        assert_eq!(tuning["runs"].as_u64().unwrap() as usize, records);
        assert_eq!(tuning["recommendation"], serde_json::Value::Null);
        assert!(tuning["reasons"][0].as_str().unwrap().contains("--max-time"), "{}", tuning["reasons"]);
        assert!(tuning["untried"].as_array().unwrap().len() >= 20, "there are 23 to try: {}", tuning["untried"]);
        succeed(&["report", arg(&out)]);
        (records, output.status.code())
    };
    // One run of the baseline, uncounted, and what fits after it.
    let (records, status) = tuned("2s", "little");
    assert!(records <= 3 && status == Some(if records == 0 { 1 } else { 0 }), "{records} {status:?}");
    assert_eq!(tuned("300ms", "none"), (0, Some(1)), "nothing was found out");
}

/// Takes 16 MiB in blocks of 1000 bytes in each of four threads, one after the other, and keeps a block of each.
const THREADS: &str = r#"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void *work(void *unused) {
    enum { N = 16 << 10 };
    char **p = malloc(N * sizeof *p);
    for (int i = 0; i < N; i++) memset(p[i] = malloc(1000), 1, 1000);
    for (int i = 0; i < N - 1; i++) free(p[i]);
    usleep(20000);
    return unused;
}
int main(void) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, work, 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
    return 0;
}"#;

#[test]
fn a_command_is_tuned_by_its_peak_against_runs_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let Some(binary) = compiled(dir.path(), "threads", THREADS, &["-pthread"]) else { return };
    let out = dir.path().join("r");
    let line =
        ["tune", "--allocator", "glibc", "--max-time", "3s", "--format", "json", "-o", arg(&out), "--", arg(&binary)];
    let tuning = json(&succeed(&line));
    assert_eq!((&tuning["memory"], &tuning["throughput"]), (&"heap_rss_peak_bytes".into(), &"runs_per_s".into()));
    assert_eq!(tuning["workload"], "threads");
    let baseline = &tuning["baseline"];
    assert!(baseline["memory_bytes"].as_f64().unwrap() > 16e6 && baseline["p99_ns"].is_null(), "{baseline}");
    for record in runs(&out) {
        assert_eq!(record["status"], "ok", "{record}");
    }
    for file in ["tuning.md", "plots/tune.svg"] {
        assert!(out.join(file).is_file(), "{file}");
    }
}
