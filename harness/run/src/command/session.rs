//! One run of a command: prepare, start, wait until ready, load, end, idle, stop, clean up, and a record of
//! whatever came of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fragbench_model::{Allocator, AllocatorAnswer, CautionKind, FailureKind, Ready, RunRecord, Sample, ServerSpec};
use regex_lite::Regex;

use super::inside::Inside;
use super::launch::{End, Launched};
use super::metrics::{Seen, derive, user_figures};
use super::tree::{Spent, Tree};
use super::{CommandRun, MARK, words};
use crate::session::{Abort, LoadMeter, Session};
use crate::sys;

/// Share of a core above which watching is remarked upon: the pace of looks and slow readings keeps each to 2 % (`tree.rs`), and
/// waking every 5 ms takes 1 %.
const WATCHING_LIMIT: f64 = 0.05;

/// Runs it once, with what is prepared before and cleaned up after.
pub(super) fn run(run: &CommandRun, mut session: Session) -> (RunRecord, Vec<Sample>) {
    let mut samples = Vec::new();
    let prepared = match &run.command.prepare {
        Some(prepare) => aside("--prepare", prepare, &session),
        None => Ok(()),
    };
    let outcome = prepared.and_then(|()| {
        session.deadline = Instant::now() + session.limits.timeout;
        CommandSession::start(run, &mut session)?.lead(&mut samples)
    });
    let cleaned = match &run.command.cleanup {
        Some(cleanup) => {
            let go_on = AtomicBool::new(false);
            let limits = session.limits;
            let aside_session = Session::begin(String::new(), run.allocator, BTreeMap::new(), limits, &go_on);
            aside("--cleanup", cleanup, &aside_session)
        }
        None => Ok(()),
    };
    session.end(outcome.and(cleaned), samples)
}

/// A shell command beside the measurement, to its end.
fn aside(option: &str, text: &str, session: &Session) -> Result<(), Abort> {
    let refused = |why: String| Abort::new(FailureKind::ExitStatus, format!("{option} `{text}`: {why}"));
    let mut child = Launched::shell(text).map_err(|e| refused(format!("{e:#}")))?;
    let end = loop {
        if let Some(end) = child.ended_within(Duration::from_millis(50)) {
            break end;
        }
        session.check(option)?;
    };
    child.drained();
    if end.status.success() { Ok(()) } else { Err(refused(ended(&end, &child))) }
}

/// How something ended, with what it wrote last.
fn ended(end: &End, child: &Launched) -> String {
    let how = sys::describe_exit(&end.status);
    let tail = child.output.tail();
    if tail.is_empty() { how } else { format!("{how}; it wrote: {tail}") }
}

/// What a run brings home when nothing stopped it.
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

/// A run of a command, watched until its end.
struct CommandSession<'a, 's> {
    run: &'a CommandRun<'a>,
    session: &'a mut Session<'s>,
    child: Launched,
    tree: Tree<'a>,
    meter: LoadMeter,
    interval: Duration,
    next: Instant,
    samples: Vec<Sample>,
    cpu_before: u64,
}

