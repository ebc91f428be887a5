//! `fragbench report`: renders a result directory again, for instance with a newer version, or writes it as tables; or
//! renders a recording of `fragbench watch`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use fragbench_report::{Recording, recording_json, recording_text, render_recordings};

use super::report_slim;
use crate::options::Format;
use crate::{Outcome, usage};

/// Render a result directory again: summary, tables, plots, report.html; or a recording of `fragbench watch`
///
/// With `--format parquet` a result's runs and samples are written as tables instead: `runs.parquet` has a row a run, its cell,
/// block, status and every metric in the unit its name ends in; `samples.parquet` has a row a sample, joined by `run`. A
/// figure that could not be had is a null.
///
/// Examples: fragbench report fragbench-results/2026-01-31-120000,
/// fragbench report night.jsonl,
/// fragbench report DIR --format parquet && duckdb -c "SELECT cell, median(heap_rss_peak_bytes) FROM 'DIR/runs.parquet'
/// WHERE status = 'ok' GROUP BY cell",
/// fragbench report DIR --slim
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Result directory, or a file that `fragbench watch --record` wrote
    #[arg(value_name = "DIR|FILE")]
    what: PathBuf,
    /// Of a recording: directory for report.html, plots and figures [default: FILE without its ending, and `-report`]; of
    /// Parquet: directory for the files [default: DIR]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Form,
    /// Make a result small instead: leave out runs, samples, report.html and pictures that are there as drawings too. It
    /// cannot be rendered again; manifest.json names what is gone
    #[arg(long, conflicts_with_all = ["output", "format"])]
    slim: bool,
}

/// What becomes of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    Text,
    /// For programs: the summary.
    Json,
    /// For programs: every run and every sample of a result, as files; nothing is rendered.
    Parquet,
}

impl Report {
    pub(crate) fn go(&self) -> Result<Outcome> {
        if self.slim {
            let (before, after) = report_slim::slim(&self.what)?;
            say!("{}: {before} bytes before, {after} after", self.what.display());
            return Ok(Outcome::Success);
        }
        if report_slim::is_slim(&self.what) {
            anyhow::bail!(
                "{} was made small by `report --slim`: its runs are gone, and it cannot be rendered again; read its \
                 report.md and summary.json",
                self.what.display()
            );
        }
        let format = match self.format {
            Form::Text => Format::Text,
            Form::Json => Format::Json,
            Form::Parquet if self.what.is_file() => {
                return Err(usage("--format parquet is for a result directory; a recording has its figures as JSON"));
            }
            Form::Parquet => {
                super::report_export::export(&self.what, self.output.as_ref().unwrap_or(&self.what))?;
                return Ok(Outcome::Success);
            }
        };
        if self.what.is_file() {
            return self.recording(format);
        }
        if self.output.is_some() {
            return Err(usage(
                "a result directory is rendered in place: leave --output out, or name a recording or --format parquet",
            ));
        }
        crate::conclude::render_again(&self.what, format)?;
        Ok(Outcome::Success)
    }

    fn recording(&self, format: Format) -> Result<Outcome> {
        let file = File::open(&self.what).with_context(|| format!("{}", self.what.display()))?;
        let readings = fragbench_watch::read(BufReader::new(file))
            .with_context(|| format!("{} is no recording of `fragbench watch --record`", self.what.display()))?;
        let recordings = by_process(readings);
        let dir = self.output.clone().unwrap_or_else(|| beside(&self.what));
        for (name, bytes) in render_recordings(&recordings)? {
            let path = dir.join(name);
            let parent = path.parent().unwrap_or(&dir);
            std::fs::create_dir_all(parent).with_context(|| format!("{}", parent.display()))?;
            std::fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        match format {
            Format::Json => say!("{}", serde_json::to_string_pretty(&recording_json(&recordings))?),
            Format::Text => {
                let (width, colour) = crate::output::terminal();
                for recording in &recordings {
                    say!("{}\n", recording_text(recording, width, colour));
                }
                say!("{}", dir.join("report.html").display());
            }
        }
        Ok(Outcome::Success)
    }
}

/// `night.jsonl` → `night-report`.
fn beside(file: &Path) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{stem}-report"))
}

/// Readings of each process, in order of their first; a recording may have been added to.
fn by_process(readings: Vec<fragbench_model::Reading>) -> Vec<Recording> {
    let mut recordings: Vec<Recording> = Vec::new();
    for reading in readings {
        match recordings.iter_mut().find(|r| r.readings[0].pid == reading.pid) {
            Some(recording) => recording.readings.push(reading),
            None => recordings.push(Recording { readings: vec![reading], events: Vec::new() }),
        }
    }
    for recording in &mut recordings {
        recording.events = fragbench_watch::events_of(&recording.readings);
    }
    recordings
}
