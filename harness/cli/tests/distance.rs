//! `fragbench trace stat FILE --against FILE`: equal traces have no distance, others have, windows are checked.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{json, refuse, succeed};

const BLOBS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../workloads/replay/traces/blob-churn.fbt");
const STORM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../workloads/replay/traces/connection-storm.fbt");

#[test]
fn a_trace_has_no_distance_from_itself_and_one_from_another() {
    let same = json(&succeed(&["trace", "stat", BLOBS, "--against", BLOBS, "--format", "json"]));
    for (name, value) in same["distances"].as_object().unwrap() {
        let none = if name.ends_with("_ratio") { 1.0 } else { 0.0 };
        assert_eq!(value.as_f64(), Some(none), "{name}");
    }
    let other = json(&succeed(&["trace", "stat", STORM, "--against", BLOBS, "--format", "json"]));
    assert!(other["distances"]["sizes_by_count_ks"].as_f64().unwrap() > 0.2, "{}", other["distances"]);
    // A window of the same trace is less than the whole.
    let part = json(&succeed(&[
        "trace",
        "stat",
        BLOBS,
        "--from",
        "2s",
        "--to",
        "3s",
        "--against",
        BLOBS,
        "--against-from",
        "2s",
        "--format",
        "json",
    ]));
    assert_eq!(part["shape"]["from_us"], 2_000_000);
    assert!(part["shape"]["blocks"].as_u64().unwrap() < part["reference"]["blocks"].as_u64().unwrap());
    let text = succeed(&["trace", "stat", STORM, "--against", BLOBS]);
    assert!(text.contains("sizes, by bytes") && text.contains("NRMSE"), "{text}");
}

#[test]
fn windows_without_a_recording_are_refused() {
    refuse(
        2,
        &["trace", "stat", BLOBS, "--against", BLOBS, "--from", "1h"],
        &["blob-churn.fbt", "between these times"],
    );
    refuse(2, &["trace", "stat", BLOBS, "--from", "1s"], &["--against"]);
    refuse(2, &["trace", "stat", BLOBS, "--against", "no-such.fbt"], &["no-such.fbt"]);
}
