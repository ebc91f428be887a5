//! The virtual clock in the real worker: an allocator's own threads live by recorded time, in whichever way they wait, and none
//! of them stops the replay. `allocator.c` is the C library's malloc with such a thread. Needs a C compiler, as the build of the
//! bundled allocators does.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fragbench_model::{Command as Order, Done, Driver, Message, Pace, RunSpec, SCHEMA, WorkloadSpec};
use fragbench_trace::synth::{Shape, program};
use fragbench_trace::{PackOptions, Totals, pack_source};

/// Every wait of `allocator.c` is this long.
const STEP_NS: u64 = 500_000_000;
/// Bounds a run that never ends; nothing is asserted about time.
const WATCHDOG_S: &str = "120";

fn built(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent().unwrap().parent().unwrap().join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --release` first", path.display());
    path
}

struct Bench {
    dir: tempfile::TempDir,
    duration_us: u64,
    trace: PathBuf,
}

impl Bench {
    /// A recording of five threads that lasts some seconds.
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join("t.fbt");
        let shape = Shape {
            threads: 5,
            events: 60_000,
            live: 200,
            max_size: 3_000,
            cross: 150,
            ticks: 400_000,
            ..Shape::default()
        };
        let known = Totals { complete: true, ..Totals::default() };
        let report = pack_source(&program(&shape), &trace, &PackOptions::default(), known).unwrap();
        let duration_us = report.totals.duration_us;
        assert!(duration_us > 3_000_000, "{duration_us}");
        Bench { dir, duration_us, trace }
    }

    /// A storm of connections on a real server, after which several hundred MiB are free.
    fn storm() -> Bench {
        let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/connection-storm.fbt");
        Bench { trace, ..Bench::new() }
    }

    fn allocator(&self) -> PathBuf {
        let library = self.dir.path().join("liballocator.so");
        if !library.exists() {
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/allocator.c");
            fragbench_test_support::compile("cc", &["-shared", "-fPIC"], Path::new(source), &library).unwrap();
        }
        library
    }

    /// Runs the worker as its parent would; answers its last word and anonymous memory at each barrier, in kB.
    fn run(&self, pace: Pace, library: &Path, variables: &[(&str, &str)]) -> (Done, Vec<(String, u64)>) {
        let spec = RunSpec {
            schema: SCHEMA,
            workload: WorkloadSpec::Replay {
                trace: self.trace.clone(),
                pace,
                skew_us: 0,
                threads_scale: 1,
                same_load: Vec::new(),
            },
            seed: 1,
            idle_ms: 12_000,
            driver: Driver { latency_every: 0, monitor_calls: 1_000, ..Driver::default() },
        };
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", WATCHDOG_S, "env"]);
        command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        command.arg(format!("LD_PRELOAD={}", library.display())).arg(built("fragbench-worker"));
        let mut worker = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = worker.stdin.take().unwrap();
        writeln!(input, "{}", serde_json::to_string(&spec).unwrap()).unwrap();
        let (mut pid, mut resident) = (0, Vec::new());
        for line in BufReader::new(worker.stdout.take().unwrap()).lines() {
            match serde_json::from_str(&line.unwrap()).unwrap() {
                Message::Hello(hello) => pid = hello.pid,
                Message::Barrier { name, .. } => {
                    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                    let anonymous = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
                    resident.push((name, anonymous.split_whitespace().nth(1).unwrap().parse().unwrap()));
                }
                Message::Done(done) => {
                    assert!(worker.wait().unwrap().success());
                    return (done, resident);
                }
                Message::Phase { .. } => continue,
                other => panic!("{other:?}"),
            }
            writeln!(input, "{}", serde_json::to_string(&Order::Continue).unwrap()).unwrap();
        }
        panic!("the worker left without a last word ({variables:?}): {:?}", worker.wait().unwrap());
    }

    /// The moments at which the thread of `allocator.c` came back from its waits, monotonic nanoseconds.
    fn turns(&self, way: &str) -> Vec<u64> {
        let log = self.dir.path().join(way);
        self.run(
            Pace::Virtual,
            &self.allocator(),
            &[("CLOCK_TEST_WAIT", way), ("CLOCK_TEST_LOG", log.to_str().unwrap())],
        );
        let mut offset = None;
        std::fs::read_to_string(&log)
            .unwrap()
            .lines()
            .map(|line| {
                let [monotonic, real_us, of_day_us] =
                    line.split(' ').map(|v| v.parse::<u64>().unwrap()).collect::<Vec<_>>()[..]
                else {
                    panic!("{line}")
                };
                assert_eq!(
                    real_us, of_day_us,
                    "two calls, one clock: it stands while a thread of the allocator's runs"
                );
                // Rounding moves it by one.
                let ahead = real_us - monotonic / 1000;
                assert!(offset.get_or_insert(ahead).abs_diff(ahead) <= 1, "{line}: {offset:?}");
                monotonic
            })
            .collect()
    }
}

#[test]
fn a_thread_of_the_allocators_comes_back_at_each_of_its_moments() {
    let bench = Bench::new();
    for way in
        ["nanosleep", "usleep", "clock_nanosleep", "sem_timedwait", "pthread_cond_timedwait", "pthread_cond_clockwait"]
    {
        let turns = bench.turns(way);
        // The recording, 12 s untouched and 12 s polled; the first wait may have begun under the wall's clock.
        let expected = (bench.duration_us * 1000 + 24_000_000_000) / STEP_NS;
        assert!(turns.len().abs_diff(expected as usize) <= 2, "{way}: {} of {expected}", turns.len());
        for pair in turns[1..].windows(2) {
            // A realtime deadline is of microseconds.
            assert!((pair[1] - pair[0]).abs_diff(STEP_NS) < 2_000, "{way}: {pair:?}");
        }
    }
}

#[test]
fn no_way_of_waiting_stops_the_replay() {
    let bench = Bench::new();
    assert!(bench.turns("lock").len() > 10, "the owner of the lock slept on while others waited for it");
    assert_eq!(bench.turns("end").len(), 2, "and the replay went on without it");
    assert!(!bench.turns("signal").is_empty());
}

#[test]
fn jemallocs_own_threads_decay_by_recorded_time() {
    let bench = Bench::storm();
    let library = built("libfragbench_jemalloc.so");
    let conf = "background_thread:true";
    let (done, resident) = bench.run(Pace::Virtual, &library, &[("MALLOC_CONF", conf)]);
    assert_eq!(done.facts["clock_read"], 1.0);
    let at = |name: &str| resident.iter().find(|(phase, _)| phase == name).unwrap().1;
    // Nobody calls: what goes in the quiet stretch is the background threads' work.
    assert!(at("idle") < at("replay"), "{resident:?}");
    let (_, still) = bench.run(Pace::Virtual, &library, &[("MALLOC_CONF", "dirty_decay_ms:-1")]);
    let at = |name: &str| still.iter().find(|(phase, _)| phase == name).unwrap().1;
    assert!(at("idle") >= at("replay"), "{still:?}");
}

#[test]
fn mimalloc_gives_back_when_its_delay_has_passed() {
    let bench = Bench::storm();
    let library = built("libfragbench_mimalloc.so");
    let kept = |delay: &str| {
        let (done, resident) = bench.run(Pace::Virtual, &library, &[("MIMALLOC_PURGE_DELAY", delay)]);
        assert_eq!(done.facts["clock_read"], 1.0);
        resident.iter().find(|(phase, _)| phase == "replay").unwrap().1
    };
    // A delay longer than the recording is never over.
    let (soon, never) = (kept("1000"), kept("3600000"));
    assert!(3 * soon < 2 * never, "{soon} and {never} kB");
}

#[test]
fn an_allocator_that_reads_no_clock_is_known_by_that() {
    let bench = Bench::new();
    let (done, _) = bench.run(Pace::Virtual, &built("libfragbench_null.so"), &[]);
    assert_eq!(done.facts["clock_read"], 0.0);
}
