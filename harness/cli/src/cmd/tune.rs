//! `fragbench tune`: which settings hold less memory, at which price, and the lines that apply them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use fragbench_allocators::{candidates, huge_page_candidates, resolve};
use fragbench_decide::{BASELINE, PEAK};
use fragbench_model::{
    Allocator, Common, Driver, HugePages, HugePagesFact, Manifest, Plan, Settings, Tuning, WorkloadSpec,
};
use fragbench_run::{ResultDir, RunLimits, WorkerBinary};
use indicatif::{ProgressBar, ProgressStyle};

use super::run::resolve_workloads;
use crate::command::{self, CommandOptions, Commands};
use crate::emission::EmitOptions;
use crate::huge_pages::{self, ThpChoice};
use crate::measure::{default_directory, new_manifest, terminal, unix_now};
use crate::options::{Format, IDLE, PaceOptions, WatchOptions};
use crate::parameters::ParameterOptions;
use crate::search::{Found, Runners, Search, Workers, first_plan};
use crate::sizes::{parse_duration, parse_share};
use crate::{Outcome, companions, generated, interrupt, usage};

/// Which memory is to be less.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum MemoryChoice {
    /// What is held at the most: what the machine must have.
    Peak,
    /// What is held after a quiet stretch: what is kept.
    Idle,
}

/// Search settings that hold less memory: Pareto front, knee, a recommendation with its price
///
/// glibc's arena limit, thresholds, caches and periodic malloc_trim, and jemalloc's and mimalloc's decay and purge settings
/// beside them, by successive halving within --max-time. A gain within the noise is none.
///
/// Examples: fragbench tune replay/connection-storm --emit systemd;
/// fragbench tune --trace server.fbt --memory peak --max-time 20m;
/// fragbench tune --max-time 30m --ready-socket /tmp/my.sock --load 'sysbench … run'
/// --metric 'tx_per_s=transactions: .*\(([0-9.]+) per' -- mariadbd --no-defaults --socket=/tmp/my.sock …
#[derive(Debug, Args)]
pub(crate) struct Tune {
    /// Workload by name (see `fragbench list workloads`), or `profile:FILE.toml`
    #[arg(value_name = "WORKLOAD", required_unless_present_any = ["trace", "command"], conflicts_with = "trace")]
    workload: Option<String>,
    /// Trace made by `fragbench record`
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Which memory is to be less [default: idle; peak of a command that ends by itself]
    #[arg(long, value_enum)]
    memory: Option<MemoryChoice>,
    /// Time the search may take: no run is begun that is not expected to end in it
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "8m")]
    max_time: Duration,
    /// Share below which a difference is of no consequence
    #[arg(long, value_parser = parse_share, value_name = "PERCENT", default_value = "5%")]
    relevant: f64,
    /// Allocators whose settings are searched; glibc with default settings is the baseline in any case
    #[arg(long, value_delimiter = ',', value_name = "NAME", default_values = ["glibc", "jemalloc", "mimalloc"])]
    allocator: Vec<String>,
    /// Threads of a workload: a modelled server's sessions [default: the workload's own]
    #[arg(long, visible_alias = "sessions", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    #[command(flatten)]
    parameters: ParameterOptions,
    #[command(flatten)]
    options: CommandOptions,
    /// Seed of every random choice
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Transparent huge pages: as the server has them that the workload stands for, or none, or more; with `madvise` or `on`
    /// the allocators' own settings of them are among the candidates
    #[arg(long, value_enum, default_value = "follow")]
    thp: ThpChoice,
    /// Quiet time after the work: longer than the longest interval of trimming and decay that is to show [default: 12s; of
    /// a command 2500ms]
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    idle: Option<Duration>,
    #[command(flatten)]
    pace: PaceOptions,
    #[command(flatten)]
    watching: WatchOptions,
    /// Result directory [default: fragbench-results/DATE]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    emit: EmitOptions,
    /// Any command and its arguments
    #[arg(
        last = true,
        value_name = "CMD",
        conflicts_with_all = ["workload", "trace", "threads", "set", "my_cnf", "flavor"]
    )]
    command: Vec<OsString>,
}

/// Quiet after a command, which takes its time.
const COMMAND_IDLE: Duration = Duration::from_millis(2500);

