//! `fragbench tune`: which settings hold less memory, at which price, and the lines that apply them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use fragbench_allocators::{candidates, huge_page_candidates, resolve};
use fragbench_decide::{BASELINE, PEAK};
use fragbench_model::{Allocator, Common, Driver, HugePages, Manifest, ResultKind, Settings, Shard, WorkloadSpec};
use fragbench_run::{
    Campaign, CommandRunner, Conditions, Ending, Outlook, Program, RunLimits, Runner, Search, StoppingRule,
    WorkerBinary, WorkerRunner, new_manifest,
};

use super::run::resolve_workloads;
use crate::blocks::{part, same_shard};
use crate::command::{self, CommandOptions};
use crate::conclude::{begin, ended_well, show_plan};
use crate::emission::EmitOptions;
use crate::huge_pages::{self, ThpChoice};
use crate::options::{IDLE, OutputOptions, PaceOptions, WatchOptions};
use crate::parameters::ParameterOptions;
use crate::progress::Progress;
use crate::same_load::{self, SameLoadOptions};
use crate::sizes::{parse_duration, parse_share};
use crate::{Outcome, companions, generated, interrupt, recorded, tuning, usage};

/// Time that a search may take when none is given.
const SEARCH_TIME: Duration = Duration::from_secs(480);

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
    #[arg(value_name = "WORKLOAD", required_unless_present_any = ["trace", "command", "resume"], conflicts_with = "trace")]
    workload: Option<String>,
    /// Trace made by `fragbench record`
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    same_load: SameLoadOptions,
    /// Which memory is to be less [default: idle; peak of a command that ends by itself]
    #[arg(long, value_enum)]
    memory: Option<MemoryChoice>,
    /// Time the search may take: no run is begun that is not expected to end in it [default: 8m; with --reps no limit]
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    max_time: Option<Duration>,
    /// No search: run every setting so often, in blocks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    reps: Option<u32>,
    /// With --reps: run only the I-th of N parts of the plan, for `fragbench merge`
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Share below which a difference is of no consequence
    #[arg(long, value_parser = parse_share, value_name = "PERCENT", default_value = "5%")]
    relevant: f64,
    /// Allocators whose settings are searched; what a trace was recorded with is the baseline, else glibc with default settings
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
    #[command(flatten)]
    output: OutputOptions,
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

/// What runs the work, and what is to be known of it before.
enum By {
    Worker(WorkerBinary),
    Programs(BTreeMap<String, Program>),
}

