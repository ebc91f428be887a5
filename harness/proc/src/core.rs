//! A core file as a [`Target`]: written by the kernel or by gcore, whole or cut short. It does not tell which pages were
//! in memory, and names files but not `brk` or stacks.
//!
//! Source: elf(5), core(5), Linux fs/binfmt_elf.c (`fill_files_note`, `elf_prstatus`, `elf_prpsinfo` of x86-64).

use std::ffi::OsStr;
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use object::elf::{self as abi, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian as LE, ReadCache};

use crate::ProcError;
use crate::target::{Mapping, Part, ProcessFacts, Residency, Source, Target, TargetKind, is_page};

/// Page size where the core does not say.
const PAGE: u64 = 4096;
/// `AT_PAGESZ` of the auxiliary vector.
const AT_PAGESZ: u64 = 6;
/// Places in `struct elf_prstatus` and `struct elf_prpsinfo` of 64-bit Linux: pid, and the program's name.
const PRSTATUS_PID: usize = 32;
const PRPSINFO_NAME: Range<usize> = 40..56;

/// A part of memory that the core holds.
#[derive(Debug)]
struct Load {
    start: u64,
    /// Where it ends, and where what was written of it ends.
    end: u64,
    written: u64,
    offset: u64,
    readable: bool,
    writable: bool,
    executable: bool,
}

/// A core file.
#[derive(Debug)]
pub struct CoreTarget {
    file: File,
    path: PathBuf,
    loads: Vec<Load>,
    /// Ranges that show files, with where in the file they begin.
    files: Vec<(Range<u64>, u64, PathBuf)>,
    facts: ProcessFacts,
    page: u64,
    missing: u64,
}

impl CoreTarget {
    /// Opens a core file.
    ///
    /// # Errors
    /// [`ProcError`] when it is none, of 64 bits and little endian.
    pub fn open(path: &Path) -> Result<Self, ProcError> {
        let file = File::open(path).map_err(|e| ProcError::io(path, e))?;
        let length = file.metadata().map_err(|e| ProcError::io(path, e))?.len();
        let cache = ReadCache::new(file.try_clone().map_err(|e| ProcError::io(path, e))?);
        let wrong = |why: String| ProcError::parse(path, why);
        let header = FileHeader64::<LE>::parse(&cache).map_err(|e| wrong(format!("no 64-bit ELF file: {e}")))?;
        let endian = header.endian().map_err(|e| wrong(e.to_string()))?;
        if header.e_type(endian) != abi::ET_CORE {
            return Err(wrong("an ELF file, but no core".into()));
        }
        let segments = header.program_headers(endian, &cache).map_err(|e| wrong(e.to_string()))?;
        let mut core = Self {
            file,
            path: path.to_owned(),
            loads: Vec::new(),
            files: Vec::new(),
            facts: ProcessFacts::default(),
            page: PAGE,
            missing: 0,
        };
        for segment in segments {
            let flags = segment.p_flags(endian).0;
            if segment.p_type(endian) == abi::PT_LOAD {
                let (start, offset) = (segment.p_vaddr(endian), segment.p_offset(endian));
                let size = segment.p_filesz(endian).min(segment.p_memsz(endian));
                // What the file is too short for was cut off.
                let there = length.saturating_sub(offset).min(size);
                core.missing += size - there;
                core.loads.push(Load {
                    start,
                    end: start.saturating_add(segment.p_memsz(endian)),
                    written: start.saturating_add(there),
                    offset,
                    readable: flags & abi::PF_R.0 != 0,
                    writable: flags & abi::PF_W.0 != 0,
                    executable: flags & abi::PF_X.0 != 0,
                });
            } else if let Ok(Some(mut notes)) = segment.notes(endian, &cache) {
                while let Ok(Some(note)) = notes.next() {
                    core.note(note.n_type(endian).0, note.desc());
                }
            }
        }
        core.loads.retain(|load| load.start < load.end);
        core.loads.sort_by_key(|load| load.start);
        core.files.sort_by_key(|(range, ..)| range.start);
        let vm = core.loads.iter().map(|load| load.end - load.start).sum();
        core.facts.vm_bytes = Some(vm);
        Ok(core)
    }

