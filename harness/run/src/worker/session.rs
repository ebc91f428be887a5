//! The course of one run: start the worker, check who is in place, let it go from barrier to barrier, snapshot it
//! at each, purge it at the end, and make a record of whatever came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fragbench_model::{
    Allocator, AllocatorKind, AllocatorStats, Caution, Command, Done, Failure, FailureKind, Hello, MachineLoad,
    Message, Pace, PhaseRecord, Purge, RunRecord, RunSpec, RunStatus, SCHEMA, Sample, Snapshot,
};
use fragbench_proc::{CpuTotals, Process};

use super::binary::WorkerBinary;
use super::metrics::{self, Observed};
use super::placement;
use super::process::{Silence, Worker};
use super::sampler::{Sampled, Sampler};
use crate::sys;

/// Quiet after the work, and quiet with a monitor that calls; the parent purges at the barrier of the last of them.
const IDLE: &str = "idle";
const POLLED: &str = "polled";
/// Phase at whose barrier the parent purges while a thread works.
const RESUME: &str = "resume";
/// A sampler that takes more than this share of a core is named in the record.
const SAMPLER_COST_LIMIT: f64 = 0.01;

/// What a run may take.
#[derive(Debug, Clone, Copy)]
pub struct RunLimits {
    /// Seconds until it is ended.
    pub timeout: Duration,
    /// Anonymous bytes at which it is ended.
    pub mem_limit_bytes: u64,
    /// Nanoseconds between two samples.
    pub sample_interval_ns: u64,
}

/// Runs once. Every end is a record; its place in the plan is the caller's to fill in. Samples come apart, since
/// they are kept apart.
pub fn run_once(
    binary: &WorkerBinary,
    allocator: &Allocator,
    environment: &BTreeMap<String, String>,
    spec: &RunSpec,
    limits: &RunLimits,
    interrupted: &AtomicBool,
) -> (RunRecord, Vec<Sample>) {
    run_watched(binary, allocator, environment, spec, limits, interrupted, &mut |_, _| ())
}

/// Runs once and has `look` see the worker, by the name of the stage and its process number, while its heap stands
/// still: at the barrier of every phase of the work, and as `purged` after the purge. What `look` does takes time from
/// the run's deadline and is in its figures of time; its figures of memory are taken before.
pub fn run_watched(
    binary: &WorkerBinary,
    allocator: &Allocator,
    environment: &BTreeMap<String, String>,
    spec: &RunSpec,
    limits: &RunLimits,
    interrupted: &AtomicBool,
    look: &mut dyn FnMut(&str, u32),
) -> (RunRecord, Vec<Sample>) {
    let mut record = RunRecord {
        schema: SCHEMA,
        run: 0,
        workload: spec.workload.name(),
        allocator: allocator.name.clone(),
        settings: allocator.settings.clone(),
        repetition: 0,
        aa: false,
        status: RunStatus::Ok,
        started_unix_s: std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs()),
        attempt: 1,
        environment: environment.clone(),
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
    };
    record.environment.retain(|name, _| !name.starts_with(fragbench_allocators::PADDING_VARIABLE));
    let worker = match Worker::start(binary, allocator, environment, spec) {
        Ok(worker) => worker,
        Err(error) => {
            record.status = failed(FailureKind::Spawn, format!("{error:#}"));
            return (record, Vec::new());
        }
    };
    let mut course = Course {
        process: Process::live(worker.pid()),
        worker,
        limits,
        interrupted,
        deadline: Instant::now() + limits.timeout,
        start_ns: 0,
        record: &mut record,
        sampler: None,
        open: None,
        second_purge_ns: None,
        purged: None,
        start: None,
        harness_vm_bytes: 0,
        pace: spec.workload.pace(),
        last_quiet: if spec.driver.monitor_calls > 0 { POLLED } else { IDLE },
        look,
    };
    let outcome = course.go(allocator);
    let sampled = course.sampler.take().map(Sampler::finish).unwrap_or_default();
    let samples = course.end(outcome, sampled, allocator.kind);
    (record, samples)
}

/// Whether a phase is the work's, and not the epilogue's.
fn is_work(phase: &PhaseRecord) -> bool {
    ![IDLE, POLLED, RESUME].contains(&phase.name.as_str())
}

pub(crate) fn failed(kind: FailureKind, reason: impl Into<String>) -> RunStatus {
    RunStatus::Failed(Failure { kind, reason: reason.into() })
}

