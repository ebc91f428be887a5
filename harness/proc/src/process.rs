//! One process: its status, times, mappings. For readings at barriers, not for the hot path.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use procfs::process::{MemoryMaps, SmapsRollup};

use crate::error::{ProcError, parse, read};
use crate::target::{Mapping, Source};
use crate::{AnonymousMemory, ProcessFacts, StatmReader, text};

/// A process directory such as `/proc/42` or a captured copy of one.
#[derive(Debug, Clone)]
pub struct Process {
    dir: PathBuf,
}

/// Memory lines of `/proc/PID/status`, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStatus {
    /// `VmSize`.
    pub vm_bytes: u64,
    /// `VmRSS`.
    pub rss_bytes: u64,
    /// `RssAnon`.
    pub anon_bytes: u64,
    /// `VmSwap`.
    pub swap_bytes: u64,
    /// `Threads`.
    pub threads: u64,
}

/// Times and faults of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    /// User and system time, nanoseconds; the resolution is one tick (usually 10 ms).
    pub cpu_ns: u64,
    /// Minor faults.
    pub minor_faults: u64,
    /// Major faults.
    pub major_faults: u64,
    /// User and system time of ended children that were waited for, nanoseconds.
    pub children_cpu_ns: u64,
    /// Their minor faults.
    pub children_minor_faults: u64,
    /// Their major faults.
    pub children_major_faults: u64,
    /// Start time in ticks since boot: with the pid it identifies the process.
    pub start_ticks: u64,
    /// Address at which the main thread's stack begins: another one after each exec, the same in a forked child; 0 where it
    /// may not be read.
    pub start_stack: u64,
}

/// What the kernel grants a process, from `/proc/PID/status`; `None` where this kernel does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// `THP_enabled`: false when the process has switched transparent huge pages off (`PR_SET_THP_DISABLE`). Linux 5.0.
    pub thp: Option<bool>,
    /// `Cpus_allowed_list`: numbers and ranges of the CPUs it may run on.
    pub cpus: Option<String>,
}

impl Process {
    /// The live process of that number.
    pub fn live(pid: u32) -> Self {
        Self { dir: Path::new("/proc").join(pid.to_string()) }
    }

    /// A process directory anywhere.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// A reader for the hot path.
    ///
    /// # Errors
    /// As [`StatmReader::open`].
    pub fn statm(&self) -> Result<StatmReader, ProcError> {
        StatmReader::open(&self.dir)
    }

    /// Memory lines of `status`.
    ///
    /// # Errors
    /// [`ProcError::Gone`] also for a zombie, which has no memory lines.
    pub fn status(&self) -> Result<ProcessStatus, ProcError> {
        let path = self.dir.join("status");
        let status = read(&path)?;
        let kib = |field: &str| text::kib(&status, field).ok_or_else(|| ProcError::Gone(path.clone()));
        Ok(ProcessStatus {
            vm_bytes: kib("VmSize")?,
            rss_bytes: kib("VmRSS")?,
            anon_bytes: kib("RssAnon")?,
            swap_bytes: kib("VmSwap")?,
            threads: text::number(&status, "Threads").ok_or_else(|| ProcError::parse(&path, "no number of threads"))?,
        })
    }

    /// What the kernel grants it.
    ///
    /// # Errors
    /// [`ProcError::Gone`] or [`ProcError::Denied`].
    pub fn grants(&self) -> Result<Grants, ProcError> {
        let status = read(&self.dir.join("status"))?;
        let cpus = text::field(&status, "Cpus_allowed_list").map(|list| String::from_utf8_lossy(list).into_owned());
        Ok(Grants { thp: text::number(&status, "THP_enabled").map(|n| n == 1), cpus })
    }

    /// Whether the process runs; one that has ended and waits for its parent does not.
    pub fn runs(&self) -> bool {
        let stat = read(&self.dir.join("stat"));
        stat.is_ok_and(|stat| text::stat_fields(&stat).is_some_and(|fields| fields.first() != Some(&"Z")))
    }

