//! `fragbench run` as its user sees it: cells, figures, files, interruption, workers that die.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::process::Stdio;

use common::{arg, fragbench, json, run, runs, stderr, succeed};

const SMALL: &[&str] = &["--reps", "1", "--idle", "1ms", "--scale", "0.05"];

fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["run", "mysql/oltp-read-write"].iter().chain(more).chain(SMALL).copied().collect()
}

fn cell<'a>(summary: &'a serde_json::Value, allocator: &str, arena_max: Option<&str>) -> &'a serde_json::Value {
    summary["cells"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["allocator"] == allocator && c["settings"]["MALLOC_ARENA_MAX"].as_str() == arena_max)
        .unwrap_or_else(|| panic!("{allocator} {arena_max:?} is missing in {summary}"))
}

#[test]
fn every_cell_of_the_plan_has_its_figures() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let text = succeed(&small(&["--format", "json", "-o", arg(&out)]));
    let summary = json(&text);
    assert_eq!(summary, json(&std::fs::read_to_string(out.join("summary.json")).unwrap()));
    for (allocator, arena_max) in [
        ("glibc", None),
        ("glibc", Some("1")),
        ("glibc", Some("2")),
        ("glibc", Some("4")),
        ("jemalloc", None),
        ("mimalloc", None),
        ("null", None),
    ] {
        let cell = cell(&summary, allocator, arena_max);
        assert_eq!((&cell["failed"], &cell["runs"]), (&json("0"), &json("1")), "{cell}");
        for metric in
            ["wall_s", "ops_per_s", "heap_rss_peak_bytes", "heap_rss_end_bytes", "vm_peak_bytes", "live_peak_bytes"]
        {
            assert!(cell["metrics"][metric]["median"].as_f64().is_some_and(|v| v > 0.0), "{metric} of {cell}");
        }
    }
    let arenas = |arena_max| cell(&summary, "glibc", Some(arena_max))["metrics"]["arena_count"]["median"].as_f64();
    assert_eq!(arenas("1"), Some(1.0));
    assert_eq!(arenas("2"), Some(2.0));
    assert_eq!(arenas("4"), Some(4.0));
    let vm = |arena_max| cell(&summary, "glibc", Some(arena_max))["metrics"]["vm_peak_bytes"]["median"].as_f64();
    // Neighbours are not compared: stacks not yet mapped, or the unaligned 128 MiB a new heap is cut from, may be in a sample.
    assert!(vm("1").unwrap() + 96e6 < vm("4").unwrap(), "most of three heaps of 64 MiB: {:?} {:?}", vm("1"), vm("4"));

    let records = runs(&out);
    assert_eq!(records.len(), 10, "nine cells and the baseline's second copy");
    for setting in ["MALLOC_TRIM_THRESHOLD_", "FRAGBENCH_TRIM_EVERY_MS"] {
        let tried = records.iter().filter(|record| record["settings"].get(setting).is_some()).count();
        assert_eq!(tried, 1, "{setting} is among the cells that nobody has to name");
    }
    for record in &records {
        assert_eq!(record["status"], "ok", "{record}");
        assert!(out.join(record["samples"].as_str().unwrap()).is_file());
        assert_eq!(record["done"]["checksum"], records[0]["done"]["checksum"], "the same work under every allocator");
    }
    for file in ["manifest.json", "summary.csv", "report.html", "report.md"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let manifest = json(&std::fs::read_to_string(out.join("manifest.json")).unwrap());
    let version = |name: &str| {
        let mut libraries = manifest["libraries"].as_array().unwrap().iter();
        libraries.find(|library| library["name"] == name).unwrap()["version"].as_str().unwrap_or("").to_owned()
    };
    assert!(version("jemalloc").starts_with("5.3.") && version("mimalloc") == "3.3.2", "{}", manifest["libraries"]);
    assert_eq!(cell(&summary, "mimalloc", None)["version"], "3.3.2");
    assert!(cell(&summary, "mimalloc", None)["risks"].as_array().is_some_and(|risks| !risks.is_empty()));
    let plots = std::fs::read_dir(out.join("plots")).unwrap().count();
    assert!(plots >= 14, "{plots} plots, in SVG and PNG");
}

#[test]
fn a_dry_run_lists_the_plan_and_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let text =
        succeed(&small(&["--dry-run", "--allocator", "glibc,null", "--arena-max", "default,3", "-o", arg(&out)]));
    assert!(text.contains("glibc arena_max=3") && text.contains("null") && text.contains("A/A"), "{text}");
    assert!(text.contains("4 runs of 4 cells"), "{text}");
    assert!(!out.exists());
}

