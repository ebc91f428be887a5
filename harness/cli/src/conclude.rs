//! What comes of a plan that was carried out: summary, verdict, the files of the report, what the terminal shows.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use fragbench_model::{Cell, Manifest, Plan, ResultKind, RunRecord, VerdictKind, stem};
use fragbench_report::ResultData;
use fragbench_run::{Campaign, Ending, ResultDir};

use crate::emission::{EmitOptions, Emitted};
use crate::options::Format;
use crate::output::terminal;
use crate::{Outcome, cases, tuning, usage};

/// Begins a result. A directory that cannot take one is an error of usage.
pub(crate) fn begin(dir: Option<&Path>, manifest: Manifest) -> Result<Campaign> {
    manifest.left_out.iter().for_each(|sentence| note!("{sentence}"));
    Campaign::begin(dir, manifest).map_err(|error| usage(format!("{error:#}")))
}

/// Concludes a comparison that was carried out, shows it, and says how the verb ends.
pub(crate) fn finish(campaign: Campaign, ending: Ending, format: Format, emit: &EmitOptions) -> Result<Outcome> {
    let Some(results) = campaign.results() else { return Ok(Outcome::FellShort) };
    let partial = campaign.is_partial();
    let data = conclude(results, campaign.manifest.clone(), campaign.records.clone())?;
    let emitted = emit.of_verdict(&data.summary.verdict, &data.manifest);
    if let Some(Ok(lines)) = &emitted {
        results.write("emitted.txt", lines.as_bytes())?;
    }
    show(&data, results.path(), format, emitted.as_ref())?;
    // Who asked for lines asked for a recommendation.
    let no_answer = emitted.is_some() && data.summary.verdict.kind == VerdictKind::NotEnoughData;
    let ended_well = ended_well(ending, partial, &data.records, results.path());
    Ok(if ended_well && !no_answer { Outcome::Success } else { Outcome::FellShort })
}

/// Whether a plan was carried out and gave figures; says what to do where it was not.
pub(crate) fn ended_well(ending: Ending, partial: bool, records: &[RunRecord], dir: &Path) -> bool {
    let dir = dir.display();
    if ending == Ending::Interrupted || partial {
        note!("stopped before the end: {dir} holds what was done; go on with --resume {dir}");
        return false;
    }
    if ending == Ending::AllFailed {
        note!("every run of a block failed: the rest of the plan was not run; {dir}/runs.jsonl says why each did");
    }
    ending == Ending::Finished && records.iter().any(RunRecord::is_ok)
}

/// Summary, verdict and the files of the report.
pub(crate) fn conclude(results: &ResultDir, mut manifest: Manifest, records: Vec<RunRecord>) -> Result<ResultData> {
    let partial = records.len() < manifest.plan.runs.len();
    let summary = fragbench_decide::summarize(&manifest.plan, &records, partial, manifest.relevant);
    manifest.aa = fragbench_decide::aa_spread(&manifest.plan, &records);
    fragbench_run::note_versions(&mut manifest, &records);
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
            None => say!("{}", serde_json::to_string_pretty(&fragbench_report::summary_value(&data.summary)?)?),
            Some(emitted) => {
                let mut value = fragbench_report::summary_value(&data.summary)?;
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
            let fold = |text: String| fragbench_report::folded(&text, width);
            say!("{}", fold(fragbench_report::conditions(data).join("; ")));
            for note in fragbench_report::server_notes(&data.manifest, &data.records, None) {
                say!("{}", fold(note));
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

/// Prints a plan that is not run.
pub(crate) fn show_plan(plan: &Plan, format: Format) -> Result<Outcome> {
    let environment = |cell: &Cell| format!("{}{}", cell.allocator.label(), if cell.aa { " (A/A copy)" } else { "" });
    match format {
        Format::Json => say!("{}", serde_json::to_string_pretty(plan)?),
        Format::Text => {
            for (position, planned) in plan.runs.iter().enumerate() {
                let workload = &plan.cells[planned.cell].workload;
                let recording = workload.recording_of(planned.repetition).map(|trace| format!(" ({})", stem(trace)));
                say!(
                    "{:>4}  repetition {:>2}  {}{}  {}",
                    position + 1,
                    planned.repetition + 1,
                    workload.name(),
                    recording.unwrap_or_default(),
                    environment(&plan.cells[planned.cell])
                );
            }
            // A search plans its runs as it goes.
            for cell in plan.cells.iter().filter(|_| plan.runs.is_empty()) {
                say!("{}  {}", cell.workload.name(), environment(cell));
            }
            say!("{} runs of {} cells; nothing was run", plan.runs.len(), plan.cells.len());
        }
    }
    Ok(Outcome::Success)
}

/// Reads a finished or partial result and renders it again, as what it is.
pub(crate) fn render_again(dir: &Path, format: Format) -> Result<()> {
    let (results, manifest, records) =
        ResultDir::resume(dir).map_err(|error| usage(format!("{}: {error:#}", dir.display())))?;
    match manifest.kind() {
        ResultKind::Comparison => {
            let data = conclude(&results, manifest, records)?;
            show(&data, dir, format, None)
        }
        ResultKind::Badcase => cases::render_again(&results, &manifest, &records, format),
        ResultKind::Tuning => tuning::render_again(&results, manifest, &records, format),
    }
}
