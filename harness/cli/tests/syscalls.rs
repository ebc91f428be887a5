//! `fragbench syscalls` on a program nobody prepared.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{arg, fragbench, json, program, refuse, stderr, stdout, succeed};

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

/// Whether a process is traced, by whom; `None` when it has ended.
fn tracer(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?.trim().parse().ok()
}

#[test]
fn a_tool_does_not_outlive_who_started_it() {
    if program("strace").is_none() {
        return;
    }
    let until = |what: &str, came: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !came() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    for _ in 0..3 {
        let mut subject = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = subject.id();
        let arguments = ["syscalls", "--with", "strace", "--seconds", "1h", &pid.to_string()];
        let mut watching = fragbench().args(arguments).stderr(Stdio::null()).spawn().unwrap();
        until("strace takes hold", &|| tracer(pid).is_some_and(|by| by != 0));
        let tool = tracer(pid).unwrap();
        // SIGKILL: nothing of it can tidy up.
        watching.kill().unwrap();
        watching.wait().unwrap();
        until("strace lets go", &|| tracer(pid) == Some(0));
        until("strace ends", &|| !std::path::Path::new(&format!("/proc/{tool}")).exists() || tracer(tool).is_none());
        assert!(subject.try_wait().unwrap().is_none(), "the process it watched goes on");
        subject.kill().unwrap();
        subject.wait().unwrap();
    }
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
