//! A process captured into a directory, to be looked at elsewhere: `maps` and `status` as the kernel wrote them, and
//! `memory.zst` with which pages were where and those stretches of memory that somebody chose to keep. What was present
//! and not kept reads as zeros.
//!
//! `memory.zst` is a Zstandard stream: [`MAGIC`], bytes of a page, then records of three words (kind, start, end), little
//! endian; a record of kind [`KEPT`] is followed by its bytes. Records of a kind ascend. A file cut short is read as far
//! as it goes.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::target::{Mapping, Part, ProcessFacts, Residency, Source, Target, TargetKind, is_page};
use crate::{LiveTarget, ProcError, Process};

const MAGIC: [u8; 8] = *b"FBCAPT1\n";
/// Pages in memory that are the process's own.
const OWN: u64 = 1;
/// Pages in memory of files or shared memory.
const SHARED: u64 = 2;
/// Pages in swap.
const SWAPPED: u64 = 3;
/// Bytes.
const KEPT: u64 = 4;
const MEMORY: &str = "memory.zst";
/// Zstandard's level.
const LEVEL: i32 = 6;
/// Bytes of a record that is no lie: longer ones are damage.
const KEPT_MAX: u64 = 1 << 30;

/// Writes a capture.
pub struct CaptureWriter {
    out: zstd::Encoder<'static, File>,
    path: PathBuf,
}

impl CaptureWriter {
    /// Begins one in a directory that does not exist yet or is empty, with the process's mappings and residency.
    ///
    /// # Errors
    /// [`ProcError`] of reading the process or writing the files.
    pub fn create(dir: &Path, target: &LiveTarget) -> Result<Self, ProcError> {
        std::fs::create_dir_all(dir).map_err(|e| ProcError::io(dir, e))?;
        if std::fs::read_dir(dir).map_err(|e| ProcError::io(dir, e))?.next().is_some() {
            return Err(ProcError::parse(dir, "a capture is written into a new or empty directory"));
        }
        for name in ["maps", "status"] {
            let from = Path::new("/proc").join(target.pid().to_string()).join(name);
            let bytes = crate::error::read(&from)?;
            let to = dir.join(name);
            std::fs::write(&to, bytes).map_err(|e| ProcError::io(&to, e))?;
        }
        let path = dir.join(MEMORY);
        let file = File::create(&path).map_err(|e| ProcError::io(&path, e))?;
        let out = zstd::Encoder::new(file, LEVEL).map_err(|e| ProcError::io(&path, e))?;
        let mut writer = Self { out, path };
        writer.put(&MAGIC)?;
        writer.put(&target.page_bytes().to_le_bytes())?;
        for mapping in target.mappings()? {
            let Some(residency) = target.residency(mapping.start..mapping.end)? else { continue };
            let present: u64 = residency.present.iter().map(|run| run.end - run.start).sum();
            let kind = if present > 0 && residency.file_bytes == present { SHARED } else { OWN };
            if residency.file_bytes == 0 || kind == SHARED {
                residency.present.into_iter().try_for_each(|run| writer.record(kind, run))?;
            } else {
                // Data of a file, of which some pages have been written to: each is asked for.
                for at in residency.present.into_iter().flat_map(|run| run.step_by(target.page_bytes() as usize)) {
                    let page = at..at + target.page_bytes();
                    let file = target.residency(page.clone())?.is_some_and(|page| page.file_bytes > 0);
                    writer.record(if file { SHARED } else { OWN }, page)?;
                }
            }
            residency.swapped.into_iter().try_for_each(|run| writer.record(SWAPPED, run))?;
        }
        Ok(writer)
    }

    /// Keeps bytes; stretches must ascend and not overlap.
    ///
    /// # Errors
    /// As [`CaptureWriter::create`].
    pub fn keep(&mut self, address: u64, bytes: &[u8]) -> Result<(), ProcError> {
        self.record(KEPT, address..address + bytes.len() as u64)?;
        self.put(bytes)
    }

    /// Ends it.
    ///
    /// # Errors
    /// As [`CaptureWriter::create`].
    pub fn finish(self) -> Result<(), ProcError> {
        let path = self.path;
        self.out.finish().map(drop).map_err(|e| ProcError::io(&path, e))
    }