    /// Whether there is an entry of it, be it of a process that has ended and waits for its parent.
    pub fn is_listed(&self) -> bool {
        self.dir.exists()
    }

    /// Effective user and group; `None` where `status` does not say.
    pub fn effective_ids(&self) -> Option<(u32, u32)> {
        let status = read(&self.dir.join("status")).ok()?;
        let second = |field: &str| {
            let ids = std::str::from_utf8(text::field(&status, field)?).ok()?;
            ids.split_ascii_whitespace().nth(1)?.parse().ok()
        };
        Some((second("Uid")?, second("Gid")?))
    }

    /// Whether it sees the same files under the same paths as `other`: mount namespace and root are equal.
    pub fn sees_files_of(&self, other: &Process) -> bool {
        let same = |what: &str| {
            let of = |process: &Process| std::fs::metadata(process.dir.join(what)).ok().map(|m| (m.dev(), m.ino()));
            of(self).is_some() && of(self) == of(other)
        };
        same("ns/mnt") && same("root")
    }

    /// Its name as the kernel has it: at most 15 bytes, which need not be UTF-8.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when the process is not there.
    pub fn name(&self) -> Result<OsString, ProcError> {
        Ok(text::name(&read(&self.dir.join("status"))?))
    }

    /// Name and sizes, as far as `status` has them; every user may read it.
    ///
    /// # Errors
    /// [`ProcError::Gone`] also for a zombie; [`ProcError::KernelThread`].
    pub fn facts(&self) -> Result<ProcessFacts, ProcError> {
        let path = self.dir.join("status");
        let status = read(&path)?;
        let (pid, name) = (text::number(&status, "Pid"), text::name(&status));
        if text::kib(&status, "VmSize").is_none() {
            // Threads of the kernel are children of kthreadd, process 2.
            let of_kernel = text::number(&status, "PPid") == Some(2) || pid == Some(2);
            return Err(match (of_kernel, pid) {
                (true, Some(pid)) => ProcError::KernelThread(format!("{pid} ({})", name.to_string_lossy())),
                _ => ProcError::Gone(path),
            });
        }
        Ok(ProcessFacts {
            pid: pid.and_then(|pid| u32::try_from(pid).ok()),
            name,
            threads: text::number(&status, "Threads"),
            vm_bytes: text::kib(&status, "VmSize"),
            rss_bytes: text::kib(&status, "VmRSS"),
            swap_bytes: text::kib(&status, "VmSwap"),
        })
    }

    /// Times and faults of `stat`.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when the process is not there.
    pub fn times(&self) -> Result<CpuTimes, ProcError> {
        let path = self.dir.join("stat");
        let stat = read(&path)?;
        let fields = text::stat_fields(&stat).ok_or_else(|| ProcError::parse(&path, "no name in brackets"))?;
        // Numbered as in proc_pid_stat(5), where the state is field 3. Times of children may be below zero there.
        let field = |number: usize| -> Result<u64, ProcError> {
            let text = fields.get(number - 3).and_then(|text| text.parse::<i64>().ok());
            text.map(|n| n.max(0).cast_unsigned()).ok_or_else(|| ProcError::parse(&path, format!("no field {number}")))
        };
        let tick_ns = 1_000_000_000 / procfs::ticks_per_second();
        Ok(CpuTimes {
            cpu_ns: (field(14)? + field(15)?) * tick_ns,
            minor_faults: field(10)?,
            major_faults: field(12)?,
            children_cpu_ns: (field(16)? + field(17)?) * tick_ns,
            children_minor_faults: field(11)?,
            children_major_faults: field(13)?,
            start_ticks: field(22)?,
            start_stack: field(28)?,
        })
    }

    /// All mappings, without a walk of the page tables.
    ///
    /// # Errors
    /// [`ProcError::Gone`] or [`ProcError::Denied`].
    pub fn maps(&self) -> Result<Vec<Mapping>, ProcError> {
        let path = self.dir.join("maps");
        let bytes = read(&path)?;
        if bytes.is_empty() {
            // A zombie's are empty; its memory is gone.
            return Err(ProcError::Gone(path));
        }
        text::mappings(&bytes).ok_or_else(|| ProcError::parse(&path, "a line that is no mapping"))
    }