struct Course<'a> {
    worker: Worker,
    process: Process,
    limits: &'a RunLimits,
    interrupted: &'a AtomicBool,
    deadline: Instant,
    start_ns: u64,
    record: &'a mut RunRecord,
    sampler: Option<Sampler>,
    /// The phase that runs now: name and start.
    open: Option<(String, u64)>,
    second_purge_ns: Option<u64>,
    purged: Option<Snapshot>,
    start: Option<Snapshot>,
    harness_vm_bytes: u64,
    pace: Option<Pace>,
    /// The stretch of quiet after which the parent purges.
    last_quiet: &'static str,
    look: &'a mut dyn FnMut(&str, u32),
}

/// Why a course ended early.
enum Stop {
    /// The worker fell silent.
    Silent(Silence),
    /// The user stopped it.
    Interrupted,
    /// Anything that has its reason already.
    Because(FailureKind, String),
}

impl Course<'_> {
    fn go(&mut self, allocator: &Allocator) -> Result<Done, Stop> {
        let hello = match self.hear()? {
            Message::Hello(hello) => hello,
            other => return Err(self.unexpected("hello", &other)),
        };
        self.check_placement(allocator, &hello)?;
        self.harness_vm_bytes = hello.harness_vm_bytes;
        self.record.proof = Some(hello.allocator);
        self.record.libc = Some(hello.libc);
        let statm = self.process.statm().map_err(|e| Stop::Because(FailureKind::Crashed, e.to_string()))?;
        self.start_ns = sys::monotonic_ns();
        self.start = Some(self.snapshot("start")?);
        let load = LoadMeter::start();
        let pid = self.worker.pid();
        self.sampler = Some(Sampler::start(
            statm,
            Arc::clone(&self.worker.counters),
            self.limits.sample_interval_ns,
            self.start_ns,
            self.limits.mem_limit_bytes,
            move || sys::kill(pid),
        ));
        self.worker.say(Command::Continue);
        loop {
            match self.hear()? {
                Message::Phase { name, at_ns } => self.open = Some((name, self.since_start(at_ns))),
                Message::Barrier { name, at_ns } => {
                    // The snapshot after the work tells what the worker itself used; what the machine did besides
                    // is judged over the same stretch.
                    self.barrier(name, at_ns)?;
                    if let Some(phase) = self.record.phases.last().filter(|p| is_work(p)) {
                        self.record.load = load.until_now(&phase.snapshot);
                    }
                    self.worker.say(Command::Continue);
                }
                Message::Done(done) => return Ok(done),
                other => return Err(self.unexpected("phase, barrier or done", &other)),
            }
        }
    }

    fn barrier(&mut self, name: String, at_ns: u64) -> Result<(), Stop> {
        let end_ns = self.since_start(at_ns);
        let start_ns = self.open.take().filter(|(open, _)| *open == name).map_or(0, |(_, start)| start);
        let snapshot = self.snapshot(&name)?;
        let mut phase = PhaseRecord { name, start_ns, end_ns, snapshot, stats: None, purge: None };
        match phase.name.as_str() {
            name if name == self.last_quiet => {
                phase.purge = Some(self.purge(false)?);
                self.purged = Some(self.snapshot("purged")?);
                (self.look)("purged", self.worker.pid());
                let second = self.purge(false)?;
                self.second_purge_ns = second.supported.then_some(second.duration_ns);
            }
            RESUME => phase.purge = Some(self.purge(true)?),
            IDLE => {}
            _ => {
                phase.stats = Some(self.stats()?);
                (self.look)(&phase.name, self.worker.pid());
            }
        }
        self.record.phases.push(phase);
        Ok(())
    }

    fn stats(&mut self) -> Result<AllocatorStats, Stop> {
        self.worker.say(Command::Stats);
        match self.hear()? {
            Message::Stats(stats) => Ok(stats),
            other => Err(self.unexpected("stats", &other)),
        }
    }

    fn purge(&mut self, stall: bool) -> Result<Purge, Stop> {
        self.worker.say(Command::Purge { stall });
        match self.hear()? {
            Message::Purged(purge) => Ok(purge),
            other => Err(self.unexpected("purged", &other)),
        }
    }

    fn hear(&mut self) -> Result<Message, Stop> {
        loop {
            if self.interrupted.load(Ordering::Acquire) {
                return Err(Stop::Interrupted);
            }
            match self.worker.hear(self.deadline) {
                Ok(Some(Message::Error(error))) => {
                    let kind = match error.kind.as_str() {
                        "corruption" => FailureKind::Corruption,
                        "out_of_memory" => FailureKind::OutOfMemory,
                        "internal" => FailureKind::Crashed,
                        _ => FailureKind::Refused,
                    };
                    return Err(Stop::Because(kind, error.text));
                }
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(silence) => return Err(Stop::Silent(silence)),
            }
        }
    }

    fn unexpected(&self, wanted: &str, got: &Message) -> Stop {
        Stop::Because(FailureKind::Crashed, format!("the worker should have said {wanted} but said {got:?}"))
    }

    fn since_start(&self, at_ns: u64) -> u64 {
        at_ns.saturating_sub(self.start_ns)
    }

    fn check_placement(&self, allocator: &Allocator, hello: &Hello) -> Result<(), Stop> {
        if hello.schema != SCHEMA {
            return Err(Stop::Because(
                FailureKind::Refused,
                format!("the worker speaks schema {}, this program {SCHEMA}: build both together", hello.schema),
            ));
        }
        let not_in_place = |why| Stop::Because(FailureKind::NotInPlace, why);
        let mapped = self.process.mapped_files().map_err(|e| not_in_place(format!("the worker's maps: {e}")))?;
        placement::check(allocator, hello, &mapped).map_err(not_in_place)
    }

    fn snapshot(&self, name: &str) -> Result<Snapshot, Stop> {
        let gone = |e: fragbench_proc::ProcError| Stop::Because(FailureKind::Crashed, e.to_string());
        let status = self.process.status().map_err(gone)?;
        let times = self.process.times().map_err(gone)?;
        let sums = self.worker.counters.page().sums();
        Ok(Snapshot {
            name: name.to_owned(),
            at_ns: self.since_start(sys::monotonic_ns()),
            vm_bytes: status.vm_bytes,
            rss_bytes: status.rss_bytes,
            heap_rss_bytes: status.anon_bytes,
            anon_huge_bytes: self.process.anon_huge_bytes().ok().flatten(),
            swap_bytes: status.swap_bytes,
            live_bytes: sums.live_bytes,
            live_blocks: sums.live_blocks,
            ops: sums.ops,
            minor_faults: times.minor_faults,
            major_faults: times.major_faults,
            cpu_ns: times.cpu_ns,
            mappings: self.process.maps().map_err(gone)?.len() as u64,
            children_private_bytes: self.children_private_bytes(),
        })
    }

    /// Of all children; `None` when there are none, or one of them cannot be read.
    fn children_private_bytes(&self) -> Option<u64> {
        let children = self.process.children().ok().filter(|children| !children.is_empty())?;
        children.iter().map(|child| child.private_dirty_bytes().ok().flatten()).sum()
    }

    /// Turns whatever happened into the record.
    fn end(mut self, outcome: Result<Done, Stop>, sampled: Sampled, allocator: AllocatorKind) -> Vec<Sample> {
        if outcome.is_err() {
            self.worker.kill();
        }
        let timeout = self.limits.timeout;
        let (exit, stderr) = self.worker.wait();
        let said = if stderr.is_empty() { String::new() } else { format!("; it wrote: {stderr}") };
        self.record.sampler_cpu_ratio = sampled.cpu_ratio;
        let mut samples = sampled.samples;
        match outcome {
            _ if sampled.guarded.is_some() => {
                let reached = sampled.guarded.unwrap_or_default();
                self.record.status = failed(
                    FailureKind::OutOfMemory,
                    format!(
                        "ended by the memory guard at {} MiB of heap (limit {} MiB); raise --mem-limit or make the work smaller",
                        reached >> 20,
                        self.limits.mem_limit_bytes >> 20
                    ),
                );
            }
            Ok(done) => {
                let harness = self.harness_vm_bytes.max(done.harness_vm_bytes);
                subtract_harness(harness, &mut samples, self.record, self.start.as_mut(), self.purged.as_mut());
                let work_phases = self.record.phases.iter().take_while(|p| is_work(p)).count();
                if let Some(start) = &self.start {
                    self.record.metrics = metrics::derive(&Observed {
                        start,
                        phases: &self.record.phases,
                        work_phases,
                        purged: self.purged.as_ref(),
                        second_purge_ns: self.second_purge_ns,
                        samples: &samples,
                        done: &done,
                    });
                }
                self.record.cautions.extend(unread_clock(self.pace, allocator, &done));
                self.record.done = Some(done);
                if let Some(cost) = sampled.cpu_ratio.filter(|&cost| cost > SAMPLER_COST_LIMIT) {
                    self.record.cautions.push(Caution {
                        kind: "sampler_cost".into(),
                        text: format!(
                            "the sampler took {:.1} % of a core; use a longer --sample-interval",
                            cost * 100.0
                        ),
                    });
                }
            }
            Err(Stop::Interrupted) => {
                self.record.status = failed(FailureKind::Interrupted, "stopped by the user; --resume runs it");
            }
            Err(Stop::Because(kind, reason)) => self.record.status = failed(kind, format!("{reason}{said}")),
            Err(Stop::Silent(Silence::TimedOut)) => {
                self.record.status = failed(
                    FailureKind::TimedOut,
                    format!("not finished after {} s; raise --timeout", timeout.as_secs()),
                );
            }
            Err(Stop::Silent(Silence::Garbled(line))) => {
                self.record.status = failed(FailureKind::Crashed, format!("not understood: {line}{said}"));
            }
            Err(Stop::Silent(Silence::Ended)) => {
                let how = exit.map_or_else(|| "it ended".to_owned(), |status| sys::describe_exit(&status));
                self.record.status =
                    failed(FailureKind::Crashed, format!("the worker left without a last word: {how}{said}"));
            }
        }
        samples
    }
}

