//! What recording costs: pairs of malloc and free in a child process with and without the recorder preloaded, each
//! measured by the child itself over its inner loop. The two take turns, so the ratio printed at the end is of runs
//! that shared the machine's moods.
//!
//! The child is the target program `pairs` (two threads, 16 to 1024 bytes, 10,000 live slots a thread), once writing
//! the first byte of each block and once all of it. Needs the recorder (`cargo build --release`) and a C compiler.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

/// Pairs a thread in one run of the child; the ratio's runs take five times as many.
const PAIRS: u64 = 1_000_000;
const ROUNDS: usize = 7;

fn recorder() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let deps = exe.parent()?;
    [deps.parent()?, deps].map(|d| d.join("libfragbench_recorder.so")).into_iter().find(|p| p.exists())
}

fn compile(out: &Path) -> bool {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../harness/recorder/targets/pairs.c");
    Command::new("cc").args(["-O2", "-pthread", "-o"]).arg(out).arg(source).status().is_ok_and(|s| s.success())
}

/// The pair benchmark and where its spools go.
struct Child {
    exe: PathBuf,
    dir: PathBuf,
    recorder: PathBuf,
}

impl Child {
    /// Nanoseconds a pair, of wall time.
    fn run(&self, pairs: u64, fill: bool, recorded: bool) -> f64 {
        let mut command = Command::new(&self.exe);
        command.arg("2").arg(pairs.to_string()).arg("10000").args(fill.then_some("fill"));
        if recorded {
            command.env("LD_PRELOAD", &self.recorder).env("FRAGBENCH_SPOOL", self.dir.join("spool"));
        }
        let output = command.output().expect("the compiled child runs");
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|e| e == "spool") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let text = String::from_utf8_lossy(&output.stdout);
        text.split_whitespace().next().and_then(|n| n.parse().ok()).expect("the child prints its time")
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn recording(c: &mut Criterion) {
    let Some(recorder) = recorder() else {
        eprintln!("skipped: libfragbench_recorder.so not found; run `cargo build --release` first");
        return;
    };
    let dir = std::env::temp_dir().join(format!("fragbench-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    let child = Child { exe: dir.join("pairs"), dir: dir.clone(), recorder };
    if compile(&child.exe) {
        let mut group = c.benchmark_group("recorder/pair");
        group.sample_size(10).measurement_time(Duration::from_secs(5));
        for (name, fill, recorded) in [
            ("plain/first-byte", false, false),
            ("recorded/first-byte", false, true),
            ("plain/whole-block", true, false),
            ("recorded/whole-block", true, true),
        ] {
            group.bench_function(name, |b| {
                b.iter_custom(|iterations| {
                    let ns: f64 = (0..iterations).map(|_| child.run(PAIRS, fill, recorded)).sum();
                    Duration::from_nanos(ns as u64)
                });
            });
        }
        group.finish();
        for (name, fill) in [("first byte written", false), ("whole block written", true)] {
            let rounds: Vec<(f64, f64)> =
                (0..ROUNDS).map(|_| (child.run(5 * PAIRS, fill, false), child.run(5 * PAIRS, fill, true))).collect();
            let ratio = median(rounds.iter().map(|(plain, recorded)| recorded / plain).collect());
            let event = median(rounds.iter().map(|(plain, recorded)| (recorded - plain) / 2.0).collect());
            let plain = median(rounds.iter().map(|(plain, _)| *plain).collect());
            println!("{name}: {plain:.1} ns a pair, recorded {ratio:.2} times that, {event:.1} ns an event");
        }
    } else {
        eprintln!("skipped: cc not found");
    }
    let _ = std::fs::remove_dir_all(&dir);
}

criterion_group!(benches, recording);
criterion_main!(benches);