    /// Files mapped into the process.
    ///
    /// # Errors
    /// As [`Process::maps`].
    pub fn mapped_files(&self) -> Result<Vec<PathBuf>, ProcError> {
        let mut files: Vec<PathBuf> = self
            .maps()?
            .into_iter()
            .filter_map(|map| match map.source {
                Source::File(path) => Some(path),
                _ => None,
            })
            .collect();
        files.dedup();
        Ok(files)
    }

    /// Anonymous memory in huge pages. Walks the page tables under the mmap lock: 15 to 20 ms a resident GiB,
    /// so only where the process stands still anyway.
    ///
    /// # Errors
    /// As [`Process::maps`].
    pub fn anon_huge_bytes(&self) -> Result<Option<u64>, ProcError> {
        self.rollup("AnonHugePages")
    }

    /// Memory that this process has written to and shares with no other: of a forked child, what it has copied. Walks
    /// the page tables, as [`Process::anon_huge_bytes`] does.
    ///
    /// # Errors
    /// As [`Process::maps`].
    pub fn private_dirty_bytes(&self) -> Result<Option<u64>, ProcError> {
        self.rollup("Private_Dirty")
    }

    /// A line of `smaps_rollup`; `None` when this kernel does not write it.
    fn rollup(&self, line: &str) -> Result<Option<u64>, ProcError> {
        let rollup: SmapsRollup = parse(&self.dir.join("smaps_rollup"))?;
        Ok(rollup.memory_map_rollup.0.first().and_then(|map| map.extension.map.get(line).copied()))
    }

    /// Processes that this one's threads have started and that have not been waited for (proc(5), `children`; Linux with
    /// `CONFIG_PROC_CHILDREN`).
    ///
    /// # Errors
    /// [`ProcError::Gone`] also where the kernel does not tell.
    pub fn children(&self) -> Result<Vec<Process>, ProcError> {
        Ok(self.child_numbers()?.into_iter().map(Process::live).collect())
    }

    /// Their numbers. A thread that ends meanwhile is left out.
    ///
    /// # Errors
    /// As [`Process::children`].
    pub fn child_numbers(&self) -> Result<Vec<u32>, ProcError> {
        let path = self.dir.join("task");
        let tasks = std::fs::read_dir(&path).map_err(|e| ProcError::io(&path, e))?;
        let mut children = Vec::new();
        for task in tasks.flatten() {
            let path = task.path().join("children");
            let text = match read(&path) {
                Ok(bytes) => String::from_utf8(bytes).map_err(|e| ProcError::parse(&path, e))?,
                Err(ProcError::Gone(_)) => continue,
                Err(error) => return Err(error),
            };
            for number in text.split_ascii_whitespace() {
                children.push(number.parse().map_err(|e| ProcError::parse(&path, e))?);
            }
        }
        Ok(children)
    }

    /// The sums of `smaps_rollup` by name, `pss_bytes` and so on. Walks the page tables, as
    /// [`Process::anon_huge_bytes`] does.
    ///
    /// # Errors
    /// As [`Process::maps`].
    pub fn smaps_rollup(&self) -> Result<BTreeMap<String, u64>, ProcError> {
        let rollup: SmapsRollup = parse(&self.dir.join("smaps_rollup"))?;
        let sums = rollup.memory_map_rollup.0.into_iter().next().map(|map| map.extension.map).unwrap_or_default();
        Ok(sums.into_iter().map(|(name, bytes)| (format!("{}_bytes", name.to_lowercase()), bytes)).collect())
    }