impl Tune {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let limits = self.watching.limits()?;
        let (mut campaign, by) = match self.output.resumed(ResultKind::Tuning)? {
            Some(campaign) => {
                same_shard(self.shard, &campaign.manifest)?;
                let Some(cell) = campaign.manifest.plan.cells.first() else {
                    return Err(usage("that result has no cells: begin it anew"));
                };
                let by = self.by(&cell.workload)?;
                (campaign, by)
            }
            None => match self.begin(limits)? {
                Some(begun) => begun,
                None => return Ok(Outcome::Success),
            },
        };
        generated::generate_all(&mut campaign.manifest)?;
        campaign.keep_manifest()?;
        let limits = RunLimits { mem_limit_bytes: campaign.manifest.mem_limit_bytes, ..limits };
        let common = campaign.manifest.common.clone();
        let mut runner: Box<dyn Runner> = match &by {
            By::Worker(worker) => Box::new(WorkerRunner::new(worker, &common, limits)),
            By::Programs(programs) => Box::new(CommandRunner::new(programs, common.idle_ms, limits)),
        };
        let ending = if self.is_sweep(&campaign.manifest) {
            let progress = Progress::of_runs(campaign.manifest.plan.runs.len(), campaign.records.len())?;
            let mut stopping = StoppingRule::new(None, self.max_time);
            let interrupted = interrupt::flag()?;
            let ending = campaign.run(&mut *runner, &mut stopping, interrupted, &mut |event| progress.hear(&event))?;
            progress.finish();
            ending
        } else {
            self.search(&mut campaign, &mut *runner, &by)?
        };
        self.conclude(&campaign, ending)
    }

    /// Whether every candidate is run equally often, without a search.
    fn is_sweep(&self, manifest: &Manifest) -> bool {
        self.reps.is_some() || manifest.part.is_some() || (self.output.resume.is_some() && manifest.search.is_none())
    }

    /// Begins a result; `None` where its plan was to be shown only.
    fn begin(&self, limits: RunLimits) -> Result<Option<(Campaign, By)>> {
        if self.shard.is_some() && self.reps.is_none() {
            return Err(usage(
                "--shard: a search needs to see every block; give --reps N to run every setting N times",
            ));
        }
        let mut workloads = [self.workload()?.at_pace(self.pace.pace)];
        let dir = self.output.directory();
        generated::place(&mut workloads, &dir)?;
        let [workload] = workloads;
        let by = self.by(&workload)?;
        if !workload.idles() && matches!(self.memory, Some(MemoryChoice::Idle)) {
            return Err(usage(
                "--memory idle: a command that ends by itself does not idle; take --memory peak, or give --load and \
                 --ready for a server",
            ));
        }
        let of_worker = matches!(by, By::Worker(_));
        let huge_pages = match of_worker {
            true => huge_pages::facts(self.thp, std::slice::from_ref(&workload), &[])?,
            // A command has the huge pages that it and the machine allow.
            false => Vec::new(),
        };
        let used = huge_pages.iter().map(|fact| fact.used).max().unwrap_or_default();
        let asked = matches!(self.thp, ThpChoice::Madvise | ThpChoice::On);
        let mut candidates = self.candidates(if of_worker { used != HugePages::Off } else { asked })?;
        // What the recorded server ran with; otherwise the C library's own as it comes.
        let recorded = recorded::baseline(std::slice::from_ref(&workload))?;
        if let Some(recorded) = &recorded {
            candidates = beside(recorded, candidates)?;
        }
        let mut baseline = [match recorded {
            Some(recorded) => recorded,
            None => glibc()?,
        }];
        let mut common = self.common(used);
        if let By::Programs(programs) = &by {
            command::put_first(&mut baseline, programs)?;
            let as_linked = command::fit(&mut candidates, programs)?;
            candidates.extend(as_linked);
            common = command::common(self.seed, self.idle.unwrap_or(COMMAND_IDLE));
        }
        let [baseline] = baseline;
        let mut plan = Search::first_plan(&workload, baseline, candidates, self.seed);
        let recordings = same_load::recordings(std::slice::from_ref(&workload));
        let blocks = self.reps.map(|reps| same_load::blocks(Some(reps), reps, recordings)).transpose()?;
        for _ in 0..blocks.unwrap_or(0) {
            fragbench_run::add_block(&mut plan);
        }
        let part = part(self.shard, &mut plan)?;
        if self.output.dry_run {
            show_plan(&plan, self.output.format)?;
            return Ok(None);
        }
        let programs = match &by {
            By::Worker(worker) => vec![("worker", worker.path())],
            By::Programs(programs) => command::images(programs),
        };
        let conditions = Conditions {
            kind: ResultKind::Tuning,
            profile: "tune",
            programs: &programs,
            common,
            limits,
            relevant: self.relevant,
            part,
        };
        let mut manifest = new_manifest(conditions, plan);
        manifest.memory = Some(self.metric(&workload).to_owned());
        manifest.huge_pages = huge_pages;
        manifest.recordings = recorded::memory(std::slice::from_ref(&workload))?;
        Ok(Some((begin(Some(&dir), manifest)?, by)))
    }

    fn by(&self, workload: &WorkloadSpec) -> Result<By> {
        match workload.command() {
            None => Ok(By::Worker(WorkerBinary::beside_this_program()?)),
            Some(command) => Ok(By::Programs(command::programs(std::slice::from_ref(command))?)),
        }
    }

    /// Searches within the time.
    fn search(&self, campaign: &mut Campaign, runner: &mut dyn Runner, by: &By) -> Result<Ending> {
        let libraries = companions::libraries()?;
        let resolve = |name: &str, settings: &Settings| {
            let mut joined = [resolve(name, settings, &libraries).ok()?];
            if let By::Programs(programs) = by {
                command::put_first(&mut joined, programs).ok()?;
            }
            let [joined] = joined;
            Some(joined)
        };
        let memory = campaign.manifest.memory.clone().unwrap_or_else(|| PEAK.to_owned());
        let max_time = self.max_time.unwrap_or(SEARCH_TIME);
        let interrupted = interrupt::flag()?;
        let progress = Progress::of_time(max_time.as_secs())?;
        let mut search = Search::new(&campaign.manifest, &memory, max_time, &resolve);
        let outlook = search.pilot(&mut campaign.manifest, runner, interrupted);
        if let Some(text) = outlook_text(&outlook, max_time) {
            note!("{text}");
        }
        campaign.keep_manifest()?;
        let ending = campaign.run(runner, &mut search, interrupted, &mut |event| progress.hear(&event))?;
        progress.finish();
        search.keep(&mut campaign.manifest);
        campaign.keep_manifest()?;
        Ok(ending)
    }

    fn conclude(&self, campaign: &Campaign, ending: Ending) -> Result<Outcome> {
        let Some(results) = campaign.results() else { return Ok(Outcome::FellShort) };
        let partial = campaign.is_partial() || ending == Ending::Interrupted;
        let finalists = tuning::finalists(&campaign.manifest, &campaign.records);
        let tuning = tuning::conclude(results, campaign.manifest.clone(), &campaign.records, &finalists, partial)?;
        tuning::show(&tuning, results, self.output.format, Some((&self.emit, &campaign.manifest)))?;
        let ended_well = ended_well(ending, partial, &campaign.records, results.path());
        Ok(if ended_well { Outcome::Success } else { Outcome::FellShort })
    }

    fn workload(&self) -> Result<WorkloadSpec> {
        if !self.command.is_empty() {
            let mut commands = self.options.specs(&self.command, &[])?;
            let command = commands.pop().ok_or_else(|| usage("there is no command to run"))?;
            return Ok(WorkloadSpec::Command { command });
        }
        if let Some(option) = self.options.given() {
            return Err(usage(format!("{option} is about a command: give one after `--`")));
        }
        self.workload_of(&WorkerBinary::beside_this_program()?)
    }

    fn workload_of(&self, worker: &WorkerBinary) -> Result<WorkloadSpec> {
        if let Some(trace) = &self.trace {
            return self.same_load.join(super::replay::recording(trace)?);
        }
        if self.same_load.is_given() {
            return Err(usage("--same-load: it goes with --trace FILE, whose load the others recorded, too"));
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
}

/// glibc with default settings.
fn glibc() -> Result<Allocator> {
    resolve(BASELINE, &Settings::new(), &companions::libraries()?).map_err(usage)
}

/// Candidates beside what a server was recorded with: those of its own allocator change its settings and keep the others;
/// glibc as it comes is one of them.
fn beside(recorded: &Allocator, candidates: Vec<Allocator>) -> Result<Vec<Allocator>> {
    let libraries = companions::libraries()?;
    let mut all = vec![glibc()?];
    for candidate in candidates {
        let mut changed = candidate.clone();
        if candidate.name == recorded.name && !recorded.settings.is_empty() {
            let mut settings = recorded.settings.clone();
            settings.extend(candidate.settings.clone());
            // Where both say the same thing in two ways the candidate stands alone.
            changed = resolve(&candidate.name, &settings, &libraries).unwrap_or(candidate);
        }
        if !changed.is(recorded) && !all.iter().any(|other| other.is(&changed)) {
            all.push(changed);
        }
    }
    all.retain(|candidate| !candidate.is(recorded));
    Ok(all)
}

/// What a time that will not do suffices for, and what would; `None` where it will.
fn outlook_text(outlook: &Outlook, max_time: Duration) -> Option<String> {
    let Outlook { run_s, candidates, affordable, enough_s } = *outlook;
    let short = affordable < candidates || enough_s > max_time.as_secs_f64();
    let tried = if affordable < candidates {
        format!("only {affordable} of {candidates} settings can be tried")
    } else {
        "the last ones will not be run often enough to exclude chance".to_owned()
    };
    short.then(|| {
        format!(
            "a run takes {run_s:.1} s: within --max-time {} s {tried}; --max-time {} would do for all, and for {} blocks of \
             the best",
            max_time.as_secs_f64(),
            rounded_up(enough_s),
            fragbench_decide::MIN_BLOCKS
        )
    })
}

/// A time to type: whole seconds up to two minutes, else whole minutes.
fn rounded_up(seconds: f64) -> String {
    if seconds <= 120.0 { format!("{}s", seconds.ceil()) } else { format!("{}m", (seconds / 60.0).ceil()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_will_not_do_is_named_with_one_that_would() {
        let outlook = Outlook { run_s: 2.0, candidates: 40, affordable: 3, enough_s: 300.5 };
        let text = outlook_text(&outlook, Duration::from_secs(20)).unwrap();
        assert!(text.contains("only 3 of 40 settings") && text.contains("--max-time 6m"), "{text}");
        let all = Outlook { affordable: 40, ..outlook };
        let text = outlook_text(&all, Duration::from_secs(200)).unwrap();
        assert!(text.contains("exclude chance"), "{text}");
        assert_eq!(outlook_text(&all, Duration::from_secs(301)), None);
    }
}
