//! Where the fields of glibc's malloc structures lie, by family of releases, for 64-bit targets (x86-64 and aarch64
//! have the same data model and the same 16-byte alignment of chunks). A family is chosen by what is found in the
//! target, never by a version string, since distributions patch.
//!
//! Source: glibc 2.15 to 2.43, malloc/malloc.c (`struct malloc_state`, `struct malloc_par`, `struct
//! tcache_perthread_struct`, `struct malloc_chunk`) and malloc/arena.c (`heap_info`).

use std::fmt;

/// `struct malloc_state`: an arena.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ArenaLayout {
    /// Releases that have it.
    pub(crate) releases: &'static str,
    /// `fastbinsY`; gone since 2.43.
    pub(crate) fastbins: Option<u64>,
    /// `top`.
    pub(crate) top: u64,
    /// `bins`.
    pub(crate) bins: u64,
    /// `next`.
    pub(crate) next: u64,
    /// `attached_threads`; since 2.23.
    pub(crate) attached: Option<u64>,
    /// `system_mem`.
    pub(crate) system: u64,
    /// Size of the structure.
    pub(crate) size: u64,
}

/// The families, newest first.
pub(crate) const ARENAS: [ArenaLayout; 4] = [
    ArenaLayout {
        releases: "2.43 to 2.44",
        fastbins: None,
        top: 0x8,
        bins: 0x18,
        next: 0x818,
        attached: Some(0x828),
        system: 0x830,
        size: 0x840,
    },
    ArenaLayout {
        releases: "2.27 to 2.42",
        fastbins: Some(0x10),
        top: 0x60,
        bins: 0x70,
        next: 0x870,
        attached: Some(0x880),
        system: 0x888,
        size: 0x898,
    },
    ArenaLayout {
        releases: "2.23 to 2.26",
        fastbins: Some(0x8),
        top: 0x58,
        bins: 0x68,
        next: 0x868,
        attached: Some(0x878),
        system: 0x880,
        size: 0x890,
    },
    ArenaLayout {
        releases: "2.15 to 2.22",
        fastbins: Some(0x8),
        top: 0x58,
        bins: 0x68,
        next: 0x868,
        attached: None,
        system: 0x878,
        size: 0x888,
    },
];

/// `NBINS`; bin 0 does not exist, bin 1 is the unsorted one.
pub(crate) const BINS: u64 = 128;
/// `NFASTBINS` on 64-bit.
pub(crate) const FASTBINS: u64 = 10;
/// `flags`: bit of an arena whose memory is not contiguous (`NONCONTIGUOUS_BIT`).
pub(crate) const NONCONTIGUOUS: u32 = 2;

impl ArenaLayout {
    /// Address of the sentinel of bin `i` in an arena: a chunk whose `fd` and `bk` are the bin's list (`bin_at`).
    pub(crate) fn bin(&self, arena: u64, i: u64) -> u64 {
        arena.wrapping_add(self.bins + 16 * (i - 1)).wrapping_sub(CHUNK_FD)
    }
}

impl fmt::Display for ArenaLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.releases)
    }
}

/// `struct malloc_par`: the settings and totals that are not an arena's. `trim_threshold`, `top_pad` and
/// `mmap_threshold` come first in all of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ParLayout {
    /// Releases that have it.
    pub(crate) releases: &'static str,
    /// `thp_pagesize`.
    pub(crate) thp_page: Option<u64>,
    /// `hp_pagesize`.
    pub(crate) hp_page: Option<u64>,
    /// `n_mmaps`, an int; `n_mmaps_max` follows.
    pub(crate) n_mmaps: u64,
    /// `no_dyn_threshold`, an int.
    pub(crate) no_dyn_threshold: u64,
    /// `mmapped_mem`.
    pub(crate) mmapped: u64,
    /// `sbrk_base`.
    pub(crate) sbrk_base: u64,
    /// `tcache_bins`, `tcache_max_bytes`, `tcache_count`, a word each.
    pub(crate) tcache: Option<u64>,
}

