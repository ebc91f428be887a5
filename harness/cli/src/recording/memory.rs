//! Memory of the recorded processes from outside: the series that goes into the trace, and the log of `--memory`.
//!
//! Trouble in sampling never ends a recording: what could not be read is missing, and counted.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use fragbench_proc::{ProcError, Process};
use fragbench_trace::{MemorySample, MemorySeries};

use crate::sys;

/// First distance of two samples; it doubles up to [`STEP_NS`], so that short programs have a few as well.
const FIRST_STEP_NS: u64 = 20_000_000;
/// Distance of two samples.
const STEP_NS: u64 = 1_000_000_000;

/// What was seen of one process.
#[derive(Debug)]
pub(crate) struct Observed {
    process: Process,
    /// `CLOCK_MONOTONIC` when the next sample is due, ns.
    due_ns: u64,
    step_ns: u64,
    /// Time of `CLOCK_MONOTONIC`, ns, and the sample, whose own time is still 0.
    samples: Vec<(u64, MemorySample)>,
    missed: u64,
    /// Its processor time when last seen, ns.
    cpu_ns: Option<u64>,
    /// Whether it had switched huge pages off when last seen.
    pub(crate) thp_disabled: Option<bool>,
    /// CPUs it might use when last seen.
    pub(crate) cpuset: Option<String>,
}

impl Observed {
    fn new(pid: u32, now_ns: u64) -> Self {
        Self {
            process: Process::live(pid),
            due_ns: now_ns,
            step_ns: FIRST_STEP_NS,
            samples: Vec::new(),
            missed: 0,
            cpu_ns: None,
            thp_disabled: None,
            cpuset: None,
        }
    }

    fn sample_if_due(&mut self, now_ns: u64) {
        if now_ns < self.due_ns {
            return;
        }
        // Whole steps that have passed since: the sampler was kept from working.
        self.missed += (now_ns - self.due_ns) / self.step_ns;
        self.step_ns = (2 * self.step_ns).min(STEP_NS);
        self.due_ns = now_ns + self.step_ns;
        match self.read() {
            Ok(sample) => self.samples.push((now_ns, sample)),
            // It has ended: no moment of its life was missed.
            Err(ProcError::Gone(_)) => {}
            Err(_) => self.missed += 1,
        }
        self.look();
    }

    fn read(&self) -> Result<MemorySample, ProcError> {
        let status = self.process.status()?;
        // Needs the rights of a debugger; a process that has changed its user can only be read in part.
        let anonymous = match self.process.anonymous_memory() {
            Err(ProcError::Gone(path)) => return Err(ProcError::Gone(path)),
            other => other.ok(),
        };
        Ok(MemorySample {
            at_us: 0,
            vm_bytes: Some(status.vm_bytes),
            rss_bytes: Some(status.rss_bytes),
            anon_bytes: Some(status.anon_bytes),
            heap_bytes: anonymous.as_ref().map(|a| a.main_heap_bytes + a.arena_bytes + a.other_bytes),
            huge_bytes: anonymous.as_ref().map(|a| a.huge_bytes),
        })
    }

    /// What is known of an ended process too, until somebody waits for it.
    fn look(&mut self) {
        if let Ok(times) = self.process.times() {
            self.cpu_ns = Some(times.cpu_ns);
        }
        if let Ok(grants) = self.process.grants() {
            self.thp_disabled = grants.thp.map(|allowed| !allowed).or(self.thp_disabled);
            self.cpuset = grants.cpus.or(self.cpuset.take());
        }
    }

    /// Processor time, µs.
    pub(crate) fn cpu_us(&self) -> Option<u64> {
        self.cpu_ns.map(|ns| ns / 1000)
    }

    /// The samples in the time of a recording that began at `start_ns` of `CLOCK_MONOTONIC`; `None` when there are none.
    pub(crate) fn series(&self, start_ns: u64) -> Option<MemorySeries> {
        let since = |at: u64| at.checked_sub(start_ns).map(|ns| ns / 1000);
        let samples: Vec<_> =
            self.samples.iter().filter_map(|(at, s)| Some(MemorySample { at_us: since(*at)?, ..*s })).collect();
        (!samples.is_empty()).then_some(MemorySeries { samples, missed: self.missed })
    }
}

/// Samples every process of a recording.
#[derive(Debug, Default)]
pub(crate) struct Observer(BTreeMap<u32, Observed>);

impl Observer {
    /// Takes samples that are due, of the processes known so far and of these.
    pub(crate) fn sample(&mut self, pids: impl IntoIterator<Item = u32>) {
        let now = sys::monotonic_ns();
        for pid in pids {
            self.0.entry(pid).or_insert_with(|| Observed::new(pid, now));
        }
        for observed in self.0.values_mut() {
            observed.sample_if_due(now);
        }
    }

    /// A last look at a process that has ended and has not been waited for: its processor time is still there.
    pub(crate) fn last_look(&mut self, pid: u32) {
        if let Some(observed) = self.0.get_mut(&pid) {
            observed.look();
        }
    }

    /// What was seen of a process.
    pub(crate) fn of(&self, pid: u32) -> Option<&Observed> {
        self.0.get(&pid)
    }
}

/// Samples of a process's memory as CSV, bytes.
pub(crate) struct MemoryLog {
    process: Process,
    file: std::io::BufWriter<std::fs::File>,
    begun: Instant,
    /// What kept a sample from being taken or written, once.
    pub(crate) trouble: Option<String>,
}

impl MemoryLog {
    pub(crate) fn create(path: &Path, pid: u32) -> Result<Self> {
        let file = std::fs::File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        let mut file = std::io::BufWriter::new(file);
        writeln!(
            file,
            "at_ms,vm_bytes,rss_bytes,anon_bytes,main_heap_bytes,arena_bytes,stack_bytes,data_bytes,other_bytes,threads"
        )?;
        Ok(Self { process: Process::live(pid), file, begun: Instant::now(), trouble: None })
    }

    pub(crate) fn sample(&mut self) {
        if let Err(error) = self.take() {
            self.trouble.get_or_insert_with(|| format!("{error:#}"));
        }
    }

    fn take(&mut self) -> Result<()> {
        let at_ms = self.begun.elapsed().as_millis();
        let (status, anonymous) = match (self.process.status(), self.process.anonymous_memory()) {
            (Ok(status), Ok(anonymous)) => (status, anonymous),
            // It has ended or is just being replaced by exec.
            (Err(ProcError::Gone(_)), _) | (_, Err(ProcError::Gone(_))) => return Ok(()),
            (Err(error), _) | (_, Err(error)) => return Err(error.into()),
        };
        writeln!(
            self.file,
            "{at_ms},{},{},{},{},{},{},{},{},{}",
            status.vm_bytes,
            status.rss_bytes,
            status.anon_bytes,
            anonymous.main_heap_bytes,
            anonymous.arena_bytes,
            anonymous.stack_bytes,
            anonymous.data_bytes,
            anonymous.other_bytes,
            status.threads,
        )?;
        Ok(())
    }

    /// Writes what is buffered.
    pub(crate) fn finish(mut self) -> Option<String> {
        let flushed = self.file.flush().err().map(|error| error.to_string());
        self.trouble.or(flushed)
    }
}
