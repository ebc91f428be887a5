//! `fragbench watch` and `fragbench export` on a real process, and the rules that go with them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{arg, compiled, fragbench, json, program, refuse, succeed};

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

/// `fragbench export` of these, serving; the address it serves at.
fn exporting(arguments: &[&str]) -> (Ended, String) {
    let mut command = fragbench();
    command.arg("export").args(arguments).args(["--listen", "127.0.0.1:0"]).stderr(Stdio::piped());
    let mut server = Ended(command.spawn().unwrap());
    let mut said = BufReader::new(server.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = said.by_ref().find(|line| line.starts_with("figures at ")).unwrap();
    // Whatever it goes on saying is read, so that it never waits for a reader.
    std::thread::spawn(move || said.for_each(drop));
    let address = line.strip_prefix("figures at http://").unwrap().strip_suffix("/metrics").unwrap().to_owned();
    (server, address)
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_scrape_is_answered_for_processes_found_by_name_and_number() {
    let child = sleeper();
    let pid = child.0.id().to_string();
    let line = format!("fragbench_heap_readable{{pid=\"{pid}\",name=\"sleep\"}} 1");
    let once = succeed(&["export", "--name", "sleep", "--once"]);
    assert!(once.contains(&line), "{once}");

    let (_server, address) = exporting(&[&pid]);
    let answer = get(&address, "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("application/openmetrics-text"), "{answer}");
    assert!(answer.contains(&line) && answer.trim_end().ends_with("# EOF"), "{answer}");
    assert!(get(&address, "/elsewhere").starts_with("HTTP/1.1 404"));
    drop(child);
    // A process that has ended is no reason to end, nor to say anything of it.
    while get(&address, "/metrics").contains(&line) {}
    assert!(get(&address, "/metrics").contains("fragbench_processes_watched 0"));
}

#[test]
fn scrapes_are_answered_whatever_other_clients_do() {
    let Some(prlimit) = program("prlimit") else { return };
    let child = sleeper();
    let (server, address) = exporting(&[&child.0.id().to_string()]);
    let figures = |when: &str| {
        let answer = get(&address, "/metrics");
        assert!(answer.contains("fragbench_heap_readable{"), "{when}: {answer}");
    };
    let send = |text: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    // None of these is closed before the end.
    let mut kept =
        vec![send("GET /metrics HT"), send("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")];
    figures("a request that is not finished, and an announced body");
    kept.extend((0..400).map(|_| send("")));
    figures("a burst of connections that say nothing");
    std::thread::scope(|scope| (0..200).for_each(|_| drop(scope.spawn(|| figures("200 at once")))));
    // No descriptor is left for a connection: accepting fails with EMFILE, for as long as that lasts.
    let limit = |limits: &str| {
        let of =
            Command::new(&prlimit).args(["--pid", &server.0.id().to_string(), &format!("--nofile={limits}")]).output();
        assert!(of.unwrap().status.success());
    };
    drop(kept);
    figures("before descriptors are short");
    limit("6:");
    let mut waiting = TcpStream::connect(&address).unwrap();
    write!(waiting, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let early = waiting.read(&mut [0; 16]);
    assert!(early.is_err(), "not accepted: {early:?}");
    limit("1024:");
    waiting.set_read_timeout(None).unwrap();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    figures("after descriptors were short");
}

#[test]
fn prometheus_itself_takes_the_figures() {
    let Some(prometheus) = program("prometheus") else { return };
    let child = sleeper();
    let pid = child.0.id().to_string();
    let (_server, address) = exporting(&[&pid]);
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("prometheus.yml");
    let scrape = format!("[{{job_name: heap, scrape_interval: 1s, static_configs: [{{targets: ['{address}']}}]}}]");
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../watch/prometheus/alerts.yml");
    std::fs::write(&config, format!("rule_files: ['{rules}']\nscrape_configs: {scrape}\n")).unwrap();
    // Freed just before it is taken; nobody else here asks for one meanwhile.
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut command = Command::new(prometheus);
    command.arg(format!("--config.file={}", config.display())).arg(format!("--web.listen-address={listen}"));
    command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
    let _scraping = Ended(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let asked = Instant::now();
    let query = format!("/api/v1/query?query=fragbench_heap_readable{{pid=%22{pid}%22}}");
    loop {
        if TcpStream::connect(&listen).is_ok() {
            let answer = get(&listen, &query);
            if answer.contains("\"name\":\"sleep\"") && answer.contains(",\"1\"]") {
                break;
            }
        }
        assert!(asked.elapsed() < Duration::from_secs(120), "Prometheus has not got it");
        std::thread::sleep(Duration::from_millis(100));
    }
    let malloc = get(&listen, &format!("/api/v1/query?query=fragbench_malloc_info{{pid=%22{pid}%22}}"));
    assert!(malloc.contains("\"malloc\":\"glibc\""), "{malloc}");
}

#[test]
fn a_heap_of_another_malloc_is_not_readable() {
    let Some(library) = common::library("libjemalloc.so.2") else { return };
    let child = Ended(Command::new("sleep").arg("1000").env("LD_PRELOAD", library).spawn().unwrap());
    let pid = child.0.id().to_string();
    while !std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().contains("libc.so") {
        std::thread::yield_now();
    }
    let text = succeed(&["export", &pid, "--once"]);
    for line in [
        format!("fragbench_heap_readable{{pid=\"{pid}\",name=\"sleep\"}} 0"),
        format!("fragbench_malloc_info{{pid=\"{pid}\",name=\"sleep\",malloc=\"jemalloc\"}} 1"),
    ] {
        assert!(text.contains(&line), "{line} in {text}");
    }
    assert!(
        !text.contains("fragbench_heap_bytes{") && !text.contains("fragbench_trim_predicted_release_bytes{"),
        "{text}"
    );
    let watched = succeed(&["watch", &pid, "--readings", "1"]);
    assert!(watched.contains("jemalloc"), "why there is no heap: {watched}");
}

#[test]
fn a_name_may_be_any_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let source = r#"#include <stdio.h>
        #include <sys/prctl.h>
        #include <unistd.h>
        int main(void) {
            prctl(PR_SET_NAME, "na\xffme\033[31m\nx");
            puts("named");
            fflush(stdout);
            pause();
        }"#;
    let Some(binary) = compiled(dir.path(), "named", source, &[]) else { return };
    let mut child = Ended(Command::new(binary).stdout(Stdio::piped()).spawn().unwrap());
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let pid = child.0.id().to_string();
    let file = dir.path().join("r.jsonl");
    succeed(&["watch", &pid, "--readings", "1", "--record", arg(&file)]);
    let kept = json(std::fs::read_to_string(&file).unwrap().trim_end());
    assert_eq!(kept["name"], "na\\xffme\u{1b}[31m\nx");
    let raw = std::ffi::OsStr::from_bytes(b"na\xffme\x1b[31m\nx");
    for name in [raw, "na\\xffme\u{1b}[31m\nx".as_ref()] {
        let output = fragbench().args(["export", "--once", "--name"]).arg(name).output().unwrap();
        let text = common::stdout(&output);
        let line = format!("fragbench_heap_readable{{pid=\"{pid}\",name=\"na\\\\xffme\\u001b[31m\\nx\"}} 1");
        assert!(output.status.success() && text.contains(&line), "{line} in {text}\n{}", common::stderr(&output));
    }
    let shown = succeed(&["report", arg(&file)]);
    assert!(!shown.contains('\u{1b}') && shown.contains("na\\xffme"), "{shown}");
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
    refuse(1, &["watch", "999999999"], &["999999999", "there is no process"]);
    refuse(1, &["export", "999999999", "--once"], &["no such process"]);
    refuse(1, &["export", "999999999"], &["no such process: 999999999", "--name"]);
    refuse(1, &["export", "--name", "nobody-is-called", "--once"], &["no such process", "ps -e"]);
    refuse(2, &["export"], &["PID"]);
    refuse(2, &["export", "1", "--listen", "everywhere"], &["everywhere", "127.0.0.1:9899"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refuse(2, &["export", &std::process::id().to_string(), "--listen", &address], &[&address, "choose another"]);
}
