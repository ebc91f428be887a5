//! `fragbench replay`: recorded traces under every allocator, by the same path as `run`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use fragbench_model::{Pace, WorkloadSpec};

use crate::options::RunOptions;
use crate::same_load::SameLoadOptions;
use crate::sizes::parse_duration;
use crate::{Outcome, usage};

/// Replay recorded traces under every allocator
///
/// Examples: fragbench replay server.fbt --allocator glibc,jemalloc --pace recorded;
/// fragbench replay monday.fbt --same-load tuesday.fbt wednesday.fbt
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Trace files made by `fragbench record`
    #[arg(value_name = "FILE", required_unless_present = "resume")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    same_load: SameLoadOptions,
    /// Recorded time a thread may run ahead of the others [default: chosen from the trace]
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    skew: Option<std::time::Duration>,
    /// Copies of the trace replayed side by side
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads_scale: u32,
    #[command(flatten)]
    options: RunOptions,
}

impl Replay {
    pub(crate) fn go(&self) -> Result<Outcome> {
        super::run::measure(&self.options, &self.options.common(None), || self.workloads())
    }

    fn workloads(&self) -> Result<Vec<WorkloadSpec>> {
        if self.same_load.is_given() && self.files.len() > 1 {
            return Err(usage("--same-load: it goes with one FILE, whose load the others recorded, too"));
        }
        let mut workloads: Vec<WorkloadSpec> = Vec::new();
        for file in &self.files {
            let mut workload = self.same_load.join(recording(file)?)?;
            if let WorkloadSpec::Replay { skew_us, threads_scale, .. } = &mut workload {
                *skew_us = self.skew.map_or(0, |skew| (skew.as_micros() as u64).max(1));
                *threads_scale = self.threads_scale;
            }
            if let Some(twin) = workloads.iter().find(|other| other.name() == workload.name()) {
                return Err(usage(format!("two traces have the same name {}: rename one", twin.name())));
            }
            workloads.push(workload);
        }
        if workloads.is_empty() {
            return Err(usage("there is nothing to replay: name a trace"));
        }
        Ok(workloads)
    }
}

/// The replay of a trace, at the pace that is chosen later.
pub(super) fn recording(file: &Path) -> Result<WorkloadSpec> {
    // Read its header before anything is run: a damaged or foreign file is an error of usage.
    fragbench_trace::Trace::open(file).map_err(|e| usage(format!("{}: {e}", file.display())))?;
    let trace = file.canonicalize().with_context(|| format!("{}", file.display()))?;
    Ok(replay_of(trace))
}

/// The replay of a trace that is known to be one.
pub(super) fn replay_of(trace: PathBuf) -> WorkloadSpec {
    WorkloadSpec::Replay { trace, pace: Pace::Fast, skew_us: 0, threads_scale: 1, same_load: Vec::new() }
}
