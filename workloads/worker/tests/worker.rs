//! The real worker as a child under glibc, driven over its pipes as the parent does.

// A test may end by panicking, its helpers as well.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command as Process, Stdio};

use fragbench_model::WorkerErrorKind;
use fragbench_model::{
    AllocatorKind, AllocatorStats, Command, Description, Done, Driver, Hello, Message, Pace, Purge, RunSpec, SCHEMA,
    Touch, WorkerError, WorkloadSpec,
};

const WORKER: &str = env!("CARGO_BIN_EXE_fragbench-worker");

fn named(name: &str, parameters: &[(&str, &str)]) -> RunSpec {
    let parameters = parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    RunSpec {
        schema: SCHEMA,
        workload: WorkloadSpec::Named { name: name.to_owned(), parameters, pace: Pace::Fast },
        seed: 1,
        idle_ms: 1,
        driver: Driver { threads: Some(4), latency_every: 0, epilogue: false, ..Driver::default() },
    }
}

/// The same work, done otherwise.
fn with(mut spec: RunSpec, change: impl FnOnce(&mut Driver)) -> RunSpec {
    change(&mut spec.driver);
    spec
}

fn small_oltp() -> RunSpec {
    named("mysql/oltp-read-write", &[("transactions", "20"), ("table_open_cache", "40"), ("tables", "2")])
}

struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(environment: &[(&str, &str)]) -> Worker {
        let mut process = Process::new(WORKER);
        process.envs(environment.iter().copied()).env_remove("LD_PRELOAD");
        Worker::of(process)
    }

    fn of(mut process: Process) -> Worker {
        let mut child = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Worker { child, input, output }
    }

    fn write(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn say(&mut self, command: Command) {
        self.write(&serde_json::to_string(&command).unwrap());
    }

    fn hear(&mut self) -> Message {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    fn hello(&mut self, spec: &RunSpec) -> Hello {
        self.write(&serde_json::to_string(spec).unwrap());
        match self.hear() {
            Message::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    fn stats(&mut self) -> AllocatorStats {
        self.say(Command::Stats);
        match self.hear() {
            Message::Stats(stats) => stats,
            other => panic!("{other:?}"),
        }
    }

    fn purge(&mut self, stall: bool) -> Purge {
        self.say(Command::Purge { stall });
        match self.hear() {
            Message::Purged(purge) => purge,
            other => panic!("{other:?}"),
        }
    }

    /// A line of `/proc/PID/status`, in kB.
    fn status(&self, key: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Says `continue` at each barrier after calling `at` with its name, to the end.
    fn finish(mut self, mut at: impl FnMut(&mut Worker, &str)) -> Done {
        self.say(Command::Continue);
        loop {
            match self.hear() {
                Message::Phase { .. } => {}
                Message::Barrier { name, .. } => {
                    at(&mut self, &name);
                    self.say(Command::Continue);
                }
                Message::Done(done) => {
                    assert!(self.child.wait().unwrap().success());
                    return done;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn error(mut self) -> WorkerError {
        let error = match self.hear() {
            Message::Error(error) => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(self.child.wait().unwrap().code(), Some(1));
        error
    }
}

#[test]
fn a_run_that_allocates_nothing_shows_almost_no_anonymous_memory() {
    let mut worker = Worker::start(&[]);
    let spec = with(named("empty", &[]), |driver| driver.threads = Some(16));
    worker.hello(&spec);
    let mut anonymous = 0;
    let done = worker.finish(|worker, _| anonymous = worker.status("RssAnon"));
    assert!((1..1024).contains(&anonymous), "RssAnon is {anonymous} kB");
    assert_eq!((done.ops, done.live_end_bytes, done.checksum, done.threads_started), (0, 0, 0, 16));
}

#[test]
fn address_space_of_the_harness_is_what_it_says() {
    let mut worker = Worker::start(&[]);
    let hello = worker.hello(&named("empty", &[]));
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", worker.child.id())).unwrap();
    let mapped: u64 = maps
        .lines()
        .filter(|line| line.contains("/memfd:fragbench"))
        .map(|line| {
            let (from, to) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
            u64::from_str_radix(to, 16).unwrap() - u64::from_str_radix(from, 16).unwrap()
        })
        .sum();
    assert_eq!(hello.harness_vm_bytes, mapped);
    worker.finish(|_, _| {});
}

#[test]
fn messages_come_in_their_order_and_probes_are_answered_at_barriers() {
    let mut worker = Worker::start(&[]);
    let spec = with(small_oltp(), |driver| (driver.epilogue, driver.latency_every) = (true, 10));
    let hello = worker.hello(&spec);
    // Four sessions, four purge threads, and the agent that watches.
    assert_eq!((hello.schema, hello.pid, hello.threads), (SCHEMA, worker.child.id(), 9));
    assert_eq!(hello.allocator.kind, AllocatorKind::Glibc);
    assert!(hello.timer_ns > 0.0 && hello.libc.build_id.is_some());
    let mut names = Vec::new();
    let mut purges = BTreeMap::new();
    let done = worker.finish(|worker, name| {
        names.push(name.to_owned());
        match name {
            "idle" => {
                purges.insert("first", worker.purge(false));
                purges.insert("second", worker.purge(false));
            }
            "resume" => {
                purges.insert("stall", worker.purge(true));
            }
            _ => assert!(worker.stats().free_bytes.is_some()),
        }
    });
    assert_eq!(names, ["warm-up", "connect", "steady", "peak", "disconnect", "idle", "resume"]);
    assert!(purges.values().all(|p| p.supported && p.call == "malloc_trim(0)" && p.duration_ns > 0));
    assert_eq!(purges["first"].stall_max_ns, None);
    assert!(purges["stall"].stall_max_ns > Some(0));
    let timed = done.latency.malloc.unwrap().count as f64;
    let expected = done.ops as f64 / 2.0 / 10.0;
    assert!((0.8..1.2).contains(&(timed / expected)), "{timed} of {expected} expected");
    assert_eq!(done.facts["transactions"], 80.0);
}

/// The figures that must agree between runs whatever the allocator does.
fn agreed(environment: &[(&str, &str)], spec: &RunSpec) -> (u64, u64, u64) {
    let mut worker = Worker::start(environment);
    worker.hello(spec);
    let done = worker.finish(|_, _| {});
    (done.ops, done.live_end_bytes, done.checksum)
}

#[test]
fn one_seed_makes_the_same_blocks_under_any_settings_and_another_seed_others() {
    let spec = small_oltp();
    let first = agreed(&[], &spec);
    assert!(first.0 > 10_000 && first.1 > 0, "{first:?}");
    assert_eq!(first, agreed(&[("MALLOC_ARENA_MAX", "1")], &spec));
    assert_eq!(first, agreed(&[("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")], &spec));
    assert_eq!(
        first,
        agreed(
            &[],
            &with(spec.clone(), |driver| {
                (driver.touch, driver.latency_every, driver.epilogue) = (Touch::None, 1, true);
            })
        )
    );
    assert_ne!(first.2, agreed(&[], &RunSpec { seed: 2, ..spec }).2);
}

#[test]
fn a_full_touch_and_threads_beyond_the_cache_work_too() {
    let mut spec = small_oltp();
    spec.driver.touch = Touch::Full;
    spec.driver.epilogue = true;
    if let WorkloadSpec::Named { parameters, .. } = &mut spec.workload {
        parameters.insert("thread_cache_size".to_owned(), "1".to_owned());
        parameters.insert("log_bin".to_owned(), "1".to_owned());
    }
    let (ops, live, _) = agreed(&[], &spec);
    assert!(ops > 10_000, "{ops}");
    // The server's own memory is left, and beside it table instances, shares and one cached session.
    assert!((45 << 20..60 << 20).contains(&live), "{live}");
}

fn at_end_of_phase(environment: &[(&str, &str)], spec: &RunSpec, phase: &str) -> AllocatorStats {
    let mut worker = Worker::start(environment);
    worker.hello(spec);
    let mut seen = None;
    worker.finish(|worker, name| {
        if name == phase {
            seen = Some(worker.stats());
        }
    });
    seen.unwrap()
}

#[test]
fn arenas_are_as_many_as_allowed() {
    let spec = with(small_oltp(), |driver| driver.threads = Some(6));
    for (limit, expected) in [("1", 1), ("2", 2), ("3", 3)] {
        let stats = at_end_of_phase(&[("MALLOC_ARENA_MAX", limit)], &spec, "connect");
        assert_eq!(stats.arena_count, Some(expected));
        assert_eq!(stats.arena_free_bytes.len(), expected as usize);
    }
}

#[test]
fn threads_fall_to_the_same_arenas_in_every_run() {
    // More threads than arenas: they share by the order in which they start.
    let spec = with(named("empty", &[]), |driver| driver.threads = Some(7));
    let environment = [("MALLOC_ARENA_MAX", "3")];
    let first = at_end_of_phase(&environment, &spec, "start");
    assert_eq!(first, at_end_of_phase(&environment, &spec, "start"));
    // Each thread in an arena of its own: what lies in it is its own doing.
    let spec = with(small_oltp(), |driver| driver.threads = Some(6));
    let environment = [("MALLOC_ARENA_MAX", "16")];
    let first = at_end_of_phase(&environment, &spec, "connect");
    assert_eq!(first.arena_count, Some(1 + 6 + 5), "main, sessions, the server's own threads");
    assert_eq!(first, at_end_of_phase(&environment, &spec, "connect"));
}

#[test]
fn a_closed_input_ends_the_worker_at_once_at_any_barrier() {
    let mut worker = Worker::start(&[]);
    worker.hello(&small_oltp());
    worker.input = None;
    assert_eq!(worker.child.wait().unwrap().code(), Some(1));

    let mut worker = Worker::start(&[]);
    worker.hello(&small_oltp());
    worker.say(Command::Continue);
    while !matches!(worker.hear(), Message::Barrier { .. }) {}
    worker.input = None;
    assert_eq!(worker.child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_specification_that_cannot_be_run_is_refused_with_its_reason() {
    let refused = |line: &str| {
        let mut worker = Worker::start(&[]);
        worker.write(line);
        worker.error()
    };
    let spec = |spec: RunSpec| serde_json::to_string(&spec).unwrap();
    let cases = [
        ("not json", "not JSON".to_owned()),
        (r#"{"schema": 99}"#, "schema 99".to_owned()),
        ("{}", "no schema".to_owned()),
        (&spec(named("mysql/oltp-read-writ", &[])), r#"did you mean "mysql/oltp-read-write"?"#.to_owned()),
        (
            &spec(named("mysql/oltp-read-write", &[("sort_bufer_size", "1M")])),
            r#"did you mean "sort_buffer_size"?"#.to_owned(),
        ),
        (&spec(named("mysql/oltp-read-write", &[("sort_buffer_size", "much")])), "sort_buffer_size=much".to_owned()),
        (&spec(with(small_oltp(), |driver| driver.threads = Some(0))), "0 threads".to_owned()),
        (&spec(with(small_oltp(), |driver| driver.scale = 0.0)), "scale 0".to_owned()),
        (&spec(small_oltp()).replace("seed", "sead"), "sead".to_owned()),
    ];
    for (line, expected) in cases {
        let error = refused(line);
        assert_eq!(error.kind, WorkerErrorKind::BadSpec, "{line}");
        assert!(error.text.contains(&expected), "{line}: {}", error.text);
    }
    let mut worker = Worker::start(&[]);
    worker.input = None;
    assert_eq!(worker.error().kind, WorkerErrorKind::BadSpec);
}

#[test]
fn memory_that_runs_out_is_told_with_the_size_that_was_refused() {
    let mut process = Process::new("sh");
    process.args(["-c", "ulimit -v 400000 && exec \"$0\"", WORKER]);
    let mut worker = Worker::of(process);
    worker.hello(&named("mysql/oltp-read-write", &[("query_prealloc_size", "8M"), ("tables", "50")]));
    worker.say(Command::Continue);
    loop {
        match worker.hear() {
            Message::Error(error) => {
                assert_eq!(error.kind, WorkerErrorKind::OutOfMemory);
                assert!(error.text.contains("refused 8388600 bytes"), "{}", error.text);
                break;
            }
            Message::Barrier { .. } => worker.say(Command::Continue),
            Message::Phase { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(worker.child.wait().unwrap().code(), Some(1));
}

#[test]
fn describe_lists_what_it_can_run() {
    let output = Process::new(WORKER).arg("--describe").output().unwrap();
    let facts: Description = serde_json::from_slice(&output.stdout).unwrap();
    assert!(facts.badcases.iter().all(|case| facts.workloads.iter().any(|fact| fact.name == case.workload())));
    assert!(facts.badcases.iter().any(|case| case.name == "pinned-top"));
    let oltp = facts.workloads.iter().find(|fact| fact.name == "mysql/oltp-read-write").unwrap();
    assert!(oltp.parameters.iter().any(|p| p.name == "sort_buffer_size" && p.default == "2M"));
    assert_eq!(Process::new(WORKER).arg("--nonsense").output().unwrap().status.code(), Some(2));
}