/// At the virtual pace, a word about an allocator that has read no clock through the C library: glibc and gperftools'
/// tcmalloc have none, null gives nothing back.
fn unread_clock(pace: Option<Pace>, allocator: AllocatorKind, done: &Done) -> Option<Caution> {
    let timeless = [AllocatorKind::Glibc, AllocatorKind::Tcmalloc, AllocatorKind::Null].contains(&allocator);
    let read = done.facts.get("clock_read").is_none_or(|read| *read != 0.0);
    (pace == Some(Pace::Virtual) && !timeless && !read).then(|| Caution {
        kind: "clock_unread".into(),
        text: "it read no clock through the C library, so the recording's time does not reach it; if it gives memory back by \
               time, its figures need --pace recorded"
            .into(),
    })
}

/// What the harness itself has mapped in the worker is taken out of every VIRT.
fn subtract_harness(
    harness: u64,
    samples: &mut [Sample],
    record: &mut RunRecord,
    start: Option<&mut Snapshot>,
    purged: Option<&mut Snapshot>,
) {
    let vms = samples
        .iter_mut()
        .map(|s| &mut s.vm_bytes)
        .chain(record.phases.iter_mut().map(|p| &mut p.snapshot.vm_bytes))
        .chain(start.map(|s| &mut s.vm_bytes))
        .chain(purged.map(|s| &mut s.vm_bytes));
    for vm in vms {
        *vm = vm.saturating_sub(harness);
    }
}

