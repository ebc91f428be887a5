//! A glibc heap in figures and as a map, as an inspection from outside gives them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bytes of a heap by what they are. `system_bytes` = live + free + tcache + top + own + foreign + unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapBytes {
    /// What malloc took from the kernel and holds: arenas and chunks mapped one by one.
    pub system_bytes: u64,
    /// Of it in memory.
    pub resident_bytes: u64,
    /// Of it in swap.
    pub swapped_bytes: u64,
    /// In use by the program: whole chunks, headers and rounding included.
    pub live_bytes: u64,
    /// Of them in chunks mapped one by one.
    pub mmapped_bytes: u64,
    /// Free for every thread of the arena, top left out.
    pub free_bytes: u64,
    /// Of them in memory.
    pub free_resident_bytes: u64,
    /// Of `free_bytes` in fast bins.
    pub fast_bytes: u64,
    /// Free in a thread's cache.
    pub tcache_bytes: u64,
    /// In the arenas' last chunks.
    pub top_bytes: u64,
    /// Of them in memory.
    pub top_resident_bytes: u64,
    /// malloc's own: arenas, heap headers, fenceposts, tcache structures.
    pub own_bytes: u64,
    /// Taken from `brk` by somebody else between malloc's stretches; malloc counts them as its own.
    pub foreign_bytes: u64,
    /// Not understood: torn, damaged, swapped, or counted by malloc and not found.
    pub unknown_bytes: u64,
}

impl HeapBytes {
    /// Share of the heap that was understood; 1 for no heap.
    pub fn coverage_ratio(&self) -> f64 {
        if self.system_bytes == 0 { 1.0 } else { 1.0 - self.unknown_bytes as f64 / self.system_bytes as f64 }
    }
}

/// What `malloc_trim(0)` would give back. Released and kept bytes add up to what is resident.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapTrim {
    /// Resident bytes it would release.
    pub predicted_release_bytes: u64,
    /// Of them whole pages inside free chunks.
    pub interior_bytes: u64,
    /// Of them the end of the main arena.
    pub main_top_bytes: u64,
    /// Swapped bytes it would release, where the target tells of each page.
    pub swapped_release_bytes: u64,
    /// Resident bytes that stay, by reason.
    pub kept: BTreeMap<Kept, u64>,
    /// Whether residency was known; otherwise everything is taken as resident and the prediction is an upper bound.
    pub residency_known: bool,
}

/// Why resident memory of a heap stays when it is trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Live, in an arena.
    Live,
    /// Live, mapped one by one.
    Mmapped,
    /// In a thread's cache, which trimming does not empty.
    Tcache,
    /// Free, but on a page that is shared with something in use.
    Fragment,
    /// The least end of the main arena.
    MainTop,
    /// The top of another arena, which trimming never shrinks.
    ThreadTop,
    /// malloc's own.
    Own,
    /// Taken from `brk` by somebody else.
    Foreign,
    /// Not understood.
    Unknown,
}

impl Kept {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Kept::Live => "live",
            Kept::Mmapped => "live, mapped one by one",
            Kept::Tcache => "in threads' caches, which it does not empty",
            Kept::Fragment => "free, but on pages shared with something in use",
            Kept::MainTop => "least end of the main arena",
            Kept::ThreadTop => "tops of threads' arenas, which it never shrinks",
            Kept::Own => "malloc's own",
            Kept::Foreign => "taken from brk by somebody else",
            Kept::Unknown => "not understood",
        }
    }
}

/// What kind of chunk holds memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinKind {
    /// In use by the program.
    Live,
    /// Freed, in a thread's cache.
    Tcache,
    /// malloc's own.
    Own,
    /// Not understood.
    Unknown,
    /// Several of these.
    Mixed,
}

impl PinKind {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            PinKind::Live => "live",
            PinKind::Tcache => "tcache",
            PinKind::Own => "own",
            PinKind::Unknown => "unknown",
            PinKind::Mixed => "mixed",
        }
    }
}

/// What holds a heap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapPin {
    /// Address of the lowest chunk of the pin.
    pub address: u64,
    /// Offset of it from the start of its segment.
    pub offset: u64,
    /// Chunks that would have to go.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What kind of chunks.
    pub kind: PinKind,
    /// Free bytes below it that would join the top.
    pub holds_bytes: u64,
}

/// Bytes of a cell of a heap map by what they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapCell {
    /// Live.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub live: u64,
    /// In a tcache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tcache: u64,
    /// Free and in memory.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub free_resident: u64,
    /// Free and not in memory.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub free_absent: u64,
    /// Top and in memory.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub top_resident: u64,
    /// Top and not in memory.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub top_absent: u64,
    /// malloc's own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub own: u64,
    /// Foreign or not understood.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown: u64,
}

/// Most of a cell is one thing: the rest need not be written down.
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

impl HeapCell {
    /// All bytes of it.
    pub fn bytes(&self) -> u64 {
        self.live
            + self.tcache
            + self.free_resident
            + self.free_absent
            + self.top_resident
            + self.top_absent
            + self.own
            + self.unknown
    }
}

/// A segment of a heap map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapRow {
    /// Number of the arena; 0 is the main one.
    pub arena: usize,
    /// First address.
    pub start: u64,
    /// Bytes.
    pub bytes: u64,
    /// Bytes in memory.
    pub resident_bytes: u64,
    /// Cells, each of [`HeapMap::cell_bytes`], the last one of what is left.
    pub cells: Vec<HeapCell>,
    /// What holds its free memory: the chunk next to the top, and the smallest set that holds most.
    pub pins: Vec<HeapPin>,
}

/// A heap drawn to scale, by segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapMap {
    /// Bytes of a cell.
    pub cell_bytes: u64,
    /// Segments of the arenas; chunks mapped one by one are left out.
    pub rows: Vec<HeapRow>,
}

/// A heap while it stood still at a stage of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeapStage {
    /// The phase at whose end it is, or `purged`.
    pub name: String,
    /// What its bytes are.
    pub bytes: HeapBytes,
    /// What `malloc_trim(0)` would give back.
    pub trim: HeapTrim,
    /// Its map; of one run all are to one scale.
    pub map: HeapMap,
}
