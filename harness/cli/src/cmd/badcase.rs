//! `fragbench badcase`: reproduces bad cases of glibc malloc, checks each against what is expected of this glibc, and
//! shows what cures it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use fragbench_allocators::AllocatorError;
use fragbench_decide::{RemedyRun, judge_case};
use fragbench_model::{
    Allocator, AllocatorKind, CaseFact, CaseOutcome, CaseReport, CaseStatus, Failure, FailureKind, Figures,
    GlibcVersion, Libc, Plan, PlannedRun, REMEDIES, Remedy, RunRecord, RunStatus, Settings, remedy,
};
use fragbench_run::{
    Agreement, CaseRun, ResultDir, RunLimits, WorkerBinary, case_figures, case_runs, median_figures, spread_figures,
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::glibc::GlibcOptions;
use crate::heap_stages::heap_stages;
use crate::measure::{default_directory, new_manifest, terminal, unix_now};
use crate::nearest::did_you_mean;
use crate::options::Format;
use crate::{Outcome, companions, interrupt, usage};

/// Reproduce bad cases of glibc malloc, check each against its expectation, show what cures it
///
/// Examples: fragbench badcase pinned-top; fragbench badcase --all -o results/badcases;
/// fragbench badcase ratcheted-top-threads --remedy malloc-trim,trim-threshold;
/// fragbench badcase pinned-top --explain --remedy none; fragbench badcase --symptoms
#[derive(Debug, Args)]
pub(crate) struct Badcase {
    /// Cases by name (see `fragbench list badcases`)
    #[arg(value_name = "NAME", required_unless_present_any = ["all", "symptoms"])]
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
    /// Result directory [default: with --all fragbench-results/DATE, otherwise none]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Columns of the table of symptoms where there is no terminal: its sentences need an end somewhere.
const WIDTH_OF_A_FILE: u16 = 140;

/// A case that is to be run, with the runs it needs.
struct Planned<'a> {
    fact: &'a CaseFact,
    runs: Vec<CaseRun>,
}

impl Badcase {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let facts = fragbench_run::describe_cases(&self.glibc.own_worker()?)?;
        if self.symptoms {
            let width = terminal().0.unwrap_or(WIDTH_OF_A_FILE);
            say!("{}", fragbench_report::draw_words(&fragbench_report::symptom_table(&facts), Some(width), false));
            return Ok(Outcome::Success);
        }
        let remedies = self.remedies()?;
        let cases = self.cases(&facts)?;
        // The system's glibc first, then the others; each takes all cases.
        let versions = self.glibc.versions()?;
        let mut planned: Vec<Planned> = Vec::new();
        for version in std::iter::once(None).chain(versions.iter().map(Some)) {
            for fact in &cases {
                let on_it = |name: &str, settings: &Settings| resolve(name, settings, version);
                planned.push(Planned { fact, runs: case_runs(fact, &remedies, on_it).map_err(usage)? });
            }
        }
        let worker = self.glibc.worker_for(planned.iter().flat_map(|case| &case.runs).map(|run| &run.cell))?;
        let limits = limits()?;
        let interrupted = interrupt::flag()?;
        let (mut manifest, mut results) = self.result_directory(&worker, &planned, &limits)?;
        let Some(records) = self.carry_out(&worker, &planned, &limits, interrupted, results.as_mut())? else {
            note!("stopped before the end: nothing is concluded");
            return Ok(Outcome::FellShort);
        };
        let of_versions = planned.chunks(cases.len()).zip(records.chunks(cases.len()));
        let mut reports: Vec<CaseReport> =
            of_versions.map(|(planned, records)| judge(planned, records)).collect::<Result<_>>()?;
        if self.explain && !draw(&worker, &planned, &limits, interrupted, &mut reports)? {
            note!("stopped before the end: nothing is concluded");
            return Ok(Outcome::FellShort);
        }
        let Some((own, others)) = reports.split_first() else { return Err(usage("there is nothing to run")) };
        let others: Vec<(&str, &CaseReport)> = versions.iter().map(|(name, _)| name.as_str()).zip(others).collect();
        if let Some(results) = &results {
            manifest.ended_unix_s = Some(unix_now());
            results.write_manifest(&manifest)?;
            for (name, bytes) in fragbench_report::render_cases(&facts, own, &others, &manifest)? {
                results.write(&name, &bytes)?;
            }
            // Each other version has a report of its own below.
            for (version, report) in &others {
                for (name, bytes) in fragbench_report::render_cases(&facts, report, &[], &manifest)? {
                    results.write(&format!("{}/{name}", version.replace(' ', "-")), &bytes)?;
                }
            }
        }
        self.print(&cases, own, &others, results.as_ref())?;
        let differs = reports.iter().flat_map(|report| &report.cases).any(|case| case.status == CaseStatus::Differs);
        Ok(if differs { Outcome::FellShort } else { Outcome::Success })
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
                usage(format!("there is no remedy `{name}`{hint} There are: none, {}", known.join(", ")))
            })
        };
        self.remedy.iter().filter(|name| *name != Remedy::NONE.name).map(named).collect()
    }

    /// The manifest, and the directory where one is wanted.
    fn result_directory(
        &self,
        worker: &WorkerBinary,
        planned: &[Planned],
        limits: &RunLimits,
    ) -> Result<(fragbench_model::Manifest, Option<ResultDir>)> {
        let runs: Vec<&CaseRun> = planned.iter().flat_map(|case| &case.runs).collect();
        if runs.is_empty() {
            return Err(usage("there is nothing to run"));
        }
        let planned_runs = (0..self.reps)
            .flat_map(|repetition| (0..runs.len()).map(move |cell| (repetition, cell)))
            .map(|(repetition, cell)| PlannedRun {
                run: repetition * runs.len() as u32 + cell as u32,
                cell,
                repetition,
            })
            .collect();
        let cells = runs.iter().map(|run| run.cell.clone()).collect();
        let plan = Plan { seed: fragbench_run::case_conditions().seed, cells, runs: planned_runs };
        let manifest =
            new_manifest("badcase", &[("worker", worker.path())], plan, fragbench_run::case_conditions(), limits);
        let dir = self.output.clone().or_else(|| self.all.then(default_directory));
        let results = dir.map(|dir| ResultDir::create(&dir, &manifest)).transpose()?;
        Ok((manifest, results))
    }

    /// Runs everything, repetition by repetition; records by case and run, or `None` when the user stopped it.
    fn carry_out(
        &self,
        worker: &WorkerBinary,
        planned: &[Planned],
        limits: &RunLimits,
        interrupted: &AtomicBool,
        mut results: Option<&mut ResultDir>,
    ) -> Result<Option<Vec<Vec<Vec<RunRecord>>>>> {
        let cells: Vec<_> = planned.iter().flat_map(|case| &case.runs).map(|run| run.cell.clone()).collect();
        let environments = fragbench_run::environments(&cells, worker);
        let bar = ProgressBar::new((cells.len() * self.reps as usize) as u64)
            .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} runs, {eta} left  {msg}")?);
        let mut records: Vec<Vec<Vec<RunRecord>>> =
            planned.iter().map(|case| vec![Vec::new(); case.runs.len()]).collect();
        let mut agreement = Agreement::default();
        for repetition in 0..self.reps {
            let mut cell = 0;
            for (case, kept) in planned.iter().zip(&mut records) {
                let mut spared = false;
                for (run, kept) in case.runs.iter().zip(kept) {
                    if spared {
                        bar.inc(1);
                        cell += 1;
                        continue;
                    }
                    bar.set_message(format!("{} under {}", case.fact.name, run.cell.allocator.label()));
                    let (mut record, _) = fragbench_run::run_once(
                        worker,
                        &run.cell.allocator,
                        &environments[cell],
                        &fragbench_run::case_spec(&run.cell),
                        limits,
                        interrupted,
                    );
                    if interrupted.load(Ordering::Acquire) {
                        return Ok(None);
                    }
                    record.run = repetition * cells.len() as u32 + cell as u32;
                    record.repetition = repetition;
                    if let Some(failure) = agreement.check(&record) {
                        record.status = RunStatus::Failed(failure);
                    }
                    if let Some(results) = &mut results {
                        results.append(&mut record, &[])?;
                    }
                    spared = lacks(case.fact, &record);
                    kept.push(record);
                    bar.inc(1);
                    cell += 1;
                }
            }
        }
        bar.finish_and_clear();
        Ok(Some(records))
    }

    fn print(
        &self,
        cases: &[&CaseFact],
        own: &CaseReport,
        others: &[(&str, &CaseReport)],
        results: Option<&ResultDir>,
    ) -> Result<()> {
        if self.format == Format::Json {
            let mut value = serde_json::to_value(own)?;
            if !others.is_empty() {
                let reports: Vec<&CaseReport> = others.iter().map(|(_, report)| *report).collect();
                value["others"] = serde_json::to_value(reports)?;
            }
            say!("{}", serde_json::to_string_pretty(&value)?);
            return Ok(());
        }
        let (width, colour) = terminal();
        for (name, report) in std::iter::once(&("glibc", own)).chain(others) {
            if !others.is_empty() {
                say!("{name} ({})\n", report.glibc);
            }
            for (fact, outcome) in cases.iter().zip(&report.cases) {
                // Of all cases at once the matrix shows enough, but for those that need a look.
                if !self.all || self.explain || outcome.status == CaseStatus::Differs {
                    say!("{}", fragbench_report::case_text(fact, outcome, width, colour));
                }
            }
            if self.all {
                say!("{}", fragbench_report::matrix_text(report, width, colour));
            }
        }
        if !others.is_empty() {
            say!("{}", fragbench_report::versions_text(own, others, width, colour));
        }
        if let Some(results) = results {
            say!("{}: badcases.html, badcases.md, badcases.json", results.path().display());
        }
        Ok(())
    }
}

