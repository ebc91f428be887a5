//! `fragbench diff`: two result directories, before and after, as a gate.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use fragbench_decide::DiffQuestion;
use fragbench_model::{DiffOutcome, Manifest, RunRecord};
use fragbench_run::ResultDir;

use crate::output::terminal;
use crate::sizes::parse_share;
use crate::{Outcome, usage};

/// Compare two result directories, before (A) and after (B), cell by cell
///
/// Figures of results of run, replay or compare: two versions, two machines, before and after a change. Exit status 0: nothing
/// became relevantly worse; 1: something did; 2: they cannot be compared, for want of runs or because other work was done.
///
/// Examples: fragbench diff results/main results/branch;
/// fragbench diff results/main results/branch --to-baseline --relevant 10% --format markdown
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// Result directory: before
    a: PathBuf,
    /// Result directory: after
    b: PathBuf,
    /// Figures to compare, as summary.json names them [default: heap RSS at its peak, at the end and after idling,
    /// throughput, p99 of an allocation, CPU time, a command's own figures]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    metric: Vec<String>,
    /// Share from which on a difference counts as relevant
    #[arg(long, value_parser = parse_share, value_name = "PERCENT", default_value = "5%")]
    relevant: f64,
    /// Compare each run's ratio to the baseline's run of the same block: what differs between machines and hits both alike
    /// goes away
    #[arg(long)]
    to_baseline: bool,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: DiffFormat,
}

/// How a comparison is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DiffFormat {
    /// For people.
    #[value(alias = "table")]
    Text,
    /// For a pull request.
    Markdown,
    /// For programs.
    Json,
}

impl Diff {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let (a, b) = (read(&self.a)?, read(&self.b)?);
        let metrics = fragbench_decide::diff_metrics(&a.0, &b.0, &self.metric).map_err(usage)?;
        let question = DiffQuestion { metrics, relevant: self.relevant, to_baseline: self.to_baseline };
        let diff = fragbench_decide::diff((&a.0, &a.1), (&b.0, &b.1), &question);
        let (name_a, name_b) = (described(&self.a, &a.0), described(&self.b, &b.0));
        match self.format {
            DiffFormat::Json => say!("{}", serde_json::to_string_pretty(&diff)?),
            DiffFormat::Markdown => put!("{}", fragbench_report::diff_markdown(&diff, &name_a, &name_b)),
            DiffFormat::Text => {
                let (width, colour) = terminal();
                put!("{}", fragbench_report::diff_text(&diff, &name_a, &name_b, width, colour));
            }
        }
        match diff.outcome {
            DiffOutcome::NoRegression => Ok(Outcome::Success),
            DiffOutcome::Regression => Ok(Outcome::FellShort),
            DiffOutcome::CannotCompare => Err(usage(format!(
                "{} and {} cannot be compared: {}",
                self.a.display(),
                self.b.display(),
                diff.reasons.join(" ")
            ))),
        }
    }
}

/// A result whose cells were chosen before they were measured.
fn read(dir: &Path) -> Result<(Manifest, Vec<RunRecord>)> {
    let (manifest, records) = ResultDir::read(dir).map_err(|error| usage(format!("{error:#}")))?;
    let instead = match manifest.profile.as_str() {
        "tune" => {
            "of a search, which keeps the cells that looked good: measure the settings in question with fragbench run"
        }
        "badcase" => {
            "of bad cases, which are checked against their bounds, not against each other: use fragbench badcase"
        }
        _ => return Ok((manifest, records)),
    };
    Err(usage(format!("{} is a result {instead}", dir.display())))
}

fn described(dir: &Path, manifest: &Manifest) -> String {
    format!(
        "{} (fragbench {}, {}, {}, {} CPUs)",
        dir.display(),
        manifest.version,
        fragbench_report::utc(manifest.started_unix_s),
        manifest.host.cpu.as_deref().unwrap_or("unknown CPU"),
        manifest.host.cpus
    )
}
