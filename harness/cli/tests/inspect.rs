//! `fragbench inspect` on processes with a known heap, and on what cannot be inspected.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{arg, json, refuse, run, stdout, succeed};

/// A program that holds 16 MiB below one block; where it runs as somebody else is said by the flags.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    static void *blocks[16384];
    for (int i = 0; i < 16384; i++)
        memset(blocks[i] = malloc(1000), 0x5a, 1000);
    strcpy(malloc(1100), "a secret of the program");
    for (int i = 0; i < 16384; i++)
        free(blocks[i]);
    if (argc > 1 && setuid(65534))
        return 1;
    (void)argv;
    if (write(1, "\n", 1) != 1)
        return 1;
    pause();
}
"#;

struct Subject(Child);

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn compile(dir: &Path) -> PathBuf {
    common::compiled(dir, "pinned", PROGRAM, &[]).expect("the build needs a C compiler")
}

/// Made by a process of its own: a file open for writing here would be inherited by what other tests start, and be busy.
fn copy_of_fragbench(to: &Path) {
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_fragbench")).arg(to).status().unwrap().success());
}

/// Starts it and waits until its heap is made.
fn start(program: &Path, arguments: &[&str]) -> Subject {
    let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    Subject(child)
}

#[test]
fn a_process_is_told_what_holds_its_memory() {
    let dir = tempfile::tempdir().unwrap();
    let subject = start(&compile(dir.path()), &[]);
    let pid = subject.0.id().to_string();
    let svg = dir.path().join("map.svg");
    let text = succeed(&["inspect", "--svg", arg(&svg), "--pss", &pid]);
    for part in [
        "retention below pins",
        "fragbench trim",
        "looks like `fragbench badcase pinned-top`",
        "From address space to live bytes",
        "malloc_trim(0) would give back",
        "main arena at",
        "1 × 1120 B, live",
        "keeps 15",
        "pss:",
        "the process was not stopped",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert!(std::fs::read_to_string(svg).unwrap().contains("main arena"));
    assert!(!text.contains("begins"), "contents are shown only when asked for");
    let shown = succeed(&["inspect", "--with-contents", &pid]);
    assert!(shown.contains("6120736563726574"), "{shown}");

    let now = json(&succeed(&["inspect", "--format", "json", "--surveys", "3", &pid]));
    assert_eq!(now["pid"].to_string(), pid);
    let heap = &now["heap"];
    let live = heap["live_bytes"].as_u64().unwrap();
    assert!((1120..4096).contains(&live), "{heap}");
    assert_eq!(now["coverage_ratio"], 1.0);
    assert_eq!(now["verdict"]["kind"], "pinned_retention");
    let release = now["trim"]["predicted_release_bytes"].as_u64().unwrap();
    assert!(release > 16_000_000, "{}", now["trim"]);
    assert_eq!(now["spread"]["live_bytes"]["least"], now["spread"]["live_bytes"]["most"]);
    assert_eq!(now["verdict"]["resembles"], "pinned-top");
}

#[test]
fn a_stopped_process_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let subject = start(&compile(dir.path()), &[]);
    let pid = subject.0.id().to_string();
    let now = json(&succeed(&["inspect", "--freeze", "--format", "json", &pid]));
    assert!(now["stopped_ms"].as_f64().unwrap() >= 0.0);
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    while stat().contains(") T ") {
        std::thread::yield_now();
    }
}

#[test]
fn a_capture_says_what_the_process_did_and_keeps_nothing_of_its_contents() {
    let dir = tempfile::tempdir().unwrap();
    let subject = start(&compile(dir.path()), &[]);
    let pid = subject.0.id().to_string();
    let ticket = dir.path().join("ticket");
    let live = json(&succeed(&["inspect", "--capture", arg(&ticket), "--format", "json", &pid]));
    let again = json(&succeed(&["inspect", "--format", "json", arg(&ticket)]));
    for part in ["heap", "trim", "arenas", "sizes", "settings", "retained", "waterfall"] {
        assert_eq!(live[part], again[part], "{part}");
    }
    assert_eq!(live["verdict"]["kind"], again["verdict"]["kind"]);
    let memory = ticket.join("memory.zst");
    assert!(std::fs::metadata(&memory).unwrap().len() < 64 << 10);
    let hex = succeed(&["inspect", "--with-contents", arg(&ticket)]);
    assert!(!hex.contains("6120736563726574"), "{hex}");
    refuse(1, &["inspect", "--capture", arg(&ticket), &pid], &["new or empty directory"]);
    refuse(2, &["inspect", "--watch", "1s", arg(&ticket)], &["for a process that runs"]);
}

#[test]
fn a_core_of_the_process_is_read_and_a_short_one_too() {
    let Some(gdb) = common::program("gdb") else { return };
    let dir = tempfile::tempdir().unwrap();
    let subject = start(&compile(dir.path()), &[]);
    let pid = subject.0.id().to_string();
    let core = dir.path().join("core");
    let made = Command::new(gdb)
        .args(["-batch", "-nx", "-p", &pid, "-ex", &format!("generate-core-file {}", arg(&core))])
        .output()
        .unwrap();
    assert!(core.exists(), "{made:?}");
    let live = json(&succeed(&["inspect", "--format", "json", &pid]));
    let read = json(&succeed(&["inspect", "--format", "json", arg(&core)]));
    for part in ["system_bytes", "live_bytes", "free_bytes", "tcache_bytes", "top_bytes", "unknown_bytes"] {
        assert_eq!(live["heap"][part], read["heap"][part], "{part}");
    }
    assert_eq!(read["trim"]["residency_known"], false);
    assert_eq!(read["verdict"]["kind"], "pinned_retention");
    let length = std::fs::metadata(&core).unwrap().len();
    let bytes = std::fs::read(&core).unwrap();
    for share in [9, 5, 2] {
        std::fs::write(&core, &bytes[..(length * share / 10) as usize]).unwrap();
        let cut = json(&stdout(&run(&["inspect", "--format", "json", arg(&core)])));
        assert!(cut["lacks"].to_string().contains("cut short"), "{cut}");
    }
}

