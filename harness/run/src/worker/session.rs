//! One run of the worker: start it, check who is in place, let it go from barrier to barrier, snapshot it
//! at each, purge it at the end, and make a record of whatever came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fragbench_model::{
    Allocator, AllocatorKind, AllocatorStats, Caution, CautionKind, Cell, Command, Common, Done, FailureKind, Hello,
    Message, Pace, PhaseRecord, Purge, RunRecord, RunSpec, SCHEMA, Sample, Snapshot, WorkerErrorKind,
};
use fragbench_proc::Process;

use super::binary::WorkerBinary;
use super::metrics::{self, Observed};
use super::placement;
use super::process::{Silence, Worker};
use super::sampler::{Sampled, Sampler};
use crate::campaign::signature::MMAP_THRESHOLD;
use crate::campaign::{Order, Runner};
use crate::complaint;
use crate::session::{Abort, LoadMeter, RunLimits, Session};
use crate::sys;

/// Quiet after the work, and quiet with a monitor that calls; the parent purges at the barrier of the last of them.
const IDLE: &str = "idle";
const POLLED: &str = "polled";
/// Phase at whose barrier the parent purges while a thread works.
const RESUME: &str = "resume";
/// A sampler that takes more than this share of a core is named in the record.
const SAMPLER_COST_LIMIT: f64 = 0.01;

/// What sees a worker by the name of the stage and its process number while its heap stands still: at the barrier of every
/// phase of the work, and as `purged` after the purge.
pub type OnBarrier<'a> = dyn FnMut(&str, u32) + 'a;

/// Runs workloads in the worker.
pub struct WorkerRunner<'a> {
    binary: &'a WorkerBinary,
    common: Common,
    limits: RunLimits,
    environments: Vec<BTreeMap<String, String>>,
    on_barrier: Option<Box<OnBarrier<'a>>>,
}

impl<'a> WorkerRunner<'a> {
    /// Runs by this program under these conditions.
    pub fn new(binary: &'a WorkerBinary, common: &Common, limits: RunLimits) -> Self {
        Self { binary, common: common.clone(), limits, environments: Vec::new(), on_barrier: None }
    }

    /// Has every run's barriers seen. What that takes is in a run's figures of time, and comes off its deadline; its figures
    /// of memory are taken before.
    pub fn on_barrier(mut self, look: impl FnMut(&str, u32) + 'a) -> Self {
        self.on_barrier = Some(Box::new(look));
        self
    }
}

impl Runner for WorkerRunner<'_> {
    fn prepare(&mut self, cells: &[Cell]) {
        if self.environments.len() != cells.len() {
            self.environments = super::environments(cells, self.binary);
        }
    }

    fn run(&mut self, order: &Order, interrupted: &AtomicBool) -> (RunRecord, Vec<Sample>) {
        let (cell, allocator) = (order.cell, &order.cell.allocator);
        let environment = &self.environments[order.index];
        let name = cell.workload.name();
        let session = Session::begin(name, allocator, environment.clone(), &self.limits, interrupted);
        let Some(spec) = super::specification(order, &self.common) else {
            let why = "the plan is of commands: the worker cannot run it";
            return session.end(Err(Abort::new(FailureKind::Refused, why)), Vec::new());
        };
        let look: Option<&mut OnBarrier> = match &mut self.on_barrier {
            Some(look) => Some(&mut **look),
            None => None,
        };
        run(self.binary, allocator, environment, &spec, session, look)
    }
}

fn run<'b>(
    binary: &WorkerBinary,
    allocator: &Allocator,
    environment: &BTreeMap<String, String>,
    spec: &RunSpec,
    session: Session,
    on_barrier: Option<&'b mut OnBarrier<'b>>,
) -> (RunRecord, Vec<Sample>) {
    let worker = match Worker::start(binary, allocator, environment, spec) {
        Ok(worker) => worker,
        Err(error) => return session.end(Err(Abort::new(FailureKind::Spawn, format!("{error:#}"))), Vec::new()),
    };
    let mut led = WorkerSession {
        process: Process::live(worker.pid()),
        worker,
        session,
        start_ns: 0,
        sampler: None,
        open: None,
        second_purge_ns: None,
        purged: None,
        start: None,
        harness_vm_bytes: 0,
        pace: spec.workload.pace(),
        last_quiet: if spec.driver.monitor_calls > 0 { POLLED } else { IDLE },
        on_barrier,
        of_glibc: allocator.kind == AllocatorKind::Glibc,
    };
    let outcome = led.lead(allocator);
    let sampled = led.sampler.take().map(Sampler::finish).unwrap_or_default();
    led.end(outcome, sampled, allocator.kind)
}

/// Whether a phase is the work's, and not the epilogue's.
fn is_work(phase: &PhaseRecord) -> bool {
    ![IDLE, POLLED, RESUME].contains(&phase.name.as_str())
}

