//! `fragbench run`: workloads × allocators × settings, measured, compared, reported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use fragbench_model::{AllocatorKind, Manifest, Pace, Plan, RunRecord, RunSpec, SCHEMA, WorkloadSpec};
use fragbench_run::{Event, Execution, ResultDir, RunLimits, WorkerBinary};
use indicatif::{ProgressBar, ProgressStyle};

use crate::options::{Format, RunOptions};
use crate::parameters::ParameterOptions;
use crate::{Outcome, companions, generated, interrupt, usage};

/// The modelled workload that runs beside the shipped traces when none is named.
const MAIN_MODEL: &str = "mysql/oltp-read-write";

/// Run workloads under every allocator; write a result directory, print a table and a finding
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
        let workloads = self.workloads(&self.options.glibc.own_worker()?)?;
        measure(&self.options, workloads, self.threads)
    }

    fn workloads(&self, worker: &WorkerBinary) -> Result<Vec<WorkloadSpec>> {
        let named = fragbench_run::describe(worker)?;
        let shipped = companions::shipped_traces()?;
        let all: Vec<String> =
            shipped.iter().map(|(name, _)| name.clone()).chain(named.iter().map(|fact| fact.name.clone())).collect();
        if shipped.is_empty() && self.workloads.is_empty() {
            eprintln!(
                "the shipped traces (workloads/replay/traces) are not found from here: only modelled workloads are run"
            );
        }
        let (files, names): (Vec<&String>, Vec<&String>) = self.workloads.iter().partition(|text| is_file(text));
        let wanted = if self.workloads.is_empty() {
            shipped.iter().map(|(name, _)| name.clone()).chain([MAIN_MODEL.to_owned()]).collect()
        } else {
            pick(&names, &all)?
        };
        let chosen = self.parameters.read(&wanted, &named)?;
        let workloads: Vec<WorkloadSpec> = wanted
            .into_iter()
            .map(|name| match shipped.iter().find(|(shipped, _)| *shipped == name) {
                Some((_, trace)) => {
                    WorkloadSpec::Replay { trace: trace.clone(), pace: Pace::Fast, skew_us: 0, threads_scale: 1 }
                }
                None => {
                    let fact = named.iter().find(|fact| fact.name == name);
                    WorkloadSpec::Named { parameters: fact.map(|fact| chosen.of(fact)).unwrap_or_default(), name }
                }
            })
            .collect();
        if let Some(first) = workloads.first().cloned() {
            chosen.check(worker, &workloads, &self.options.common(first, self.threads))?;
        }
        let mut all = workloads;
        for text in files {
            let workload = match text.strip_prefix(generated::PREFIX) {
                Some(profile) => generated::workload(Path::new(profile))?,
                None => super::replay::recording(Path::new(text.as_str()))?,
            };
            if let Some(twin) = all.iter().find(|other| other.name() == workload.name()) {
                return Err(usage(format!("two workloads have the same name {}: rename one", twin.name())));
            }
            all.push(workload);
        }
        Ok(all)
    }
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
            let nearest = all
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(a, text).total_cmp(&strsim::jaro_winkler(b, text)))
                .map_or(String::new(), |name| format!("; did you mean `{name}`?"));
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

/// Plan → order → runs → records → summary → verdict → report.
pub(crate) fn measure(options: &RunOptions, mut workloads: Vec<WorkloadSpec>, threads: Option<u32>) -> Result<Outcome> {
    let Some(first) = workloads.first().cloned() else { return Err(usage("there is nothing to run")) };
    let limits = options.limits()?;
    let common = options.common(first, threads);
    let dir = options.output.clone().unwrap_or_else(default_directory);
    generated::place(&mut workloads, &dir)?;
    let plan = fragbench_run::build(&options.selection(workloads)?);
    if options.dry_run {
        return show_plan(&plan, options.format);
    }
    let resumed = options.resume.as_deref().map(ResultDir::resume).transpose()?;
    let cells = &resumed.as_ref().map_or(&plan, |(_, manifest, _)| &manifest.plan).cells;
    let worker = options.glibc.worker_for(cells)?;
    let (mut results, mut manifest, done) = match resumed {
        Some(resumed) => resumed,
        None => {
            let manifest = new_manifest(options.profile.name(), &worker, plan, common, &limits);
            (ResultDir::create(&dir, &manifest)?, manifest, Vec::new())
        }
    };
    generated::generate_all(&mut manifest)?;
    results.write_manifest(&manifest)?;
    let limits = RunLimits { mem_limit_bytes: manifest.mem_limit_bytes, ..limits };
    let records = carry_out(&worker, &manifest.plan, &manifest.common, limits, &mut results, done)?;
    let partial = records.len() < manifest.plan.runs.len();
    if !partial {
        manifest.ended_unix_s = Some(unix_now());
    }
    conclude(&results, manifest, records, options.format)?;
    if partial {
        eprintln!(
            "stopped before the end: {} holds what was done; go on with --resume {}",
            results.path().display(),
            results.path().display()
        );
    }
    Ok(if partial { Outcome::FellShort } else { Outcome::Success })
}

