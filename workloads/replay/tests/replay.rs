//! Replays in the real worker: every operation is done, under every allocator, whatever the threads do.
//! Needs `fragbench-worker` and the preload libraries beside the tests (`cargo build --release` makes them).
#![allow(clippy::unwrap_used)] // helpers of tests

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fragbench_model::WorkerErrorKind;
use fragbench_model::{
    Command as Order, Done, Driver, Message, Pace, RunSpec, SCHEMA, Touch, WorkerError, WorkloadSpec,
};
use fragbench_trace::spool::{SpoolEvent, SpoolKind};
use fragbench_trace::synth::{Program, Shape, producer_consumer, program};
use fragbench_trace::{PackOptions, PackReport, Totals, pack_source};

/// Where the build puts its results.
fn built(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent().unwrap().parent().unwrap().join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --release` first", path.display());
    path
}

struct Case {
    dir: tempfile::TempDir,
    report: PackReport,
}

impl Case {
    fn new(program: &Program) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let known = Totals { complete: true, ..Totals::default() };
        let report = pack_source(program, &dir.path().join("t.fbt"), &PackOptions::default(), known).unwrap();
        Case { dir, report }
    }

    fn trace(&self) -> PathBuf {
        self.dir.path().join("t.fbt")
    }

    fn spec(&self) -> RunSpec {
        spec(&self.trace(), Pace::Fast, 0, 1)
    }

    /// Checks that a run did what the trace says.
    fn check(&self, done: &Done, copies: u64) {
        let t = &self.report.totals;
        assert_eq!(done.ops, copies * (t.events - t.unseen_frees));
        assert_eq!(done.live_end_bytes, copies * t.live_end_bytes);
        assert_eq!(done.threads_started, copies * u64::from(t.threads) - 1);
        assert_eq!(done.facts["events"], (copies * t.events) as f64);
        assert_eq!(done.facts["skipped_unseen_frees"], (copies * t.unseen_frees) as f64);
    }
}

fn spec(trace: &Path, pace: Pace, skew_us: u64, threads_scale: u32) -> RunSpec {
    RunSpec {
        schema: SCHEMA,
        workload: WorkloadSpec::Replay { trace: trace.to_owned(), pace, skew_us, threads_scale, same_load: Vec::new() },
        seed: 1,
        idle_ms: 1,
        driver: Driver { latency_every: 0, epilogue: false, ..Driver::default() },
    }
}

/// Runs the worker as its parent would.
fn run(spec: &RunSpec, library: Option<&str>) -> Result<Done, WorkerError> {
    let mut command = Command::new(built("fragbench-worker"));
    if let Some(library) = library {
        command.env("LD_PRELOAD", built(library));
    }
    let mut worker = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = worker.stdin.take().unwrap();
    writeln!(input, "{}", serde_json::to_string(spec).unwrap()).unwrap();
    for line in BufReader::new(worker.stdout.take().unwrap()).lines() {
        match serde_json::from_str(&line.unwrap()).unwrap() {
            Message::Hello(_) | Message::Barrier { .. } => {
                writeln!(input, "{}", serde_json::to_string(&Order::Continue).unwrap()).unwrap();
            }
            Message::Done(done) => {
                assert!(worker.wait().unwrap().success());
                return Ok(done);
            }
            Message::Error(error) => {
                worker.wait().unwrap();
                return Err(error);
            }
            _ => {}
        }
    }
    panic!("the worker left without a last word: {:?}", worker.wait().unwrap());
}

#[test]
fn thousands_of_threads_live_at_once() {
    // More than any server is set up for by default; each has a line of the counter page.
    let case = Case::new(&program(&Shape { threads: 5_000, events: 40_000, live: 10, ..Shape::default() }));
    assert!(case.report.totals.threads_peak > 4_900);
    case.check(&run(&case.spec(), None).unwrap(), 1);
}

/// Threads that come and go and free and reallocate each other's blocks of all kinds.
fn lively(threads: usize, events: usize) -> Program {
    program(&Shape {
        threads,
        events,
        live: 50,
        max_size: 3_000,
        cross: 150,
        realloc: 100,
        special: 150,
        large: 2,
        thread_life: 300,
        ticks: 200,
        ..Shape::default()
    })
}

#[test]
fn every_allocator_does_the_same_work() {
    let case = Case::new(&lively(5, 60_000));
    let libraries =
        [None, Some("libfragbench_jemalloc.so"), Some("libfragbench_mimalloc.so"), Some("libfragbench_null.so")];
    let done = libraries.map(|library| run(&case.spec(), library).unwrap());
    for one in &done {
        case.check(one, 1);
        assert_eq!(one.checksum, done[0].checksum);
    }
}

#[test]
fn a_tight_window_keeps_the_live_peak() {
    // 12 MB in blocks of at most 3,000 bytes, of which some hundred change within 20 µs.
    let shape =
        Shape { threads: 4, events: 60_000, live: 2_000, max_size: 3_000, cross: 150, ticks: 200, ..Shape::default() };
    let case = Case::new(&program(&shape));
    assert!(case.report.totals.peak_live_bytes > 10_000_000);
    let mut spec = spec(&case.trace(), Pace::Fast, 20, 1);
    let done = run(&spec, None).unwrap();
    case.check(&done, 1);
    assert!(done.facts["live_peak_error_ratio"] <= 0.02, "{:?}", done.facts);
    for touch in [Touch::None, Touch::Header, Touch::Full] {
        spec.driver.touch = touch;
        assert_eq!(run(&spec, None).unwrap().checksum, done.checksum);
    }
}

#[test]
fn blocks_freed_on_another_thread_wait_for_no_more_than_themselves() {
    let case = Case::new(&producer_consumer(200_000, 100, 100));
    for skew in [1, 100, 1_000_000] {
        let done = run(&spec(&case.trace(), Pace::Fast, skew, 1), None).unwrap();
        case.check(&done, 1);
        assert_eq!(done.live_end_bytes, 0);
    }
}

#[test]
fn copies_are_as_many_programs_side_by_side() {
    let case = Case::new(&lively(3, 20_000));
    let done = run(&spec(&case.trace(), Pace::Fast, 0, 3), None).unwrap();
    case.check(&done, 3);
}

#[test]
fn the_recorded_pace_takes_the_recorded_time() {
    // 20,000 events 0.1 to 0.2 µs apart: about 3 ms. At a twentieth of the speed that is at least 40 ms.
    let case = Case::new(&lively(3, 20_000));
    let speed = 0.05;
    let done = run(&spec(&case.trace(), Pace::Recorded { speed }, 0, 1), None).unwrap();
    case.check(&done, 1);
    // The duration is told in whole microseconds, rounded up.
    let least_us = case.report.totals.duration_us - 1;
    assert!(done.work_ns as f64 >= least_us as f64 * 1e3 / speed);
}

#[test]
fn hundreds_of_threads_end_and_thousands_come_and_go() {
    let case = Case::new(&lively(300, 300_000));
    assert!(case.report.totals.threads > 900 && case.report.totals.threads_peak == 300);
    for skew in [0, 20] {
        let done = run(&spec(&case.trace(), Pace::Fast, skew, 1), None).unwrap();
        case.check(&done, 1);
    }
}

#[test]
fn work_can_be_resumed_after_the_end() {
    let case = Case::new(&lively(5, 60_000));
    let mut spec = case.spec();
    spec.driver.epilogue = true;
    let done = run(&spec, None).unwrap();
    case.check(&done, 1);
}

#[test]
fn unseen_blocks_are_skipped_and_a_first_thread_may_be_silent() {
    let at = |tsc, kind| SpoolEvent { tsc, kind };
    let threads = vec![
        vec![at(0, SpoolKind::ThreadStart)],
        vec![
            at(0, SpoolKind::ThreadStart),
            at(5_000, SpoolKind::Free { addr: 16 }),
            at(6_000, SpoolKind::Realloc { old: 32, new: 48, size: 100, began: 5_990, resident_pages: None }),
            at(7_000, SpoolKind::Malloc { addr: 64, size: 0 }),
            at(8_000, SpoolKind::ThreadExit),
        ],
    ];
    let case = Case::new(&Program { threads });
    let done = run(&case.spec(), None).unwrap();
    assert_eq!((done.ops, done.live_end_bytes, done.threads_started), (2, 100, 1));
    assert_eq!(done.facts["skipped_unseen_frees"], 1.0);
}

#[test]
fn the_programs_own_adjustments_of_glibc_are_made_where_malloc_is_glibcs() {
    let at = |tsc, kind| SpoolEvent { tsc, kind };
    let threads = vec![vec![
        at(0, SpoolKind::Mallopt { param: libc::M_MMAP_THRESHOLD, value: 1 << 20 }),
        at(7_000, SpoolKind::Malloc { addr: 64, size: 10 }),
        at(8_000, SpoolKind::Trim { pad: 0 }),
    ]];
    let case = Case::new(&Program { threads });
    let done = run(&case.spec(), None).unwrap();
    assert_eq!((done.ops, done.live_end_bytes), (1, 10));
    assert_eq!((done.facts["own_adjusts"], done.facts["own_adjusts_left_out"]), (2.0, 0.0));
}

#[test]
fn what_cannot_be_replayed_is_refused_with_the_reason() {
    let case = Case::new(&lively(3, 20_000));
    let whole = std::fs::read(case.trace()).unwrap();
    let refusal = |bytes: &[u8]| {
        let path = case.dir.path().join("bad.fbt");
        std::fs::write(&path, bytes).unwrap();
        let error = run(&spec(&path, Pace::Fast, 0, 1), None).unwrap_err();
        assert_eq!(error.kind, WorkerErrorKind::BadTrace);
        error.text
    };
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    assert!(refusal(&flipped).contains("offset"));
    assert!(refusal(&whole[..whole.len() / 2]).contains("offset"));
    assert!(refusal(b"").contains("empty"));
    assert!(refusal(b"#!/bin/sh\n").contains("not a fragbench trace"));
    let missing = run(&spec(Path::new("/nowhere/t.fbt"), Pace::Fast, 0, 1), None).unwrap_err();
    assert!(missing.kind == fragbench_model::WorkerErrorKind::BadTrace && missing.text.contains("/nowhere/t.fbt"));
    for bad in [spec(&case.trace(), Pace::Fast, 0, 0), spec(&case.trace(), Pace::Recorded { speed: 0.0 }, 0, 1)] {
        assert_eq!(run(&bad, None).unwrap_err().kind, WorkerErrorKind::BadSpec);
    }
}