/// A run of the worker, led from barrier to barrier.
struct WorkerSession<'a, 'b> {
    session: Session<'a>,
    worker: Worker,
    process: Process,
    start_ns: u64,
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
    on_barrier: Option<&'b mut OnBarrier<'b>>,
    of_glibc: bool,
}

impl WorkerSession<'_, '_> {
    fn lead(&mut self, allocator: &Allocator) -> Result<Done, Abort> {
        let hello = match self.receive()? {
            Message::Hello(hello) => hello,
            other => return Err(unexpected("hello", &other)),
        };
        self.check_placement(allocator, &hello)?;
        self.harness_vm_bytes = hello.harness_vm_bytes;
        let proof = self.session.record.proof.insert(hello.allocator);
        if let Some(caution) = placement::ask_back(allocator, proof, self.worker.pid())? {
            self.session.record.cautions.push(caution);
        }
        self.session.record.libc = Some(hello.libc);
        let statm = self.process.statm().map_err(|e| Abort::new(FailureKind::Crashed, e.to_string()))?;
        self.start_ns = sys::monotonic_ns();
        self.start = Some(self.snapshot("start")?);
        let load = LoadMeter::start();
        let pid = self.worker.pid();
        self.sampler = Some(Sampler::start(
            statm,
            Arc::clone(&self.worker.counters),
            self.session.limits.sample_interval_ns,
            self.start_ns,
            self.session.limits.mem_limit_bytes,
            move || sys::kill(pid),
        ));
        self.worker.send(Command::Continue);
        loop {
            match self.receive()? {
                Message::Phase { name, at_ns } => self.open = Some((name, self.since_start(at_ns))),
                Message::Barrier { name, at_ns } => {
                    // The snapshot after the work tells what the worker itself used; what the machine did besides
                    // is judged over the same stretch.
                    self.barrier(name, at_ns)?;
                    let record = &mut self.session.record;
                    if let Some(phase) = record.phases.last().filter(|p| is_work(p)) {
                        record.load = load.until_now_less(phase.snapshot.cpu_ns);
                    }
                    self.worker.send(Command::Continue);
                }
                Message::Done(done) => return Ok(done),
                other => return Err(unexpected("phase, barrier or done", &other)),
            }
        }
    }

    fn barrier(&mut self, name: String, at_ns: u64) -> Result<(), Abort> {
        let end_ns = self.since_start(at_ns);
        let start_ns = self.open.take().filter(|(open, _)| *open == name).map_or(0, |(_, start)| start);
        let snapshot = self.snapshot(&name)?;
        let mut phase = PhaseRecord { name, start_ns, end_ns, snapshot, stats: None, purge: None };
        match phase.name.as_str() {
            name if name == self.last_quiet => {
                phase.purge = Some(self.purge(false)?);
                self.purged = Some(self.snapshot("purged")?);
                self.look("purged");
                let second = self.purge(false)?;
                self.second_purge_ns = second.supported.then_some(second.duration_ns);
            }
            RESUME => phase.purge = Some(self.purge(true)?),
            IDLE => {}
            _ => {
                let mut stats = self.stats()?;
                // Where it has risen to by now; only glibc has one, and only what is recognised as its heap is read.
                let threshold = self.of_glibc.then(|| placement::mmap_threshold(self.worker.pid())).flatten();
                stats.own.extend(threshold.map(|bytes| (MMAP_THRESHOLD.to_owned(), bytes)));
                phase.stats = Some(stats);
                self.look(&phase.name);
            }
        }
        self.session.record.phases.push(phase);
        Ok(())
    }

    fn stats(&mut self) -> Result<AllocatorStats, Abort> {
        self.worker.send(Command::Stats);
        match self.receive()? {
            Message::Stats(stats) => Ok(stats),
            other => Err(unexpected("stats", &other)),
        }
    }

    fn purge(&mut self, stall: bool) -> Result<Purge, Abort> {
        self.worker.send(Command::Purge { stall });
        match self.receive()? {
            Message::Purged(purge) => Ok(purge),
            other => Err(unexpected("purged", &other)),
        }
    }

    fn look(&mut self, stage: &str) {
        let pid = self.worker.pid();
        if let Some(look) = &mut self.on_barrier {
            look(stage, pid);
        }
    }

