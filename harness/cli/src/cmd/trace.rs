//! `fragbench trace`: what a trace holds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use fragbench_model::Shape;
use fragbench_trace::{PackOptions, Trace as TraceFile, TraceError};

use super::trace_export::Export;
use super::trace_leaks::Leaks;
use super::trace_profile::TraceProfile;
use crate::options::Format;
use crate::sizes::parse_duration;
use crate::{Outcome, usage};

/// Look into a trace: info, stat, leaks, export, profile, pack
///
/// Example: fragbench trace stat server.fbt --plots server-plots
#[derive(Debug, Args)]
pub(crate) struct Trace {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Info(Info),
    Stat(Stat),
    Leaks(Leaks),
    Export(Export),
    Profile(TraceProfile),
    Pack(Pack),
}

/// Header, counts, duration, completeness
///
/// Example: fragbench trace info server.fbt --format json
#[derive(Debug, Args)]
struct Info {
    /// Trace
    file: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Sizes, lifetimes, live bytes over time, cross-thread frees, reallocs, top sizes; or how far two traces are apart
///
/// Examples: fragbench trace stat server.fbt --plots server-plots,
/// fragbench trace stat model.fbt --against server.fbt --against-from 2s --against-to 8s
#[derive(Debug, Args)]
struct Stat {
    /// Trace
    file: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Write plots (SVG and PNG) into this directory
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Say how far FILE is from this trace instead, the reference
    #[arg(long, value_name = "FILE", conflicts_with = "plots")]
    against: Option<PathBuf>,
    /// With --against: compare blocks allocated from this time of FILE on
    #[arg(long, value_parser = parse_duration, value_name = "TIME", requires = "against")]
    from: Option<Duration>,
    /// With --against: up to this time of FILE
    #[arg(long, value_parser = parse_duration, value_name = "TIME", requires = "against")]
    to: Option<Duration>,
    /// The same for the reference
    #[arg(long, value_parser = parse_duration, value_name = "TIME", requires = "against")]
    against_from: Option<Duration>,
    /// The same for the reference
    #[arg(long, value_parser = parse_duration, value_name = "TIME", requires = "against")]
    against_to: Option<Duration>,
}

/// Turn a spool that a recording left behind into a trace
///
/// Example: fragbench trace pack p.4711.0.spool -o server.fbt
#[derive(Debug, Args)]
struct Pack {
    /// Spool, as the recorder wrote it
    spool: PathBuf,
    /// Trace to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// End the trace after this time of the recording
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    end: Option<Duration>,
}

impl Trace {
    pub(crate) fn go(&self) -> Result<Outcome> {
        match &self.verb {
            Verb::Info(verb) => verb.go(),
            Verb::Stat(verb) => verb.go(),
            Verb::Leaks(verb) => verb.go(),
            Verb::Export(verb) => verb.go(),
            Verb::Profile(verb) => verb.go(),
            Verb::Pack(verb) => verb.go(),
        }
    }
}

/// Opens a trace; what is wrong with the file is an error that names it. Damage that leaves some of it readable is told.
pub(crate) fn open(file: &Path) -> Result<TraceFile> {
    let shown = file.display();
    let trace = TraceFile::open(file).map_err(|error| match error {
        TraceError::Io(_) => usage(format!("{shown}: {error}")),
        _ => anyhow::Error::new(error).context(format!("{shown}")),
    })?;
    if let Some(first) = trace.damage().first() {
        if trace.info().events == 0 {
            bail!("{shown}: damaged, and no event of it can be read: {first}; take another copy, or record again");
        }
        note!("{shown}: damaged ({first}): what follows is of the part that can be read");
    }
    Ok(trace)
}

impl Info {
    fn go(&self) -> Result<Outcome> {
        let info = open(&self.file)?.info();
        match self.format {
            Format::Json => say!("{}", serde_json::to_string_pretty(&info)?),
            Format::Text => {
                // Every field by its own name: what the JSON holds, for people.
                let value = serde_json::to_value(&info)?;
                put!("{}", indented(&value, 0));
            }
        }
        Ok(if info.complete { Outcome::Success } else { Outcome::FellShort })
    }
}

fn indented(value: &serde_json::Value, depth: usize) -> String {
    use serde_json::Value;
    let Value::Object(fields) = value else { return String::new() };
    let mut text = String::new();
    for (name, value) in fields {
        let pad = "  ".repeat(depth);
        match value {
            Value::Object(_) => text.push_str(&format!("{pad}{name}\n{}", indented(value, depth + 1))),
            Value::Null => text.push_str(&format!("{pad}{name:<24} unknown\n")),
            Value::String(word) => text.push_str(&format!("{pad}{name:<24} {word}\n")),
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| item.to_string()).collect();
                let shown = if items.is_empty() { "none".to_owned() } else { items.join("; ") };
                text.push_str(&format!("{pad}{name:<24} {shown}\n"));
            }
            other => text.push_str(&format!("{pad}{name:<24} {other}\n")),
        }
    }
    text
}

