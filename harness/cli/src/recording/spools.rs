//! Where the spools of one recording lie until they are packed: beside the trace, on the same file system.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::usage;

/// A directory of spools.
pub(crate) struct SpoolDir(PathBuf);

impl SpoolDir {
    pub(crate) fn create(output: &Path) -> Result<Self> {
        let mut name = output.file_name().ok_or_else(|| usage("-o names no file"))?.to_owned();
        name.push(format!(".{}.spools", std::process::id()));
        let dir = std::path::absolute(output.with_file_name(name))?;
        std::fs::create_dir(&dir)
            .with_context(|| format!("{} cannot be written: choose another -o", output.display()))?;
        Ok(Self(dir))
    }

    pub(crate) fn prefix(&self) -> PathBuf {
        self.0.join("p")
    }

    /// Spools with the process they are of, each process's in the order of its images: `p.PID.N.spool`.
    pub(crate) fn list(&self) -> Result<Vec<(PathBuf, u32)>> {
        let mut spools = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut numbers = name.split('.').skip(1).map_while(|part| part.parse::<u32>().ok());
            if let (Some(pid), Some(image)) = (numbers.next(), numbers.next()) {
                spools.push((path, pid, image));
            }
        }
        spools.sort_by_key(|(_, pid, image)| (*pid, *image));
        Ok(spools.into_iter().map(|(path, pid, _)| (path, pid)).collect())
    }

    pub(crate) fn remove(&self) {
        // What cannot be removed costs space, not truth.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