/// What the machine did besides the worker and this process.
#[derive(Debug)]
pub(crate) struct LoadMeter {
    totals: Option<CpuTotals>,
    own_cpu_ns: u64,
    at_ns: u64,
}

impl LoadMeter {
    fn root() -> &'static std::path::Path {
        std::path::Path::new("/")
    }

    pub(crate) fn start() -> Self {
        Self {
            totals: fragbench_proc::cpu_totals(Self::root()).ok(),
            own_cpu_ns: sys::process_cpu_ns(),
            at_ns: sys::monotonic_ns(),
        }
    }

    /// `snapshot` tells what the worker has used; ticks of 10 ms make stretches below 0.1 s unreliable.
    fn until_now(&self, snapshot: &Snapshot) -> MachineLoad {
        self.until_now_less(snapshot.cpu_ns)
    }

    /// What all others did, `ours` being the nanoseconds that those of the run took.
    pub(crate) fn until_now_less(&self, ours: u64) -> MachineLoad {
        let wall = sys::monotonic_ns().saturating_sub(self.at_ns) as f64;
        let own = (sys::process_cpu_ns() - self.own_cpu_ns) as f64;
        let now = fragbench_proc::cpu_totals(Self::root()).ok();
        let (mut steal_ratio, mut foreign_cpu_ratio) = (None, None);
        if let (Some(before), Some(after)) = (self.totals, now) {
            let total = after.total_ns.saturating_sub(before.total_ns) as f64;
            let busy = after.busy_ns.saturating_sub(before.busy_ns) as f64;
            if total > 0.0 && wall > 0.0 {
                steal_ratio = Some(after.steal_ns.saturating_sub(before.steal_ns) as f64 / total);
                foreign_cpu_ratio = Some(((busy - own - ours as f64) / wall).max(0.0));
            }
        }
        MachineLoad { steal_ratio, foreign_cpu_ratio, cpu_hz: fragbench_proc::cpu_hz(Self::root()) }
    }
}
