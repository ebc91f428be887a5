//! The course of every verb that measures: plan → blocks → records → summary → verdict → report, whether a run is a worker's
//! or a command's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result};
use fragbench_model::{AllocatorKind, Common, Manifest, Plan, RunRecord, SCHEMA, VerdictKind};
use fragbench_report::ResultData;
use fragbench_run::{Event, Execution, ResultDir, RunLimits, Runner};
use indicatif::{ProgressBar, ProgressStyle};

use crate::blocks::Enough;
use crate::emission::{EmitOptions, Emitted};
use crate::options::Format;
use crate::{Outcome, interrupt};

/// A result to be begun or finished.
pub(crate) struct Measurement<'a> {
    pub(crate) results: ResultDir,
    pub(crate) manifest: Manifest,
    /// Runs that an interrupted result holds already.
    pub(crate) done: Vec<RunRecord>,
    pub(crate) enough: Enough,
    pub(crate) format: Format,
    pub(crate) emit: &'a EmitOptions,
}

impl Measurement<'_> {
    /// Carries the plan out, block by block, until there are enough; then concludes.
    pub(crate) fn go(mut self, runner: &dyn Runner) -> Result<Outcome> {
        let mut records = std::mem::take(&mut self.done);
        loop {
            records = carry_out(&self.manifest.plan, runner, self.enough.deadline, &mut self.results, records)?;
            cut_after_deadline(&mut self.manifest, &records, &self.enough)?;
            if records.len() < self.manifest.plan.runs.len() || !self.enough.wants_more(&self.manifest, &records) {
                break;
            }
            fragbench_run::add_block(&mut self.manifest.plan);
            self.results.write_manifest(&self.manifest)?;
        }
        let partial = records.len() < self.manifest.plan.runs.len();
        if !partial {
            self.manifest.ended_unix_s = Some(unix_now());
        }
        let data = conclude(&self.results, self.manifest, records)?;
        let emitted = self.emit.of_verdict(&data.summary.verdict);
        if let Some(Ok(lines)) = &emitted {
            self.results.write("emitted.txt", lines.as_bytes())?;
        }
        show(&data, self.results.path(), self.format, emitted.as_ref())?;
        if partial {
            note!(
                "stopped before the end: {} holds what was done; go on with --resume {}",
                self.results.path().display(),
                self.results.path().display()
            );
        }
        // Who asked for lines asked for a recommendation.
        let no_answer = emitted.is_some() && data.summary.verdict.kind == VerdictKind::NotEnoughData;
        Ok(if partial || no_answer { Outcome::FellShort } else { Outcome::Success })
    }
}

/// Takes the blocks out of the plan that the time did not suffice for: a plan that ended in time is not a partial one. A
/// shard keeps its plan, which others count on, and is to be finished.
fn cut_after_deadline(manifest: &mut Manifest, records: &[RunRecord], enough: &Enough) -> Result<()> {
    let stopped = interrupt::flag()?.load(Ordering::Acquire);
    if stopped || manifest.part.is_some() || enough.deadline.is_none_or(|deadline| Instant::now() < deadline) {
        return Ok(());
    }
    let last = records.iter().map(|record| record.repetition).max();
    manifest.plan.runs.retain(|run| Some(run.repetition) <= last);
    Ok(())
}

