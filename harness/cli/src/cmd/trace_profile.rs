//! `fragbench trace profile`: a trace distilled to a small, readable file that holds its statistics and nothing else.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use fragbench_trace_analysis::profile::{Length, distil_and_measure, to_toml};

use crate::{Outcome, generated};

/// Distil a trace to a profile: a small, anonymous, readable file from which work of any length can be generated
///
/// Example: fragbench trace profile server.fbt -o server.toml && fragbench run profile:server.toml
#[derive(Debug, Args)]
pub(crate) struct TraceProfile {
    /// Trace
    file: PathBuf,
    /// Profile to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Do not generate work to see how far it is from the recording
    #[arg(long)]
    no_check: bool,
}

impl TraceProfile {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let trace = super::trace::open(&self.file)?;
        if let Some(first) = trace.damage().first() {
            note!("{}: {first}; the profile is of what could be read", self.file.display());
        }
        let (profile, recording) = distil_and_measure(&trace);
        let text = to_toml(&profile);
        std::fs::write(&self.output, &text).with_context(|| format!("{} cannot be written", self.output.display()))?;
        let blocks: u64 = profile.role.iter().flat_map(|r| &r.blocks).flat_map(|b| &b.n).sum();
        say!(
            "{}: {} roles of {} threads, {} kinds of blocks for {} blocks; {} of text from {} of trace",
            self.output.display(),
            profile.role.len(),
            profile.role.iter().map(|r| r.threads()).sum::<u32>(),
            profile.role.iter().map(|r| r.blocks.len()).sum::<usize>(),
            fragbench_report::count(blocks as f64),
            fragbench_report::bytes(text.len() as f64),
            fragbench_report::bytes(trace.info().bytes as f64),
        );
        if !self.no_check {
            let dir = tempfile::tempdir().context("no temporary directory")?;
            // As who gets the file will: from its text.
            let profile = generated::read(&self.output)?;
            let work = generated::build(&profile, &Length::default(), &dir.path().join("generated.fbt"))?;
            let distances = fragbench_trace_analysis::distances(&work, &recording);
            let table = fragbench_report::distance_table(&work, &recording, &distances);
            let (width, colour) = crate::output::terminal();
            say!("Generated work beside the recording:\n{}", fragbench_report::draw(&table, width, colour));
        }
        Ok(Outcome::Success)
    }
}
