//! `fragbench trim` on real processes: a MariaDB after a connection storm, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use common::{json, program, refuse, succeed};

/// A private server that has been through a storm; it ends when this is dropped.
struct Stormed {
    child: Child,
    input: Option<ChildStdin>,
    pid: String,
}

impl Stormed {
    fn start(python: &std::path::Path) -> Stormed {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stormed.py");
        let mut child =
            Command::new(python).args(["-B", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let input = child.stdin.take();
        Stormed { child, input, pid: line.trim().to_owned() }
    }
}

impl Drop for Stormed {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_after_a_connection_storm_gives_back_what_was_predicted() {
    let (Some(python), Some(_), Some(_)) = (program("python3"), program("mariadbd"), program("gdb")) else { return };
    let server = Stormed::start(&python);
    assert!(server.pid.parse::<u32>().is_ok(), "the server did not start: {:?}", server.pid);
    let trimmed = json(&succeed(&["trim", &server.pid, "--format", "json"]));
    let number = |name: &str| trimmed[name].as_u64().unwrap_or_else(|| panic!("{name}: {trimmed}"));
    assert!(number("released_bytes") > 4 << 20, "the storm left little behind: {trimmed}");
    assert_eq!(number("released_bytes"), number("rss_before_bytes") - number("rss_after_bytes"), "{trimmed}");
    assert!(trimmed["prediction_error_ratio"].as_f64().unwrap() <= 0.02, "{trimmed}");
    assert!(trimmed["call_ms"].as_f64().unwrap() > 0.0 && trimmed["stopped_ms"].as_f64().unwrap() > 0.0, "{trimmed}");
    let text = succeed(&["trim", &server.pid]);
    for word in ["before", "after", "released", "predicted", "stood still", "live"] {
        assert!(text.contains(word), "{text}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid)).unwrap();
    assert!(status.contains("TracerPid:\t0\n") && !status.contains("State:\tT"), "{status}");
}

#[test]
fn what_cannot_be_trimmed_is_refused_with_the_next_step() {
    refuse(1, &["trim", "999999999"], &["999999999", "ended"]);
    refuse(2, &["trim", "all"], &["all"]);
    let me = std::process::id().to_string();
    refuse(1, &["trim", &me, "--gdb", "no-such-gdb"], &["no-such-gdb", "apt install gdb"]);
}