fn carry_out(
    worker: &WorkerBinary,
    plan: &Plan,
    common: &RunSpec,
    limits: RunLimits,
    results: &mut ResultDir,
    done: Vec<RunRecord>,
) -> Result<Vec<RunRecord>> {
    let environments = fragbench_run::environments(&plan.cells, worker);
    let bar = ProgressBar::new(plan.runs.len() as u64)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} runs, {eta} left  {msg}")?)
        .with_position(done.len() as u64);
    let records = fragbench_run::execute(
        &Execution {
            binary: worker,
            plan,
            common,
            environments: &environments,
            limits,
            interrupted: interrupt::flag()?,
        },
        results,
        done,
        |event| match event {
            Event::Begins(planned) => {
                let cell = &plan.cells[planned.cell];
                bar.set_message(format!("{} under {}", cell.workload.name(), cell.allocator.label()));
            }
            Event::Repeats(record) => bar.println(format!("{}: the machine was busy, once more", record.workload)),
            Event::Ended(record) => {
                if let fragbench_model::RunStatus::Failed(failure) = &record.status {
                    let label = fragbench_model::label(&record.allocator, &record.settings);
                    bar.println(format!("{} under {label} failed: {}", record.workload, failure.reason));
                }
                bar.inc(1);
            }
        },
    )?;
    bar.finish_and_clear();
    Ok(records)
}

/// Summary, verdict, files, and what the terminal shows.
pub(crate) fn conclude(
    results: &ResultDir,
    mut manifest: Manifest,
    records: Vec<RunRecord>,
    format: Format,
) -> Result<()> {
    let partial = records.len() < manifest.plan.runs.len();
    let summary = fragbench_decide::summarize(&manifest.plan, &records, partial);
    manifest.aa = fragbench_decide::aa_spread(&manifest.plan, &records);
    results.write_manifest(&manifest)?;
    let samples = records
        .iter()
        .filter_map(|record| Some((record.samples.clone()?, record)))
        .map(|(name, record)| Ok((name, ResultDir::samples(results.path(), record)?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    let data = fragbench_report::ResultData { manifest, records, samples, summary };
    for (name, bytes) in fragbench_report::render(&data)? {
        results.write(&name, &bytes)?;
    }
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&data.summary)?),
        Format::Text => {
            let (width, colour) = terminal();
            println!(
                "{}",
                fragbench_report::result_tables(&data.summary, &data.manifest.plan, &data.records, width, colour)
            );
            println!("{}\n", fragbench_decide::finding(&data.summary));
            println!("{}: report.html, report.md, summary.json, plots/", results.path().display());
        }
    }
    Ok(())
}

/// Width of the terminal, if standard output is one, and whether it takes colour.
pub(crate) fn terminal() -> (Option<u16>, bool) {
    let out = console::Term::stdout();
    (out.size_checked().map(|(_, columns)| columns), out.features().colors_supported())
}

fn show_plan(plan: &Plan, format: Format) -> Result<Outcome> {
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(plan)?),
        Format::Text => {
            for (position, planned) in plan.runs.iter().enumerate() {
                let cell = &plan.cells[planned.cell];
                let copy = if cell.aa { " (A/A copy)" } else { "" };
                println!(
                    "{:>4}  repetition {:>2}  {}  {}{copy}",
                    position + 1,
                    planned.repetition + 1,
                    cell.workload.name(),
                    cell.allocator.label()
                );
            }
            println!("{} runs of {} cells; nothing was run", plan.runs.len(), plan.cells.len());
        }
    }
    Ok(Outcome::Success)
}

pub(crate) fn new_manifest(
    profile: &str,
    worker: &WorkerBinary,
    plan: Plan,
    common: RunSpec,
    limits: &RunLimits,
) -> Manifest {
    let mut libraries = vec![fragbench_run::library_fact("worker", worker.path(), None)];
    libraries.extend(fragbench_run::own_libc());
    for allocator in plan.cells.iter().map(|cell| &cell.allocator) {
        let file = allocator.library.as_ref().or(allocator.libc.as_ref().map(|libc| &libc.file));
        // A library under the system's glibc is no allocator of that name, it only trims.
        let trims = allocator.library.is_some() && allocator.kind == AllocatorKind::Glibc;
        let name = if trims { "trim" } else { allocator.name.as_str() };
        if let Some(path) = file
            && !libraries.iter().any(|known| known.name == name)
        {
            let version = allocator.libc.as_ref().map(|libc| libc.version.clone());
            libraries.push(fragbench_run::library_fact(name, path, version));
        }
    }
    Manifest {
        schema: SCHEMA,
        command: std::env::args().collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("FRAGBENCH_REVISION").map(str::to_owned),
        started_unix_s: unix_now(),
        ended_unix_s: None,
        host: fragbench_run::host(),
        libraries,
        sample_interval_ns: limits.sample_interval_ns,
        mem_limit_bytes: limits.mem_limit_bytes,
        timeout_s: limits.timeout.as_secs(),
        profile: profile.to_owned(),
        common,
        plan,
        aa: Vec::new(),
        profiles: Vec::new(),
    }
}

pub(crate) fn unix_now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs())
}

/// `fragbench-results/DATE`, the first that is free.
pub(crate) fn default_directory() -> PathBuf {
    let base = Path::new("fragbench-results");
    let stamp = jiff::Zoned::now().strftime("%Y-%m-%d-%H%M%S").to_string();
    let mut dir = base.join(&stamp);
    let mut n = 2;
    while dir.exists() {
        dir = base.join(format!("{stamp}-{n}"));
        n += 1;
    }
    dir
}

/// Reads a finished or partial result and renders it again.
pub(crate) fn render_again(dir: &Path, format: Format) -> Result<()> {
    let (results, manifest, records) = ResultDir::resume(dir).with_context(|| format!("{}", dir.display()))?;
    conclude(&results, manifest, records, format)
}
