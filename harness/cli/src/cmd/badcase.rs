//! `fragbench badcase`: reproduces bad cases of glibc malloc, checks each against what is expected of this glibc, and
//! shows what cures it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use fragbench_allocators::AllocatorError;
use fragbench_model::{
    Allocator, CaseFact, Cell, DEFAULT_RELEVANT, GlibcVersion, Libc, REMEDIES, Remedy, ResultKind, Settings, Shard,
    remedy,
};
use fragbench_run::{
    Campaign, Conditions, Ending, ResultDir, RunLimits, StoppingRule, WorkerRunner, case_runs, new_manifest,
};

use crate::blocks::{part, same_shard};
use crate::conclude::{begin, show_plan};
use crate::glibc::GlibcOptions;
use crate::heap_stages::heap_stages;
use crate::nearest::did_you_mean;
use crate::options::OutputOptions;
use crate::output::terminal;
use crate::progress::Progress;
use crate::{Outcome, cases, companions, interrupt, usage};

/// Reproduce bad cases of glibc malloc, check each against its expectation, show what cures it
///
/// Examples: fragbench badcase pinned-top; fragbench badcase --all -o results/badcases;
/// fragbench badcase ratcheted-top-threads --remedy malloc-trim,trim-threshold;
/// fragbench badcase pinned-top --explain --remedy none; fragbench badcase --symptoms
#[derive(Debug, Args)]
pub(crate) struct Badcase {
    /// Cases by name (see `fragbench list badcases`)
    #[arg(value_name = "NAME", required_unless_present_any = ["all", "symptoms", "resume"])]
    names: Vec<String>,
    /// Every case, with the matrix of cases and remedies and a result directory
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Print the way from what one sees to the case, and run nothing
    #[arg(long)]
    symptoms: bool,
    /// Remedies to try; `none` for the case alone [default: all that apply]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    remedy: Vec<String>,
    /// Show what happens: the mechanism in words, and the heap as it lies at each stage, drawn from a survey of the
    /// worker's chunks
    #[arg(long, conflicts_with = "symptoms")]
    explain: bool,
    #[command(flatten)]
    glibc: GlibcOptions,
    /// Runs of each; figures are medians over them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    reps: u32,
    /// Run only the I-th of N parts of the plan, whole repetitions, for `fragbench merge`
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    #[command(flatten)]
    output: OutputOptions,
}

/// Columns of the table of symptoms where there is no terminal: its sentences need an end somewhere.
const WIDTH_OF_A_FILE: u16 = 140;

