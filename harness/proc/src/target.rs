//! What an inspection reads from: mappings, residency of pages, contents. A live process is one; a core or a captured
//! directory can be another. It can neither write to its target nor stop it.

use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;

use crate::ProcError;

/// One mapping of an address space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address past the last.
    pub end: u64,
    /// May be read.
    pub readable: bool,
    /// May be written.
    pub writable: bool,
    /// Private (copy on write) rather than shared.
    pub private: bool,
    /// Where it begins in its file.
    pub offset: u64,
    /// What it maps.
    pub source: Source,
}

/// What a mapping shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Memory without a file, and without a name of the kernel's.
    Anonymous,
    /// The memory of `brk`.
    Heap,
    /// The main thread's stack.
    Stack,
    /// A file.
    File(PathBuf),
    /// Anything else the kernel names: `[vdso]`, named anonymous memory, shared memory.
    Other,
}

impl Mapping {
    /// Whether the address lies in it.
    pub fn holds(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// Whether that is a size of pages that Linux has on some machine: 4 to 256 KiB.
pub(crate) fn is_page(bytes: u64) -> bool {
    bytes.is_power_of_two() && (4 << 10..=256 << 10).contains(&bytes)
}

/// Which pages of a range are where; each list ascending, its ranges whole pages that do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Residency {
    /// In memory.
    pub present: Vec<Range<u64>>,
    /// In swap.
    pub swapped: Vec<Range<u64>>,
    /// Bytes of `present` that are a file's or shared memory's; the rest is the process's own.
    pub file_bytes: u64,
}

/// What the kernel says of a process as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Its number.
    pub pid: Option<u32>,
    /// `Name`, at most 15 bytes, which need not be UTF-8.
    pub name: OsString,
    /// Threads.
    pub threads: Option<u64>,
    /// Address space, bytes.
    pub vm_bytes: Option<u64>,
    /// In memory, bytes.
    pub rss_bytes: Option<u64>,
    /// In swap, bytes.
    pub swap_bytes: Option<u64>,
}

/// What stands behind a [`Target`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// A process that runs.
    Live,
    /// A core file.
    Core,
    /// A captured directory.
    Capture,
}

/// A stretch to be read.
#[derive(Debug)]
pub struct Part<'a> {
    /// Where from.
    pub address: u64,
    /// Where to, and how much.
    pub into: &'a mut [u8],
    /// Set by the reading: whether all of it was read.
    pub done: bool,
}

impl<'a> Part<'a> {
    /// A stretch not yet read.
    pub fn new(address: u64, into: &'a mut [u8]) -> Self {
        Self { address, into, done: false }
    }
}

/// A process whose memory can be looked at.
pub trait Target {
    /// What it is.
    fn kind(&self) -> TargetKind;

    /// What is known of the process as a whole.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when it has ended.
    fn process(&self) -> Result<ProcessFacts, ProcError>;

    /// All mappings, ascending.
    ///
    /// # Errors
    /// [`ProcError::Gone`] or [`ProcError::Denied`].
    fn mappings(&self) -> Result<Vec<Mapping>, ProcError>;

    /// Bytes of a page, a power of two.
    fn page_bytes(&self) -> u64;

    /// Where the pages that `range` touches are; `None` when the target does not know (a core).
    ///
    /// # Errors
    /// As [`Target::mappings`].
    fn residency(&self, range: Range<u64>) -> Result<Option<Residency>, ProcError>;

    /// Reads stretches of memory. One that is not mapped (any more) stays not [`Part::done`]: an answer, no error.
    /// Reading a page that is not present brings it in, so callers ask [`Target::residency`] first.
    ///
    /// # Errors
    /// As [`Target::mappings`].
    fn read(&self, parts: &mut [Part<'_>]) -> Result<(), ProcError>;

    /// The file that a mapping shows, whole; `None` when it cannot be had.
    fn file(&self, mapping: &Mapping) -> Option<Vec<u8>>;

    /// What it cannot tell, in sentences.
    fn gaps(&self) -> Vec<String> {
        Vec::new()
    }

    /// That the target is still the process it was when it was opened.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when it is not.
    fn check(&self) -> Result<(), ProcError>;
}
