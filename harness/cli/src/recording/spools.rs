//! Where the spools of one recording lie until they are packed: in a directory of their own beside the trace, on the same
//! file system; and by which path the recorder is preloaded.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fragbench_proc::{ProcError, Process};
use fragbench_trace::spool::format::{Closing, HEADER_LEN, Header, Status};

use crate::usage;

/// What glibc's loader puts for `$LIB`, on the distributions there are; ld.so(8).
const LIB: [&str; 4] = ["lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"];

/// One spool: of which process, and of which of its images, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpoolFile {
    pub(crate) path: PathBuf,
    pub(crate) pid: u32,
    pub(crate) image: u32,
}

impl SpoolFile {
    /// Header and how recording ended, as they stand in the file now.
    pub(crate) fn head(&self) -> Option<(Header, Option<Closing>)> {
        let mut bytes = [0; HEADER_LEN];
        File::open(&self.path).ok()?.read_exact_at(&mut bytes, 0).ok()?;
        Some((Header::from_bytes(&bytes).ok()?, Closing::from_bytes(&bytes)))
    }

    /// Whether a process still writes to it, or may.
    pub(crate) fn in_use(&self) -> bool {
        let process = Process::live(self.pid);
        match process.program() {
            Ok(_) | Err(ProcError::Denied(_)) => {}
            // Ended.
            Err(_) => return false,
        }
        let closing = self.head().and_then(|(_, closing)| closing);
        match closing.map(|c| c.status) {
            None | Some(Status::Running) => true,
            // The program may still be on its way out, or the exec may have failed.
            Some(Status::Exited | Status::Exec) => self.is_open(),
            Some(Status::SizeLimit | Status::TimeLimit | Status::WriteFailed | Status::Filtered | Status::Detached) => {
                false
            }
        }
    }

    /// Whether its process has it open.
    fn is_open(&self) -> bool {
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{}/fd", self.pid)) else { return false };
        descriptors.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == self.path))
    }
}

/// A directory of spools.
#[derive(Clone)]
pub(crate) struct SpoolDir(PathBuf);

impl SpoolDir {
    /// Makes it, for `output` to come beside.
    ///
    /// # Errors
    /// `output` cannot become a file, or its directory cannot be written to.
    pub(crate) fn create(output: &Path) -> Result<Self> {
        let shown = output.display();
        let mut name = output.file_name().ok_or_else(|| usage("-o names no file"))?.to_owned();
        match output.symlink_metadata() {
            Ok(there) if there.is_dir() => {
                return Err(usage(format!("{shown} is a directory: name a file in it with -o")));
            }
            Ok(there) if !there.is_file() && !there.is_symlink() => {
                return Err(usage(format!("{shown} is no ordinary file: choose another -o")));
            }
            _ => {}
        }
        name.push(format!(".{}.spools", std::process::id()));
        let dir = std::path::absolute(output.with_file_name(name))?;
        std::fs::DirBuilder::new()
            // Passable for programs that run as another user: the recorder is preloaded by a path through it. The spools
            // themselves are their owner's alone.
            .mode(0o711)
            .create(&dir)
            .with_context(|| format!("{shown} cannot be written: choose another -o"))?;
        Ok(Self(dir))
    }

    /// One that is there already.
    pub(crate) fn at(dir: PathBuf) -> Self {
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn prefix(&self) -> PathBuf {
        self.0.join("p")
    }

    /// The path by which the recorder is preloaded. It holds `$LIB`, which glibc's loader replaces by a directory that is
    /// there, and no other loader does: musl's finds no such file and goes on without, where it would end the program over
    /// a library that needs glibc. Where such a path cannot be had it is the recorder's own.
    pub(crate) fn preload(&self, recorder: &Path) -> PathBuf {
        let splits = |path: &Path| path.to_string_lossy().contains([':', ' ', ';', '$']);
        let (Some(name), false) = (recorder.file_name(), splits(&self.0)) else { return recorder.to_owned() };
        let own = fragbench_run::own_libc_file().and_then(|libc| {
            let dir = libc.parent()?.to_string_lossy().trim_start_matches('/').to_owned();
            Some(dir.strip_prefix("usr/").map(str::to_owned).unwrap_or(dir))
        });
        for lib in LIB.map(str::to_owned).into_iter().chain(own) {
            let dir = self.0.join("preload").join(lib);
            if std::fs::create_dir_all(&dir).is_err() {
                return recorder.to_owned();
            }
            // There already when it is one of the list.
            let _ = std::os::unix::fs::symlink(recorder, dir.join(name));
        }
        self.0.join("preload/$LIB").join(name)
    }

    /// All spools, each process's in the order of its images: `p.PID.N.spool`.
    pub(crate) fn list(&self) -> Result<Vec<SpoolFile>> {
        let mut spools = Vec::new();
        for entry in std::fs::read_dir(&self.0).with_context(|| format!("{}", self.0.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Others are what a packer keeps beside a spool.
            if path.extension().is_none_or(|kind| kind != "spool") {
                continue;
            }
            let mut numbers = name.split('.').skip(1).map_while(|part| part.parse::<u32>().ok());
            if let (Some(pid), Some(image)) = (numbers.next(), numbers.next()) {
                spools.push(SpoolFile { path, pid, image });
            }
        }
        spools.sort_by_key(|spool| (spool.pid, spool.image));
        Ok(spools)
    }

    /// Removes it, unless somebody still writes there: then it is answered which processes.
    pub(crate) fn remove(self) -> Vec<u32> {
        let using: Vec<u32> =
            self.list().unwrap_or_default().iter().filter(|spool| spool.in_use()).map(|spool| spool.pid).collect();
        if using.is_empty() {
            // What cannot be removed costs space, not truth.
            let _ = std::fs::remove_dir_all(&self.0);
        }
        using
    }
}
