//! What an inspection says of a process: figures, and a verdict with its evidence. Plain data: `inspect` fills it,
//! `report` draws it, and it is what `inspect --format json` prints.
//!
//! Bytes throughout. A figure that could not be had is missing, never zero.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{HeapBytes, HeapTrim, PinKind};

/// A process as it was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// [`crate::SCHEMA`] of the writer.
    pub schema: u32,
    /// What was looked at: `live`, `core` or `capture`.
    pub source: String,
    /// Its number; `None` when a core does not tell.
    pub pid: Option<u32>,
    /// Its name as the kernel has it.
    pub program: String,
    /// Seconds since the epoch when it was looked at.
    pub taken_unix_s: Option<u64>,
    /// Version of the glibc whose heap this is, or the releases whose layout it has.
    pub glibc: Option<String>,
    /// Threads.
    pub threads: Option<u64>,
    /// Arenas.
    pub arena_count: Option<u64>,
    /// Address space.
    pub vm_bytes: u64,
    /// In memory, as the kernel counts it.
    pub rss_bytes: Option<u64>,
    /// The heap; `None` when none was found or it may not be read.
    pub heap: Option<HeapBytes>,
    /// What `malloc_trim(0)` would give back.
    pub trim: Option<HeapTrim>,
    /// Share of the heap that was understood.
    pub coverage_ratio: Option<f64>,
    /// From address space down to live bytes.
    pub waterfall: Vec<WaterfallStep>,
    /// Mappings by kind.
    pub mappings: Vec<MappingClass>,
    /// Arenas, the main one first.
    pub arenas: Vec<ArenaFigures>,
    /// Chunks by size.
    pub sizes: Vec<SizeClass>,
    /// What holds free memory, the largest first.
    pub retained: Vec<Retained>,
    /// Mallocs in the process, glibc's among them.
    pub mallocs: Vec<MallocFact>,
    /// malloc's settings that decide what it keeps.
    pub settings: HeapSettings,
    /// Where malloc was found and how: file, method, layouts.
    pub found: Option<String>,
    /// What to beware of: statistics of malloc's own that overflow, several heaps.
    pub warnings: Vec<String>,
    /// What could not be read, why, and how to get the right to it.
    pub lacks: Vec<String>,
    /// How the survey went.
    pub survey: Option<SurveyCost>,
    /// How far several surveys in a row lay apart, by figure; empty after one.
    pub spread: BTreeMap<String, Spread>,
    /// Exact sizes by `smaps_rollup`, when asked for: `pss_bytes` and the rest by its name there.
    pub smaps: BTreeMap<String, u64>,
    /// Resident bytes that the kernel takes back when it needs memory, and that nobody has used since (`MADV_FREE`; jemalloc's muzzy
    /// pages): `LazyFree` of `smaps_rollup`. `None` where it was not read: glibc's malloc makes none.
    #[serde(default)]
    pub lazy_free_bytes: Option<u64>,
    /// What its control groups and processors allow it; `None` of a core or a capture.
    #[serde(default)]
    pub limits: Option<ProcessLimits>,
    /// Milliseconds the target was stopped for it; `None` when it was not.
    pub stopped_ms: Option<f64>,
    /// What it comes to.
    pub verdict: HeapVerdict,
}

/// A step on the way from address space to live bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaterfallStep {
    /// How deep it lies: steps of depth n + 1 add up to the step of depth n before them.
    pub depth: u8,
    /// What it is.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
}

/// What a mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MappingKind {
    /// The main arena: `brk`, and what was mapped in its stead.
    MainArena,
    /// Heaps of other arenas, as far as malloc has opened them.
    ArenaHeap,
    /// The rest of what such a heap has reserved.
    ArenaReserve,
    /// Chunks mapped one by one.
    MmappedChunk,
    /// Stacks of threads.
    ThreadStack,
    /// The stack of the main thread.
    MainStack,
    /// Small mappings without access before others: guards of stacks.
    Guard,
    /// Static data of programs and libraries (bss).
    StaticData,
    /// Files.
    File,
    /// Shared memory.
    SharedMemory,
    /// Private memory that is none of the above: other allocators, mappings of the program's own.
    OtherAnonymous,
    /// Address space without access.
    Reserved,
    /// The kernel's: vdso, vvar, vsyscall.
    Kernel,
}

