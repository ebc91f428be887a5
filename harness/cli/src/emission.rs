//! `--emit`: prints the lines that apply a recommendation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use fragbench_report::{Application, Target};

/// For whom lines are made.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum EmitChoice {
    /// A drop-in of a systemd unit.
    Systemd,
    /// `mariadbd-safe`.
    Mariadb,
    /// An override file of Docker Compose.
    Docker,
    /// A patch of a Kubernetes StatefulSet.
    Kubernetes,
    /// Lines of a shell.
    Env,
}

/// Options of every verb that can recommend something.
#[derive(Debug, Args)]
pub(crate) struct EmitOptions {
    /// Print the lines that apply the recommendation, with how to verify and to undo it
    #[arg(long, value_enum, value_name = "FOR")]
    emit: Option<EmitChoice>,
    /// Service that the lines are for: the unit, the Compose service, the StatefulSet
    #[arg(long, value_name = "NAME", default_value = "mariadb", requires = "emit", value_parser = service)]
    service: String,
    /// Where the lines install a library that is to be preloaded
    #[arg(long, value_name = "DIR", default_value = "/usr/local/lib/fragbench", requires = "emit")]
    library_dir: PathBuf,
}

/// A name that is safe in a file name and in YAML; `.service` may stand after it.
fn service(text: &str) -> Result<String, String> {
    let name = text.strip_suffix(".service").unwrap_or(text);
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_@.".contains(c);
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(safe) {
        Ok(name.to_owned())
    } else {
        Err(format!("`{text}` names no service: write for instance mariadb or mysqld.service"))
    }
}

impl EmitOptions {
    /// The lines, if they were asked for.
    pub(crate) fn lines(
        &self,
        what: &str,
        environment: &BTreeMap<String, String>,
        library: Option<&Path>,
    ) -> Option<String> {
        let target = match self.emit? {
            EmitChoice::Systemd => Target::Systemd,
            EmitChoice::Mariadb => Target::Mariadb,
            EmitChoice::Docker => Target::Docker,
            EmitChoice::Kubernetes => Target::Kubernetes,
            EmitChoice::Env => Target::Env,
        };
        let change = Application { what, environment, library, library_dir: &self.library_dir, service: &self.service };
        Some(fragbench_report::emit(target, &change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services() {
        assert_eq!(service("mysqld.service"), Ok("mysqld".into()));
        assert_eq!(service("mariadb@1"), Ok("mariadb@1".into()));
        for wrong in ["", "../x", "a b", "-x", ".service"] {
            assert!(service(wrong).is_err(), "{wrong}");
        }
    }
}