/// The families, newest first. Those that share `n_mmaps` are told apart by [`crate::find`].
pub(crate) const PARS: [ParLayout; 5] = [
    ParLayout {
        releases: "2.43 to 2.44",
        thp_page: Some(0x30),
        hp_page: Some(0x38),
        n_mmaps: 0x44,
        no_dyn_threshold: 0x50,
        mmapped: 0x58,
        sbrk_base: 0x68,
        tcache: Some(0x70),
    },
    ParLayout {
        releases: "2.35 to 2.42",
        thp_page: Some(0x28),
        hp_page: Some(0x30),
        n_mmaps: 0x3c,
        no_dyn_threshold: 0x48,
        mmapped: 0x50,
        sbrk_base: 0x60,
        tcache: Some(0x68),
    },
    ParLayout {
        releases: "2.26 to 2.34",
        thp_page: None,
        hp_page: None,
        n_mmaps: 0x28,
        no_dyn_threshold: 0x34,
        mmapped: 0x38,
        sbrk_base: 0x48,
        tcache: Some(0x50),
    },
    ParLayout {
        releases: "2.24 to 2.25",
        thp_page: None,
        hp_page: None,
        n_mmaps: 0x28,
        no_dyn_threshold: 0x34,
        mmapped: 0x38,
        sbrk_base: 0x48,
        tcache: None,
    },
    ParLayout {
        releases: "2.15 to 2.23",
        thp_page: None,
        hp_page: None,
        n_mmaps: 0x28,
        no_dyn_threshold: 0x34,
        mmapped: 0x38,
        sbrk_base: 0x50,
        tcache: None,
    },
];

/// `DEFAULT_TRIM_THRESHOLD`, `DEFAULT_TOP_PAD` and `DEFAULT_MMAP_THRESHOLD`.
pub(crate) const THRESHOLD: u64 = 128 << 10;
/// `DEFAULT_MMAP_MAX`.
pub(crate) const MMAPS_MAX: u32 = 65536;
/// `arena_test` on 64-bit (`NARENAS_FROM_NCORES (1)`).
pub(crate) const ARENA_TEST: u64 = 8;
/// `arena_test` in `struct malloc_par`.
pub(crate) const PAR_ARENA_TEST: u64 = 0x18;

/// `struct tcache_perthread_struct`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TcacheLayout {
    /// Releases that have it.
    pub(crate) releases: &'static str,
    /// Size of the chunk it lives in.
    pub(crate) chunk: u64,
    /// Bytes of a count.
    pub(crate) width: u64,
    /// Lists.
    pub(crate) bins: u64,
    /// `entries`; the counts come first.
    pub(crate) entries: u64,
    /// Whether a count says how many more fit (`num_slots`) instead of how many there are.
    pub(crate) slots_left: bool,
}

/// The families, newest first.
pub(crate) const TCACHES: [TcacheLayout; 3] = [
    TcacheLayout { releases: "2.42 to 2.44", chunk: 0x300, width: 2, bins: 76, entries: 0x98, slots_left: true },
    TcacheLayout { releases: "2.30 to 2.41", chunk: 0x290, width: 2, bins: 64, entries: 0x80, slots_left: false },
    TcacheLayout { releases: "2.26 to 2.29", chunk: 0x250, width: 1, bins: 64, entries: 0x40, slots_left: false },
];

impl TcacheLayout {
    /// Whether a chunk of that size can hold the structure: of its own size, or one step larger when what would have been
    /// left over was too small for a chunk.
    pub(crate) fn fits(&self, size: u64) -> bool {
        size == self.chunk || size == self.chunk + ALIGN
    }
}

/// Lists of a tcache that hold one size each (`TCACHE_SMALL_BINS`).
pub(crate) const TCACHE_SMALL_BINS: u64 = 64;

/// `heap_info`: `ar_ptr`.
pub(crate) const HEAP_ARENA: u64 = 0;
/// `heap_info`: `prev`.
pub(crate) const HEAP_PREV: u64 = 8;
/// `heap_info`: `size`.
pub(crate) const HEAP_SIZE: u64 = 0x10;
/// Size of `heap_info`: since 2.35, and before.
pub(crate) const HEAP_HEADERS: [u64; 2] = [0x30, 0x20];
pub(crate) use fragbench_glibc::HEAP_MAX;

/// `struct malloc_chunk`: `fd`, where the caller's memory begins.
pub(crate) const CHUNK_FD: u64 = 16;
/// Size of `struct malloc_chunk`.
pub(crate) const CHUNK_STRUCT: u64 = 48;
/// `MINSIZE`: the least chunk.
pub(crate) const MIN_CHUNK: u64 = 32;
/// `CHUNK_HDR_SZ`: the size a fencepost shows.
pub(crate) const FENCEPOST: u64 = 16;
/// `MALLOC_ALIGNMENT`.
pub(crate) const ALIGN: u64 = 16;
/// `PREV_INUSE`.
pub(crate) const PREV_IN_USE: u64 = 1;
/// `IS_MMAPPED`.
pub(crate) const IS_MMAPPED: u64 = 2;
/// `NON_MAIN_ARENA`.
pub(crate) const NON_MAIN: u64 = 4;
/// All flag bits of a size.
pub(crate) const FLAGS: u64 = 7;
/// Largest chunk a fast bin can hold: `MAX_FAST_SIZE` of 160 bytes and its header.
pub(crate) const FAST_MAX: u64 = 0xb0;
/// Least size of a chunk in a large bin (`MIN_LARGE_SIZE`).
pub(crate) const LARGE_MIN: u64 = 1024;
