//! Several recordings of one load as repetitions of one workload: which block replays which, what is compared, what is said.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use common::{arg, json, refuse, runs, succeed};
use serde_json::Value;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workloads/replay/traces").join(name)
}

/// Two recordings that stand for two of one load: what they hold plays no part here.
fn recordings(dir: &Path) -> [PathBuf; 2] {
    [("monday.fbt", "blob-churn.fbt"), ("tuesday.fbt", "connection-storm.fbt")].map(|(name, from)| {
        let to = dir.join(name);
        std::fs::copy(shipped(from), &to).unwrap();
        to
    })
}

const SMALL: [&str; 6] = ["--allocator", "glibc", "--arena-max", "default,1", "--idle", "1ms"];

/// What each run did, by recording: repetition and checksum.
fn by_recording(records: &[Value]) -> BTreeMap<String, BTreeSet<(u64, u64)>> {
    let mut all: BTreeMap<String, BTreeSet<(u64, u64)>> = BTreeMap::new();
    for record in records {
        assert_eq!(record["status"], "ok", "{record}");
        assert_eq!(record["workload"], "replay/monday");
        let did = (record["repetition"].as_u64().unwrap(), record["done"]["checksum"].as_u64().unwrap());
        all.entry(record["recording"].as_str().unwrap().to_owned()).or_default().insert(did);
    }
    all
}

fn repetitions(did: &BTreeSet<(u64, u64)>) -> Vec<u64> {
    did.iter().map(|(repetition, _)| *repetition).collect()
}

#[test]
fn blocks_go_by_the_recordings_in_turn_and_shards_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let [monday, tuesday] = recordings(dir.path());
    let replay = |more: &[&str]| {
        let all = ["replay", arg(&monday), "--same-load", arg(&tuesday), "--reps", "4"];
        succeed(&[&all[..], &SMALL[..], more].concat())
    };
    let plan = replay(&["--dry-run"]);
    assert_eq!((plan.matches("(monday)").count(), plan.matches("(tuesday)").count()), (6, 6), "{plan}");

    let shards = ["1/2", "2/2"].map(|shard| {
        let out = dir.path().join(shard.replace('/', "-"));
        replay(&["--shard", shard, "-o", arg(&out)]);
        out
    });
    let merged = dir.path().join("merged");
    let text = succeed(&["merge", arg(&shards[0]), arg(&shards[1]), "-o", arg(&merged)]);
    assert!(text.contains("replay/monday 2 recordings in turn"), "{text}");
    let done = by_recording(&runs(&merged));
    assert_eq!(done.keys().map(String::as_str).collect::<Vec<_>>(), ["monday", "tuesday"]);
    assert_eq!(repetitions(&done["monday"]), [0, 2], "all cells of a block did the same work");
    assert_eq!(repetitions(&done["tuesday"]), [1, 3]);
    let work = |name: &str| done[name].iter().map(|(_, checksum)| *checksum).collect::<BTreeSet<_>>();
    assert_eq!(work("monday").len(), 1, "a recording is the same work in every block");
    assert!(work("monday").is_disjoint(&work("tuesday")));

    // A result that was cut short goes on with the recordings whose turn it is.
    let begun = std::fs::read_to_string(shards[0].join("runs.jsonl")).unwrap();
    let half: Vec<&str> = begun.lines().take(2).collect();
    std::fs::write(shards[0].join("runs.jsonl"), half.join("\n") + "\n").unwrap();
    succeed(&["replay", "--resume", arg(&shards[0])]);
    let resumed = by_recording(&runs(&shards[0]));
    let of_shard = |r: &u64| fragbench_run::shard_of(*r as u32, 2) == 1;
    for (name, did) in &resumed {
        let whole: Vec<u64> = repetitions(&done[name]).into_iter().filter(of_shard).collect();
        assert_eq!(repetitions(did), whole, "{name}");
    }
}

#[test]
fn one_recording_says_what_its_intervals_lack() {
    let dir = tempfile::tempdir().unwrap();
    let [monday, _] = recordings(dir.path());
    let out = dir.path().join("r");
    let text = succeed(&[&["replay", arg(&monday), "--reps", "1", "-o", arg(&out)][..], &SMALL[..]].concat());
    let lacks = "intervals do not contain what runs of the server scatter";
    let report = std::fs::read_to_string(out.join("report.md")).unwrap();
    let said = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(lacks) && report.contains(lacks), "{text}");
    assert!(runs(&out).iter().all(|record| record.get("recording").is_none()));
}

#[test]
fn a_search_goes_by_them_too() {
    let dir = tempfile::tempdir().unwrap();
    let [monday, tuesday] = recordings(dir.path());
    let out = dir.path().join("r");
    let tune = ["tune", "--trace", arg(&monday), "--same-load", arg(&tuesday)];
    let more = ["--allocator", "glibc", "--idle", "1ms", "--max-time", "6s", "--format", "json", "-o", arg(&out)];
    let tuning = json(&succeed(&[&tune[..], &more[..]].concat()));
    assert!(tuning["notes"][0].as_str().unwrap().contains("2 recordings in turn"), "{tuning}");
    let done = by_recording(&runs(&out));
    assert!(done["monday"].iter().all(|(repetition, _)| repetition % 2 == 0), "{done:?}");
    assert!(done.get("tuesday").is_none_or(|did| did.iter().all(|(repetition, _)| repetition % 2 == 1)), "{done:?}");
}

#[test]
fn what_is_no_repetition_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [monday, tuesday] = recordings(dir.path());
    let (monday, tuesday) = (arg(&monday), arg(&tuesday));
    refuse(2, &["replay", monday, tuesday, "--same-load", monday], &["one FILE"]);
    refuse(2, &["replay", monday, "--same-load", monday], &["two recordings have the name monday"]);
    refuse(2, &["replay", monday, "--same-load", tuesday, "--reps", "1"], &["--reps 2"]);
    refuse(2, &["tune", "--trace", monday, "--same-load", tuesday, "--reps", "1"], &["--reps 2"]);
    refuse(2, &["tune", "mysql/oltp-read-write", "--same-load", tuesday], &["--trace"]);
    let text = dir.path().join("no-trace.fbt");
    std::fs::write(&text, "no trace").unwrap();
    refuse(2, &["replay", monday, "--same-load", arg(&text)], &["no-trace.fbt"]);
    let (mysql, mariadb) = (shipped("mysql-connection-storm.fbt"), shipped("mysql-oltp-read-write.fbt"));
    succeed(&["replay", arg(&mysql), "--same-load", arg(&mariadb), "--dry-run"]);
}
