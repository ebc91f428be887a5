//! Where a process that is attached to finds the recorder's library and leaves its spool: a directory that it can reach,
//! also from another mount namespace and as another user, with the file whose lock tells it that the recording is wanted.
//!
//! Beside the trace where the process can get there; otherwise, or where --spool-dir says so, in the process's own
//! `/var/tmp` or `/tmp`.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fragbench_proc::Process;

use crate::{sys, usage};

/// Directories of the process's, in the order in which they are tried.
const FALLBACKS: [&str; 2] = ["/var/tmp", "/tmp"];

/// A directory as it is seen from both sides.
#[derive(Debug)]
pub(crate) struct Staging {
    /// Here: through a descriptor, which stays good when the process has ended.
    pub(crate) here: PathBuf,
    /// By the path that removes it here.
    outside: PathBuf,
    /// As the process finds it.
    pub(crate) there: PathBuf,
    /// Locked as long as the recording is wanted.
    control: Option<File>,
    _dir: File,
}

impl Staging {
    /// Makes it for a process.
    ///
    /// # Errors
    /// No directory can be made that the process can reach.
    pub(crate) fn create(pid: u32, output: &Path, wanted: Option<&Path>, library: &Path) -> Result<Self> {
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let user = std::fs::metadata(format!("/proc/{pid}/task/{pid}"))
            .map(|m| (m.uid(), m.gid()))
            .with_context(|| format!("process {pid}"))?;
        let user = Process::live(pid).effective_ids().unwrap_or(user);
        let name = format!("fragbench-{pid}.{}.spools", std::process::id());
        let mut tried = Vec::new();
        let beside = std::path::absolute(output)?;
        let beside = beside.parent().unwrap_or(Path::new("/"));
        let mut places: Vec<(PathBuf, PathBuf)> = Vec::new();
        let inside = |there: &Path| (root.join(there.strip_prefix("/").unwrap_or(there)), there.to_owned());
        match wanted {
            Some(dir) if !dir.is_absolute() => {
                return Err(usage("--spool-dir takes an absolute path, as the process sees it"));
            }
            Some(dir) => places.push(inside(dir)),
            None => {
                if Process::live(pid).sees_files_of(&Process::live(std::process::id())) && may_pass(beside, user.0) {
                    places.push((beside.to_owned(), beside.to_owned()));
                }
                places.extend(FALLBACKS.map(|dir| inside(Path::new(dir))));
            }
        }
        for (here, there) in places {
            match Self::make(&here.join(&name), &there.join(&name), user, library) {
                Ok(staging) => return Ok(staging),
                Err(error) => tried.push(format!("{}: {error:#}", there.display())),
            }
        }
        Err(usage(format!(
            "no directory was found that process {pid} can write to and load a library from ({}); name one with --spool-dir",
            tried.join("; ")
        )))
    }

    fn make(outside: &Path, there: &Path, user: (u32, u32), library: &Path) -> Result<Self> {
        std::fs::DirBuilder::new().mode(0o700).create(outside)?;
        let made = Self::fill(outside, there, user, library);
        if made.is_err() {
            let _ = std::fs::remove_dir_all(outside);
        }
        made
    }

    fn fill(outside: &Path, there: &Path, user: (u32, u32), library: &Path) -> Result<Self> {
        let dir = File::open(outside)?;
        let here = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
        let name = library.file_name().unwrap_or_default();
        std::fs::copy(library, here.join(name))?;
        let control = File::options().write(true).create_new(true).mode(0o644).open(here.join("wanted"))?;
        control.lock()?;
        if user.0 != sys::effective_uid() {
            for path in [here.join(name), here.join("wanted"), outside.to_owned()] {
                std::os::unix::fs::chown(&path, Some(user.0), Some(user.1))?;
            }
        }
        Ok(Self { here, outside: outside.to_owned(), there: there.to_owned(), control: Some(control), _dir: dir })
    }

    /// Says that the recording is no longer wanted. So does the end of this process.
    pub(crate) fn give_up(&mut self) {
        self.control = None;
    }

    /// The file of that lock, as the process finds it.
    pub(crate) fn control_there(&self) -> PathBuf {
        self.there.join("wanted")
    }

    /// Removes it. A spool that the process keeps open takes no more room.
    pub(crate) fn remove(self) {
        for entry in std::fs::read_dir(&self.here).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with(".spool") {
                let _ = File::options().write(true).open(entry.path()).and_then(|file| file.set_len(0));
            }
            let _ = std::fs::remove_file(entry.path());
        }
        let _ = std::fs::remove_dir(&self.outside);
    }
}

/// Whether a user surely may pass to a directory.
fn may_pass(dir: &Path, user: u32) -> bool {
    user == 0
        || dir.ancestors().all(|dir| {
            let Ok(facts) = std::fs::metadata(dir) else { return false };
            facts.mode() & 0o001 != 0 || facts.uid() == user && facts.mode() & 0o100 != 0
        })
}
