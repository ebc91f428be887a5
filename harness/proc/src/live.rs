//! A live process as a [`Target`]: `maps`, `pagemap` and `process_vm_readv`. It never reads `smaps`, whose walk of the
//! page tables holds up the process.
//!
//! Source: proc(5), process_vm_readv(2), Documentation/admin-guide/mm/pagemap.rst.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::target::{Mapping, Part, ProcessFacts, Residency, Source, Target, TargetKind};
use crate::{ProcError, Process, sys};

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const FILE: u64 = 1 << 61;
/// A guard made by `madvise`, since Linux 6.15; such a page shows as swapped and holds nothing.
const GUARD: u64 = 1 << 58;
/// What `PAGEMAP_SCAN` is asked to tell: by Linux 6.15, and by 6.7.
const SCANS: [u64; 2] = [
    sys::IS_FILE | sys::IS_PRESENT | sys::IS_SWAPPED | sys::IS_GUARD,
    sys::IS_FILE | sys::IS_PRESENT | sys::IS_SWAPPED,
];
/// Entries of `pagemap` read at a time.
const ENTRIES: usize = 64 << 10;

/// A live process, held by its number and its start time.
#[derive(Debug)]
pub struct LiveTarget {
    pid: u32,
    dir: PathBuf,
    /// `None` when it may not be read.
    pagemap: Option<File>,
    started: u64,
    page: u64,
    /// Which of [`SCANS`] the kernel knows; past them there is the plain reading.
    scan: AtomicUsize,
}

/// Adds a range behind the others, or to the last one.
fn join(list: &mut Vec<Range<u64>>, range: Range<u64>) {
    match list.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => list.push(range),
    }
}