/// A search that was set up.
struct Set<'a> {
    plan: Plan,
    workload: WorkloadSpec,
    common: Common,
    huge_pages: Vec<HugePagesFact>,
    /// What takes part, by name, for the manifest.
    programs: &'a [(&'a str, &'a Path)],
    runners: &'a dyn Runners,
    limits: RunLimits,
    /// glibc with settings that were joined; `None` where they cannot be.
    resolve: &'a dyn Fn(&Settings) -> Option<Allocator>,
}

impl Tune {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let limits = self.watching.limits()?;
        if self.command.is_empty() { self.tune_workload(limits) } else { self.tune_command(limits) }
    }

    fn tune_workload(&self, limits: RunLimits) -> Result<Outcome> {
        if let Some(option) = self.options.given() {
            return Err(usage(format!("{option} is about a command: give one after `--`")));
        }
        let worker = WorkerBinary::beside_this_program()?;
        let mut workloads = [self.workload(&worker)?.at_pace(self.pace.pace)];
        let dir = self.directory();
        generated::place(&mut workloads, &dir)?;
        let [workload] = workloads;
        let huge_pages = huge_pages::facts(self.thp, std::slice::from_ref(&workload), &[])?;
        let used = huge_pages.iter().map(|fact| fact.used).max().unwrap_or_default();
        let candidates = self.candidates(used != HugePages::Off)?;
        let plan = first_plan(&workload, self.glibc(&Settings::new())?, candidates, self.seed);
        self.tune(
            &dir,
            Set {
                plan,
                workload,
                common: self.common(used),
                huge_pages,
                programs: &[("worker", worker.path())],
                runners: &Workers { worker: &worker, limits },
                limits,
                resolve: &|settings| self.glibc(settings).ok(),
            },
        )
    }

    fn tune_command(&self, limits: RunLimits) -> Result<Outcome> {
        let commands = self.options.specs(&self.command, &[])?;
        let programs = command::programs(&commands)?;
        let mut workloads = commands.into_iter().map(|command| WorkloadSpec::Command { command });
        let workload = workloads.next_back().ok_or_else(|| usage("there is no command to run"))?;
        if !workload.idles() && matches!(self.memory, Some(MemoryChoice::Idle)) {
            return Err(usage(
                "--memory idle: a command that ends by itself does not idle; take --memory peak, or give --load and \
                 --ready for a server",
            ));
        }
        let mut allocators = vec![self.glibc(&Settings::new())?];
        // A command has the huge pages that it and the machine allow.
        allocators.extend(self.candidates(matches!(self.thp, ThpChoice::Madvise | ThpChoice::On))?);
        let as_linked = command::fit(&mut allocators, &programs)?;
        allocators.extend(as_linked);
        let baseline = allocators.remove(0);
        let resolve = |settings: &Settings| {
            let mut joined = [self.glibc(settings).ok()?];
            command::put_first(&mut joined, &programs).ok()?;
            let [joined] = joined;
            Some(joined)
        };
        self.tune(
            &self.directory(),
            Set {
                plan: first_plan(&workload, baseline, allocators, self.seed),
                workload,
                common: command::common(self.seed, self.idle.unwrap_or(COMMAND_IDLE)),
                huge_pages: Vec::new(),
                programs: &command::images(&programs),
                runners: &Commands { programs: &programs, limits },
                limits,
                resolve: &resolve,
            },
        )
    }

    fn directory(&self) -> PathBuf {
        self.output.clone().unwrap_or_else(default_directory)
    }

    /// Searches, concludes, shows.
    fn tune(&self, dir: &Path, set: Set) -> Result<Outcome> {
        let memory = self.metric(&set.workload);
        let mut manifest = new_manifest("tune", set.programs, set.plan, set.common, &set.limits);
        manifest.relevant = self.relevant;
        manifest.huge_pages = set.huge_pages;
        let mut results = ResultDir::create(dir, &manifest)?;
        generated::generate_all(&mut manifest)?;
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template(&format!(
            "{{elapsed}} of {} s  {{wide_msg}}",
            self.max_time.as_secs()
        ))?);
        let search = Search {
            runners: set.runners,
            interrupted: interrupt::flag()?,
            memory,
            max_time: self.max_time,
            resolve: set.resolve,
            bar: &bar,
        };
        let found = search.go(&mut manifest, &mut results)?;
        bar.finish_and_clear();
        let tuning = self.conclude(&results, manifest, &found, memory)?;
        let lines = tuning.recommendation.as_ref().and_then(|r| self.emit.lines(&r.change));
        if let Some(lines) = &lines {
            results.write("emitted.txt", lines.as_bytes())?;
        }
        self.show(&tuning, lines, &results)?;
        Ok(if tuning.partial { Outcome::FellShort } else { Outcome::Success })
    }

    fn workload(&self, worker: &WorkerBinary) -> Result<WorkloadSpec> {
        if let Some(trace) = &self.trace {
            return super::replay::recording(trace);
        }
        let names: Vec<String> = self.workload.iter().cloned().collect();
        let workloads = resolve_workloads(&names, &self.parameters, worker, &self.common(HugePages::Off))?;
        match workloads.as_slice() {
            [one] => Ok(one.clone()),
            several => {
                let names: Vec<String> = several.iter().map(WorkloadSpec::name).collect();
                Err(usage(format!(
                    "settings are searched for one workload at a time; choose one of {}",
                    names.join(", ")
                )))
            }
        }
    }

    fn common(&self, thp: HugePages) -> Common {
        let driver = Driver { threads: self.threads, thp, monitor_calls: self.pace.monitor, ..Driver::default() };
        Common { seed: self.seed, idle_ms: self.idle.unwrap_or(IDLE).as_millis() as u64, driver: Some(driver) }
    }

    fn glibc(&self, settings: &Settings) -> Result<Allocator> {
        resolve(BASELINE, settings, &companions::libraries()?).map_err(usage)
    }

    /// What is tried; with `huge_pages`, settings of them, too.
    fn candidates(&self, huge_pages: bool) -> Result<Vec<Allocator>> {
        let libraries = companions::libraries()?;
        let mut all = Vec::new();
        for name in &self.allocator {
            let plain = resolve(name, &Settings::new(), &libraries).map_err(usage)?;
            let mut settings = candidates(plain.kind);
            if settings.is_empty() {
                return Err(usage(format!("--allocator {name}: no settings of it are known that could be searched")));
            }
            if huge_pages {
                settings.extend(huge_page_candidates(plain.kind));
            }
            for settings in settings {
                all.push(resolve(name, &settings, &libraries).map_err(usage)?);
            }
        }
        Ok(all)
    }

    fn metric(&self, workload: &WorkloadSpec) -> &'static str {
        let usual = if workload.idles() { MemoryChoice::Idle } else { MemoryChoice::Peak };
        match self.memory.unwrap_or(usual) {
            MemoryChoice::Peak => PEAK,
            MemoryChoice::Idle => "heap_rss_idle_bytes",
        }
    }

    /// Judges and writes what the search came to.
    fn conclude(&self, results: &ResultDir, mut manifest: Manifest, found: &Found, memory: &str) -> Result<Tuning> {
        manifest.ended_unix_s = (!found.partial).then(unix_now);
        manifest.aa = fragbench_decide::aa_spread(&manifest.plan, &found.records);
        results.write_manifest(&manifest)?;
        let (plan, records) = (&manifest.plan, &found.records);
        let tuning = fragbench_decide::tuning(plan, records, &found.finalists, memory, self.relevant, found.partial);
        let summary = fragbench_decide::summarize(plan, records, found.partial, self.relevant);
        results.write("summary.json", fragbench_report::summary_json(&summary)?.as_bytes())?;
        for (name, bytes) in fragbench_report::render_tuning(&tuning)? {
            results.write(&name, &bytes)?;
        }
        Ok(tuning)
    }

    fn show(&self, tuning: &Tuning, lines: Option<String>, results: &ResultDir) -> Result<()> {
        match self.format {
            Format::Json => {
                let mut value = serde_json::to_value(tuning)?;
                value["emitted"] = lines.into();
                say!("{}", serde_json::to_string_pretty(&value)?);
            }
            Format::Text => {
                let (width, colour) = terminal();
                say!("{}\n", fragbench_report::draw(&fragbench_report::tuning_table(tuning), width, colour));
                say!("{}\n", fragbench_report::tuning_text(tuning));
                lines.iter().for_each(|lines| say!("{lines}"));
                say!("{}: tuning.json, tuning.md, plots/tune.svg", results.path().display());
            }
        }
        Ok(())
    }
}
