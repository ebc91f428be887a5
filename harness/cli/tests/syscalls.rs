//! `fragbench syscalls` on a program nobody prepared.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{arg, json, program, refuse, stderr, stdout, succeed};

#[test]
fn a_command_is_watched_to_its_end_with_table_and_flame_graph() {
    let (Some(sort), Some(_), Some(_)) = (program("sort"), program("strace"), program("perf")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let flame = dir.path().join("maps.svg");
    let command = ["syscalls", "--stacks", "--flame", arg(&flame), "--", arg(&sort), "/etc/services"];
    let output = common::run(&command);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for word in ["file, mmap", "main heap (brk), brk", "Most bytes by who asked", "who asked"] {
        assert!(text.contains(word), "`{word}` in {text}");
    }
    assert!(stderr(&output).contains("recording with"), "{}", stderr(&output));
    assert!(std::fs::read_to_string(&flame).unwrap().contains("<svg"));

    // strace works wherever a process may be traced; its JSON follows the output of the program.
    let quiet = ["syscalls", "--with", "strace", "--format", "json", "--", "true"];
    let summary = json(&succeed(&quiet));
    assert_eq!(summary["with"], "strace");
    let lines = summary["summary"]["lines"].as_array().unwrap();
    assert!(lines.iter().any(|l| l["purpose"] == "file" && l["call"] == "mmap" && l["bytes"].as_u64() > Some(1 << 20)));
    assert_eq!(summary["summary"]["stacks"], json("[]"));
}

#[test]
fn what_cannot_be_watched_is_refused() {
    refuse(2, &["syscalls"], &["PID"]);
    refuse(2, &["syscalls", "--", "no-such-program-anywhere"], &["no-such-program-anywhere"]);
    refuse(2, &["syscalls", "--min-size", "much", "1"], &["much"]);
    if program("strace").is_some() {
        refuse(1, &["syscalls", "--with", "strace", "999999999"], &["999999999"]);
    }
}
