//! `--shard I/N` as its user sees it: the shards' plans are together the whole plan, a shard is finished as any result is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeSet;

use common::{arg, json, refuse, runs, succeed};

const RUN: &[&str] =
    &["run", "mysql/oltp-read-write", "--allocator", "glibc,null", "--arena-max", "default", "--reps", "7"];

/// Runs of a plan as (cell, repetition, run).
fn planned(more: &[&str]) -> Vec<(u64, u64, u64)> {
    let arguments: Vec<&str> = RUN.iter().chain(&["--dry-run", "--format", "json"]).chain(more).copied().collect();
    let plan = json(&succeed(&arguments));
    let number = |run: &serde_json::Value, name: &str| run[name].as_u64().unwrap();
    let runs = plan["runs"].as_array().unwrap().iter();
    runs.map(|run| (number(run, "cell"), number(run, "repetition"), number(run, "run"))).collect()
}

#[test]
fn shards_are_together_the_plan() {
    let whole = planned(&[]);
    let shards: Vec<_> = ["1/3", "2/3", "3/3"].iter().map(|shard| planned(&["--shard", shard])).collect();
    let mut all = shards.concat();
    assert_eq!(all.len(), whole.len());
    all.sort_by_key(|run| whole.iter().position(|other| other == run));
    assert_eq!(all, whole);
    let blocks: Vec<BTreeSet<u64>> = shards.iter().map(|runs| runs.iter().map(|run| run.1).collect()).collect();
    assert!(
        blocks[0].is_disjoint(&blocks[1]) && blocks[1].is_disjoint(&blocks[2]) && blocks[0].is_disjoint(&blocks[2])
    );
    assert_eq!(planned(&["--shard", "1/1"]), whole);
}

#[test]
fn what_is_no_shard_is_refused() {
    for wrong in ["0/4", "5/4", "x"] {
        let arguments: Vec<&str> = RUN.iter().chain(&["--shard", wrong]).copied().collect();
        refuse(2, &arguments, &["--shard", wrong, "I/N"]);
    }
    refuse(2, &["compare", "--shard", "0/4", "--", "true"], &["0/4", "I/N"]);
    refuse(2, &["run", "mysql/oltp-read-write", "--shard", "1/3"], &["--shard 1/3", "2 blocks", "--reps 3"]);
    refuse(2, &["compare", "--shard", "1/20", "--", "true"], &["--shard 1/20", "10 blocks"]);
    let precision: Vec<&str> = RUN.iter().chain(&["--shard", "1/3", "--precision", "5%"]).copied().collect();
    refuse(2, &precision, &["--precision", "--reps"]);
}

#[test]
fn a_shard_is_finished_as_the_shard_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let compare = ["compare", "--allocator", "glibc", "--arena-max", "default", "--reps", "3", "--idle", "0s"];
    let with = |more: &[&str]| {
        let all: Vec<String> =
            compare.iter().chain(more).chain(&["--", "true"]).map(|word| (*word).to_owned()).collect();
        all
    };
    let words = with(&["--shard", "1/2", "-o", arg(&out)]);
    succeed(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let whole = runs(&out);
    assert_eq!(whole.iter().map(|run| run["repetition"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 0]);
    let manifest = json(&std::fs::read_to_string(out.join("manifest.json")).unwrap());
    assert_eq!(manifest["part"], json(r#"{"shard": "1/2", "blocks": 3}"#), "{manifest}");

    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("1/2 of a plan of 3 blocks"));

    // As it is left when it was killed after its first run.
    let text = std::fs::read_to_string(out.join("runs.jsonl")).unwrap();
    std::fs::write(out.join("runs.jsonl"), text.lines().next().unwrap().to_owned() + "\n").unwrap();
    refuse(2, &["compare", "--resume", arg(&out), "--shard", "2/2"], &["--shard 2/2", "shard 1/2"]);
    refuse(2, &["compare", "--resume", arg(&out), "--precision", "5%"], &["--precision"]);
    succeed(&["compare", "--resume", arg(&out), "--shard", "1/2"]);
    let finished = runs(&out);
    assert_eq!(finished[0], whole[0], "what was done is kept");
    let identity = |run: &serde_json::Value| (run["run"].clone(), run["repetition"].clone(), run["aa"].clone());
    assert!(finished.iter().map(identity).eq(whole.iter().map(identity)));
}