#[test]
fn a_setting_adds_a_cell_and_a_frozen_threshold_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let options = [
        "--allocator",
        "glibc",
        "--arena-max",
        "default",
        "--setting",
        "MALLOC_TRIM_THRESHOLD_=131072",
        "-o",
        arg(&out),
    ];
    let text = succeed(&small(&options));
    assert!(text.contains("MALLOC_TRIM_THRESHOLD_=131072"), "{text}");
    let with: Vec<_> = runs(&out).into_iter().filter(|r| r["settings"]["MALLOC_TRIM_THRESHOLD_"] == "131072").collect();
    assert_eq!(with.len(), 1);
    assert!(with[0]["cautions"].to_string().contains("dynamic adjustment of the mmap"), "{}", with[0]["cautions"]);
}

/// Children of a process, from the kernel.
fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    std::fs::read_to_string(path).unwrap_or_default().split(' ').filter_map(|p| p.trim().parse().ok()).collect()
}

#[test]
fn a_worker_killed_by_hand_is_a_failed_record_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let mut fragbench = fragbench()
        .args(["run", "mysql/oltp-read-write", "--reps", "1", "--idle", "1ms", "--scale", "3", "--allocator", "glibc"])
        .args(["--arena-max", "default,1", "-o", arg(&out)])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let worker = loop {
        assert!(fragbench.try_wait().unwrap().is_none(), "it ended before it was killed");
        // Before that the worker is only asked what it can run.
        if out.join("runs.jsonl").exists()
            && let Some(&pid) = children(fragbench.id()).first()
            && std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("fragbench-work"))
        {
            break pid;
        }
        std::thread::yield_now();
    };
    assert!(std::process::Command::new("kill").args(["-9", &worker.to_string()]).status().unwrap().success());
    let output = fragbench.wait_with_output().unwrap();
    let records = runs(&out);
    let failed: Vec<_> = records.iter().filter(|r| r["status"] == "failed").collect();
    assert_eq!((records.len(), failed.len()), (3, 1), "{}", stderr(&output));
    assert_eq!(failed[0]["kind"], "crashed");
    assert!(failed[0]["reason"].as_str().unwrap().contains("SIGKILL"), "{}", failed[0]["reason"]);
}

#[test]
fn the_memory_guard_ends_a_worker_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let options = ["--allocator", "glibc", "--arena-max", "default", "--mem-limit", "1M", "-o", arg(&out)];
    run(&small(&options));
    let records = runs(&out);
    assert_eq!(records.len(), 2);
    for record in &records {
        assert_eq!(record["kind"], "out_of_memory", "{record}");
        assert!(record["reason"].as_str().unwrap().contains("--mem-limit"), "{record}");
    }
}

#[test]
fn an_interrupted_result_is_valid_and_resume_finishes_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    // With the null allocator and the second copy of the baseline 22 runs.
    const LIMITS: &str = "default,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19";
    let mut child = fragbench()
        .args(small(&["--allocator", "glibc,null", "--arena-max", LIMITS, "-o", arg(&out)]))
        .args(["--seed", "5"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let runs_file = out.join("runs.jsonl");
    while !std::fs::read_to_string(&runs_file).is_ok_and(|text| text.contains('\n')) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its first run");
        std::thread::yield_now();
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let status = child.wait_with_output().unwrap().status;
    let before = runs(&out);
    assert!(before.len() < 22, "21 runs were to come when it was interrupted");
    assert_eq!(status.code(), Some(1));
    assert_eq!(json(&std::fs::read_to_string(out.join("summary.json")).unwrap())["partial"], true);
    succeed(&["run", "--resume", arg(&out)]);
    let after = runs(&out);
    assert_eq!(after.len(), 22);
    assert_eq!(after[..before.len()], before[..], "what was done is not run again");
    assert_eq!(json(&std::fs::read_to_string(out.join("summary.json")).unwrap())["partial"], false);
    succeed(&["report", arg(&out)]);
    let identities: std::collections::BTreeSet<u64> = after.iter().map(|r| r["run"].as_u64().unwrap()).collect();
    assert_eq!(identities.len(), 22);
}

#[test]
fn another_allocator_is_measured_by_its_path() {
    for (name, library) in [
        ("jemalloc5", "libjemalloc.so.2"),
        ("mimalloc2", "libmimalloc.so.2.0"),
        ("tcmalloc", "libtcmalloc_minimal.so.4"),
    ] {
        let Some(library) = common::library(library) else { continue };
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("r");
        let own = format!("{name}={}", library.display());
        succeed(&small(&["--allocator", &own, "-o", arg(&out)]));
        let record = &runs(&out)[0];
        assert_eq!((&record["status"], &record["allocator"]), (&"ok".into(), &name.into()), "{record}");
        assert!(!record["proof"]["version"].as_str().unwrap().is_empty());
    }
}
