//! A recording is packed while the program runs: the spool's space is given back, and who kills `fragbench record` loses
//! nothing of what the program did before and after.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use common::{arg, compiled, fragbench, json, succeed};

/// Two threads replace blocks until standard input ends, then it says how many calls they made.
const PROGRAM: &str = r#"
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static atomic_int stop;
static atomic_long calls;
static void *work(void *arg) {
    static _Thread_local char *live[1000];
    uint64_t s = (uintptr_t)arg * 0x9E3779B97F4A7C15u + 1;
    long made = 0;
    while (!atomic_load(&stop)) {
        for (int i = 0; i < 4000; i++) {
            s ^= s << 13, s ^= s >> 7, s ^= s << 17;
            int k = (s >> 32) % 1000;
            made += 1 + (live[k] != NULL);
            free(live[k]);
            live[k] = malloc(16 + s % 1000);
        }
        struct timespec rest = {0, 300000};
        nanosleep(&rest, NULL);
    }
    atomic_fetch_add(&calls, made);
    return NULL;
}
int main(void) {
    pthread_t t[2];
    for (long i = 0; i < 2; i++) pthread_create(&t[i], NULL, work, (void *)(i + 1));
    char c;
    while (read(0, &c, 1) > 0) {}
    atomic_store(&stop, 1);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    printf("%ld\n", atomic_load(&calls));
    return 0;
}
"#;

struct Recording {
    dir: tempfile::TempDir,
    child: Child,
    trace: PathBuf,
    spool: PathBuf,
}

/// Records the program until some of its spool has been given back.
fn begin() -> Option<Recording> {
    let dir = tempfile::tempdir().unwrap();
    let built = compiled(dir.path(), "endless", PROGRAM, &["-O1", "-fno-builtin", "-pthread"])?;
    let trace = dir.path().join("endless.fbt");
    let mut command = fragbench();
    command.args(["record", "-o", arg(&trace), "--", arg(&built)]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let spools = dir.path().join(format!("endless.fbt.{}.spools", child.id()));
    let spool = loop {
        assert!(child.try_wait().unwrap().is_none(), "it goes on until its input ends");
        let entries = std::fs::read_dir(&spools).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut begun = entries.filter(|path| path.extension().is_some_and(|kind| kind == "state"));
        if let Some(state) = begun.next() {
            let spool = state.with_extension("");
            let held = std::fs::metadata(&spool).unwrap();
            // Given back after the state is written.
            if held.blocks() * 512 + (4 << 20) < held.len() {
                break spool;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Some(Recording { dir, child, trace, spool })
}

/// The program's input ends; the calls it says it made.
fn end(child: &mut Child) -> u64 {
    drop(child.stdin.take());
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    said.trim().parse().unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

fn check(trace: &Path, calls: u64) {
    let info = json(&succeed(&["trace", "info", arg(trace), "--format", "json"]));
    // A few more are made by libc for threads and streams.
    let events = info["events"].as_u64().unwrap();
    assert!((calls..calls + 50).contains(&events), "{calls} {info}");
    assert_eq!((&info["complete"], &info["damage"]), (&true.into(), &json("[]")), "{info}");
    for none in ["unseen_frees", "unresolved", "lost_events"] {
        assert_eq!(info["totals"][none], 0, "{none}: {info}");
    }
    succeed(&["trace", "stat", arg(trace)]);
}

#[test]
fn the_spool_is_given_back_and_the_trace_is_whole() {
    let Some(mut recording) = begin() else { return };
    let calls = end(&mut recording.child);
    let output = recording.child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", common::stderr(&output));
    check(&recording.trace, calls);
    let left: Vec<_> = std::fs::read_dir(recording.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "source, program and trace: {left:?}");
}

#[test]
fn a_killed_recorder_loses_nothing() {
    let Some(mut recording) = begin() else { return };
    // Waiting would close the program's input, which ends it.
    let input = recording.child.stdin.take();
    recording.child.kill().unwrap();
    recording.child.wait().unwrap();
    recording.child.stdin = input;
    // The program goes on, and so does its spool.
    let len = || recording.spool.metadata().unwrap().len();
    let killed = len();
    while len() == killed {
        std::thread::sleep(Duration::from_millis(5));
    }
    let calls = end(&mut recording.child);
    for name in ["a.fbt", "b.fbt"] {
        let trace = recording.dir.path().join(name);
        succeed(&["trace", "pack", arg(&recording.spool), "-o", arg(&trace)]);
        check(&trace, calls);
    }
}
