//! Manual pages and completions, for packages: built only with the feature `dist`, so that no other build pays for it.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, CommandFactory, Subcommand};
use clap_complete::{Shell, generate};

use crate::{Cli, Outcome};

/// Write manual pages and completions for packages
#[derive(Debug, Args)]
pub(crate) struct Generate {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Manual pages into a directory, one a command
    Man {
        /// The directory
        dir: PathBuf,
    },
    /// Completions for bash, on standard output
    Bash,
    /// Completions for zsh, on standard output
    Zsh,
    /// Completions for fish, on standard output
    Fish,
}

impl Generate {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let mut command = Cli::command();
        let shell = match &self.what {
            What::Man { dir } => {
                clap_mangen::generate_to(command, dir)?;
                return Ok(Outcome::Success);
            }
            What::Bash => Shell::Bash,
            What::Zsh => Shell::Zsh,
            What::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        generate(shell, &mut command, "fragbench", &mut script);
        put!("{}", String::from_utf8_lossy(&script));
        Ok(Outcome::Success)
    }
}