impl Badcase {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let facts = fragbench_run::describe_cases(&self.glibc.own_worker()?)?;
        if self.symptoms {
            let width = terminal().0.unwrap_or(WIDTH_OF_A_FILE);
            say!("{}", fragbench_report::draw_words(&fragbench_report::symptom_table(&facts), Some(width), false));
            return Ok(Outcome::Success);
        }
        let limits = limits()?;
        let mut campaign = match self.output.resumed(ResultKind::Badcase)? {
            Some(campaign) => campaign,
            None => match self.begin(&facts, limits)? {
                Some(campaign) => campaign,
                None => return Ok(Outcome::Success),
            },
        };
        same_shard(self.shard, &campaign.manifest)?;
        let worker = self.glibc.worker_for(&campaign.manifest.plan.cells)?;
        let limits = RunLimits { mem_limit_bytes: campaign.manifest.mem_limit_bytes, ..limits };
        let mut runner = WorkerRunner::new(&worker, &campaign.manifest.common, limits);
        let interrupted = interrupt::flag()?;
        let progress = Progress::of_runs(campaign.manifest.plan.runs.len(), campaign.records.len())?;
        let mut all = StoppingRule::all();
        let ending = campaign.run(&mut runner, &mut all, interrupted, &mut |event| progress.hear(&event))?;
        progress.finish();
        if ending == Ending::Interrupted || campaign.is_partial() {
            let kept = campaign.results().map(|results| results.path().display().to_string());
            let next = kept.map_or("nothing is concluded".to_owned(), |dir| format!("go on with --resume {dir}"));
            note!("stopped before the end: {next}");
            return Ok(Outcome::FellShort);
        }
        let heaps = if self.explain {
            let Some(heaps) = heap_stages(&worker, &campaign.manifest, &facts, limits, interrupted)? else {
                note!("stopped before the end: the heaps are not drawn");
                return Ok(Outcome::FellShort);
            };
            heaps
        } else {
            BTreeMap::new()
        };
        let concluded = cases::conclude(&campaign.manifest, &campaign.records, &facts, &heaps)?;
        if let Some(results) = campaign.results() {
            concluded.write(results, &campaign.manifest, &facts)?;
        }
        let dir = campaign.results().map(ResultDir::path);
        concluded.show(&facts, dir, self.output.format, self.all && !self.explain)?;
        let ok = !concluded.differs() && ending == Ending::Finished;
        Ok(if ok { Outcome::Success } else { Outcome::FellShort })
    }

    /// Begins a result, in a directory where one is wanted; `None` where its plan was to be shown only.
    fn begin(&self, facts: &[CaseFact], limits: RunLimits) -> Result<Option<Campaign>> {
        let remedies = self.remedies()?;
        let cases = self.cases(facts)?;
        // The system's glibc first, then the others; each takes all cases.
        let versions = self.glibc.versions()?;
        let mut cells: Vec<Cell> = Vec::new();
        for version in std::iter::once(None).chain(versions.iter().map(Some)) {
            let glibc = version.map_or_else(fragbench_run::own_glibc, |(_, libc)| libc.version.clone());
            for fact in &cases {
                let on_it = |name: &str, settings: &Settings| resolve(name, settings, version);
                // Where the case is absent there is nothing to cure.
                let wanted = if absent(fact, &glibc) { &[] } else { &remedies[..] };
                cells.extend(case_runs(fact, wanted, on_it).map_err(usage)?.into_iter().map(|run| run.cell));
            }
        }
        let common = fragbench_run::case_conditions();
        let mut plan = fragbench_run::of_cells(cells, self.reps, common.seed);
        let part = part(self.shard, &mut plan)?;
        if self.output.dry_run {
            show_plan(&plan, self.output.format)?;
            return Ok(None);
        }
        let worker = self.glibc.worker_for(&plan.cells)?;
        let conditions = Conditions {
            kind: ResultKind::Badcase,
            profile: "badcase",
            programs: &[("worker", worker.path())],
            common,
            limits,
            relevant: DEFAULT_RELEVANT,
            part,
        };
        let mut manifest = new_manifest(conditions, plan);
        if !self.remedy.is_empty() {
            manifest.remedies = std::iter::once(&Remedy::NONE).chain(remedies).map(|r| r.name.to_owned()).collect();
        }
        let wanted = self.all || self.shard.is_some() || self.output.output.is_some();
        let dir = wanted.then(|| self.output.directory());
        Ok(Some(begin(dir.as_deref(), manifest)?))
    }

    fn cases<'a>(&self, facts: &'a [CaseFact]) -> Result<Vec<&'a CaseFact>> {
        if self.all {
            return Ok(facts.iter().collect());
        }
        let named = |name: &String| {
            facts.iter().find(|fact| fact.name == *name || fact.workload() == *name).ok_or_else(|| {
                let hint = did_you_mean(name, facts.iter().map(|fact| fact.name.as_str()));
                usage(format!("there is no bad case `{name}`{hint} `fragbench list badcases` shows all"))
            })
        };
        self.names.iter().map(named).collect()
    }

    fn remedies(&self) -> Result<Vec<&'static Remedy>> {
        if self.remedy.is_empty() {
            return Ok(REMEDIES.iter().collect());
        }
        let named = |name: &String| {
            remedy(name).ok_or_else(|| {
                let known: Vec<&str> = REMEDIES.iter().map(|remedy| remedy.name).collect();
                let hint = did_you_mean(name, known.iter().copied());
                usage(format!("--remedy {name}: there is no such remedy{hint} There are: none, {}", known.join(", ")))
            })
        };
        self.remedy.iter().filter(|name| *name != Remedy::NONE.name).map(named).collect()
    }
}

/// Whether a glibc of this version is known not to have the case.
fn absent(fact: &CaseFact, glibc: &str) -> bool {
    let version = glibc.parse::<GlibcVersion>().ok();
    version.and_then(|version| fact.expectation(version)).is_some_and(|expectation| !expectation.present)
}

/// The allocator of a remedy on one glibc (`None`: the system's); `None` for a tcmalloc that is not installed, and for
/// other allocators than glibc on another version: they are built for the system's, and are run on it.
fn resolve(
    name: &str,
    settings: &Settings,
    version: Option<&(String, Libc)>,
) -> Result<Option<Allocator>, AllocatorError> {
    match (version, name) {
        (Some((version, libc)), "glibc") => {
            return fragbench_allocators::resolve_glibc(version, libc, settings).map(Some);
        }
        (Some(_), _) => return Ok(None),
        (None, _) => {}
    }
    let libraries = companions::libraries().unwrap_or_default();
    let request = match (name, companions::tcmalloc()) {
        ("tcmalloc", None) => return Ok(None),
        ("tcmalloc", Some(path)) => format!("tcmalloc={}", path.display()),
        _ => name.to_owned(),
    };
    fragbench_allocators::resolve(&request, settings, &libraries).map(Some)
}

fn limits() -> Result<RunLimits> {
    let Some(available) = fragbench_proc::available_bytes(std::path::Path::new("/")) else {
        bail!("this machine does not tell its available memory, so a run cannot be guarded");
    };
    Ok(RunLimits {
        timeout: Duration::from_secs(60),
        mem_limit_bytes: available / 2,
        sample_interval_ns: Duration::from_millis(10).as_nanos() as u64,
    })
}
