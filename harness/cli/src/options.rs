//! Options that the verbs that measure share, and what they become: a selection, limits, what all runs have in common, the
//! result that is finished.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use fragbench_model::{Common, Driver, HugePages, Pace, ResultKind, Touch, WorkloadSpec};
use fragbench_run::{Campaign, RunLimits, Selection};

use crate::blocks::BlockOptions;
use crate::emission::EmitOptions;
use crate::environments::EnvironmentOptions;
use crate::glibc::GlibcOptions;
use crate::huge_pages::ThpChoice;
use crate::sizes::{parse_duration, parse_size};
use crate::{recorded, same_load, usage};

/// How much time to spend.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Profile {
    /// A first answer, within a minute on two cores.
    Quick,
    /// Figures to act on: 15 blocks instead of 2, longer phases.
    Full,
}

impl Profile {
    fn repetitions(self) -> u32 {
        match self {
            Profile::Quick => 2,
            Profile::Full => 15,
        }
    }

    fn scale(self) -> f64 {
        match self {
            Profile::Quick => 1.0,
            Profile::Full => 4.0,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Profile::Quick => "quick",
            Profile::Full => "full",
        }
    }
}

/// What is written into blocks.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum TouchChoice {
    /// Nothing.
    None,
    /// The tag at the block's start.
    Header,
    /// The tag and one byte a page (of a replayed block: of the part that was resident).
    Page,
    /// Every byte.
    Full,
}

/// Common options.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) environments: EnvironmentOptions,
    #[command(flatten)]
    pub(crate) glibc: GlibcOptions,
    /// How much time to spend
    #[arg(long, value_enum, default_value = "quick")]
    pub(crate) profile: Profile,
    #[command(flatten)]
    pub(crate) blocks: BlockOptions,
    /// Factor on the work of modelled workloads [default: 1 quick, 4 full]
    #[arg(long, value_name = "F", value_parser = parse_scale)]
    scale: Option<f64>,
    /// Seed of every random choice
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What the driver writes into blocks
    #[arg(long, value_enum, default_value = "page")]
    touch: TouchChoice,
    /// Transparent huge pages: as the server has them that a workload stands for, or none, or more
    #[arg(long, value_enum, default_value = "follow")]
    pub(crate) thp: ThpChoice,
    /// Time one call in N (0: none)
    #[arg(long, value_name = "N", default_value_t = 97)]
    latency_every: u32,
    /// Quiet time between work and purge, and as long again with a monitor; it takes no time but at --pace recorded
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "12s")]
    idle: Duration,
    #[command(flatten)]
    pub(crate) pace: PaceOptions,
    #[command(flatten)]
    pub(crate) watching: WatchOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
    #[command(flatten)]
    pub(crate) emit: EmitOptions,
}

/// Quiet after the work: longer than jemalloc's default decay of 10 s.
pub(crate) const IDLE: Duration = Duration::from_secs(12);

/// Which clock the work and the allocator go by.
#[derive(Debug, Args)]
pub(crate) struct PaceOptions {
    /// `virtual` (as fast as it goes; the allocator reads recorded time), `fast` (the allocator reads the wall's clock),
    /// `recorded`, or `recorded×K` (K times as fast as recorded)
    #[arg(long, value_parser = parse_pace, default_value = "virtual")]
    pub(crate) pace: Pace,
    /// Allocations a second of a monitor's query in the second stretch of quiet (0: no such stretch)
    #[arg(long, value_name = "CALLS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) monitor: u32,
}

fn parse_pace(text: &str) -> Result<Pace, String> {
    let wrong = || format!("`{text}` is no pace: write virtual, fast, recorded, or for instance recorded×10");
    match text {
        "virtual" => Ok(Pace::Virtual),
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

/// How runs are watched and when they are ended.
#[derive(Debug, Args)]
pub(crate) struct WatchOptions {
    /// Time between two samples
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "5ms")]
    sample_interval: Duration,
    /// Heap memory at which a worker is ended [default: half of what is available]
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    mem_limit: Option<u64>,
    /// Time after which a run is ended
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "120s")]
    timeout: Duration,
}

/// Where a result goes and how it is printed.
#[derive(Debug, Args)]
pub(crate) struct OutputOptions {
    /// Result directory [default: fragbench-results/DATE]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Finish a result that was begun; what is done is not run again
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    pub(crate) resume: Option<PathBuf>,
    /// Show the plan and run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

/// How facts are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

fn parse_scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale > 0.0 && scale <= 1000.0 => Ok(scale),
        _ => Err(format!("`{text}` is no factor: write a number above 0 and up to 1000")),
    }
}