fn carry_out(
    plan: &Plan,
    runner: &dyn Runner,
    deadline: Option<Instant>,
    results: &mut ResultDir,
    done: Vec<RunRecord>,
) -> Result<Vec<RunRecord>> {
    let bar = ProgressBar::new(plan.runs.len() as u64)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} runs, {eta} left  {msg}")?)
        .with_position(done.len() as u64);
    // A block is run whole, so that its cells stay comparable; the first is run in any case.
    let in_time = |_: &_, begins: bool| !begins || deadline.is_none_or(|deadline| Instant::now() < deadline);
    let records = fragbench_run::execute(
        &Execution { plan, runner, interrupted: interrupt::flag()?, in_time: &in_time },
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

/// Summary, verdict and the files of the report.
pub(crate) fn conclude(results: &ResultDir, mut manifest: Manifest, records: Vec<RunRecord>) -> Result<ResultData> {
    let partial = records.len() < manifest.plan.runs.len();
    let summary = fragbench_decide::summarize(&manifest.plan, &records, partial, manifest.relevant);
    manifest.aa = fragbench_decide::aa_spread(&manifest.plan, &records);
    results.write_manifest(&manifest)?;
    let samples = records
        .iter()
        .filter_map(|record| Some((record.samples.clone()?, record)))
        .map(|(name, record)| Ok((name, ResultDir::samples(results.path(), record)?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    let data = ResultData { manifest, records, samples, summary };
    for (name, bytes) in fragbench_report::render(&data)? {
        results.write(&name, &bytes)?;
    }
    Ok(data)
}

/// What the terminal shows of a result, which is at `path`; `emitted` where lines were asked for.
pub(crate) fn show(data: &ResultData, path: &Path, format: Format, emitted: Option<&Emitted>) -> Result<()> {
    match format {
        Format::Json => match emitted {
            None => say!("{}", serde_json::to_string_pretty(&data.summary)?),
            Some(emitted) => {
                let mut value = serde_json::to_value(&data.summary)?;
                value["emitted"] = emitted.as_ref().ok().cloned().into();
                say!("{}", serde_json::to_string_pretty(&value)?);
            }
        },
        Format::Text => {
            let (width, colour) = terminal();
            say!(
                "{}",
                fragbench_report::result_tables(&data.summary, &data.manifest.plan, &data.records, width, colour)
            );
            for note in fragbench_report::server_notes(&data.manifest, None) {
                say!("{}", width.map_or_else(|| note.clone(), |width| textwrap::fill(&note, usize::from(width))));
            }
            say!("{}\n", fragbench_report::result_verdict(&data.summary, width));
            if let Some(emitted) = emitted {
                say!("{}", emitted.as_ref().map_or_else(|why| format!("--emit: {why}\n"), Clone::clone));
            }
            say!("{}: report.html, report.md, summary.json, plots/", path.display());
        }
    }
    Ok(())
}

/// Width of the terminal, if standard output is one, and whether it takes colour.
pub(crate) fn terminal() -> (Option<u16>, bool) {
    let out = console::Term::stdout();
    (out.size_checked().map(|(_, columns)| columns), out.features().colors_supported())
}

pub(crate) fn show_plan(plan: &Plan, format: Format) -> Result<Outcome> {
    match format {
        Format::Json => say!("{}", serde_json::to_string_pretty(plan)?),
        Format::Text => {
            for (position, planned) in plan.runs.iter().enumerate() {
                let cell = &plan.cells[planned.cell];
                let copy = if cell.aa { " (A/A copy)" } else { "" };
                say!(
                    "{:>4}  repetition {:>2}  {}  {}{copy}",
                    position + 1,
                    planned.repetition + 1,
                    cell.workload.name(),
                    cell.allocator.label()
                );
            }
            say!("{} runs of {} cells; nothing was run", plan.runs.len(), plan.cells.len());
        }
    }
    Ok(Outcome::Success)
}

/// The conditions of a result that is begun: `programs` are those that take part, by name.
pub(crate) fn new_manifest(
    profile: &str,
    programs: &[(&str, &Path)],
    plan: Plan,
    common: Common,
    limits: &RunLimits,
) -> Manifest {
    let mut libraries: Vec<_> =
        programs.iter().map(|(name, path)| fragbench_run::library_fact(name, path, None)).collect();
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
        relevant: fragbench_model::DEFAULT_RELEVANT,
        profile: profile.to_owned(),
        common,
        plan,
        aa: Vec::new(),
        huge_pages: Vec::new(),
        profiles: Vec::new(),
        part: None,
        machines: Vec::new(),
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
    let data = conclude(&results, manifest, records)?;
    show(&data, dir, format, None)
}
