//! `fragbench run`: workloads × allocators × settings, measured, compared, reported.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use fragbench_model::{Common, Manifest, Pace, ResultKind, WorkloadSpec};
use fragbench_run::{Conditions, RunLimits, WorkerBinary, WorkerRunner, new_manifest};

use crate::conclude::{begin, finish, show_plan};
use crate::nearest::did_you_mean;
use crate::options::RunOptions;
use crate::parameters::ParameterOptions;
use crate::progress::Progress;
use crate::{Outcome, companions, generated, huge_pages, interrupt, recorded, usage};

/// The modelled workload that runs beside the shipped traces when none is named.
const MAIN_MODEL: &str = "mysql/oltp-read-write";

/// Run workloads under every allocator; write a result directory, print a table and a verdict
///
/// Examples: fragbench run mysql/oltp-read-write --allocator glibc,jemalloc --arena-max default,2;
/// fragbench run mysql --my-cnf /etc/mysql/my.cnf --sessions 100 --cores 16;
/// fragbench run profile:server.toml server.fbt --threads 200
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Workloads by name or by the part before the slash (see `fragbench list workloads`), `profile:FILE.toml` for work
    /// generated from a profile, FILE.fbt for a trace [default: the shipped traces and
    /// mysql/oltp-read-write]
    #[arg(value_name = "WORKLOAD")]
    workloads: Vec<String>,
    /// Threads of a workload: a modelled server's sessions [default: the workload's own]
    #[arg(long, visible_alias = "sessions", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    #[command(flatten)]
    parameters: ParameterOptions,
    #[command(flatten)]
    options: RunOptions,
}

impl Run {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let common = self.options.common(self.threads);
        let workloads = || {
            let worker = self.options.glibc.own_worker()?;
            resolve_workloads(&self.workloads, &self.parameters, &worker, &common)
        };
        measure(&self.options, &common, workloads)
    }
}

/// Plan → records → verdict: works of the worker under every allocator. What is run is not asked of a result that is finished.
pub(super) fn measure(
    options: &RunOptions,
    common: &Common,
    workloads: impl FnOnce() -> Result<Vec<WorkloadSpec>>,
) -> Result<Outcome> {
    let limits = options.watching.limits()?;
    let mut stopping = options.blocks.stopping(|_| false)?;
    let mut campaign = match options.output.resumed(ResultKind::Comparison)? {
        Some(campaign) => campaign,
        None => {
            let dir = options.output.directory();
            let mut workloads = workloads()?;
            generated::place(&mut workloads, &dir)?;
            let workloads = workloads.into_iter().map(|workload| workload.at_pace(options.pace.pace)).collect();
            let selection = options.selection(workloads)?;
            let huge_pages = huge_pages::facts(options.thp, &selection.workloads, &selection.allocators)?;
            let mut plan = fragbench_run::build(&selection);
            for cell in &mut plan.cells {
                cell.thp = huge_pages.iter().find(|fact| fact.workload == cell.workload.name()).map(|fact| fact.used);
            }
            let part = options.blocks.part(&mut plan)?;
            if options.output.dry_run {
                return show_plan(&plan, options.output.format);
            }
            let worker = options.glibc.worker_for(&plan.cells)?;
            let conditions = Conditions {
                kind: ResultKind::Comparison,
                profile: options.profile.name(),
                programs: &[("worker", worker.path())],
                common: common.clone(),
                limits,
                relevant: options.blocks.relevant(),
                part,
            };
            let recordings = recorded::memory(&selection.workloads)?;
            begin(Some(&dir), Manifest { huge_pages, recordings, ..new_manifest(conditions, plan) })?
        }
    };
    let plan = &campaign.manifest.plan;
    if plan.cells.iter().any(|cell| cell.workload.command().is_some()) {
        return Err(usage("that result is of a command: finish it with fragbench compare --resume"));
    }
    options.blocks.agrees(&campaign.manifest)?;
    let worker = options.glibc.worker_for(&plan.cells)?;
    generated::generate_all(&mut campaign.manifest)?;
    campaign.keep_manifest()?;
    let limits = RunLimits { mem_limit_bytes: campaign.manifest.mem_limit_bytes, ..limits };
    let mut runner = WorkerRunner::new(&worker, &campaign.manifest.common, limits);
    let progress = Progress::of_runs(campaign.manifest.plan.runs.len(), campaign.records.len())?;
    let ending = campaign.run(&mut runner, &mut stopping, interrupt::flag()?, &mut |event| progress.hear(&event))?;
    progress.finish();
    finish(campaign, ending, options.output.format, &options.emit)
}