impl LiveTarget {
    /// The process of that number.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when there is none. One that may not be looked into is refused when it is asked, so that what
    /// everybody may know of it can still be had.
    pub fn open(pid: u32) -> Result<Self, ProcError> {
        let dir = Path::new("/proc").join(pid.to_string());
        let started = Process::at(&dir).times()?.start_ticks;
        let path = dir.join("pagemap");
        let pagemap = match File::open(&path).map_err(|e| ProcError::io(&path, e)) {
            Ok(file) => Some(file),
            // A thread of the kernel has none.
            Err(ProcError::Denied(_) | ProcError::Gone(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { pid, dir, pagemap, started, page: procfs::page_size(), scan: AtomicUsize::new(0) })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    fn pagemap(&self) -> Result<&File, ProcError> {
        self.pagemap.as_ref().ok_or_else(|| ProcError::Denied(self.dir.join("pagemap")))
    }

    fn read_pagemap(&self, range: Range<u64>, residency: &mut Residency) -> Result<(), ProcError> {
        let (mut page, last) = (range.start / self.page, range.end / self.page);
        let mut buffer = vec![0u8; 8 * ENTRIES.min(last.saturating_sub(page) as usize)];
        while page < last {
            let want = buffer.len().min(8 * (last - page) as usize);
            let got = self.pagemap()?.read_at(&mut buffer[..want], page * 8);
            let got = got.map_err(|e| ProcError::io(&self.dir.join("pagemap"), e))?;
            if got < 8 {
                // Past the end of the address space, or the process has ended.
                break;
            }
            for entry in buffer[..got].as_chunks::<8>().0 {
                let entry = u64::from_ne_bytes(*entry);
                let at = page * self.page..(page + 1) * self.page;
                if entry & PRESENT != 0 {
                    residency.file_bytes += if entry & FILE != 0 { self.page } else { 0 };
                    join(&mut residency.present, at);
                } else if entry & (SWAPPED | GUARD) == SWAPPED {
                    join(&mut residency.swapped, at);
                }
                page += 1;
            }
        }
        Ok(())
    }
}

impl Target for LiveTarget {
    fn kind(&self) -> TargetKind {
        TargetKind::Live
    }

    fn process(&self) -> Result<ProcessFacts, ProcError> {
        Process::at(&self.dir).facts()
    }

    fn mappings(&self) -> Result<Vec<Mapping>, ProcError> {
        Process::at(&self.dir).maps()
    }

    fn page_bytes(&self) -> u64 {
        self.page
    }

    fn residency(&self, range: Range<u64>) -> Result<Option<Residency>, ProcError> {
        let range = range.start / self.page * self.page..range.end.next_multiple_of(self.page);
        let mut residency = Residency::default();
        while let Some(told) = SCANS.get(self.scan.load(Ordering::Relaxed)) {
            let scanned = sys::scan_pagemap(self.pagemap()?, range.clone(), *told, |region| {
                let (run, is) = (region.start..region.end, |category| region.categories & category != 0);
                if is(sys::IS_PRESENT) {
                    residency.file_bytes += if is(sys::IS_FILE) { run.end - run.start } else { 0 };
                    join(&mut residency.present, run);
                } else if !is(sys::IS_GUARD) {
                    join(&mut residency.swapped, run);
                }
            });
            if scanned.is_ok() {
                return Ok(Some(residency));
            }
            // A range that is no user's address is refused as well, and then by the plain reading too.
            self.scan.fetch_add(1, Ordering::Relaxed);
            residency = Residency::default();
        }
        self.read_pagemap(range, &mut residency)?;
        Ok(Some(residency))
    }

    fn read(&self, parts: &mut [Part<'_>]) -> Result<(), ProcError> {
        sys::read_process(self.pid, parts).map_err(|e| match e.raw_os_error() {
            Some(libc::EPERM) => ProcError::Denied(self.dir.join("mem")),
            _ => ProcError::io(&self.dir.join("mem"), e),
        })
    }

    fn file(&self, mapping: &Mapping) -> Option<Vec<u8>> {
        let Source::File(path) = &mapping.source else { return None };
        // The first finds the file that is mapped even when another has taken its name, but asks for a capability.
        let mapped = self.dir.join(format!("map_files/{:x}-{:x}", mapping.start, mapping.end));
        let named = self.dir.join("root").join(path.strip_prefix("/").ok()?);
        std::fs::read(mapped).or_else(|_| std::fs::read(named)).ok()
    }

    fn check(&self) -> Result<(), ProcError> {
        if Process::at(&self.dir).times()?.start_ticks != self.started {
            return Err(ProcError::Gone(self.dir.clone()));
        }
        // `pagemap` belongs to the address space it was opened in, which ends with `exec`: then it reads as empty.
        let Some(pagemap) = &self.pagemap else { return Ok(()) };
        match pagemap.read_at(&mut [0; 8], 0) {
            // ... or with the process, of which nothing is left then.
            Ok(0) => Err(match Process::at(&self.dir).facts() {
                Ok(_) => ProcError::Replaced(self.pid),
                Err(_) => ProcError::Gone(self.dir.clone()),
            }),
            Ok(_) => Ok(()),
            Err(e) => Err(ProcError::io(&self.dir.join("pagemap"), e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_says_what_is_not() {
        let me = LiveTarget::open(std::process::id()).unwrap();
        let block = vec![0x5au8; 3 << 20];
        let at = block.as_ptr() as u64;
        let (mut first, mut hole, mut last) = ([0u8; 4096], [0u8; 16], [0u8; 8]);
        let mut parts =
            [Part::new(at, &mut first), Part::new(64, &mut hole), Part::new(at + block.len() as u64 - 8, &mut last)];
        me.read(&mut parts).unwrap();
        assert_eq!(parts.each_ref().map(|p| p.done), [true, false, true]);
        assert!(first.iter().chain(&last).all(|b| *b == 0x5a));
        let mapping = me.mappings().unwrap().into_iter().find(|m| m.holds(at)).unwrap();
        assert!(mapping.writable && mapping.private && mapping.readable);
        let inner = at.next_multiple_of(me.page_bytes())..(at + (3 << 20)) / me.page_bytes() * me.page_bytes();
        let residency = me.residency(inner.clone()).unwrap().unwrap();
        assert_eq!(residency.present, [inner]);
        me.check().unwrap();
    }

    #[test]
    fn pages_never_touched_are_not_present() {
        let me = LiveTarget::open(std::process::id()).unwrap();
        let block: Vec<u8> = Vec::with_capacity(8 << 20);
        let start = (block.as_ptr() as u64).next_multiple_of(me.page_bytes());
        let residency = me.residency(start + me.page_bytes()..start + (4 << 20)).unwrap().unwrap();
        assert_eq!(residency, Residency::default());
    }

    #[test]
    fn both_ways_to_ask_for_pages_agree() {
        let me = LiveTarget::open(std::process::id()).unwrap();
        // Every other page written: more runs than one call gives. It is never freed, since another test measures how this
        // process grows.
        let mut block = std::mem::ManuallyDrop::new(Vec::<u8>::with_capacity(32 << 20));
        for at in (0..32 << 20).step_by(2 * me.page_bytes() as usize) {
            block.spare_capacity_mut()[at].write(1);
        }
        let old = LiveTarget { scan: AtomicUsize::new(SCANS.len()), ..LiveTarget::open(std::process::id()).unwrap() };
        let start = (block.as_ptr() as u64).next_multiple_of(me.page_bytes());
        let ranges = me.mappings().unwrap().into_iter().filter(|m| matches!(m.source, Source::File(_)) && !m.writable);
        let older = LiveTarget { scan: AtomicUsize::new(1), ..LiveTarget::open(std::process::id()).unwrap() };
        assert_eq!(
            older.residency(start..start + (31 << 20)).unwrap(),
            me.residency(start..start + (31 << 20)).unwrap()
        );
        for range in ranges.map(|m| m.start..m.end).chain(std::iter::once(start..start + (31 << 20))) {
            // Other tests bring pages of files in meanwhile: what is compared has to stand still.
            loop {
                let [before, plain, after] = [&me, &old, &me].map(|target| target.residency(range.clone()).unwrap());
                if before == after {
                    assert_eq!(before, plain);
                    break;
                }
            }
        }
    }

    #[test]
    fn another_program_in_the_process_is_noticed() {
        use std::io::{Read, Write};
        let shell = "read line; exec cat";
        let mut child = std::process::Command::new("sh")
            .arg("-c")
            .arg(shell)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let target = LiveTarget::open(child.id()).unwrap();
        target.check().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"go\nx").unwrap();
        // cat answers when it runs.
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert!(matches!(target.check(), Err(ProcError::Replaced(_))));
        drop(input);
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_not_there_is_an_answer() {
        assert!(matches!(LiveTarget::open(999_999_999), Err(ProcError::Gone(_))));
    }
}
