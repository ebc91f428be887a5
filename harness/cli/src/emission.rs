//! `--emit`: prints the lines that apply a recommendation.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use fragbench_model::{Allocator, Manifest, Verdict, VerdictKind};
use fragbench_report::{Application, LIBRARY_DIR, SERVICE, Target};

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
    /// A resource of mariadb-operator.
    MariadbOperator,
    /// A resource of Percona's operator for XtraDB Cluster, and its Secret.
    PerconaXtradb,
    /// A resource of Percona's operator for Percona Server.
    PerconaServer,
    /// Lines of a shell.
    Env,
}

/// Lines that were asked for, or why there are none.
pub(crate) type Emitted = Result<String, &'static str>;

/// Options of every verb that can recommend something.
#[derive(Debug, Args)]
pub(crate) struct EmitOptions {
    /// Print the lines that apply the recommendation, with how to verify and to undo it
    #[arg(long, value_enum, value_name = "FOR")]
    emit: Option<EmitChoice>,
    /// Service that the lines are for: the unit, the Compose service, the StatefulSet
    #[arg(long, value_name = "NAME", default_value = SERVICE, requires = "emit", value_parser = service)]
    service: String,
    /// Where the lines install a library that is to be preloaded
    #[arg(long, value_name = "DIR", default_value = LIBRARY_DIR, requires = "emit")]
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
    /// The lines that apply what a verdict recommends, or why there are none; `None` if they were not asked for.
    pub(crate) fn of_verdict(&self, verdict: &Verdict, manifest: &Manifest) -> Option<Emitted> {
        self.emit?;
        match verdict.kind {
            VerdictKind::Switch | VerdictKind::Tune => {}
            VerdictKind::Leave => return Some(Err("nothing to apply: what runs now is to be left as it is")),
            VerdictKind::NotEnoughData => {
                return Some(Err("nothing to apply: the runs do not suffice for a recommendation"));
            }
        }
        let change = verdict.change.as_ref().filter(|change| change.changes_something());
        let lines = change.and_then(|change| self.lines(change, manifest));
        Some(lines.ok_or("nothing to apply: what is recommended sets nothing"))
    }

    /// The lines, if they were asked for.
    pub(crate) fn lines(&self, change: &Allocator, manifest: &Manifest) -> Option<String> {
        let target = match self.emit? {
            EmitChoice::Systemd => Target::Systemd,
            EmitChoice::Mariadb => Target::Mariadb,
            EmitChoice::Docker => Target::Docker,
            EmitChoice::Kubernetes => Target::Kubernetes,
            EmitChoice::MariadbOperator => Target::MariadbOperator,
            EmitChoice::PerconaXtradb => Target::PerconaXtradb,
            EmitChoice::PerconaServer => Target::PerconaServer,
            EmitChoice::Env => Target::Env,
        };
        // Lines are run elsewhere than here: and a file is installed onto itself nowhere, by whatever path.
        let change = &Allocator { library: change.library.as_deref().map(whole), ..change.clone() };
        let application = Application {
            change,
            library_dir: &whole(&self.library_dir),
            service: &self.service,
            huge_pages: manifest.same_huge_pages(),
        };
        Some(fragbench_report::emit(target, &application))
    }
}

/// A path from the root, without links as far as it is there.
fn whole(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_same_by_whatever_way() {
        let dir = tempfile::tempdir().unwrap();
        let lib = dir.path().join("lib");
        std::fs::create_dir(&lib).unwrap();
        std::os::unix::fs::symlink(&lib, dir.path().join("link")).unwrap();
        assert_eq!(whole(&dir.path().join("link")), whole(&lib.join("../lib")));
        assert!(whole(Path::new("target/nowhere")).is_absolute());
    }

    #[test]
    fn services() {
        assert_eq!(service("mysqld.service"), Ok("mysqld".into()));
        assert_eq!(service("mariadb@1"), Ok("mariadb@1".into()));
        for wrong in ["", "../x", "a b", "-x", ".service"] {
            assert!(service(wrong).is_err(), "{wrong}");
        }
    }
}
