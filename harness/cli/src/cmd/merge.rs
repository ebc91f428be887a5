//! `fragbench merge`: the shards of a plan, measured on several machines, as one result.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use fragbench_run::{Merged, ResultDir, Source};

use crate::conclude::render_again;
use crate::options::Format;
use crate::{Outcome, usage};

/// Put the results of shards together into one that every verb reads like any other
///
/// Example: fragbench merge out/shard-* -o out/merged
#[derive(Debug, Args)]
pub(crate) struct Merge {
    /// Result directories that were made with --shard; nothing in them is changed
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,
    /// Result directory to write; it must not be there yet
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Merge what is there although the plan is not whole, and say what is missing
    #[arg(long)]
    partial: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Merge {
    pub(crate) fn go(&self) -> Result<Outcome> {
        if self.output.exists() {
            return Err(usage(format!("{} is there already: choose another -o", self.output.display())));
        }
        let sources: Vec<Source> = self.dirs.iter().map(|dir| read(dir)).collect::<Result<_>>()?;
        let merged = fragbench_run::merge(&sources)
            .map_err(|reasons| anyhow!("these results are not parts of one:{}", list(&reasons)))?;
        for warning in &merged.warnings {
            note!("warning: {warning}");
        }
        if !merged.missing.is_empty() {
            let missing = list(&merged.missing);
            if !self.partial {
                bail!("the plan is not whole (--partial merges what is there):{missing}");
            }
            note!("missing:{missing}");
        }
        self.write(merged)?;
        render_again(&self.output, self.format)?;
        Ok(Outcome::Success)
    }

    /// Writes the result beside its place and then moves it there: it appears whole or not at all.
    fn write(&self, merged: Merged) -> Result<()> {
        let above = self.output.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let unwritable = || format!("{} cannot be written: choose another -o", self.output.display());
        std::fs::create_dir_all(above).with_context(unwritable)?;
        let beside = tempfile::Builder::new().prefix(".fragbench-merge-").tempdir_in(above).with_context(unwritable)?;
        let mut results = ResultDir::create(&beside.path().join("result"), &merged.manifest)?;
        for (mut record, from) in merged.records {
            let samples = ResultDir::samples(&self.dirs[from], &record)?;
            results.append(&mut record, &samples)?;
        }
        std::fs::rename(results.path(), &self.output).with_context(unwritable)
    }
}

fn read(dir: &Path) -> Result<Source> {
    let (manifest, records) = ResultDir::read(dir)?;
    Ok(Source { name: dir.display().to_string(), manifest, records })
}

/// A line each.
fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {line}")).collect()
}