    fn record(&mut self, kind: u64, range: Range<u64>) -> Result<(), ProcError> {
        [kind, range.start, range.end].iter().try_for_each(|word| self.put(&word.to_le_bytes()))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ProcError> {
        self.out.write_all(bytes).map_err(|e| ProcError::io(&self.path, e))
    }
}

/// A captured process.
#[derive(Debug)]
pub struct CaptureTarget {
    dir: PathBuf,
    page: u64,
    own: Vec<Range<u64>>,
    shared: Vec<Range<u64>>,
    swapped: Vec<Range<u64>>,
    /// Address and place in `bytes` of what was kept, ascending.
    kept: Vec<(u64, usize)>,
    bytes: Vec<u8>,
    cut_short: bool,
}

impl CaptureTarget {
    /// Opens a capture.
    ///
    /// # Errors
    /// [`ProcError`] when the directory holds none.
    pub fn open(dir: &Path) -> Result<Self, ProcError> {
        let path = dir.join(MEMORY);
        let damaged = |why: &str| ProcError::parse(&path, why);
        let file = File::open(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                ProcError::parse(dir, format!("no capture of fragbench: it has no {MEMORY}"))
            }
            _ => ProcError::io(&path, e),
        })?;
        let input = zstd::Decoder::new(file).map_err(|e| ProcError::io(&path, e))?;
        let mut input = BufReader::new(input);
        let mut magic = [0u8; 8];
        if input.read_exact(&mut magic).is_err() || magic != MAGIC {
            return Err(damaged("it is no capture of fragbench"));
        }
        let page = word(&mut input).filter(|page| is_page(*page)).ok_or_else(|| damaged("no page size"))?;
        let mut capture = Self {
            dir: dir.to_owned(),
            page,
            own: Vec::new(),
            shared: Vec::new(),
            swapped: Vec::new(),
            kept: Vec::new(),
            bytes: Vec::new(),
            cut_short: false,
        };
        loop {
            let mut kind = [0u8; 8];
            match input.read(&mut kind[..1]) {
                Ok(0) => break,
                Ok(_) if input.read_exact(&mut kind[1..]).is_ok() => {}
                _ => {
                    capture.cut_short = true;
                    break;
                }
            }
            let (Some(start), Some(end)) = (word(&mut input), word(&mut input)) else {
                capture.cut_short = true;
                break;
            };
            if end < start {
                return Err(damaged("a stretch ends before it begins"));
            }
            match u64::from_le_bytes(kind) {
                OWN => capture.own.push(start..end),
                SHARED => capture.shared.push(start..end),
                SWAPPED => capture.swapped.push(start..end),
                KEPT if end - start <= KEPT_MAX => {
                    let place = capture.bytes.len();
                    capture.kept.push((start, place));
                    let got = (&mut input).take(end - start).read_to_end(&mut capture.bytes);
                    if !got.is_ok_and(|got| got as u64 == end - start) {
                        capture.kept.pop();
                        capture.bytes.truncate(place);
                        capture.cut_short = true;
                        break;
                    }
                }
                other => return Err(damaged(&format!("a record of kind {other}"))),
            }
        }
        if !capture.kept.is_sorted() || ![&capture.own, &capture.shared, &capture.swapped].iter().all(|l| ascends(l)) {
            return Err(damaged("its records do not ascend"));
        }
        Ok(capture)
    }

    fn present(&self, range: &Range<u64>) -> bool {
        // Parts are within a page or whole pages of one run.
        [&self.own, &self.shared].into_iter().any(|list| covers(list, range))
    }
}

fn ascends(list: &[Range<u64>]) -> bool {
    list.windows(2).all(|pair| pair[0].end <= pair[1].start)
}

fn covers(list: &[Range<u64>], range: &Range<u64>) -> bool {
    let mut at = range.start;
    for run in &list[list.partition_point(|run| run.end <= at)..] {
        if run.start > at || at >= range.end {
            break;
        }
        at = run.end;
    }
    at >= range.end
}

