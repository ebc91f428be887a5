//! `fragbench trace leaks` on a program whose blocks are known.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::process::Command;

use common::{arg, json, program, refuse, succeed};

#[test]
fn every_block_that_stays_is_counted_by_size_thread_and_age() {
    let Some(cc) = program("cc") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (built, trace) = (dir.path().join("leak"), dir.path().join("leak.fbt"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/leak.c");
    let flags = ["-O1", "-Wall", "-Wextra", "-fno-builtin", "-pthread", source, "-o", arg(&built)];
    assert!(Command::new(cc).args(flags).status().unwrap().success());
    succeed(&["record", "-o", arg(&trace), "--", arg(&built)]);

    let leaks = json(&succeed(&["trace", "leaks", arg(&trace), "--format", "json"]));
    let size = |bytes: u64| {
        let found = leaks["sizes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|s| (s["from_bytes"].as_u64().unwrap()..s["to_bytes"].as_u64().unwrap()).contains(&bytes));
        found.unwrap_or_else(|| panic!("{bytes}: {leaks}")).clone()
    };
    for (bytes, blocks, pattern) in
        [(72, 1000, "steady"), (4096, 64, "startup"), (50_000, 30, "recent"), (1000, 3, "mixed")]
    {
        let class = size(bytes);
        assert_eq!(class["blocks"], blocks, "{class}");
        assert_eq!(class["bytes"], blocks * bytes, "{class}");
        assert_eq!(class["pattern"], pattern, "{class}");
        let born: u64 = class["born"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(born, blocks);
    }
    let ended: Vec<_> = leaks["threads"].as_array().unwrap().iter().filter(|t| t["ended"] == true).collect();
    assert_eq!((ended.len(), &ended[0]["blocks"], &ended[0]["bytes"]), (1, &json("3"), &json("3000")), "{leaks}");
    let sum = |table: &str| leaks[table].as_array().unwrap().iter().map(|l| l["bytes"].as_u64().unwrap()).sum::<u64>();
    assert_eq!([sum("sizes"), sum("threads"), sum("ages")], [leaks["bytes"].as_u64().unwrap(); 3]);
    assert_eq!(leaks["complete"], true);
    let info = common::run(&["trace", "info", arg(&trace), "--format", "json"]);
    assert_eq!(json(&common::stdout(&info))["live_end_bytes"], leaks["bytes"]);

    let text = succeed(&["trace", "leaks", arg(&trace), "--top", "3"]);
    for word in ["Never freed", "steady", "recent", "ended", "age at the end"] {
        assert!(text.contains(word), "`{word}` in {text}");
    }
    assert!(text.contains("as a leak does: 70.3 KiB"), "{text}");
}

#[test]
fn what_is_no_trace_is_refused() {
    refuse(2, &["trace", "leaks", "/nowhere.fbt"], &["/nowhere.fbt"]);
}
