//! Options that `run` and `replay` share, and what they become: a selection, limits, the part all runs have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use fragbench_model::{Allocator, AllocatorKind, RunSpec, SCHEMA, Settings, Touch, WorkloadSpec};
use fragbench_run::{RunLimits, Selection};

use crate::glibc::GlibcOptions;
use crate::sizes::{parse_duration, parse_size};
use crate::{companions, usage};

/// How much time to spend.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Profile {
    /// A first answer, within a minute on two cores.
    Quick,
    /// Figures to act on: more repetitions, longer phases.
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

    fn idle(self) -> Duration {
        match self {
            Profile::Quick => Duration::from_millis(50),
            // Longer than jemalloc's default decay of 10 s.
            Profile::Full => Duration::from_secs(12),
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
    /// Allocators: glibc, jemalloc, mimalloc, null, or NAME=/path/lib.so
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    allocator: Vec<String>,
    /// MALLOC_ARENA_MAX values for glibc; `default` leaves it unset [default: default,1,2,4,8]
    #[arg(long, value_delimiter = ',', value_name = "N")]
    arena_max: Vec<String>,
    /// Emulate a server of N cores: where glibc's arena limit is not set, set it to 8 × N, its default there
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    cores: Option<u32>,
    /// A variable of an allocator's environment (MALLOC_…, glibc.malloc.…, MALLOC_CONF, MIMALLOC_…); adds a cell
    /// with it beside the default
    #[arg(long, value_name = "KEY=VALUE")]
    setting: Vec<String>,
    #[command(flatten)]
    pub(crate) glibc: GlibcOptions,
    /// How much time to spend
    #[arg(long, value_enum, default_value = "quick")]
    pub(crate) profile: Profile,
    /// Runs of each cell [default: 2 quick, 15 full]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    reps: Option<u32>,
    /// Factor on the work of modelled workloads [default: 1 quick, 4 full]
    #[arg(long, value_name = "F", value_parser = parse_scale)]
    scale: Option<f64>,
    /// Seed of every random choice
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What the driver writes into blocks
    #[arg(long, value_enum, default_value = "page")]
    touch: TouchChoice,
    /// Allow transparent huge pages (off by default, as MariaDB does)
    #[arg(long)]
    thp: bool,
    /// Time one call in N (0: none)
    #[arg(long, value_name = "N", default_value_t = 97)]
    latency_every: u32,
    /// Quiet time between work and purge [default: 50ms quick, 12s full]
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    idle: Option<Duration>,
    /// Time between two samples
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "5ms")]
    sample_interval: Duration,
    /// Heap memory at which a worker is ended [default: half of what is available]
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    mem_limit: Option<u64>,
    /// Time after which a run is ended
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "120s")]
    timeout: Duration,
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
        Ok(Selection {
            workloads,
            allocators: self.allocators()?,
            repetitions: self.reps.unwrap_or(self.profile.repetitions()),
            seed: self.seed,
        })
    }

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

    /// What all runs have in common; the workload is a placeholder that each run replaces.
    pub(crate) fn common(&self, workload: WorkloadSpec, threads: Option<u32>) -> RunSpec {
        RunSpec {
            schema: SCHEMA,
            workload,
            threads,
            seed: self.seed,
            scale: self.scale.unwrap_or(self.profile.scale()),
            touch: match self.touch {
                TouchChoice::None => Touch::None,
                TouchChoice::Header => Touch::Header,
                TouchChoice::Page => Touch::Page,
                TouchChoice::Full => Touch::Full,
            },
            thp: self.thp,
            latency_every: self.latency_every,
            idle_ms: self.idle.unwrap_or(self.profile.idle()).as_millis() as u64,
            epilogue: true,
        }
    }

    /// Allocators in the order of the tables: each with default settings, glibc with each arena limit, then the
    /// variants that `--setting` asks for; after the system's glibc, each other one in the same way.
    fn allocators(&self) -> Result<Vec<Allocator>> {
        let names: Vec<String> = if self.allocator.is_empty() {
            ["glibc", "jemalloc", "mimalloc", "null"].map(String::from).to_vec()
        } else {
            self.allocator.clone()
        };
        let arena_limits = self.arena_limits()?;
        let settings = self.settings()?;
        let versions = self.glibc.versions()?;
        let mut used = BTreeSet::new();
        let mut allocators: Vec<Allocator> = Vec::new();
        let mut seen = BTreeSet::new();
        let libraries = companions::libraries()?;
        for name in &names {
            let resolve =
                |settings: &Settings| fragbench_allocators::resolve(name, settings, &libraries).map_err(usage);
            let plain = resolve(&Settings::new())?;
            if !seen.insert(plain.name.clone()) {
                return Err(usage(format!("--allocator names `{}` twice", plain.name)));
            }
            let own: Settings = settings
                .iter()
                .filter(|(key, _)| fragbench_allocators::accepts(plain.kind, key))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            used.extend(own.keys().cloned());
            let mut variants: Vec<Settings> = if plain.kind == AllocatorKind::Glibc {
                arena_limits.iter().map(arena_limit_setting).collect()
            } else {
                vec![Settings::new()]
            };
            variants.extend((!own.is_empty()).then_some(own));
            for settings in &variants {
                allocators.push(resolve(settings)?);
            }
            for (name, libc) in versions.iter().filter(|_| plain.kind == AllocatorKind::Glibc) {
                for settings in &variants {
                    allocators.push(fragbench_allocators::resolve_glibc(name, libc, settings).map_err(usage)?);
                }
            }
        }
        if !versions.is_empty() && !allocators.iter().any(|a| a.kind == AllocatorKind::Glibc) {
            return Err(usage("--glibc names versions of glibc, which --allocator leaves out; add glibc to it"));
        }
        if !self.arena_max.is_empty() && !allocators.iter().any(|a| a.kind == AllocatorKind::Glibc) {
            return Err(usage("--arena-max is a setting of glibc, which --allocator leaves out; add glibc to it"));
        }
        if let Some(cores) = self.cores {
            let mut glibc = allocators.iter_mut().filter(|a| a.kind == AllocatorKind::Glibc).peekable();
            if glibc.peek().is_none() {
                return Err(usage("--cores sets glibc's arena limit, and --allocator leaves glibc out; add it"));
            }
            glibc.for_each(|allocator| emulate_cores(allocator, cores));
        }
        if let Some(key) = settings.keys().find(|key| !used.contains(*key)) {
            return Err(usage(format!(
                "--setting {key}: none of {} has it; glibc takes MALLOC_… and glibc.malloc.…, jemalloc MALLOC_CONF, \
                 mimalloc MIMALLOC_…",
                names.join(", ")
            )));
        }
        Ok(allocators)
    }

    fn arena_limits(&self) -> Result<Vec<Option<String>>> {
        if self.arena_max.is_empty() {
            let sweep = [None, Some("1"), Some("2"), Some("4"), Some("8")];
            return Ok(sweep.map(|n| n.map(String::from)).to_vec());
        }
        let mut limits = Vec::new();
        for text in &self.arena_max {
            let limit = match (text.as_str(), text.parse::<u32>()) {
                ("default", _) => None,
                (_, Ok(n)) if n > 0 => Some(n.to_string()),
                _ => return Err(usage(format!("--arena-max {text}: neither `default` nor a number from 1"))),
            };
            if limits.contains(&limit) {
                return Err(usage(format!("--arena-max names {text} twice")));
            }
            limits.push(limit);
        }
        Ok(limits)
    }

    fn settings(&self) -> Result<BTreeMap<String, String>> {
        let mut settings = BTreeMap::new();
        for text in &self.setting {
            let (key, value) = text
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| usage(format!("--setting {text}: write KEY=VALUE")))?;
            if settings.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(usage(format!("--setting {key} is given twice")));
            }
        }
        Ok(settings)
    }
}

/// No setting for glibc's default.
fn arena_limit_setting(limit: &Option<String>) -> Settings {
    limit.iter().map(|n| (fragbench_allocators::ARENA_MAX.to_owned(), n.clone())).collect()
}

/// Gives glibc the arena limit it would have on a machine of `cores` cores, unless its settings have one: eight a core
/// on 64-bit machines (malloc/arena.c, `NARENAS_FROM_NCORES`). Not a setting of the cell: it stands for the default.
fn emulate_cores(allocator: &mut Allocator, cores: u32) {
    let tuned = allocator.environment.get("GLIBC_TUNABLES").is_some_and(|t| t.contains("glibc.malloc.arena_max"));
    if !tuned && !allocator.environment.contains_key("MALLOC_ARENA_MAX") {
        let limit = cores * 8;
        allocator.environment.insert("MALLOC_ARENA_MAX".into(), limit.to_string());
        allocator.notes.push(format!("arena limit {limit}, glibc's default on {cores} cores"));
    }
}