impl MappingKind {
    /// All kinds, in the order they are shown.
    pub const ALL: [MappingKind; 13] = [
        MappingKind::MainArena,
        MappingKind::ArenaHeap,
        MappingKind::ArenaReserve,
        MappingKind::MmappedChunk,
        MappingKind::ThreadStack,
        MappingKind::MainStack,
        MappingKind::Guard,
        MappingKind::StaticData,
        MappingKind::File,
        MappingKind::SharedMemory,
        MappingKind::OtherAnonymous,
        MappingKind::Reserved,
        MappingKind::Kernel,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            MappingKind::MainArena => "main arena",
            MappingKind::ArenaHeap => "arena heaps",
            MappingKind::ArenaReserve => "arena heaps, reserved",
            MappingKind::MmappedChunk => "mapped chunks",
            MappingKind::ThreadStack => "thread stacks, TLS",
            MappingKind::MainStack => "main stack",
            MappingKind::Guard => "guards",
            MappingKind::StaticData => "static data",
            MappingKind::File => "files",
            MappingKind::SharedMemory => "shared memory",
            MappingKind::OtherAnonymous => "other anonymous",
            MappingKind::Reserved => "reserved, no access",
            MappingKind::Kernel => "kernel",
        }
    }

    /// Whether it is glibc's malloc's.
    pub fn is_heap(self) -> bool {
        use MappingKind::{ArenaHeap, ArenaReserve, MainArena, MmappedChunk};
        matches!(self, MainArena | ArenaHeap | ArenaReserve | MmappedChunk)
    }
}

/// Mappings of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingClass {
    /// Kind.
    pub kind: MappingKind,
    /// How many.
    pub count: u64,
    /// Address space.
    pub vm_bytes: u64,
    /// In memory; `None` when the target does not tell.
    pub resident_bytes: Option<u64>,
    /// Of it the process's own pages, rather than a file's or shared memory's.
    pub anonymous_bytes: Option<u64>,
    /// In swap.
    pub swapped_bytes: Option<u64>,
}

/// An arena.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArenaFigures {
    /// Its number; 0 is the main one.
    pub index: usize,
    /// Its address.
    pub address: u64,
    /// Threads attached; `None` before 2.23.
    pub threads: Option<u64>,
    /// What it took from the kernel.
    pub system_bytes: u64,
    /// Of it in memory.
    pub resident_bytes: u64,
    /// In use.
    pub live_bytes: u64,
    /// Free, top left out.
    pub free_bytes: u64,
    /// Top.
    pub top_bytes: u64,
    /// In tcaches of any thread.
    pub tcache_bytes: u64,
    /// Free or top, and in memory.
    pub resident_free_bytes: u64,
    /// What `malloc_trim(0)` would give back of it.
    pub releasable_bytes: u64,
}

/// Chunks of a range of sizes, headers included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeClass {
    /// Least size.
    pub from_bytes: u64,
    /// Greatest size.
    pub to_bytes: u64,
    /// In use.
    pub live_count: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// Free for all, top left out.
    pub free_count: u64,
    /// Their bytes.
    pub free_bytes: u64,
    /// In tcaches.
    pub tcache_count: u64,
    /// Their bytes.
    pub tcache_bytes: u64,
}

/// Free memory in a stretch of heap that cannot go because of what lies above it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// Number of the arena.
    pub arena: usize,
    /// First address of the stretch.
    pub start: u64,
    /// Free bytes in memory below the stretch's top.
    pub free_resident_bytes: u64,
    /// Of them what the pins below hold.
    pub held_bytes: u64,
    /// Of `free_resident_bytes` what `malloc_trim(0)` would give back.
    pub releasable_bytes: u64,
    /// What kind of stretch.
    pub kind: StretchKind,
    /// Number of the chunks that hold it: the fewest whose going would let `held_bytes` go.
    pub pin_chunks: u64,
    /// Free chunks in memory of the default mmap threshold (128 KiB) or more: blocks of that size would have been mapped
    /// one by one, had the threshold stayed there. Neighbours that merged may be of any size above it.
    pub mappable_chunks: u64,
    /// Their bytes in memory.
    pub mappable_bytes: u64,
    /// The chunks that hold it by size and kind; the most frequent first, rare ones left out.
    pub pins: Vec<PinGroup>,
}

/// What the pins of a stretch keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StretchKind {
    /// Free memory from the arena's top.
    Top,
    /// A full heap mapped.
    Heap,
}

/// Chunks of one size and kind that hold memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinGroup {
    /// What kind of chunks.
    pub kind: PinKind,
    /// Size of each, header included.
    pub chunk_bytes: u64,
    /// How many.
    pub chunks: u64,
    /// Address of the one nearest to the top.
    pub example: u64,
    /// Type of the object in it and its count, where the first word is a vtable's address.
    pub types: BTreeMap<String, u64>,
    /// First bytes of the example, in hexadecimal; only when contents were asked for.
    pub contents: Option<String>,
}

/// A malloc in the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MallocFact {
    /// `glibc`, `jemalloc`, `mimalloc`, `tcmalloc`, `musl` and so on.
    pub name: String,
    /// File it is in.
    pub object: String,
    /// Whether calls of `malloc` go to it: the dynamic linker finds it first. Where its list of files could not be read,
    /// whether it exports `malloc` and is not libc.
    pub takes_malloc: bool,
    /// Whether calls of C++'s `operator new` go to it without passing through `malloc`.
    #[serde(default)]
    pub takes_new: bool,
    /// Resident bytes it holds, at most: of glibc's what its heap has, of another's all anonymous memory that is nobody
    /// else's, the program's own mappings among it.
    #[serde(default)]
    pub holds_at_most_bytes: Option<u64>,
}

