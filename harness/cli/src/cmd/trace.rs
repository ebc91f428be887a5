//! `fragbench trace`: what a trace holds.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use fragbench_trace::{PackOptions, Trace as TraceFile, TraceError};

use super::trace_export::Export;
use crate::options::Format;
use crate::sizes::parse_duration;
use crate::{Outcome, usage};

/// Look into a trace: info, stat, export, pack
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
    Export(Export),
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

/// Sizes, lifetimes, live bytes over time, cross-thread frees, reallocs, top sizes
///
/// Example: fragbench trace stat server.fbt --plots server-plots
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
    end: Option<std::time::Duration>,
}

impl Trace {
    pub(crate) fn go(&self) -> Result<Outcome> {
        match &self.verb {
            Verb::Info(verb) => verb.go(),
            Verb::Stat(verb) => verb.go(),
            Verb::Export(verb) => verb.go(),
            Verb::Pack(verb) => verb.go(),
        }
    }
}

/// Opens a trace; what is wrong with the file is an error that names it.
pub(super) fn open(file: &Path) -> Result<TraceFile> {
    TraceFile::open(file).map_err(|error| match error {
        TraceError::Io(_) => usage(format!("{}: {error}", file.display())),
        _ => anyhow::Error::new(error).context(format!("{}", file.display())),
    })
}

impl Info {
    fn go(&self) -> Result<Outcome> {
        let info = open(&self.file)?.info();
        match self.format {
            Format::Json => println!("{}", serde_json::to_string_pretty(&info)?),
            Format::Text => {
                // Every field by its own name: what the JSON holds, for people.
                let value = serde_json::to_value(&info)?;
                print!("{}", indented(&value, 0));
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

impl Stat {
    fn go(&self) -> Result<Outcome> {
        let trace = open(&self.file)?;
        let stat = fragbench_trace::stat(&trace);
        match self.format {
            Format::Json => println!("{}", serde_json::to_string_pretty(&stat)?),
            Format::Text => {
                let (width, colour) = super::run::terminal();
                for table in [fragbench_report::trace_table(&stat), fragbench_report::size_table(&stat)] {
                    println!("{}", fragbench_report::draw(&table, width, colour));
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
        Ok(Outcome::Success)
    }
}

impl Pack {
    fn go(&self) -> Result<Outcome> {
        let options = PackOptions { end_us: self.end.map(|end| end.as_micros() as u64), ..Default::default() };
        let report = fragbench_trace::pack(&self.spool, &self.output, &options)
            .with_context(|| format!("{}", self.spool.display()))?;
        eprintln!(
            "{}: {} events, {} bytes from {} of spool",
            self.output.display(),
            report.totals.events,
            report.bytes,
            report.spool_bytes
        );
        Ok(Outcome::Success)
    }
}
