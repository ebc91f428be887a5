//! `fragbench trace profile` then `fragbench run profile:…`, from a recording to a report.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{arg, json, refuse, runs, succeed};

const BLOBS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../workloads/replay/traces/blob-churn.fbt");

#[test]
fn a_recording_becomes_a_profile_and_the_profile_work() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("shop.fbt");
    std::fs::copy(BLOBS, &trace).unwrap();
    let profile = dir.path().join("shop.toml");
    let text = succeed(&["trace", "profile", arg(&trace), "-o", arg(&profile)]);
    let info = json(&succeed(&["trace", "info", BLOBS, "--format", "json"]));
    let roles = format!("roles of {} threads", info["threads"]);
    assert!(text.contains(&roles) && text.contains("KS"), "`{roles}` in {text}");
    let file = format!("profile:{}", arg(&profile));
    let out = dir.path().join("result");
    let summary = json(&succeed(&[
        "run",
        &file,
        arg(&trace),
        "--allocator",
        "glibc,jemalloc",
        "--arena-max",
        "default",
        "--reps",
        "1",
        "--idle",
        "1ms",
        "-o",
        arg(&out),
        "--format",
        "json",
    ]));
    assert_eq!(summary["cells"].as_array().unwrap().len(), 4);
    let runs = runs(&out);
    let generated: Vec<_> = runs.iter().filter(|r| r["workload"] == "profile/shop").collect();
    assert!(generated.len() >= 2);
    for record in &generated {
        assert_eq!(record["status"], "ok", "{record}");
        assert_eq!(record["done"]["checksum"], generated[0]["done"]["checksum"]);
    }
    // What was replayed is what was measured, and can be measured again.
    let manifest = json(&std::fs::read_to_string(out.join("manifest.json")).unwrap());
    let fact = &manifest["profiles"][0];
    assert_eq!(fact["workload"], "profile/shop");
    let work = out.join("profiles/shop.fbt");
    let again = json(&succeed(&["trace", "stat", arg(&work), "--against", BLOBS, "--format", "json"]));
    assert_eq!(again["shape"], fact["generated"]);
    let report = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(report.contains("Generated from a profile") && report.contains("NRMSE"), "{report}");
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("Generated from a profile") && page.contains("sizes, by bytes"));
    // Fewer threads, less work.
    let short = dir.path().join("short");
    succeed(&[
        "run",
        &file,
        "--threads",
        "18",
        "--scale",
        "0.2",
        "--allocator",
        "glibc",
        "--arena-max",
        "default",
        "--reps",
        "1",
        "--idle",
        "1ms",
        "-o",
        arg(&short),
    ]);
    let ops = |r: &serde_json::Value| r["done"]["ops"].as_u64().unwrap();
    assert!(ops(&common::runs(&short)[0]) < ops(generated[0]) / 2);
}

#[test]
fn a_bad_profile_is_named_with_file_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, "version = 1\nduration = 5\n").unwrap();
    let name = format!("profile:{}", arg(&file));
    refuse(2, &["run", &name], &["bad.toml", "line 2", "`duration`", "`duration_us`"]);
    refuse(2, &["run", "profile:no-such.toml"], &["no-such.toml"]);
    refuse(2, &["trace", "profile", "no-such.fbt", "-o", "x.toml"], &["no-such.fbt"]);
}