/// The works that were named on the command line, checked by the worker; those run when none is named.
///
/// # Errors
/// An unknown name, a file that cannot be read, a parameter that the worker refuses.
pub(crate) fn resolve_workloads(
    given: &[String],
    parameters: &ParameterOptions,
    worker: &WorkerBinary,
    common: &Common,
) -> Result<Vec<WorkloadSpec>> {
    let named = fragbench_run::describe(worker)?;
    let shipped = companions::shipped_traces()?;
    let all: Vec<String> =
        shipped.iter().map(|(name, _)| name.clone()).chain(named.iter().map(|fact| fact.name.clone())).collect();
    if shipped.is_empty() && given.is_empty() {
        note!("the shipped traces (workloads/replay/traces) are not found from here: only modelled workloads are run");
    }
    let (files, names): (Vec<&String>, Vec<&String>) = given.iter().partition(|text| is_file(text));
    let wanted = if given.is_empty() {
        shipped.iter().map(|(name, _)| name.clone()).chain([MAIN_MODEL.to_owned()]).collect()
    } else {
        pick(&names, &all)?
    };
    let chosen = parameters.read(&wanted, &named)?;
    let mut workloads: Vec<WorkloadSpec> = wanted
        .into_iter()
        .map(|name| match shipped.iter().find(|(shipped, _)| *shipped == name) {
            Some((_, trace)) => super::replay::replay_of(trace.clone()),
            None => {
                let fact = named.iter().find(|fact| fact.name == name);
                let parameters = fact.map(|fact| chosen.of(fact)).unwrap_or_default();
                WorkloadSpec::Named { parameters, name, pace: Pace::Fast }
            }
        })
        .collect();
    chosen.check(worker, &workloads, common)?;
    for text in files {
        let workload = match text.strip_prefix(generated::PREFIX) {
            Some(profile) => generated::workload(Path::new(profile))?,
            None => super::replay::recording(Path::new(text.as_str()))?,
        };
        if let Some(twin) = workloads.iter().find(|other| other.name() == workload.name()) {
            return Err(usage(format!("two workloads have the same name {}: rename one", twin.name())));
        }
        workloads.push(workload);
    }
    Ok(workloads)
}

/// Whether an argument names a file, a profile or a trace, and not a workload.
fn is_file(text: &str) -> bool {
    text.starts_with(generated::PREFIX) || text.ends_with(".fbt")
}

/// Names, or prefixes before a slash, in the order given; unknown ones get the nearest name.
fn pick(wanted: &[&String], all: &[String]) -> Result<Vec<String>> {
    let mut picked: Vec<String> = Vec::new();
    for text in wanted {
        let prefix = format!("{}/", text.trim_end_matches('/'));
        let matching: Vec<&String> = all.iter().filter(|name| name == text || name.starts_with(&prefix)).collect();
        if matching.is_empty() {
            let nearest = did_you_mean(text, all.iter().map(String::as_str));
            return Err(usage(format!(
                "there is no workload `{text}`{nearest} `fragbench list workloads` shows all; a trace file is replayed \
                 with `fragbench replay FILE`"
            )));
        }
        for name in matching {
            if !picked.contains(name) {
                picked.push(name.clone());
            }
        }
    }
    Ok(picked)
}
