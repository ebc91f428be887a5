//! The processes of a recording: waits until none of them records any more, also those that the program left behind in the
//! background, and finds those that run unrecorded, with the reason.
//!
//! While a recording lasts, processes whose parent has ended become children of this one (`PR_SET_CHILD_SUBREAPER`), as they
//! would become those of init.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use fragbench_allocators::elf;
use fragbench_proc::Process;
use fragbench_trace::spool::format::Status;

use super::memory::Observer;
use super::spools::{SpoolDir, SpoolFile};
use crate::sys;

/// Longest time between two looks at all descendants.
const LOOK: Duration = Duration::from_secs(1);

/// A process that runs and is not recorded.
#[derive(Debug, Clone)]
pub(crate) struct Unrecorded {
    pub(crate) program: PathBuf,
    pub(crate) reason: String,
}

/// What is known of a recording's processes.
pub(crate) struct Following<'a> {
    spools: &'a SpoolDir,
    recorder: &'a Path,
    child: u32,
    pub(crate) observer: Observer,
    /// Seen once: a process that has just started may not have come to its spool.
    seen: BTreeMap<u32, PathBuf>,
    pub(crate) unrecorded: BTreeMap<u32, Unrecorded>,
    next_look: Instant,
    pause: Duration,
}

impl<'a> Following<'a> {
    pub(crate) fn new(spools: &'a SpoolDir, recorder: &'a Path, child: u32) -> Self {
        Self {
            spools,
            recorder,
            child,
            observer: Observer::default(),
            seen: BTreeMap::new(),
            unrecorded: BTreeMap::new(),
            next_look: Instant::now(),
            pause: Duration::from_millis(20),
        }
    }

    /// Samples what is due, and looks around now and then.
    pub(crate) fn look(&mut self) -> Result<()> {
        let spools = self.spools.list()?;
        self.observer.sample(spools.iter().map(|spool| spool.pid));
        if Instant::now() < self.next_look {
            return Ok(());
        }
        self.pause = (2 * self.pause).min(LOOK);
        self.next_look = Instant::now() + self.pause;
        self.reap();
        for pid in descendants() {
            let newest = spools.iter().rfind(|spool| spool.pid == pid);
            if newest.is_some_and(|spool| !has_left(spool)) {
                self.seen.remove(&pid);
                continue;
            }
            let Ok(program) = Process::live(pid).program() else { continue };
            if self.seen.insert(pid, program.clone()).as_ref() == Some(&program)
                && let Some(reason) = self.why_unrecorded(pid)
            {
                self.unrecorded.insert(pid, Unrecorded { program, reason });
            }
        }
        Ok(())
    }

    /// Waits for children that became ours, after a last look at them.
    fn reap(&mut self) {
        for pid in Process::live(std::process::id()).child_numbers().unwrap_or_default() {
            if pid != self.child && Process::live(pid).program().is_err() {
                self.observer.last_look(pid);
                sys::reap(pid);
            }
        }
    }

    /// Processes that still record, or will with their first allocation: a forked child that has made none yet.
    pub(crate) fn recording(&mut self) -> Result<Vec<u32>> {
        self.reap();
        let spools = self.spools.list()?;
        let mut pids: Vec<u32> = spools.iter().filter(|spool| spool.in_use()).map(|spool| spool.pid).collect();
        let fresh = descendants().into_iter().filter(|pid| !spools.iter().any(|spool| spool.pid == *pid));
        pids.extend(fresh.filter(|pid| self.has_recorder(*pid) && owner(*pid) == Some(sys::effective_uid())));
        pids.dedup();
        Ok(pids)
    }

    /// Whether the recorder is loaded in a process.
    fn has_recorder(&self, pid: u32) -> bool {
        let mapped = Process::live(pid).mapped_files().unwrap_or_default();
        mapped.iter().any(|file| file.file_name() == self.recorder.file_name())
    }

    /// Why a process leaves no spool; none when that cannot be told, as while it is starting.
    fn why_unrecorded(&self, pid: u32) -> Option<String> {
        let image = PathBuf::from(format!("/proc/{pid}/exe"));
        let bytes = std::fs::read(&image).ok()?;
        let elf = elf::parse(&bytes).ok()?;
        if elf.is_static_program() {
            return Some("it is statically linked: nothing can be preloaded into it".into());
        }
        if fragbench_run::is_musl_loader(elf.loader.as_deref()) {
            return Some("its C library is musl: the recorder is made for glibc".into());
        }
        let mapped = Process::live(pid).mapped_files().ok()?;
        if self.has_recorder(pid) {
            let user = owner(pid)?;
            return (user != sys::effective_uid()).then(|| {
                format!(
                    "it runs as user {user}, who may not write where the spools lie ({}): run fragbench record as that user",
                    self.spools.path().display()
                )
            });
        }
        let loaded =
            mapped.iter().any(|file| file.file_name().is_some_and(|name| name.to_string_lossy() == "libc.so.6"));
        loaded.then(|| {
            "LD_PRELOAD did not reach it: its environment was cleared on the way, or it is setuid, setgid or has file \
             capabilities"
                .into()
        })
    }
}

/// Whether a process has left the image that wrote this spool for one that writes none.
fn has_left(newest: &SpoolFile) -> bool {
    let status = newest.head().and_then(|(_, closing)| closing).map(|c| c.status);
    status == Some(Status::Exec) && !newest.in_use()
}

/// The user a process runs as.
fn owner(pid: u32) -> Option<u32> {
    std::fs::metadata(format!("/proc/{pid}")).ok().map(|m| m.uid())
}

/// All processes below this one.
fn descendants() -> Vec<u32> {
    let mut all = Vec::new();
    let mut below = vec![std::process::id()];
    while let Some(parent) = below.pop() {
        let children = Process::live(parent).child_numbers().unwrap_or_default();
        all.extend(&children);
        below.extend(&children);
    }
    all
}
