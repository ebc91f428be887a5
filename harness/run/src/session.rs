//! What a run of the worker and a run of a command share: its limits and its deadline, the user's interruption, what the
//! machine did besides, and the record that comes of it, however it ends.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fragbench_model::{
    Allocator, Caution, CautionKind, Failure, FailureKind, MachineLoad, RunRecord, RunStatus, Sample,
};
use fragbench_proc::CpuTotals;

use crate::sys;

/// What a run may take.
#[derive(Debug, Clone, Copy)]
pub struct RunLimits {
    /// Time until it is ended.
    pub timeout: Duration,
    /// Anonymous bytes at which it is ended.
    pub mem_limit_bytes: u64,
    /// Nanoseconds between two samples.
    pub sample_interval_ns: u64,
}

/// Why a run was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Abort {
    pub(crate) kind: FailureKind,
    pub(crate) reason: String,
}

impl Abort {
    pub(crate) fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }
}

/// A run from its beginning to its record.
pub(crate) struct Session<'a> {
    pub(crate) limits: &'a RunLimits,
    pub(crate) deadline: Instant,
    pub(crate) record: RunRecord,
    interrupted: &'a AtomicBool,
}

impl<'a> Session<'a> {
    /// Begins one; its time runs from now.
    pub(crate) fn begin(
        workload: String,
        allocator: &Allocator,
        environment: BTreeMap<String, String>,
        limits: &'a RunLimits,
        interrupted: &'a AtomicBool,
    ) -> Self {
        let started_unix_s = std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs());
        let mut record = RunRecord::begin(workload, allocator, started_unix_s);
        record.environment = environment;
        record.environment.retain(|name, _| !name.starts_with(fragbench_allocators::PADDING_VARIABLE));
        Self { limits, deadline: Instant::now() + limits.timeout, record, interrupted }
    }

    /// Whether the user has stopped it, or its time is over; `what` is waited for.
    pub(crate) fn check(&self, what: &str) -> Result<(), Abort> {
        if self.interrupted.load(Ordering::Acquire) {
            return Err(Abort::new(FailureKind::Interrupted, "stopped by the user; --resume runs it"));
        }
        if Instant::now() >= self.deadline {
            let timeout = self.limits.timeout.as_secs();
            let text = format!("{what} not finished after {timeout} s; raise --timeout");
            return Err(Abort::new(FailureKind::TimedOut, text.trim_start()));
        }
        Ok(())
    }

    /// That the memory guard has ended it, at so many bytes of heap.
    pub(crate) fn guarded(&self, heap_bytes: u64) -> Abort {
        let text = format!(
            "ended by the memory guard at {} MiB of heap (limit {} MiB); raise --mem-limit or make the work smaller",
            heap_bytes >> 20,
            self.limits.mem_limit_bytes >> 20
        );
        Abort::new(FailureKind::OutOfMemory, text)
    }

    /// Something a reader of its figures must know.
    pub(crate) fn caution(&mut self, kind: CautionKind, text: String) {
        self.record.cautions.push(Caution { kind, text });
    }

    /// Notes what watching it took, as a share of a core; named where that is more than `limit`.
    pub(crate) fn watched(&mut self, cpu_ratio: Option<f64>, limit: f64) {
        self.record.sampler_cpu_ratio = cpu_ratio;
        if let Some(cost) = cpu_ratio.filter(|&cost| cost > limit) {
            let text =
                format!("watching it took {:.1} % of a core; a longer --sample-interval makes it less", 100.0 * cost);
            self.caution(CautionKind::SamplerCost, text);
        }
    }

    /// The record; a run that was given up has no figures.
    pub(crate) fn end(mut self, outcome: Result<(), Abort>, samples: Vec<Sample>) -> (RunRecord, Vec<Sample>) {
        if let Err(Abort { kind, reason }) = outcome {
            self.record.status = RunStatus::Failed(Failure { kind, reason });
            self.record.metrics.clear();
        }
        (self.record, samples)
    }
}

/// What the machine did besides a run and this process.
#[derive(Debug)]
pub(crate) struct LoadMeter {
    totals: Option<CpuTotals>,
    own_cpu_ns: u64,
    at_ns: u64,
}

impl LoadMeter {
    fn root() -> &'static Path {
        Path::new("/")
    }

    pub(crate) fn start() -> Self {
        Self {
            totals: fragbench_proc::cpu_totals(Self::root()).ok(),
            own_cpu_ns: sys::process_cpu_ns(),
            at_ns: sys::monotonic_ns(),
        }
    }

    /// What all others did, `ours` being the nanoseconds that those of the run took. Ticks of 10 ms make it unreliable below
    /// 0.1 s.
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