    fn note(&mut self, kind: u32, desc: &[u8]) {
        match kind {
            n if n == abi::NT_PRSTATUS.0 => {
                if self.facts.pid.is_none() {
                    let pid = desc.get(PRSTATUS_PID..PRSTATUS_PID + 4).and_then(|b| b.try_into().ok());
                    self.facts.pid = pid.map(u32::from_le_bytes);
                }
                self.facts.threads = Some(self.facts.threads.unwrap_or(0) + 1);
            }
            n if n == abi::NT_PRPSINFO.0 => {
                let name = desc.get(PRPSINFO_NAME).unwrap_or_default();
                let name = name.split(|b| *b == 0).next().unwrap_or_default();
                self.facts.name = OsStr::from_bytes(name).to_owned();
            }
            n if n == abi::NT_AUXV.0 => {
                let pairs = desc.as_chunks::<16>().0.iter().map(|pair| u128::from_le_bytes(*pair));
                let page = pairs.filter(|pair| *pair as u64 == AT_PAGESZ).map(|pair| (pair >> 64) as u64).next();
                self.page = page.filter(|page| is_page(*page)).unwrap_or(self.page);
            }
            n if n == abi::NT_FILE.0 => self.file_note(desc),
            _ => {}
        }
    }

    /// Count, page size, then start, end and offset in pages of each, then the names.
    fn file_note(&mut self, desc: &[u8]) {
        let (words, _) = desc.as_chunks::<8>();
        let word = |i: usize| words.get(i).map(|w| u64::from_le_bytes(*w));
        let (Some(count), Some(unit)) = (word(0), word(1)) else { return };
        let count = (count as usize).min(words.len() / 3);
        let mut names = desc.get(8 * (2 + 3 * count)..).unwrap_or_default().split(|b| *b == 0);
        for i in 0..count {
            let (Some(start), Some(end), Some(offset), Some(name)) =
                (word(2 + 3 * i), word(3 + 3 * i), word(4 + 3 * i), names.next())
            else {
                return;
            };
            let path = PathBuf::from(OsStr::from_bytes(name));
            self.files.push((start..end, offset.saturating_mul(unit), path));
        }
    }

    fn bytes(&self, address: u64, into: &mut [u8]) -> bool {
        let place = self.loads.partition_point(|load| load.end <= address);
        let Some(load) = self.loads.get(place).filter(|load| load.start <= address) else { return false };
        let fits = address.checked_add(into.len() as u64).is_some_and(|end| end <= load.written);
        fits && self.file.read_exact_at(into, load.offset + (address - load.start)).is_ok()
    }
}

impl Target for CoreTarget {
    fn kind(&self) -> TargetKind {
        TargetKind::Core
    }

    fn process(&self) -> Result<ProcessFacts, ProcError> {
        Ok(self.facts.clone())
    }

    fn mappings(&self) -> Result<Vec<Mapping>, ProcError> {
        let mapping = |load: &Load| {
            let place = self.files.partition_point(|(range, ..)| range.end <= load.start);
            let file = self.files.get(place).filter(|(range, ..)| range.contains(&load.start));
            Mapping {
                start: load.start,
                end: load.end,
                readable: load.readable,
                writable: load.writable,
                private: true,
                offset: file.map_or(0, |(range, offset, _)| offset + (load.start - range.start)),
                source: match file {
                    Some((.., path)) => Source::File(path.clone()),
                    // Code without a file is the kernel's.
                    None if load.executable && !load.writable => Source::Other,
                    None => Source::Anonymous,
                },
            }
        };
        Ok(self.loads.iter().map(mapping).collect())
    }

    fn page_bytes(&self) -> u64 {
        self.page
    }

    fn residency(&self, _: Range<u64>) -> Result<Option<Residency>, ProcError> {
        Ok(None)
    }

    fn read(&self, parts: &mut [Part<'_>]) -> Result<(), ProcError> {
        for part in parts {
            part.done = self.bytes(part.address, part.into);
        }
        Ok(())
    }

    fn file(&self, mapping: &Mapping) -> Option<Vec<u8>> {
        let Source::File(path) = &mapping.source else { return None };
        let bytes = std::fs::read(path).ok()?;
        // The core holds the first page of every program and library, with its build id; another file of the same name
        // differs in it.
        let first = self.files.iter().find(|(_, offset, name)| name == path && *offset == 0)?.0.start;
        let mut page = vec![0u8; self.page as usize];
        let same = !self.bytes(first, &mut page) || bytes.get(..page.len()) == Some(&page);
        same.then_some(bytes)
    }

    fn gaps(&self) -> Vec<String> {
        let mut gaps =
            vec!["a core does not tell which pages were in memory: what is resident is not known".to_owned()];
        if self.missing > 0 {
            gaps.push(format!("{} is cut short: {} bytes of memory are missing", self.path.display(), self.missing));
        }
        gaps
    }

    fn check(&self) -> Result<(), ProcError> {
        Ok(())
    }
}
