//! The course of one run of a command: prepare, start, wait until ready, load, end, idle, stop, clean up, and a record of
//! whatever came of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fragbench_model::{
    Allocator, AllocatorAnswer, Caution, FailureKind, MachineLoad, Ready, RunRecord, RunStatus, SCHEMA, Sample,
    ServerSpec,
};
use regex::Regex;

use super::inside::Inside;
use super::launch::{End, Launched};
use super::metrics::{Seen, derive, user_figures};
use super::tree::{Spent, Tree};
use super::{CommandRun, MARK, words};
use crate::sys;
use crate::worker::{LoadMeter, failed};

/// Share of a core above which watching is remarked upon: the pace of looks and slow readings keeps each to 2 % (`tree.rs`), and
/// waking every 5 ms takes 1 %.
const WATCHING_LIMIT: f64 = 0.05;

/// Why a run has no figures.
type Stop = (FailureKind, String);

/// Runs it once, with what is prepared before and cleaned up after.
pub(super) fn run(run: &CommandRun, interrupted: &AtomicBool) -> (RunRecord, Vec<Sample>) {
    let mut record = empty(run);
    let mut samples = Vec::new();
    let prepared = match &run.command.prepare {
        Some(prepare) => aside("--prepare", prepare, run, interrupted),
        None => Ok(()),
    };
    let outcome = prepared.and_then(|()| {
        let mut course = Course::start(run, interrupted)?;
        let outcome = match &run.command.server {
            None => course.program(),
            Some(server) => course.server(server),
        };
        course.finish(outcome, &mut record, &mut samples)
    });
    let cleaned = match &run.command.cleanup {
        Some(cleanup) => aside("--cleanup", cleanup, run, &AtomicBool::new(false)),
        None => Ok(()),
    };
    if let Err((kind, reason)) = outcome.and(cleaned) {
        record.status = failed(kind, reason);
        record.metrics.clear();
    }
    (record, samples)
}

fn empty(run: &CommandRun) -> RunRecord {
    let mut environment = fragbench_allocators::variables(run.allocator);
    environment.retain(|name, _| !name.starts_with(fragbench_allocators::PADDING_VARIABLE));
    RunRecord {
        schema: SCHEMA,
        run: 0,
        workload: run.command.name.clone(),
        allocator: run.allocator.name.clone(),
        settings: run.allocator.settings.clone(),
        repetition: 0,
        aa: false,
        status: RunStatus::Ok,
        started_unix_s: std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs()),
        attempt: 1,
        environment,
        proof: None,
        libc: None,
        processes: Vec::new(),
        metrics: BTreeMap::new(),
        phases: Vec::new(),
        done: None,
        load: MachineLoad::default(),
        sampler_cpu_ratio: None,
        samples: None,
        cautions: Vec::new(),
    }
}

/// A shell command beside the measurement, to its end.
fn aside(option: &str, text: &str, run: &CommandRun, interrupted: &AtomicBool) -> Result<(), Stop> {
    let refused = |why: String| (FailureKind::ExitStatus, format!("{option} `{text}`: {why}"));
    let mut child = Launched::shell(text).map_err(|e| refused(format!("{e:#}")))?;
    let end = await_end(&mut child, Instant::now() + run.limits.timeout, interrupted, option, run)?;
    child.drained();
    if end.status.success() { Ok(()) } else { Err(refused(ended(&end, &child))) }
}

fn await_end(
    child: &mut Launched,
    deadline: Instant,
    interrupted: &AtomicBool,
    what: &str,
    run: &CommandRun,
) -> Result<End, Stop> {
    loop {
        if let Some(end) = child.ended_within(Duration::from_millis(50)) {
            return Ok(end);
        }
        check_limits(deadline, interrupted, what, run)?;
    }
}

fn check_limits(deadline: Instant, interrupted: &AtomicBool, what: &str, run: &CommandRun) -> Result<(), Stop> {
    if interrupted.load(Ordering::Acquire) {
        return Err((FailureKind::Interrupted, "stopped by the user; --resume runs it".into()));
    }
    if Instant::now() >= deadline {
        let text = format!("{what} not finished after {} s; raise --timeout", run.limits.timeout.as_secs());
        return Err((FailureKind::TimedOut, text));
    }
    Ok(())
}

/// How something ended, with what it wrote last.
fn ended(end: &End, child: &Launched) -> String {
    let how = sys::describe_exit(&end.status);
    let tail = child.output.tail();
    if tail.is_empty() { how } else { format!("{how}; it wrote: {tail}") }
}

/// What a course brings home when nothing stopped it.
struct Outcome {
    work_ns: (u64, u64),
    wall_s: f64,
    spent: Spent,
    end: Option<Sample>,
    idle: Option<Sample>,
    /// CPU time of the load, nanoseconds: not foreign.
    load_cpu_ns: u64,
    /// Output to read the user's figures from, the likeliest first.
    texts: Vec<String>,
    forced: bool,
}

