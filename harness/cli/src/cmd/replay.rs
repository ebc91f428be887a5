//! `fragbench replay`: recorded traces under every allocator, by the same path as `run`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use fragbench_model::{Pace, WorkloadSpec};

use crate::options::RunOptions;
use crate::sizes::parse_duration;
use crate::{Outcome, usage};

/// Replay recorded traces under every allocator
///
/// Example: fragbench replay server.fbt --allocator glibc,jemalloc --pace recorded
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Trace files made by `fragbench record`
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// `fast`, `recorded`, or `recorded×K` (K times as fast as recorded)
    #[arg(long, value_parser = parse_pace, default_value = "fast")]
    pace: Pace,
    /// Recorded time a thread may run ahead of the others [default: chosen from the trace]
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    skew: Option<std::time::Duration>,
    /// Copies of the trace replayed side by side
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads_scale: u32,
    #[command(flatten)]
    options: RunOptions,
}

fn parse_pace(text: &str) -> Result<Pace, String> {
    let wrong = || format!("`{text}` is no pace: write fast, recorded, or for instance recorded×10");
    match text {
        "fast" => Ok(Pace::Fast),
        "recorded" => Ok(Pace::Recorded { speed: 1.0 }),
        _ => {
            let factor =
                text.strip_prefix("recorded").and_then(|t| t.strip_prefix(['×', 'x', '*'])).ok_or_else(wrong)?;
            let speed: f64 = factor.parse().map_err(|_| wrong())?;
            if speed.is_finite() && speed > 0.0 { Ok(Pace::Recorded { speed }) } else { Err(wrong()) }
        }
    }
}

impl Replay {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let mut workloads: Vec<WorkloadSpec> = Vec::new();
        for file in &self.files {
            let mut workload = recording(file)?;
            if let WorkloadSpec::Replay { pace, skew_us, threads_scale, .. } = &mut workload {
                *pace = self.pace;
                *skew_us = self.skew.map_or(0, |skew| (skew.as_micros() as u64).max(1));
                *threads_scale = self.threads_scale;
            }
            if let Some(twin) = workloads.iter().find(|other| other.name() == workload.name()) {
                return Err(usage(format!("two traces have the same name {}: rename one", twin.name())));
            }
            workloads.push(workload);
        }
        self.options.measure(workloads, None)
    }
}

/// The replay of a trace, as fast as it goes.
pub(super) fn recording(file: &Path) -> Result<WorkloadSpec> {
    // Read its header before anything is run: a damaged or foreign file is an error of usage.
    fragbench_trace::Trace::open(file).map_err(|e| usage(format!("{}: {e}", file.display())))?;
    let trace = file.canonicalize().with_context(|| format!("{}", file.display()))?;
    Ok(WorkloadSpec::Replay { trace, pace: Pace::Fast, skew_us: 0, threads_scale: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces() {
        assert_eq!(parse_pace("fast"), Ok(Pace::Fast));
        assert_eq!(parse_pace("recorded×2.5"), Ok(Pace::Recorded { speed: 2.5 }));
        assert_eq!(parse_pace("recordedx10"), Ok(Pace::Recorded { speed: 10.0 }));
        for wrong in ["slow", "recorded×0", "recorded×-1", "recorded×nan", "recorded2"] {
            assert!(parse_pace(wrong).is_err(), "{wrong}");
        }
    }
}
