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