struct Course<'a> {
    run: &'a CommandRun<'a>,
    interrupted: &'a AtomicBool,
    child: Launched,
    tree: Tree<'a>,
    meter: LoadMeter,
    deadline: Instant,
    interval: Duration,
    next: Instant,
    samples: Vec<Sample>,
    cpu_before: u64,
}

impl<'a> Course<'a> {
    fn start(run: &'a CommandRun<'a>, interrupted: &'a AtomicBool) -> Result<Self, Stop> {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let mark = format!("{}.{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        let mut environment = run.environment.clone();
        environment.insert(MARK.to_owned(), mark.clone());
        sys::adopt_orphans();
        let cpu_before = sys::thread_cpu_ns();
        let meter = LoadMeter::start();
        let child = Launched::start(&words(run.allocator, run.command, run.program), &environment)
            .map_err(|e| (FailureKind::Spawn, format!("{e:#}")))?;
        let tree = Tree::new(child.pid(), format!("{MARK}={mark}"), Inside::new(run.allocator, run.program));
        let now = Instant::now();
        Ok(Self {
            run,
            interrupted,
            tree,
            meter,
            deadline: now + run.limits.timeout,
            interval: Duration::from_nanos(run.limits.sample_interval_ns),
            next: now,
            child,
            samples: Vec::new(),
            cpu_before,
        })
    }

    fn now_ns(&self) -> u64 {
        self.child.at.elapsed().as_nanos() as u64
    }

    /// A reading now, kept among the samples.
    fn sample(&mut self, exact: bool) -> Option<Sample> {
        let sample = self.tree.sample(self.now_ns(), exact)?;
        self.samples.push(sample);
        Some(sample)
    }

    /// Samples once and waits for the next moment to, or until the command has ended.
    fn step(&mut self) -> Result<Option<End>, Stop> {
        let sample = self.sample(false);
        if let Some(guarded) = sample.filter(|s| s.heap_rss_bytes > self.run.limits.mem_limit_bytes) {
            return Err((
                FailureKind::OutOfMemory,
                format!(
                    "ended by the memory guard at {} MiB of heap (limit {} MiB); raise --mem-limit or make the work smaller",
                    guarded.heap_rss_bytes >> 20,
                    self.run.limits.mem_limit_bytes >> 20
                ),
            ));
        }
        if let Some(reason) = self.tree.wrong() {
            return Err((FailureKind::NotInPlace, reason));
        }
        check_limits(self.deadline, self.interrupted, &self.run.command.name, self.run)?;
        self.next = (self.next + self.interval).max(Instant::now());
        Ok(self.child.ended_within(self.next.saturating_duration_since(Instant::now())))
    }

    /// A program that ends by itself.
    fn program(&mut self) -> Result<Outcome, Stop> {
        let end = loop {
            if let Some(end) = self.step()? {
                break end;
            }
        };
        self.child.drained();
        if !end.status.success() && !self.run.command.ignore_failure {
            let text = format!("{}: {}", self.run.command.name, ended(&end, &self.child));
            return Err((FailureKind::ExitStatus, text));
        }
        let wall = end.at.duration_since(self.child.at);
        Ok(Outcome {
            work_ns: (0, wall.as_nanos() as u64),
            wall_s: wall.as_secs_f64(),
            spent: Spent {
                cpu_ns: end.usage.cpu_ns,
                minor_faults: end.usage.minor_faults,
                major_faults: end.usage.major_faults,
            },
            end: self.samples.last().copied(),
            idle: None,
            load_cpu_ns: 0,
            texts: vec![self.child.output.text()],
            forced: false,
        })
    }

    /// A server: started, loaded, left alone, stopped.
    fn server(&mut self, server: &ServerSpec) -> Result<Outcome, Stop> {
        self.until_ready(&server.ready)?;
        let mut load = Launched::shell(&server.load).map_err(|e| (FailureKind::Spawn, format!("--load: {e:#}")))?;
        self.tree.leave_out(load.pid());
        let before = self.tree.spent();
        let begun_ns = self.now_ns();
        let end = loop {
            if let Some(end) = self.step()? {
                return Err(self.left_early(&end, "during the load"));
            }
            if let Some(end) = load.ended_within(Duration::ZERO) {
                break end;
            }
        };
        let spent = self.tree.spent().since(&before);
        let wall = end.at.duration_since(load.at);
        let at_end = self.sample(true);
        let ended_ns = begun_ns + wall.as_nanos() as u64;
        load.drained();
        if !end.status.success() {
            let text = format!("--load `{}`: {}", server.load, ended(&end, &load));
            return Err((FailureKind::ExitStatus, text));
        }
        let quiet_until = Instant::now() + Duration::from_millis(self.run.idle_ms);
        while Instant::now() < quiet_until {
            if let Some(end) = self.step()? {
                return Err(self.left_early(&end, "after the load"));
            }
        }
        let idle = self.sample(true);
        let (stopped, forced) = self.child.stop(Duration::from_millis(server.stop_ms));
        if stopped.is_none() {
            return Err((FailureKind::Crashed, "it could not be ended, not even by SIGKILL".into()));
        }
        self.child.drained();
        Ok(Outcome {
            work_ns: (begun_ns, ended_ns),
            wall_s: wall.as_secs_f64(),
            spent,
            end: at_end,
            idle,
            load_cpu_ns: end.usage.cpu_ns,
            texts: vec![load.output.text(), self.child.output.text()],
            forced,
        })
    }