    /// Anonymous memory by what it is used for. Walks the page tables, as [`Process::anon_huge_bytes`] does.
    ///
    /// # Errors
    /// As [`Process::maps`].
    pub fn anonymous_memory(&self) -> Result<AnonymousMemory, ProcError> {
        let maps: MemoryMaps = parse(&self.dir.join("smaps"))?;
        Ok(AnonymousMemory::classify(&maps, &self.stack_pointers()))
    }

    /// Its program's file.
    ///
    /// # Errors
    /// [`ProcError::Gone`] or [`ProcError::Denied`].
    pub fn program(&self) -> Result<PathBuf, ProcError> {
        let path = self.dir.join("exe");
        std::fs::read_link(&path).map_err(|e| ProcError::io(&path, e))
    }

    /// Its command line, words apart by a blank, as the process shows it; what is no text or moves a terminal's cursor is
    /// replaced.
    ///
    /// # Errors
    /// [`ProcError::Gone`] or [`ProcError::Denied`].
    pub fn command_line(&self) -> Result<String, ProcError> {
        let bytes = read(&self.dir.join("cmdline"))?;
        let words = bytes.split(|b| *b == 0).filter(|word| !word.is_empty());
        let text = words.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
        Ok(text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect())
    }

    /// The environment it was started with, `NAME=VALUE` each; `None` when the program has written over it, as those do
    /// that show their state in `ps` (setproctitle).
    ///
    /// # Errors
    /// [`ProcError::Gone`] or [`ProcError::Denied`].
    pub fn environment(&self) -> Result<Option<Vec<String>>, ProcError> {
        let bytes = read(&self.dir.join("environ"))?;
        if !bytes.is_empty() && !bytes.contains(&b'=') {
            return Ok(None);
        }
        let entries = bytes.split(|b| *b == 0).filter(|entry| !entry.is_empty());
        Ok(Some(entries.map(|entry| String::from_utf8_lossy(entry).into_owned()).collect()))
    }

    /// Stack pointers of all threads that are blocked in a system call; a running thread shows none.
    fn stack_pointers(&self) -> Vec<u64> {
        let Ok(tasks) = std::fs::read_dir(self.dir.join("task")) else { return Vec::new() };
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("syscall")).ok())
            .filter_map(|line| {
                // "NR ARG0 … ARG5 SP PC", or "-1 SP PC" outside a system call, or "running".
                let fields: Vec<&str> = line.split_ascii_whitespace().collect();
                let sp = fields.get(fields.len().checked_sub(2)?)?;
                u64::from_str_radix(sp.strip_prefix("0x")?, 16).ok()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let me = Process::live(std::process::id());
        let status = me.status().unwrap();
        assert!(status.vm_bytes > status.rss_bytes && status.rss_bytes >= status.anon_bytes, "{status:?}");
        assert!(me.times().unwrap().minor_faults > 0);
        assert!(me.mapped_files().unwrap().iter().any(|f| f.to_string_lossy().contains("libc.so")));
        assert!(me.anon_huge_bytes().unwrap().is_some());
    }

    #[test]
    fn a_child_is_found_and_what_it_holds_alone_is_read() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let children = Process::live(std::process::id()).children().unwrap();
        let found = children.iter().find(|process| process.dir.ends_with(child.id().to_string())).unwrap();
        let private = found.private_dirty_bytes();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(private.unwrap().unwrap() > 0);
    }

    #[test]
    fn a_process_that_is_gone_is_an_answer() {
        assert!(matches!(Process::live(999_999_999).status(), Err(ProcError::Gone(_))));
        // A zombie: ended, not yet waited for.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let zombie = Process::live(child.id());
        while zombie.status().is_ok() {
            std::thread::yield_now();
        }
        assert!(matches!(zombie.status(), Err(ProcError::Gone(_))));
        child.wait().unwrap();
    }

    #[test]
    fn a_captured_directory_is_read_by_the_same_code() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy("/proc/self/status", dir.path().join("status")).unwrap();
        assert!(Process::at(dir.path()).status().unwrap().threads >= 1);
        assert!(matches!(Process::at(dir.path()).times(), Err(ProcError::Gone(_))));
    }
}
