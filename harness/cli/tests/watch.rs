//! `fragbench watch` and `fragbench export` on a real process, and the rules that go with them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use common::{arg, fragbench, json, program, refuse, succeed};

/// A child that is ended when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process of glibc's that sleeps.
fn sleeper() -> Ended {
    let child = Ended(Command::new("sleep").arg("1000").spawn().unwrap());
    let comm = format!("/proc/{}/comm", child.0.id());
    while std::fs::read_to_string(&comm).unwrap() != "sleep\n" {
        std::thread::yield_now();
    }
    child
}

#[test]
fn readings_are_printed_and_kept() {
    let child = sleeper();
    let dir = tempfile::tempdir().unwrap();
    let (file, pid) = (dir.path().join("r.jsonl"), child.0.id().to_string());
    let command = ["watch", &pid, "--interval", "10ms", "--readings", "3", "--record", arg(&file)];
    let text = succeed(&command);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("live") && text.contains("survey"), "{text}");
    succeed(&command);
    let kept = std::fs::read_to_string(&file).unwrap();
    assert_eq!(kept.lines().count(), 6, "a second recording is appended");
    for line in kept.lines() {
        let reading = json(line);
        assert_eq!(reading["name"], "sleep");
        assert!(reading["heap"]["live_bytes"].as_u64() > Some(0), "{reading}");
    }
}

#[test]
fn a_process_that_runs_another_program_is_watched_on() {
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", "read go; exec sleep 1000"]).stdin(Stdio::piped());
    let mut child = Ended(shell.spawn().unwrap());
    let pid = child.0.id().to_string();
    let mut watching = fragbench();
    let watching = watching.args(["watch", &pid, "--interval", "1ms", "--readings", "2000"]).stdout(Stdio::piped());
    let mut watching = Ended(watching.spawn().unwrap());
    let mut lines = BufReader::new(watching.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("live"));
    child.0.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    while std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() != "sleep\n" {
        std::thread::yield_now();
    }
    // In between its heap may not be there yet.
    let heap_is_seen = |line: &String| line.starts_with("rss") && !line.contains("heap unknown");
    assert!(lines.by_ref().skip(50).any(|line| heap_is_seen(&line)), "the heap of the new program is never seen");
}

#[test]
fn a_recording_becomes_a_report() {
    let child = sleeper();
    let dir = tempfile::tempdir().unwrap();
    let (file, pid) = (dir.path().join("night.jsonl"), child.0.id().to_string());
    succeed(&["watch", &pid, "--interval", "1ms", "--readings", "12", "--record", arg(&file)]);
    let text = succeed(&["report", arg(&file)]);
    let out = dir.path().join("night-report");
    assert!(text.contains("12 readings: resident memory is steady"), "{text}");
    assert!(text.trim_end().ends_with(arg(&out.join("report.html"))), "{text}");
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("malloc_trim(0), predicted") && !page.contains("<script"), "a page of its own");
    for kind in ["memory.svg", "memory.png", "arenas.svg", "faults.png"] {
        assert!(out.join(format!("plots/sleep-{pid}.{kind}")).is_file(), "{kind}");
    }

    let other = dir.path().join("other");
    let shown = json(&succeed(&["report", arg(&file), "--format", "json", "-o", arg(&other)]));
    assert_eq!(shown, json(&std::fs::read_to_string(other.join("recording.json")).unwrap()));
    assert_eq!((&shown[0]["readings"], &shown[0]["trend"]["kind"]), (&json("12"), &json("\"steady\"")));
    let live = shown[0]["figures"]["live_bytes"]["last"].as_f64().unwrap();
    let last = json(std::fs::read_to_string(&file).unwrap().lines().last().unwrap());
    assert_eq!(Some(live), last["heap"]["live_bytes"].as_f64());
}

#[test]
fn what_is_no_recording_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes.txt");
    std::fs::write(&file, "a shopping list\n").unwrap();
    refuse(1, &["report", arg(&file)], &["notes.txt", "watch --record", "line 1"]);
    refuse(2, &["report", arg(dir.path()), "-o", "x"], &["--output"]);
}

#[test]
fn a_scrape_is_answered_for_processes_found_by_name_and_number() {
    let child = sleeper();
    let pid = child.0.id().to_string();
    let line = format!("fragbench_heap_readable{{pid=\"{pid}\",name=\"sleep\"}} 1");
    let once = succeed(&["export", "--name", "sleep", "--once"]);
    assert!(once.contains(&line), "{once}");

    let mut server =
        Ended(fragbench().args(["export", &pid, "--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn().unwrap());
    let mut said = String::new();
    BufReader::new(server.0.stderr.take().unwrap()).read_line(&mut said).unwrap();
    let address = said.trim().strip_prefix("figures at http://").unwrap().strip_suffix("/metrics").unwrap();
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = get("/metrics");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("application/openmetrics-text"), "{answer}");
    assert!(answer.contains(&line) && answer.trim_end().ends_with("# EOF"), "{answer}");
    assert!(get("/elsewhere").starts_with("HTTP/1.1 404"));
    drop(child);
}

#[test]
fn the_alert_rules_hold() {
    let Some(promtool) = program("promtool") else { return };
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../watch/prometheus");
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let output = Command::new(&promtool).args(arguments).current_dir(rules).output().unwrap();
        let said = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

#[test]
fn what_cannot_be_watched_is_refused() {
    refuse(1, &["watch", "999999999"], &["999999999", "ended"]);
    refuse(1, &["export", "999999999", "--once"], &["no such process"]);
    refuse(2, &["export"], &["PID"]);
    refuse(2, &["export", "1", "--listen", "everywhere"], &["everywhere"]);
}