    fn left_early(&mut self, end: &End, when: &str) -> Stop {
        self.child.drained();
        (FailureKind::Crashed, format!("{} left {when}: {}", self.run.command.name, ended(end, &self.child)))
    }

    fn until_ready(&mut self, ready: &Ready) -> Result<(), Stop> {
        let pattern = match ready {
            Ready::Output(pattern) => {
                Some(Regex::new(pattern).map_err(|e| (FailureKind::Refused, format!("--ready: {e}")))?)
            }
            Ready::Socket(_) => None,
        };
        let mut seen = 0;
        loop {
            let ready_now = match (ready, &pattern) {
                (Ready::Socket(path), _) => std::os::unix::net::UnixStream::connect(path).is_ok(),
                (Ready::Output(_), Some(pattern)) if self.child.output.len() != seen => {
                    seen = self.child.output.len();
                    pattern.is_match(&self.child.output.text())
                }
                _ => false,
            };
            if ready_now {
                return Ok(());
            }
            match self.step() {
                Ok(None) => {}
                Ok(Some(end)) => return Err(self.left_early(&end, "before it was ready")),
                Err((FailureKind::TimedOut, _)) => {
                    let sign = match ready {
                        Ready::Output(pattern) => format!("`{pattern}` in its output"),
                        Ready::Socket(path) => format!("a connection to {}", path.display()),
                    };
                    let text = format!(
                        "not ready after {} s (waited for {sign}); it wrote: {}",
                        self.run.limits.timeout.as_secs(),
                        self.child.output.tail()
                    );
                    return Err((FailureKind::NotReady, text));
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    /// Ends what is left, and turns what was seen into the record.
    fn finish(
        mut self,
        outcome: Result<Outcome, Stop>,
        record: &mut RunRecord,
        samples: &mut Vec<Sample>,
    ) -> Result<(), Stop> {
        if outcome.is_err() {
            self.child.kill();
            self.child.ended_within(Duration::from_secs(10));
        }
        let left = self.tree.end_leftovers();
        let wall = self.child.at.elapsed();
        let sampler = (sys::thread_cpu_ns() - self.cpu_before) as f64 / wall.as_nanos().max(1) as f64;
        let inside = self.tree.finish();
        record.processes = inside.facts();
        record.proof = Some(answer(self.run.allocator, &record.processes));
        record.sampler_cpu_ratio = Some(sampler);
        *samples = self.samples;
        let mut caution = |kind: &str, text: String| record.cautions.push(Caution { kind: kind.into(), text });
        if left > 0 {
            caution(
                "leftovers",
                format!("{left} processes were still running when the command had ended, and were ended"),
            );
        }
        for fact in record.processes.iter().filter_map(|f| f.wrong.as_ref()) {
            caution("not_in_place", fact.clone());
        }
        if sampler > WATCHING_LIMIT {
            let text = format!(
                "watching the processes took {:.0} % of a core; a longer --sample-interval makes it less",
                100.0 * sampler
            );
            caution("sampler_cost", text);
        }
        let outcome = outcome?;
        if outcome.forced {
            caution("forced", "it did not end on SIGTERM in time and was ended by SIGKILL".into());
        }
        record.load = self.meter.until_now_less(outcome.spent.cpu_ns + outcome.load_cpu_ns);
        record.metrics = derive(&Seen {
            samples,
            work_ns: outcome.work_ns,
            wall_s: outcome.wall_s,
            spent: Some(outcome.spent),
            end: outcome.end,
            idle: outcome.idle,
        });
        let texts: Vec<&str> = outcome.texts.iter().map(String::as_str).collect();
        let own = user_figures(&self.run.command.metrics, &texts).map_err(|text| (FailureKind::NoFigure, text))?;
        record.metrics.extend(own);
        Ok(())
    }
}

/// The proof in the form of a worker's: which file was seen to hold `malloc`, and how many processes showed it.
fn answer(allocator: &Allocator, processes: &[fragbench_model::ProcessFact]) -> AllocatorAnswer {
    let (count, proved) = processes.iter().fold((0, 0), |(n, p), fact| (n + fact.count, p + fact.proved));
    let object = allocator.library.as_ref().or(allocator.libc.as_ref().map(|libc| &libc.file));
    AllocatorAnswer {
        kind: allocator.kind,
        version: format!("in place in {proved} of {count} processes, by their maps and environment"),
        malloc_object: object.map_or_else(|| "the C library".to_owned(), |file| file.display().to_string()),
        effective: BTreeMap::new(),
    }
}