/// Shape of a trace from `from` to `to`, all of it where they are not given.
fn shape(file: &Path, from: Option<Duration>, to: Option<Duration>) -> Result<Shape> {
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (from_us, to_us) = (from.map_or(0, us), to.map_or(u64::MAX, us));
    let shape = fragbench_trace_analysis::shape(&open(file)?, from_us..to_us);
    if shape.to_us <= shape.from_us {
        let text = format!("{}: nothing was recorded between these times; see fragbench trace info", file.display());
        return Err(usage(text));
    }
    Ok(shape)
}

impl Stat {
    fn compare(&self, reference: &Path) -> Result<Outcome> {
        let shape_of_file = shape(&self.file, self.from, self.to)?;
        let reference = shape(reference, self.against_from, self.against_to)?;
        let distances = fragbench_trace_analysis::distances(&shape_of_file, &reference);
        match self.format {
            Format::Json => {
                let value = serde_json::json!({
                    "schema": fragbench_model::SCHEMA,
                    "distances": distances,
                    "shape": shape_of_file,
                    "reference": reference,
                });
                say!("{}", serde_json::to_string_pretty(&value)?);
            }
            Format::Text => {
                let (width, colour) = crate::output::terminal();
                let table = fragbench_report::distance_table(&shape_of_file, &reference, &distances);
                say!("{}", fragbench_report::draw(&table, width, colour));
            }
        }
        Ok(Outcome::Success)
    }

    fn go(&self) -> Result<Outcome> {
        if let Some(reference) = &self.against {
            return self.compare(reference);
        }
        let trace = open(&self.file)?;
        let stat = fragbench_trace_analysis::stat(&trace);
        // Blocks that were damaged within show in the count.
        let whole = trace.damage().is_empty() && stat.events == trace.info().events;
        if trace.damage().is_empty() && !whole {
            note!("{}: damaged: {} of {} events could be read", self.file.display(), stat.events, trace.info().events);
        }
        match self.format {
            Format::Json => say!("{}", serde_json::to_string_pretty(&stat)?),
            Format::Text => {
                let (width, colour) = crate::output::terminal();
                for table in [fragbench_report::trace_table(&stat), fragbench_report::size_table(&stat)] {
                    say!("{}", fragbench_report::draw(&table, width, colour));
                }
            }
        }
        if let Some(dir) = &self.plots {
            let name = self.file.file_stem().unwrap_or_default().to_string_lossy();
            std::fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
            for (file, bytes) in fragbench_report::render_trace(&stat, &name)? {
                let path = dir.join(file);
                std::fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))?;
            }
        }
        Ok(if whole { Outcome::Success } else { Outcome::FellShort })
    }
}

impl Pack {
    fn go(&self) -> Result<Outcome> {
        let shown = self.spool.display();
        std::fs::File::open(&self.spool)
            .map_err(|error| usage(format!("{shown}: {error}; give a FILE.spool that a recording left behind")))?;
        let options = PackOptions {
            end_us: self.end.map(|end| end.as_micros() as u64),
            symbols: Some(fragbench_symbols::symbols),
            ..Default::default()
        };
        let report = fragbench_trace::pack(&self.spool, &self.output, &options)
            .with_context(|| format!("{}", self.spool.display()))?;
        note!(
            "{}: {} events, {} bytes from {} of spool",
            self.output.display(),
            report.totals.events,
            report.bytes,
            report.spool_bytes
        );
        Ok(Outcome::Success)
    }
}
