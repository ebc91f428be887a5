//! `fragbench report`: renders a result directory again, for instance with a newer version.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::Outcome;
use crate::options::Format;

/// Render a result directory again: summary, tables, plots, report.html
///
/// Example: fragbench report fragbench-results/2026-01-31-120000
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Result directory
    dir: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Report {
    pub(crate) fn go(&self) -> Result<Outcome> {
        crate::measure::render_again(&self.dir, self.format)?;
        Ok(Outcome::Success)
    }
}
