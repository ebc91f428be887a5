//! The worker's program: the one beside this program, and for other versions of glibc the one linked for old versions.
//!
//! A program asks for the symbol versions of the glibc it was linked against, and an older one refuses to run it. So a
//! worker for several versions is linked for an old one (`harness/glibc/worker.sh`); it is read here what it asks for.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fragbench_model::{GlibcVersion, Libc};

use crate::places;

const NAME: &str = "fragbench-worker";

/// Where the worker's program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerBinary(PathBuf);

impl WorkerBinary {
    /// The one that belongs to this program, by [`places`].
    ///
    /// # Errors
    /// Names the place looked at and what helps.
    pub fn beside_this_program() -> Result<Self> {
        let path = places::libraries(NAME)?.join(NAME);
        if !path.is_file() {
            bail!("{} is missing; {}", path.display(), places::advice());
        }
        Ok(Self(path))
    }

    /// One that runs on every glibc of `libcs`, looked for where `cargo build --target` puts it
    /// (`../x86_64-unknown-linux-gnu/release/` from this program), then beside this program.
    ///
    /// # Errors
    /// Says of each place what is wrong with it, and how to build one.
    pub fn for_libcs(libcs: &[&Libc]) -> Result<Self> {
        let mut refused = Vec::new();
        let dir = places::libraries(NAME)?;
        for path in [linked_for_old(&dir), dir.join(NAME)] {
            match path.is_file().then(|| Self(path.clone())) {
                Some(binary) => match binary.check_runs_on(libcs) {
                    Ok(()) => return Ok(binary),
                    Err(error) => refused.push(error.to_string()),
                },
                None => refused.push(format!("{} is missing", path.display())),
            }
        }
        bail!(
            "no worker for {}: {}. Build one that is linked for old versions with harness/glibc/worker.sh, or name one \
             with --worker FILE",
            libcs.iter().map(|libc| format!("glibc {}", libc.version)).collect::<Vec<_>>().join(", "),
            refused.join("; ")
        )
    }

    /// A program at a known place.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether every glibc of `libcs` has the symbols this program asks for.
    ///
    /// # Errors
    /// Names the newest version it asks for and the first glibc that is older.
    pub fn check_runs_on(&self, libcs: &[&Libc]) -> Result<()> {
        let path = self.0.display();
        let bytes = std::fs::read(&self.0).with_context(|| format!("{path} cannot be read"))?;
        let elf = fragbench_allocators::elf::parse(&bytes).with_context(|| path.to_string())?;
        let Some(needs) = elf.needs_glibc else { return Ok(()) };
        let older = |libc: &&&Libc| libc.version.parse::<GlibcVersion>().is_ok_and(|has| has < needs);
        match libcs.iter().find(older) {
            Some(libc) => bail!("{path} asks for symbols of glibc {needs}, newer than {}", libc.version),
            None => Ok(()),
        }
    }
}

/// The worker of the same profile built with `--target`.
fn linked_for_old(dir: &Path) -> PathBuf {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let target = dir.parent().unwrap_or(dir);
    target.join(triple).join(dir.file_name().unwrap_or_default()).join(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libc(version: &str) -> Libc {
        Libc { version: version.into(), build_id: None, file: "/x/libc.so.6".into(), loader: "/x/ld.so".into() }
    }

    #[test]
    fn a_program_that_asks_for_newer_symbols_is_refused() {
        // This test was linked against the system's glibc, which is newer than 2.4 and older than 99.
        let own = WorkerBinary::at(std::env::current_exe().unwrap());
        own.check_runs_on(&[&libc("99.0")]).unwrap();
        let error = own.check_runs_on(&[&libc("99.0"), &libc("2.4")]).unwrap_err().to_string();
        assert!(error.contains("asks for symbols of glibc 2.") && error.contains("newer than 2.4"), "{error}");
        let error = WorkerBinary::at("/nowhere").check_runs_on(&[]).unwrap_err().to_string();
        assert!(error.contains("/nowhere"), "{error}");
    }

    #[test]
    fn without_a_worker_every_place_is_named_and_how_to_build_one() {
        let error = WorkerBinary::for_libcs(&[&libc("2.4")]).unwrap_err().to_string();
        for word in ["-unknown-linux-gnu/", "harness/glibc/worker.sh", "--worker", "glibc 2.4"] {
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn the_one_for_old_versions_lies_beside_this_programs_directory() {
        let path = linked_for_old(Path::new("/src/target/release"));
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        assert_eq!(path, Path::new("/src/target").join(triple).join("release/fragbench-worker"));
    }
}
