//! Processes whose names are no text: the kernel keeps 15 bytes of whatever a program calls itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{arg, json, program, run, stderr, succeed};

/// Names itself as its argument says, leaves 16 MiB for trimming, says so, and waits or ends.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int argc, char **argv) {
    static void *blocks[16384];
    prctl(PR_SET_NAME, argv[1][0] == 'b'   ? "\xff\xfe\x80) R 1\n"
                       : argv[1][0] == 'o' ? "\033[2J\n\342\200\256x"
                                           : "fourteen bytes\xc3\xa9");
    for (int i = 0; i < 16384; i++)
        memset(blocks[i] = malloc(1000), 0x5a, 1000);
    malloc(1100);
    for (int i = 0; i < 16384; i++)
        free(blocks[i]);
    if (write(1, "\n", 1) != 1)
        return 1;
    argc > 2 ? usleep(300000) : pause();
    return 0;
}
"#;

/// Bytes that are no letters, and a letter cut in its middle.
const NAMES: [&str; 2] = ["bytes", "cut"];

fn compile(dir: &Path) -> Option<PathBuf> {
    common::compiled(dir, "named", PROGRAM, &["-fno-builtin", "-w"])
}

struct Subject(Child);

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_is_inspected_and_trimmed_whatever_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = compile(dir.path()) else { return };
    for name in NAMES {
        let mut child = Command::new(&file).arg(name).stdout(Stdio::piped()).spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let subject = Subject(child);
        let pid = subject.0.id().to_string();
        let seen = json(&succeed(&["inspect", "--pss", "--freeze", "--format", "json", &pid]));
        assert!(seen["heap"]["free_bytes"].as_u64().unwrap() > 15 << 20, "{name}: {seen}");
        assert!(!seen["program"].as_str().unwrap().is_empty(), "{name}");
        succeed(&["inspect", &pid]);
        let capture = dir.path().join(format!("capture-{name}"));
        succeed(&["inspect", "--capture", arg(&capture), &pid]);
        let again = json(&succeed(&["inspect", "--format", "json", arg(&capture)]));
        assert_eq!(again["heap"], seen["heap"], "{name}");
        if program("gdb").is_some() {
            let trimmed = json(&succeed(&["trim", "--format", "json", &pid]));
            assert!(trimmed["released_bytes"].as_u64().unwrap() > 14 << 20, "{name}: {trimmed}");
        }
    }
}

#[test]
fn a_name_is_shown_and_obeyed_in_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = compile(dir.path()) else { return };
    let mut child = Command::new(&file).arg("orders").stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let subject = Subject(child);
    let pid = subject.0.id().to_string();
    let shown = succeed(&["inspect", &pid]);
    assert!(shown.starts_with(r"\u001b[2J\n\u202ex (pid "), "{shown}");
    for verb in
        [&["inspect", "--format", "json", &pid][..], &["watch", "--readings", "1", &pid], &["export", "--once", &pid]]
    {
        let shown = succeed(verb);
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{verb:?}: {shown}");
    }
}

#[test]
fn memory_is_sampled_whatever_the_name_and_trouble_with_it_leaves_the_recording() {
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = compile(dir.path()) else { return };
    for name in NAMES {
        let (trace, samples) = (dir.path().join("t.fbt"), dir.path().join("samples.csv"));
        succeed(&["record", "--memory", arg(&samples), "-o", arg(&trace), "--", arg(&file), name, "end"]);
        let lines = std::fs::read_to_string(&samples).unwrap().lines().count();
        assert!(lines > 3, "{name}: {lines} lines");
    }
    let trace = dir.path().join("full.fbt");
    let output = run(&["record", "--memory", "/dev/full", "-o", arg(&trace), "--", arg(&file), "bytes", "end"]);
    assert!(output.status.success() && stderr(&output).contains("--memory"), "{}", stderr(&output));
    let info = json(&succeed(&["trace", "info", "--format", "json", arg(&trace)]));
    assert!(info["complete"] == true && info["events"].as_u64().unwrap() > 32_000, "{info}");
}