    fn receive(&mut self) -> Result<Message, Abort> {
        loop {
            self.session.check("")?;
            match self.worker.receive(self.session.deadline) {
                Ok(Some(Message::Error(error))) => {
                    let kind = match error.kind {
                        WorkerErrorKind::Corruption => FailureKind::Corruption,
                        WorkerErrorKind::OutOfMemory => FailureKind::OutOfMemory,
                        WorkerErrorKind::Internal => FailureKind::Crashed,
                        WorkerErrorKind::BadSpec | WorkerErrorKind::BadTrace | WorkerErrorKind::Unsupported => {
                            FailureKind::Refused
                        }
                    };
                    return Err(Abort::new(kind, error.text));
                }
                Ok(Some(message)) => return Ok(message),
                // A time that is over is found at the next turn.
                Ok(None) | Err(Silence::TimedOut) => {}
                Err(Silence::Garbled(line)) => {
                    return Err(Abort::new(FailureKind::Crashed, format!("not understood: {line}")));
                }
                Err(Silence::Ended) => {
                    let how = self.worker.exit().map_or_else(|| "it ended".to_owned(), |s| sys::describe_exit(&s));
                    let text = format!("the worker left without a last word: {how}");
                    return Err(Abort::new(FailureKind::Crashed, text));
                }
            }
        }
    }

    fn since_start(&self, at_ns: u64) -> u64 {
        at_ns.saturating_sub(self.start_ns)
    }

    fn check_placement(&self, allocator: &Allocator, hello: &Hello) -> Result<(), Abort> {
        if hello.schema != SCHEMA {
            return Err(Abort::new(
                FailureKind::Refused,
                format!("the worker speaks schema {}, this program {SCHEMA}: build both together", hello.schema),
            ));
        }
        let not_in_place = |why| Abort::new(FailureKind::NotInPlace, why);
        let mapped = self.process.mapped_files().map_err(|e| not_in_place(format!("the worker's maps: {e}")))?;
        placement::check(allocator, hello, &mapped).map_err(not_in_place)
    }

    fn snapshot(&self, name: &str) -> Result<Snapshot, Abort> {
        let gone = |e: fragbench_proc::ProcError| Abort::new(FailureKind::Crashed, e.to_string());
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
    fn end(
        mut self,
        outcome: Result<Done, Abort>,
        sampled: Sampled,
        allocator: AllocatorKind,
    ) -> (RunRecord, Vec<Sample>) {
        if outcome.is_err() {
            self.worker.kill();
        }
        let stderr = self.worker.wait();
        let mut samples = sampled.samples;
        let outcome = match (sampled.guarded, outcome) {
            (Some(reached), _) => Err(self.session.guarded(reached)),
            (None, Ok(_)) if complaint::ignored_setting(&stderr).is_some() => {
                let line = complaint::ignored_setting(&stderr).unwrap_or_default();
                Err(Abort::new(
                    FailureKind::NotInPlace,
                    format!("a setting is not in force, the allocator wrote: {line}"),
                ))
            }
            (None, Ok(done)) => {
                self.session.record.cautions.extend(complaint::caution(&stderr));
                self.session.watched(sampled.cpu_ratio, SAMPLER_COST_LIMIT);
                self.session.record.cautions.extend(unread_clock(self.pace, allocator, &done));
                self.derive(done, &mut samples);
                Ok(())
            }
            (None, Err(abort)) => Err(match abort.kind {
                FailureKind::Interrupted | FailureKind::TimedOut => abort,
                kind if stderr.is_empty() => Abort { kind, ..abort },
                kind => Abort::new(kind, format!("{}; it wrote: {stderr}", abort.reason)),
            }),
        };
        self.session.end(outcome, samples)
    }

    fn derive(&mut self, done: Done, samples: &mut [Sample]) {
        let harness = self.harness_vm_bytes.max(done.harness_vm_bytes);
        let record = &mut self.session.record;
        subtract_harness(harness, samples, record, self.start.as_mut(), self.purged.as_mut());
        let work_phases = record.phases.iter().take_while(|p| is_work(p)).count();
        if let Some(start) = &self.start {
            record.metrics = metrics::derive(&Observed {
                start,
                phases: &record.phases,
                work_phases,
                purged: self.purged.as_ref(),
                second_purge_ns: self.second_purge_ns,
                samples,
                done: &done,
            });
        }
        record.done = Some(done);
    }
}

fn unexpected(wanted: &str, got: &Message) -> Abort {
    Abort::new(FailureKind::Crashed, format!("the worker should have said {wanted} but said {got:?}"))
}

/// At the virtual pace, a word about an allocator that has read no clock through the C library: glibc and gperftools'
/// tcmalloc have none, null gives nothing back.
fn unread_clock(pace: Option<Pace>, allocator: AllocatorKind, done: &Done) -> Option<Caution> {
    let timeless = [AllocatorKind::Glibc, AllocatorKind::Tcmalloc, AllocatorKind::Null].contains(&allocator);
    let read = done.facts.get("clock_read").is_none_or(|read| *read != 0.0);
    (pace == Some(Pace::Virtual) && !timeless && !read).then(|| Caution {
        kind: CautionKind::ClockUnread,
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
