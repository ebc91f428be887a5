//! One run of a command: prepare, start, wait until ready, load, end, idle, stop, clean up, and a record of
//! whatever came of it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use fragbench_model::{Allocator, AllocatorAnswer, CautionKind, FailureKind, Ready, RunRecord, Sample, ServerSpec};
use regex_lite::Regex;

use super::inside::{Inside, Judged};
use super::launch::{End, Launched};
use super::metrics::{Seen, derive, user_figures};
use super::tree::{Spent, Tree, own_children};
use super::{CommandRun, words};
use crate::complaint::{self, ignored_setting};
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
    /// How the process that was started ended; others may go on.
    launched: Option<End>,
    tree: Tree<'a>,
    meter: LoadMeter,
    interval: Duration,
    next: Instant,
    samples: Vec<Sample>,
    cpu_before: u64,
}

impl<'a, 's> CommandSession<'a, 's> {
    fn start(run: &'a CommandRun<'a>, session: &'a mut Session<'s>) -> Result<Self, Abort> {
        sys::adopt_orphans();
        let before = own_children();
        let cpu_before = sys::thread_cpu_ns();
        let meter = LoadMeter::start();
        let child = Launched::start(&words(run.allocator, run.command, run.program), run.environment)
            .map_err(|e| Abort::new(FailureKind::Spawn, format!("{e:#}")))?;
        let inside = Inside::new(run.allocator, run.program, run.variables.clone());
        let tree = Tree::new(child.pid(), before, inside);
        let now = Instant::now();
        Ok(Self {
            run,
            tree,
            meter,
            interval: Duration::from_nanos(session.limits.sample_interval_ns),
            session,
            next: now,
            child,
            launched: None,
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

    /// Samples once and waits for the next moment to. Whether the command goes on: the process that was started, or what it
    /// left behind when it ended.
    fn step(&mut self) -> Result<bool, Abort> {
        let sample = self.sample(false);
        if let Some(over) = sample.filter(|s| s.heap_rss_bytes > self.session.limits.mem_limit_bytes) {
            return Err(self.session.guarded(over.heap_rss_bytes));
        }
        if let Some(wrong) = self.tree.wrong() {
            return Err(wrong);
        }
        self.session.check(&self.run.command.name)?;
        self.next = (self.next + self.interval).max(Instant::now());
        let pause = self.next.saturating_duration_since(Instant::now());
        match self.launched {
            Some(_) => std::thread::sleep(pause),
            None => self.launched = self.child.ended_within(pause),
        }
        Ok(self.launched.is_none() || self.fails().is_none() && !self.tree.going_on().is_empty())
    }

    /// How the process that was started has failed, where it has ended so.
    fn fails(&self) -> Option<&End> {
        self.launched.as_ref().filter(|end| !end.status.success() && !self.run.command.ignore_failure)
    }

    /// A program that ends by itself, or whose last process does.
    fn program(&mut self) -> Result<Outcome, Abort> {
        let mut alone = None;
        loop {
            match self.step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(stop) if stop.kind == FailureKind::TimedOut && self.launched.is_some() => {
                    return Err(self.never_ends(stop));
                }
                Err(stop) => return Err(stop),
            }
            if self.launched.is_some() {
                alone = Some(Instant::now());
            }
        }
        let Some(end) = self.launched else {
            return Err(Abort::new(FailureKind::Crashed, "its end was not seen"));
        };
        self.child.drained();
        if let Some(end) = self.fails() {
            let text = format!("{}: {}", self.run.command.name, ended(end, &self.child));
            return Err(Abort::new(FailureKind::ExitStatus, text));
        }
        if let Some(crashed) = self.tree.crashed().filter(|_| !self.run.command.ignore_failure) {
            return Err(Abort::new(FailureKind::Crashed, format!("{}: {crashed}", self.run.command.name)));
        }
        let wall = alone.unwrap_or(end.at).max(end.at).duration_since(self.child.at);
        let mut spent = self.tree.spent();
        spent.add_usage(&end.usage);
        Ok(Outcome {
            work_ns: (0, wall.as_nanos() as u64),
            wall_s: wall.as_secs_f64(),
            spent,
            end: self.samples.last().copied(),
            idle: None,
            load_cpu_ns: 0,
            texts: vec![self.child.output.text()],
            forced: false,
        })
    }

    /// That a command has put itself into the background and does not end there.
    fn never_ends(&mut self, stop: Abort) -> Abort {
        let left: Vec<String> = self.tree.going_on().into_iter().map(|pid| self.tree.shown(pid)).collect();
        let text = format!(
            "{}: the command has ended, but left {} in the background; for a server give --ready or --ready-socket and --load",
            stop.reason,
            left.join(", ")
        );
        Abort::new(stop.kind, text)
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
            if !self.step()? {
                return Err(self.left_early("during the load"));
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
            if !self.step()? {
                return Err(self.left_early("after the load"));
            }
        }
        let idle = self.sample(true);
        let forced = self.stop(Duration::from_millis(server.stop_ms))?;
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

    /// Asks a server to end, the process that was started or, where that has ended, those that it left. Whether it has not
    /// done so in time; what is left then is ended by force at the end of the run.
    fn stop(&mut self, grace: Duration) -> Result<bool, Abort> {
        if self.launched.is_none() {
            let (stopped, forced) = self.child.stop(grace);
            self.launched = stopped;
            let unstoppable = || Abort::new(FailureKind::Crashed, "it could not be ended, not even by SIGKILL");
            return stopped.map(|_| forced).ok_or_else(unstoppable);
        }
        self.tree.ask_to_end();
        let until = Instant::now() + grace;
        while !self.tree.going_on().is_empty() {
            if Instant::now() >= until {
                return Ok(true);
            }
            std::thread::sleep(self.interval);
        }
        Ok(false)
    }

    fn left_early(&mut self, when: &str) -> Abort {
        self.child.drained();
        let how = self.launched.as_ref().map_or_else(String::new, |end| ended(end, &self.child));
        let crashed = self.tree.crashed().map(|text| format!("; {text}")).unwrap_or_default();
        Abort::new(FailureKind::Crashed, format!("{} left {when}: {how}{crashed}", self.run.command.name))
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
                Ok(true) => {}
                Ok(false) => return Err(self.left_early("before it was ready")),
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
        let Self { run, session, tree, meter, samples: seen, child, .. } = self;
        *samples = seen;
        let judged = tree.finish().judge();
        session.record.proof = Some(answer(run.allocator, &judged));
        if left > 0 {
            let text = format!("{left} processes were still running when the command had ended, and were ended");
            session.caution(CautionKind::Leftovers, text);
        }
        for (kind, text) in judged.cautions {
            session.caution(kind, text);
        }
        session.record.processes = judged.facts;
        session.watched(Some(sampler), WATCHING_LIMIT);
        let outcome = outcome?;
        if let Some(fault) = judged.fault {
            return Err(fault);
        }
        // As it is linked an allocator complains of what the caller set.
        let text = child.output.text();
        if let Some(line) = ignored_setting(&text).filter(|_| run.allocator.library.is_some()) {
            let text = format!("{} says: {line}", run.allocator.label());
            return Err(Abort::new(FailureKind::SettingIgnored, text));
        }
        session.record.cautions.extend(complaint::caution(&text));
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

/// The proof in the form of a worker's: which file was seen to hold `malloc`, how many processes showed it, and what has
/// become of the settings.
fn answer(allocator: &Allocator, judged: &Judged) -> AllocatorAnswer {
    let (count, proved) = judged.facts.iter().fold((0, 0), |(n, p), fact| (n + fact.count, p + fact.proved));
    let object = allocator.library.as_ref().or(allocator.libc.as_ref().map(|libc| &libc.file));
    AllocatorAnswer {
        kind: allocator.kind,
        version: format!("in place in {proved} of {count} processes, by their maps and environment"),
        malloc_object: object.map_or_else(|| "the C library".to_owned(), |file| file.display().to_string()),
        effective: judged.effective.clone(),
    }
}