impl RunOptions {
    /// What is to be run.
    pub(crate) fn selection(&self, workloads: Vec<WorkloadSpec>) -> Result<Selection> {
        let mut allocators = self.environments.allocators(
            &self.glibc.versions()?,
            &["glibc", "jemalloc", "mimalloc", "null"],
            fragbench_allocators::USUAL,
        )?;
        let baseline = recorded::baseline(&workloads)?;
        if let Some(own) = baseline.as_ref().filter(|own| !allocators.iter().any(|a| a.is(own))) {
            allocators.insert(0, own.clone());
        }
        let repetitions = self.blocks.first(self.profile.repetitions(), same_load::recordings(&workloads))?;
        Ok(Selection { workloads, allocators, baseline, repetitions, seed: self.seed })
    }

    /// What all runs have in common.
    pub(crate) fn common(&self, threads: Option<u32>) -> Common {
        let driver = Driver {
            threads,
            scale: self.scale.unwrap_or(self.profile.scale()),
            touch: match self.touch {
                TouchChoice::None => Touch::None,
                TouchChoice::Header => Touch::Header,
                TouchChoice::Page => Touch::Page,
                TouchChoice::Full => Touch::Full,
            },
            // Each cell has its own.
            thp: HugePages::Off,
            latency_every: self.latency_every,
            monitor_calls: self.pace.monitor,
            epilogue: true,
        };
        Common { seed: self.seed, idle_ms: self.idle.as_millis() as u64, driver: Some(driver) }
    }
}

impl WatchOptions {
    /// What a run may take.
    pub(crate) fn limits(&self) -> Result<RunLimits> {
        let available = fragbench_proc::available_bytes(std::path::Path::new("/"));
        let mem_limit_bytes = match (self.mem_limit, available) {
            (Some(limit), _) => limit,
            (None, Some(available)) => available / 2,
            (None, None) => {
                return Err(usage("this machine does not tell its available memory: give --mem-limit SIZE"));
            }
        };
        if self.sample_interval < Duration::from_micros(100) {
            return Err(usage("--sample-interval below 100us would measure the sampler"));
        }
        Ok(RunLimits {
            timeout: self.timeout,
            mem_limit_bytes,
            sample_interval_ns: self.sample_interval.as_nanos() as u64,
        })
    }
}

impl OutputOptions {
    /// Where a new result goes.
    pub(crate) fn directory(&self) -> PathBuf {
        self.output
            .clone()
            .unwrap_or_else(|| fragbench_run::default_directory(&crate::sys::local_time("%Y-%m-%d-%H%M%S")))
    }

    /// The result that is to be finished, with what it holds.
    ///
    /// # Errors
    /// When it cannot be read, is of another verb, or was merged.
    pub(crate) fn resumed(&self, kind: ResultKind) -> Result<Option<Campaign>> {
        let Some(dir) = &self.resume else { return Ok(None) };
        let campaign = Campaign::resume(dir).map_err(|error| usage(format!("--resume: {error:#}")))?;
        let manifest = &campaign.manifest;
        let shown = dir.display();
        if !manifest.machines.is_empty() {
            let next = "finish the shard that is not whole, and merge again";
            return Err(usage(format!("{shown} was merged from shards: {next}")));
        }
        if manifest.kind() != kind {
            let verb = match manifest.kind() {
                ResultKind::Comparison => "run, replay or compare",
                ResultKind::Badcase => "badcase",
                ResultKind::Tuning => "tune",
            };
            return Err(usage(format!("{shown} is a result of {verb}: finish it with fragbench {verb} --resume")));
        }
        Ok(Some(campaign))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces() {
        for (text, pace) in [
            ("virtual", Pace::Virtual),
            ("fast", Pace::Fast),
            ("recorded", Pace::Recorded { speed: 1.0 }),
            ("recorded×2.5", Pace::Recorded { speed: 2.5 }),
        ] {
            assert_eq!(parse_pace(text), Ok(pace));
            assert_eq!(pace.to_string(), text);
        }
        assert_eq!(parse_pace("recordedx10"), Ok(Pace::Recorded { speed: 10.0 }));
        for wrong in ["slow", "recorded×0", "recorded×-1", "recorded×nan", "recorded2"] {
            assert!(parse_pace(wrong).is_err(), "{wrong}");
        }
    }
}
