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
    refuse(1, &["trim", "999999999"], &["999999999", "there is no process"]);
    refuse(2, &["trim", "all"], &["all"]);
    let me = std::process::id().to_string();
    refuse(1, &["trim", &me, "--gdb", "no-such-gdb"], &["no-such-gdb", "apt install gdb"]);
}

/// Frees 64 MiB and waits.
const FREED: &str = r#"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    static void *blocks[65536];
    for (int i = 0; i < 65536; i++)
        memset(blocks[i] = malloc(1000), 1, 1000);
    for (int i = 0; i < 65536; i++)
        free(blocks[i]);
    if (write(1, "\n", 1) != 1)
        return 1;
    pause();
}
"#;

#[test]
fn the_heap_that_malloc_is_gets_purged_and_a_heap_that_nobody_uses_is_said_to_be_one() {
    let Some(_) = program("gdb") else { return };
    let Some(jemalloc) = common::library("libjemalloc.so.2") else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = common::compiled(dir.path(), "freed", FREED, &["-fno-builtin"]) else { return };
    let mut command = Command::new(file);
    command.env("LD_PRELOAD", jemalloc).env("MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let pid = child.id().to_string();
    let vain = common::run(&["trim", "--allocator", "glibc", &pid]);
    let words = common::run(&["inspect", "--malloc-info", "--format", "json", &pid]);
    let purged = common::run(&["trim", &pid]);
    let json_too = common::run(&["trim", "--format", "json", &pid]);
    child.kill().unwrap();
    child.wait().unwrap();
    let text = common::stdout(&vain) + &common::stderr(&vain);
    assert_eq!(vain.status.code(), Some(1), "{text}");
    let words = json(&common::stdout(&words));
    assert!(words["allocator_stats"]["stats.resident"].as_u64().unwrap() > 40 << 20, "{words}");
    assert_eq!(words["verdict"]["kind"], "not_the_heap", "{words}");
    let text = common::stdout(&purged);
    assert!(purged.status.success() && text.contains("heap of jemalloc") && text.contains("stats.allocated"), "{text}");
    let value = json(&common::stdout(&json_too));
    assert_eq!(
        (value["allocator"].as_str(), value["released_bytes"].as_u64().map(|n| n < 4 << 20)),
        (Some("jemalloc"), Some(true))
    );
}