impl MallocFact {
    /// Whether this is glibc's malloc.
    pub fn is_glibc(&self) -> bool {
        self.name == "glibc"
    }
}

/// Settings of glibc's malloc as they stand now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapSettings {
    /// Blocks from this size are mapped one by one.
    pub mmap_threshold_bytes: Option<u64>,
    /// A top is kept up to this size.
    pub trim_threshold_bytes: Option<u64>,
    /// Chunks a thread caches of one size.
    pub tcache_count: Option<u64>,
    /// Whether the thresholds still follow what is freed; not so once one has been set.
    pub thresholds_move: Option<bool>,
    /// Chunks mapped one by one.
    pub mmapped_count: Option<u64>,
}

/// What a process may use; `None` where there is no limit, or none that can be seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessLimits {
    /// Processors' worth of time (`cpu.max`), 1.5 for one and a half.
    pub cpu_quota: Option<f64>,
    /// Processors that it may run on: those that glibc counts.
    pub processors: Option<u32>,
    /// Arenas that its glibc makes at most where nothing sets a limit.
    pub default_arena_limit: Option<u32>,
    /// Bytes at which the kernel ends a process of its group.
    pub memory_max_bytes: Option<u64>,
    /// Bytes above which its group is slowed down.
    pub memory_high_bytes: Option<u64>,
    /// What is free below the nearest `memory.max`, bytes.
    pub memory_headroom_bytes: Option<u64>,
}

/// How a survey went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SurveyCost {
    /// Time it took.
    pub ms: f64,
    /// Chunks seen.
    pub chunks: u64,
    /// Places where the chain of chunks broke.
    pub breaks: u64,
}

/// A figure of several surveys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Least.
    pub least: u64,
    /// Median.
    pub median: u64,
    /// Greatest.
    pub most: u64,
}

/// What is the matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeapVerdictKind {
    /// malloc holds little that the program does not.
    Healthy,
    /// Live bytes rise from one survey to the next: a leak, or a program that grows.
    LeakOrGrowth,
    /// Free memory between live chunks.
    Fragmentation,
    /// Free memory below a few live chunks.
    PinnedRetention,
    /// The main arena's top.
    MainTopRetention,
    /// Tops of other arenas, which `malloc_trim` does not shrink.
    ThreadTopRetention,
    /// Chunks in threads' caches, and what they keep from the top.
    TcacheRetention,
    /// Chunks in fast bins.
    FastbinRetention,
    /// Large blocks that went to the heap because the mmap threshold has risen.
    MmapRatchet,
    /// Small blocks, each on pages of its own: the mmap threshold has been set too low.
    SmallMappings,
    /// Address space, not memory.
    AddressSpace,
    /// The memory is not in glibc's heap.
    NotTheHeap,
    /// Too little was seen.
    NotEnoughData,
}

/// What can be done about memory that malloc holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeapRemedyKind {
    /// `malloc_trim(0)`, in the process as it runs.
    Trim,
    /// A fixed mmap threshold; it fixes the trim threshold too.
    MmapThreshold,
    /// A fixed trim threshold; it fixes the mmap threshold too.
    TrimThreshold,
    /// Fewer arenas.
    ArenaLimit,
    /// No caches of threads.
    TcacheCount,
    /// No fast bins.
    FastBins,
    /// Another allocator.
    Allocator,
}

/// One of them, for the process that was inspected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapRemedy {
    /// What.
    pub kind: HeapRemedyKind,
    /// Variables to start the program with; none where nothing need be started again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Resident bytes it takes away: of a trim what is predicted, of the others at most this much. `None` where an
    /// inspection cannot say.
    pub saves_bytes: Option<u64>,
}

/// Two looks at one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapGrowth {
    /// Seconds between them; `None` when one does not say when it was taken.
    pub seconds: Option<u64>,
    /// Live bytes, first and second.
    pub live_bytes: [u64; 2],
    /// Resident bytes of the process, first and second; `None` when one does not tell.
    pub rss_bytes: Option<[u64; 2]>,
    /// Whether live bytes have risen by more than noise.
    pub grows: bool,
}

/// The verdict: the weightiest finding, the others below it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeapVerdict {
    /// What is the matter.
    pub kind: HeapVerdictKind,
    /// In a sentence.
    pub summary: String,
    /// Bytes it is about; 0 when it is about none.
    pub bytes: u64,
    /// Figures it rests on.
    pub evidence: Vec<String>,
    /// What to do next: commands, lines to paste.
    pub next: Vec<String>,
    /// What can be done, the first thing first; `next` has it in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<HeapRemedy>,
    /// What an earlier look shows, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<HeapGrowth>,
    /// The bad case it looks like (`fragbench badcase NAME`).
    pub resembles: Option<String>,
    /// What else was found, the weightiest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<HeapVerdict>,
}