impl<'a, 's> CommandSession<'a, 's> {
    fn start(run: &'a CommandRun<'a>, session: &'a mut Session<'s>) -> Result<Self, Abort> {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let mark = format!("{}.{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        let mut environment = run.environment.clone();
        environment.insert(MARK.to_owned(), mark.clone());
        sys::adopt_orphans();
        let cpu_before = sys::thread_cpu_ns();
        let meter = LoadMeter::start();
        let child = Launched::start(&words(run.allocator, run.command, run.program), &environment)
            .map_err(|e| Abort::new(FailureKind::Spawn, format!("{e:#}")))?;
        let tree = Tree::new(child.pid(), format!("{MARK}={mark}"), Inside::new(run.allocator, run.program));
        let now = Instant::now();
        Ok(Self {
            run,
            tree,
            meter,
            interval: Duration::from_nanos(session.limits.sample_interval_ns),
            session,
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
    fn step(&mut self) -> Result<Option<End>, Abort> {
        let sample = self.sample(false);
        if let Some(over) = sample.filter(|s| s.heap_rss_bytes > self.session.limits.mem_limit_bytes) {
            return Err(self.session.guarded(over.heap_rss_bytes));
        }
        if let Some(reason) = self.tree.wrong() {
            return Err(Abort::new(FailureKind::NotInPlace, reason));
        }
        self.session.check(&self.run.command.name)?;
        self.next = (self.next + self.interval).max(Instant::now());
        Ok(self.child.ended_within(self.next.saturating_duration_since(Instant::now())))
    }

    /// A program that ends by itself.
    fn program(&mut self) -> Result<Outcome, Abort> {
        let end = loop {
            if let Some(end) = self.step()? {
                break end;
            }
        };
        self.child.drained();
        if !end.status.success() && !self.run.command.ignore_failure {
            let text = format!("{}: {}", self.run.command.name, ended(&end, &self.child));
            return Err(Abort::new(FailureKind::ExitStatus, text));
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
    fn server(&mut self, server: &ServerSpec) -> Result<Outcome, Abort> {
        self.until_ready(&server.ready)?;
        let mut load =
            Launched::shell(&server.load).map_err(|e| Abort::new(FailureKind::Spawn, format!("--load: {e:#}")))?;
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
            return Err(Abort::new(FailureKind::ExitStatus, text));
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
            return Err(Abort::new(FailureKind::Crashed, "it could not be ended, not even by SIGKILL"));
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

    fn left_early(&mut self, end: &End, when: &str) -> Abort {
        self.child.drained();
        Abort::new(FailureKind::Crashed, format!("{} left {when}: {}", self.run.command.name, ended(end, &self.child)))
    }

    fn until_ready(&mut self, ready: &Ready) -> Result<(), Abort> {
        let pattern = match ready {
            Ready::Output(pattern) => {
                Some(Regex::new(pattern).map_err(|e| Abort::new(FailureKind::Refused, format!("--ready: {e}")))?)
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
                Err(stop) if stop.kind == FailureKind::TimedOut => {
                    let sign = match ready {
                        Ready::Output(pattern) => format!("`{pattern}` in its output"),
                        Ready::Socket(path) => format!("a connection to {}", path.display()),
                    };
                    let text = format!(
                        "not ready after {} s (waited for {sign}); it wrote: {}",
                        self.session.limits.timeout.as_secs(),
                        self.child.output.tail()
                    );
                    return Err(Abort::new(FailureKind::NotReady, text));
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    /// Leads it to its end, ends what is left, and turns what was seen into the record.
    fn lead(mut self, samples: &mut Vec<Sample>) -> Result<(), Abort> {
        let outcome = match &self.run.command.server {
            None => self.program(),
            Some(server) => self.server(server),
        };
        if outcome.is_err() {
            self.child.kill();
            self.child.ended_within(Duration::from_secs(10));
        }
        let left = self.tree.end_leftovers();
        let wall = self.child.at.elapsed();
        let sampler = (sys::thread_cpu_ns() - self.cpu_before) as f64 / wall.as_nanos().max(1) as f64;
        let Self { run, session, tree, meter, samples: seen, .. } = self;
        *samples = seen;
        let processes = tree.finish().facts();
        session.record.proof = Some(answer(run.allocator, &processes));
        if left > 0 {
            let text = format!("{left} processes were still running when the command had ended, and were ended");
            session.caution(CautionKind::Leftovers, text);
        }
        for wrong in processes.iter().filter_map(|f| f.wrong.clone()) {
            session.caution(CautionKind::NotInPlace, wrong);
        }
        session.record.processes = processes;
        session.watched(Some(sampler), WATCHING_LIMIT);
        let outcome = outcome?;
        if outcome.forced {
            session.caution(CautionKind::Forced, "it did not end on SIGTERM in time and was ended by SIGKILL".into());
        }
        session.record.load = meter.until_now_less(outcome.spent.cpu_ns + outcome.load_cpu_ns);
        session.record.metrics = derive(&Seen {
            samples,
            work_ns: outcome.work_ns,
            wall_s: outcome.wall_s,
            spent: Some(outcome.spent),
            end: outcome.end,
            idle: outcome.idle,
        });
        let texts: Vec<&str> = outcome.texts.iter().map(String::as_str).collect();
        let own = user_figures(&run.command.metrics, &texts).map_err(|text| Abort::new(FailureKind::NoFigure, text))?;
        session.record.metrics.extend(own);
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