fn word(input: &mut impl Read) -> Option<u64> {
    let mut bytes = [0u8; 8];
    input.read_exact(&mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

impl Target for CaptureTarget {
    fn kind(&self) -> TargetKind {
        TargetKind::Capture
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
        let clip = |list: &[Range<u64>]| -> Vec<Range<u64>> {
            let from = list.partition_point(|run| run.end <= range.start);
            let within = list[from..].iter().take_while(|run| run.start < range.end);
            within.map(|run| run.start.max(range.start)..run.end.min(range.end)).collect()
        };
        let mut present = clip(&self.own);
        let shared = clip(&self.shared);
        let file_bytes = shared.iter().map(|run| run.end - run.start).sum();
        present.extend(shared);
        present.sort_unstable_by_key(|run| run.start);
        let mut joined: Vec<Range<u64>> = Vec::new();
        for run in present {
            match joined.last_mut() {
                Some(last) if last.end == run.start => last.end = run.end,
                _ => joined.push(run),
            }
        }
        Ok(Some(Residency { present: joined, swapped: clip(&self.swapped), file_bytes }))
    }

    fn read(&self, parts: &mut [Part<'_>]) -> Result<(), ProcError> {
        for part in parts {
            let range = part.address..part.address + part.into.len() as u64;
            if !self.present(&range) {
                continue;
            }
            part.into.fill(0);
            let first = self.kept.partition_point(|(at, _)| *at <= range.start).saturating_sub(1);
            for (i, &(at, place)) in self.kept.iter().enumerate().skip(first) {
                if at >= range.end {
                    break;
                }
                let next = self.kept.get(i + 1).map_or(self.bytes.len(), |(_, place)| *place);
                let bytes = &self.bytes[place..next];
                let (from, to) = (at.max(range.start), (at + bytes.len() as u64).min(range.end));
                if from < to {
                    part.into[(from - range.start) as usize..(to - range.start) as usize]
                        .copy_from_slice(&bytes[(from - at) as usize..(to - at) as usize]);
                }
            }
            part.done = true;
        }
        Ok(())
    }

    fn file(&self, mapping: &Mapping) -> Option<Vec<u8>> {
        // Only what was put beside the capture: files of this machine are not those of the other.
        let Source::File(path) = &mapping.source else { return None };
        std::fs::read(self.dir.join("files").join(path.file_name()?)).ok()
    }

    fn gaps(&self) -> Vec<String> {
        self.cut_short.then(|| "the capture is cut short: what comes after is not known".into()).into_iter().collect()
    }

    fn check(&self) -> Result<(), ProcError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_reads_as_it_was_and_the_rest_as_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let block = vec![7u8; 64 << 10];
        let me = LiveTarget::open(std::process::id()).unwrap();
        let page = me.page_bytes();
        let at = (block.as_ptr() as u64).next_multiple_of(page);
        let into = dir.path().join("new");
        let mut writer = CaptureWriter::create(&into, &me).unwrap();
        writer.keep(at + 8, &[1, 2, 3]).unwrap();
        writer.keep(at + page - 4, &[9; 8]).unwrap();
        writer.finish().unwrap();
        let capture = CaptureTarget::open(&into).unwrap();
        assert!(capture.gaps().is_empty());
        assert_eq!(capture.process().unwrap().pid, Some(std::process::id()));
        assert_eq!(capture.mappings().unwrap().len(), Process::at(&into).maps().unwrap().len());
        let range = at..at + 4 * page;
        assert_eq!(capture.residency(range.clone()).unwrap().unwrap().present, [range]);
        let (mut first, mut second) = (vec![5u8; page as usize], [5u8; 8]);
        let mut parts = [Part::new(at, &mut first), Part::new(at + page, &mut second)];
        capture.read(&mut parts).unwrap();
        assert!(parts.iter().all(|part| part.done));
        assert_eq!(first[..16], [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0]);
        assert_eq!(first[page as usize - 4..], [9; 4]);
        assert_eq!(second, [9, 9, 9, 9, 0, 0, 0, 0]);
        assert!(CaptureWriter::create(&into, &me).is_err(), "a capture is not written over");
        // Cut short.
        let bytes = std::fs::read(into.join(MEMORY)).unwrap();
        std::fs::write(into.join(MEMORY), &bytes[..bytes.len() / 2]).unwrap();
        let cut = CaptureTarget::open(&into);
        assert!(cut.is_err() || !cut.unwrap().gaps().is_empty());
    }
}