#[test]
fn without_the_right_it_says_which_is_missing() {
    // Only root can be somebody else.
    if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) != 0 {
        return common::skip("not root");
    }
    let dir = tempfile::tempdir().unwrap();
    let subject = start(&compile(dir.path()), &[]);
    let pid = subject.0.id().to_string();
    let program = dir.path().join("fragbench");
    copy_of_fragbench(&program);
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output =
        Command::new(&program).args(["inspect", "--format", "json", &pid]).uid(65534).gid(65534).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let seen = json(&stdout(&output));
    assert!(seen["rss_bytes"].as_u64().unwrap() > 16_000_000, "the kernel's totals are everybody's: {seen}");
    assert_eq!(seen["heap"], serde_json::Value::Null);
    assert_eq!(seen["verdict"]["kind"], "not_enough_data");
    assert!(seen["lacks"].to_string().contains("runs as user 0, this one as user 65534"), "{seen}");
}

#[test]
fn what_cannot_be_inspected_is_named() {
    refuse(1, &["inspect", "999999999"], &["there is no process 999999999"]);
    refuse(2, &["inspect", "no-such-file"], &["no-such-file", "neither the number of a process, nor a core"]);
    refuse(1, &["inspect", env!("CARGO_BIN_EXE_fragbench")], &["no core"]);
    if Path::new("/proc/2/exe").symlink_metadata().is_ok()
        && std::fs::read("/proc/2/cmdline").is_ok_and(|c| c.is_empty())
    {
        refuse(1, &["inspect", "2"], &["thread of the kernel"]);
    }
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    while !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ") {
        std::thread::yield_now();
    }
    refuse(1, &["inspect", &pid.to_string()], &["has ended and waits for its parent"]);
    child.wait().unwrap();
}

#[test]
fn two_saved_inspections_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let subject = start(&compile(dir.path()), &[]);
    let pid = subject.0.id().to_string();
    let (first, second) = (dir.path().join("first.json"), dir.path().join("second.json"));
    let mut later = json(&succeed(&["inspect", "--format", "json", &pid]));
    std::fs::write(&first, later.to_string()).unwrap();
    // As if the program had taken 30 MiB and kept them.
    for figure in ["live_bytes", "resident_bytes", "system_bytes"] {
        later["heap"][figure] = (later["heap"][figure].as_u64().unwrap() + (30 << 20)).into();
    }
    later["rss_bytes"] = (later["rss_bytes"].as_u64().unwrap() + (30 << 20)).into();
    std::fs::write(&second, later.to_string()).unwrap();
    let same = json(&succeed(&["inspect", "--format", "json", "--compare", arg(&first), arg(&first)]));
    assert_eq!(same["verdict"]["kind"], "pinned_retention");
    let grown = succeed(&["inspect", "--compare", arg(&first), arg(&second)]);
    assert!(grown.contains("leak or growth: Live memory has risen by 30.0 MiB"), "{grown}");
    let watched = json(&succeed(&["inspect", "--watch", "100ms", "--format", "json", &pid]));
    assert_eq!(watched["verdict"]["kind"], "pinned_retention");
    refuse(2, &["inspect", "--compare", arg(&first), "no-such.json"], &["no-such.json"]);
    std::fs::write(&second, "{}").unwrap();
    refuse(
        2,
        &["inspect", "--compare", arg(&first), arg(&second)],
        &["second.json", "fragbench inspect --format json"],
    );
}

#[test]
fn the_process_is_asked_itself_when_that_is_wanted() {
    if common::program("gdb").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let subject = start(&compile(dir.path()), &[]);
    let pid = subject.0.id().to_string();
    let asked = json(&succeed(&["inspect", "--malloc-info", "--format", "json", &pid]));
    assert!(asked["malloc_info"]["xml"].as_str().unwrap().contains("<malloc version"), "{asked}");
}

#[test]
fn the_rights_that_are_advised_are_enough_and_fewer_are_not() {
    let Some(setpriv) = common::program("setpriv") else { return };
    if !std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        return eprintln!("skipped: only root can take rights away");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // Of root's, and one that has changed its user: nobody else's, and not dumpable.
    let program = compile(dir.path());
    let own = dir.path().join("fragbench");
    copy_of_fragbench(&own);
    for arguments in [&[][..], &["nobody"]] {
        let subject = start(&program, arguments);
        let pid = subject.0.id().to_string();
        let with = |rights: &str| {
            let output = Command::new(&setpriv)
                .args(["--reuid=1234", "--clear-groups", "--inh-caps", rights, "--ambient-caps", rights])
                .arg(&own)
                .args(["inspect", &pid])
                .output()
                .unwrap();
            (output.status.code(), stdout(&output))
        };
        let (status, text) = with("+sys_ptrace,+dac_read_search");
        assert!(status == Some(0) && text.contains("retention below pins"), "{text}");
        let (_, text) = with("+sys_ptrace");
        assert!(text.contains("cap_dac_read_search") && !text.contains("security module"), "{text}");
        let (status, text) = with("-all");
        assert!(status == Some(1) && text.contains("cap_sys_ptrace,cap_dac_read_search+ep"), "{text}");
    }
}