/// Adds the heap of each case, stage by stage, to its outcome. `false` when the user stopped it.
fn draw(
    worker: &WorkerBinary,
    planned: &[Planned],
    limits: &RunLimits,
    interrupted: &AtomicBool,
    reports: &mut [CaseReport],
) -> Result<bool> {
    let outcomes = reports.iter_mut().flat_map(|report| &mut report.cases);
    for (case, outcome) in planned.iter().zip(outcomes) {
        let Some(run) = case.runs.first() else { continue };
        let environments = fragbench_run::environments(std::slice::from_ref(&run.cell), worker);
        match heap_stages(worker, run, &environments[0], limits, interrupted) {
            _ if interrupted.load(Ordering::Acquire) => return Ok(false),
            Ok(stages) => outcome.heap = stages,
            Err(why) => note!("{}: its heap is not drawn: {why}", case.fact.name),
        }
    }
    Ok(true)
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

/// Whether the glibc of this run does not have the case: there is nothing to cure then, and the remedies are not run.
/// The untreated run comes first.
fn lacks(fact: &CaseFact, record: &RunRecord) -> bool {
    let version = record.proof.as_ref().filter(|proof| proof.kind == AllocatorKind::Glibc).map(|proof| &proof.version);
    let version = version.and_then(|text| text.parse::<GlibcVersion>().ok());
    version.and_then(|version| fact.expectation(version)).is_some_and(|expectation| !expectation.present)
}

/// Records → figures → verdicts.
fn judge(planned: &[Planned], records: &[Vec<Vec<RunRecord>>]) -> Result<CaseReport> {
    let version = records
        .iter()
        .flatten()
        .flatten()
        .filter_map(|record| record.proof.as_ref())
        .find(|proof| proof.kind == AllocatorKind::Glibc)
        .map(|proof| proof.version.clone());
    let Some(glibc) = version else {
        let why = records.iter().flatten().flatten().map(fragbench_report::failure_text).find(|text| !text.is_empty());
        bail!("no run under glibc succeeded: {}", why.unwrap_or_default());
    };
    let parsed: GlibcVersion = glibc.parse().map_err(anyhow::Error::msg)?;
    let cases = planned.iter().zip(records).map(|(case, records)| judge_one(case, parsed, records)).collect();
    Ok(CaseReport { glibc, cases })
}

fn judge_one(case: &Planned, glibc: GlibcVersion, records: &[Vec<RunRecord>]) -> CaseOutcome {
    let mut untreated = Err("it was not run".to_owned());
    let mut spread = Figures::new();
    let mut remedies: BTreeMap<usize, RemedyRun> = BTreeMap::new();
    for (run, records) in case.runs.iter().zip(records) {
        let figures = figures(records);
        for remedy in &run.remedies {
            match REMEDIES.iter().position(|known| known.name == remedy.name) {
                Some(position) => {
                    remedies.insert(position, (*remedy, figures.clone()));
                }
                None => {
                    untreated = figures.clone();
                    spread =
                        spread_figures(&records.iter().map(case_figures).collect::<Vec<_>>(), &case.fact.telling());
                }
            }
        }
    }
    CaseOutcome { spread, ..judge_case(case.fact, glibc, untreated, remedies.into_values().collect()) }
}

/// Medians over the repetitions; one that failed fails all.
fn figures(records: &[RunRecord]) -> Result<Figures, String> {
    let of = |record: &RunRecord| match &record.status {
        RunStatus::Ok => Ok(case_figures(record)),
        RunStatus::Failed(Failure { kind: FailureKind::Refused, reason }) => Err(reason.clone()),
        RunStatus::Failed(_) => Err(fragbench_report::failure_text(record)),
    };
    records.iter().map(of).collect::<Result<Vec<_>, _>>().map(|all| median_figures(&all))
}
