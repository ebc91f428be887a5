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

/// Blocks and bytes, of all stacks that have a function in them.
fn made_by(leaks: &serde_json::Value, function: &str) -> (u64, u64) {
    let has =
        |stack: &&serde_json::Value| stack["frames"].as_array().unwrap().iter().any(|f| f["function"] == function);
    let stacks = leaks["stacks"].as_array().unwrap_or_else(|| panic!("no stacks: {leaks}"));
    let number = |stack: &serde_json::Value, name: &str| stack[name].as_u64().unwrap();
    stacks.iter().filter(has).fold((0, 0), |(n, b), s| (n + number(s, "blocks"), b + number(s, "bytes")))
}

#[test]
#[allow(clippy::too_many_lines, reason = "one program, compiled and recorded once, looked at from all sides")]
fn every_block_that_stays_is_told_who_made_it() {
    let Some(cc) = program("cc") else { return };
    let dir = tempfile::tempdir().unwrap();
    let programs = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/");
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let build = |flags: &[&str], source: &str, out: &str| {
        let mut command = Command::new(&cc);
        command.args(["-O1", "-Wall", "-Wextra", "-fno-builtin"]).args(flags);
        assert!(
            command.arg(format!("{programs}{source}")).args(["-o", &path(out), "-ldl"]).status().unwrap().success()
        );
    };
    build(&["-g", "-pthread"], "leak_stacks.c", "leak");
    // Without debug information: the symbol that dlsym finds is all they have.
    let plugin = ["-s", "-fPIC", "-shared"];
    build(&[&plugin[..], &["-DNAME=plugin_make", "-DSIZE=777"]].concat(), "leak_plugin.c", "first.so");
    build(&[&plugin[..], &["-DNAME=other_make", "-DSIZE=888"]].concat(), "leak_plugin.c", "second.so");
    let (trace, run) = (path("leak.fbt"), [path("leak"), path("first.so"), path("second.so")]);
    let record = |more: &[&str]| {
        let mut arguments = vec!["record", "-o", &trace];
        arguments.extend(more);
        arguments.extend(["--", &run[0], &run[1], &run[2]]);
        let output = common::run(&arguments);
        assert!(output.status.success(), "{}", common::stderr(&output));
        common::stderr(&output)
    };
    let leaks_of = |trace: &str| json(&succeed(&["trace", "leaks", trace, "--format", "json"]));

    let said = record(&["--stacks"]);
    assert!(said.contains("not anonymous"), "{said}");
    let leaks = leaks_of(&trace);
    for (function, blocks, size) in [
        ("grow_cache", 40, 100),
        ("open_session", 15, 2000),
        ("down", 7, 333),
        ("on_signal", 1, 4444),
        ("twice", 3, 600),
        ("first", 0, 60),
        ("plugin_make", 6, 777),
        ("other_make", 2, 888),
        ("in_child", 0, 5555),
        ("freed_again", 0, 100),
    ] {
        assert_eq!(made_by(&leaks, function), (blocks, blocks * size), "{function} in {leaks}");
    }
    let stacks = leaks["stacks"].as_array().unwrap();
    let sum: u64 = stacks.iter().map(|s| s["bytes"].as_u64().unwrap()).sum();
    assert_eq!(leaks["bytes"], sum, "each block in one stack");
    let of = |function: &str| {
        let has = |s: &&serde_json::Value| s["frames"].as_array().unwrap().iter().any(|f| f["function"] == function);
        let found: Vec<_> = stacks.iter().filter(has).map(|s| (s, s["frames"].as_array().unwrap())).collect();
        found
    };
    let [(session, frames)] = of("open_session")[..] else { panic!("one stack of all threads: {leaks}") };
    assert_eq!((&session["threads"], &session["most_thread_blocks"]), (&json("3"), &json("5")));
    assert_eq!(frames[0]["function"], "filled");
    assert!(frames[0]["file"].as_str().unwrap().ends_with("leak_stacks.c"), "{}", frames[0]);
    assert!(frames[0]["line"].as_u64().is_some_and(|line| line > 1), "{}", frames[0]);
    assert_eq!(of("grow_cache").len(), 2, "two places of main's");
    assert!(of("grow_cache").iter().all(|(_, frames)| frames.last().unwrap()["function"] == "main"));
    let (_, recursion) = of("down")[0];
    assert_eq!(recursion.len(), 24, "as deep as stacks are kept");
    let (_, plugin) = of("plugin_make")[0];
    let frame = plugin.iter().find(|f| f["function"] == "plugin_make").unwrap();
    assert!(frame["module"].as_str().unwrap().ends_with("/first.so") && frame["line"].is_null(), "{frame}");
    assert!(!leaks["stacks"].to_string().contains("fragbench_recorder"), "{leaks}");

    let child = std::fs::read_dir(path("leak.fbt.children")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(made_by(&leaks_of(arg(&child)), "in_child"), (3, 3 * 5555));

    let svg = path("leak.svg");
    let text = succeed(&["trace", "leaks", &trace, "--top", "30", "--flame", &svg]);
    for words in ["grow_cache (", "leak_stacks.c:", "first.so+0x", "By who made them", ", 22 times"] {
        assert!(text.contains(words), "`{words}` in {text}");
    }
    let drawn = std::fs::read_to_string(&svg).unwrap();
    assert!(drawn.contains("<svg") && drawn.contains("open_session"), "{drawn}");

    record(&["--stacks", "--stack-depth", "2"]);
    let shallow = leaks_of(&trace);
    // Functions inlined into each other are one frame.
    let deepest = |stack: &serde_json::Value| {
        stack["frames"].as_array().unwrap().iter().filter(|f| f["inlined"] == false).count()
    };
    assert_eq!(shallow["stacks"].as_array().unwrap().iter().map(deepest).max(), Some(2));
    assert_eq!(made_by(&shallow, "grow_cache"), (40, 4000), "merged into one stack, none lost");
    refuse(2, &["record", "-o", &trace, "--stacks", "--stack-depth", "65", "--", &run[0]], &["65"]);

    record(&[]);
    assert!(leaks_of(&trace)["stacks"].is_null());
    refuse(2, &["trace", "leaks", &trace, "--flame", &svg], &["record with --stacks"]);
}
