//! What comes of a search for settings: front, recommendation, the files of its report, what the terminal shows.

use anyhow::Result;
use fragbench_model::{Manifest, RunRecord, Tuning};
use fragbench_run::{ResultDir, Search};

use crate::emission::EmitOptions;
use crate::options::Format;
use crate::output::terminal;

/// Judges and writes what a search came to; `finalists` are the cells that were measured to the end.
pub(crate) fn conclude(
    results: &ResultDir,
    mut manifest: Manifest,
    records: &[RunRecord],
    finalists: &[usize],
    partial: bool,
) -> Result<Tuning> {
    manifest.aa = fragbench_decide::aa_spread(&manifest.plan, records);
    fragbench_run::note_versions(&mut manifest, records);
    results.write_manifest(&manifest)?;
    let (plan, relevant) = (&manifest.plan, manifest.relevant);
    let memory = manifest.memory.as_deref().unwrap_or(fragbench_decide::PEAK);
    let mut tuning = fragbench_decide::tuning(plan, records, finalists, memory, relevant, partial);
    tuning.notes = fragbench_report::recordings_note(plan).into_iter().collect();
    tuning.notes.extend(fragbench_report::server_notes(&manifest, records, None));
    let summary = fragbench_decide::summarize(plan, records, partial, relevant);
    results.write("summary.json", fragbench_report::summary_json(&summary)?.as_bytes())?;
    for (name, bytes) in fragbench_report::render_tuning(&tuning)? {
        results.write(&name, &bytes)?;
    }
    Ok(tuning)
}

/// Prints it, with the lines that apply its recommendation where they were asked for.
pub(crate) fn show(
    tuning: &Tuning,
    results: &ResultDir,
    format: Format,
    emit: Option<(&EmitOptions, &Manifest)>,
) -> Result<()> {
    let recommended = emit.zip(tuning.recommendation.as_ref());
    let lines = recommended.and_then(|((emit, manifest), recommended)| emit.lines(&recommended.change, manifest));
    if let Some(lines) = &lines {
        results.write("emitted.txt", lines.as_bytes())?;
    }
    match format {
        Format::Json => {
            let mut value = fragbench_report::tuning_value(tuning)?;
            value["emitted"] = lines.into();
            say!("{}", serde_json::to_string_pretty(&value)?);
        }
        Format::Text => {
            let (width, colour) = terminal();
            say!("{}\n", fragbench_report::draw(&fragbench_report::tuning_table(tuning), width, colour));
            say!("{}\n", fragbench_report::folded(&fragbench_report::tuning_text(tuning), width));
            lines.iter().for_each(|lines| say!("{lines}"));
            say!("{}: tuning.json, tuning.md, plots/tune.svg", results.path().display());
        }
    }
    Ok(())
}

/// Renders a result of a search again.
pub(crate) fn render_again(
    results: &ResultDir,
    mut manifest: Manifest,
    records: &[RunRecord],
    format: Format,
) -> Result<()> {
    let partial = manifest.ended_unix_s.is_none();
    if manifest.memory.is_none() {
        // Results of earlier versions name it in their tuning.json alone.
        let text = std::fs::read_to_string(results.path().join("tuning.json")).unwrap_or_default();
        let tuning = serde_json::from_str::<serde_json::Value>(&text).ok();
        manifest.memory = tuning.and_then(|tuning| Some(tuning["memory"].as_str()?.to_owned()));
    }
    let finalists = finalists(&manifest, records);
    let tuning = conclude(results, manifest, records, &finalists, partial)?;
    show(&tuning, results, format, None)
}

/// The cells that were measured to the end: those alive in a search, all of a plan without one; where neither is known those
/// of the last block.
pub(crate) fn finalists(manifest: &Manifest, records: &[RunRecord]) -> Vec<usize> {
    let plan = &manifest.plan;
    let candidates = Search::candidates(plan);
    let last = plan.runs.iter().map(|run| run.repetition).max();
    let cells: Vec<usize> = match &manifest.search {
        Some(search) => search.live.clone(),
        None => {
            let in_last = |cell: &usize| plan.runs.iter().any(|run| Some(run.repetition) == last && run.cell == *cell);
            candidates.filter(in_last).collect()
        }
    };
    fragbench_run::finalists(plan, records, &cells)
}
