//! Heaps built byte by byte as one family of glibc releases would lay them out, and a target over them. The offsets are
//! written out again here, from glibc's headers, so that a slip in the crate's own table is seen.

use std::collections::BTreeMap;
use std::ops::Range;

use fragbench_proc::{Mapping, Part, ProcError, ProcessFacts, Residency, Source, Target, TargetKind};

/// What differs between the families: offsets in `struct malloc_state`, `struct malloc_par` and
/// `struct tcache_perthread_struct`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) fastbins: Option<u64>,
    pub(crate) top: u64,
    pub(crate) bins: u64,
    pub(crate) next: u64,
    pub(crate) attached: Option<u64>,
    pub(crate) system: u64,
    pub(crate) state: u64,
    pub(crate) mmaps: u64,
    pub(crate) mmapped: u64,
    pub(crate) sbrk_base: u64,
    /// `tcache_bins`, size of the structure's chunk, bytes of a count, `entries`, lists.
    pub(crate) tcache: Option<(u64, u64, u64, u64, u64)>,
    pub(crate) safe: bool,
    pub(crate) heap_header: u64,
}

const OLD: Family = Family {
    name: "2.17",
    fastbins: Some(8),
    top: 88,
    bins: 104,
    next: 2152,
    attached: None,
    system: 2168,
    state: 2184,
    mmaps: 40,
    mmapped: 56,
    sbrk_base: 80,
    tcache: None,
    safe: false,
    heap_header: 32,
};

pub(crate) const FAMILIES: [Family; 7] = [
    OLD,
    Family { name: "2.23", attached: Some(2168), system: 2176, state: 2192, ..OLD },
    Family { name: "2.25", attached: Some(2168), system: 2176, state: 2192, sbrk_base: 72, ..OLD },
    NEW_28,
    Family { name: "2.31", tcache: Some((80, 0x290, 2, 128, 64)), ..NEW_28 },
    NEW_36,
    Family {
        name: "2.43",
        fastbins: None,
        top: 8,
        bins: 24,
        next: 2072,
        attached: Some(2088),
        system: 2096,
        state: 2112,
        mmaps: 68,
        mmapped: 88,
        sbrk_base: 104,
        tcache: Some((112, 0x300, 2, 152, 76)),
        ..NEW_36
    },
];

const NEW_28: Family = Family {
    name: "2.28",
    fastbins: Some(16),
    top: 96,
    bins: 112,
    next: 2160,
    attached: Some(2176),
    system: 2184,
    state: 2200,
    sbrk_base: 72,
    tcache: Some((80, 0x250, 1, 64, 64)),
    ..OLD
};

const NEW_36: Family = Family {
    name: "2.36",
    mmaps: 60,
    mmapped: 80,
    sbrk_base: 96,
    tcache: Some((104, 0x290, 2, 128, 64)),
    safe: true,
    heap_header: 48,
    ..NEW_28
};

pub(crate) const PAGE: u64 = 4096;
const BRK: u64 = 0x5555_5577_0000;
const DATA: u64 = 0x7f00_0010_0000;
const MAIN: u64 = DATA + 0xc60;
const PAR: u64 = DATA + 0x340;
const HEAP: u64 = 0x7eff_fc00_0000;
const MMAPPED: u64 = 0x7eff_f000_0000;

/// Memory in pieces.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pieces: BTreeMap<u64, (Vec<u8>, Source)>,
    /// Bytes of a page.
    page: u64,
    /// Pages that are not present.
    pub(crate) absent: Vec<u64>,
    /// Pages that are in swap.
    pub(crate) swapped: Vec<u64>,
}

impl Memory {
    fn bytes_at(&mut self, address: u64) -> &mut [u8] {
        let (start, (bytes, _)) = self.pieces.range_mut(..=address).next_back().unwrap();
        &mut bytes[(address - start) as usize..]
    }

    pub(crate) fn put(&mut self, address: u64, word: u64) {
        self.bytes_at(address)[..8].copy_from_slice(&word.to_le_bytes());
    }

    fn put_half(&mut self, address: u64, half: u32) {
        self.bytes_at(address)[..4].copy_from_slice(&half.to_le_bytes());
    }

    /// All bytes that can be damaged.
    pub(crate) fn pieces(&mut self) -> Vec<&mut Vec<u8>> {
        self.pieces.values_mut().map(|(bytes, _)| bytes).collect()
    }
}

impl Target for Memory {
    fn kind(&self) -> TargetKind {
        TargetKind::Core
    }

    fn process(&self) -> Result<ProcessFacts, ProcError> {
        Ok(ProcessFacts::default())
    }

    fn mappings(&self) -> Result<Vec<Mapping>, ProcError> {
        let mapping = |(start, (bytes, source)): (&u64, &(Vec<u8>, Source))| Mapping {
            start: *start,
            end: start + bytes.len() as u64,
            readable: true,
            writable: true,
            private: true,
            offset: 0,
            source: source.clone(),
        };
        Ok(self.pieces.iter().map(mapping).collect())
    }

    fn page_bytes(&self) -> u64 {
        self.page
    }

    fn residency(&self, range: Range<u64>) -> Result<Option<Residency>, ProcError> {
        let mut residency = Residency::default();
        let bytes = self.page;
        for page in (range.start / bytes..range.end.div_ceil(bytes)).map(|page| page * bytes) {
            let mapped = self.pieces.range(..=page).next_back().is_some_and(|(s, (b, _))| page < s + b.len() as u64);
            if mapped && self.swapped.contains(&page) {
                residency.swapped.push(page..page + bytes);
            } else if mapped && !self.absent.contains(&page) {
                match residency.present.last_mut() {
                    Some(run) if run.end == page => run.end += bytes,
                    _ => residency.present.push(page..page + bytes),
                }
            }
        }
        Ok(Some(residency))
    }

    fn read(&self, parts: &mut [Part<'_>]) -> Result<(), ProcError> {
        for part in parts {
            let Some((start, (bytes, _))) = self.pieces.range(..=part.address).next_back() else { continue };
            let at = (part.address - start) as usize;
            let page = part.address & !(self.page - 1);
            let away = self.absent.contains(&page) || self.swapped.contains(&page);
            assert!(!away, "a page that is not present was read");
            if let Some(from) = bytes.get(at..at + part.into.len()) {
                part.into.copy_from_slice(from);
                part.done = true;
            }
        }
        Ok(())
    }

    fn file(&self, _: &Mapping) -> Option<Vec<u8>> {
        None
    }

    fn check(&self) -> Result<(), ProcError> {
        Ok(())
    }
}

/// What a chunk of a built heap is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    Live,
    Free,
    Fast,
    Tcache,
}

/// A heap of two arenas, each with the chunks given and a top of a page; and one chunk mapped by itself.
pub(crate) struct Built {
    pub(crate) memory: Memory,
    pub(crate) main_arena: u64,
    pub(crate) par: u64,
}

pub(crate) const TOP: u64 = PAGE;
pub(crate) const MAPPED: u64 = 3 * PAGE;

/// Lays the heap out, in pages of 4 KiB.
pub(crate) fn build(family: &Family, chunks: &[(u64, Made)]) -> Built {
    build_in(PAGE, family, chunks)
}

/// Lays the heap out in pages of so many bytes.
pub(crate) fn build_in(page: u64, family: &Family, chunks: &[(u64, Made)]) -> Built {
    let mapped = 3 * page;
    let pieces = [
        (DATA, 3, Source::File("/lib/x86_64-linux-gnu/libc.so.6".into())),
        (BRK, 64, Source::Heap),
        (HEAP, 64, Source::Anonymous),
        (MMAPPED, 3, Source::Anonymous),
    ];
    let piece = |(start, pages, source)| (start, (vec![0u8; pages * page as usize], source));
    let mut memory =
        Memory { pieces: pieces.into_iter().map(piece).collect(), page, absent: Vec::new(), swapped: Vec::new() };
    let second = HEAP + family.heap_header;
    let (main_end, heap_end) = (BRK + 64 * page, HEAP + 64 * page);
    arena(&mut memory, family, MAIN, second, main_end - BRK);
    arena(&mut memory, family, second, MAIN, heap_end - HEAP);
    memory.put(HEAP, second);
    memory.put(HEAP + 16, heap_end - HEAP);
    memory.put(HEAP + 24, heap_end - HEAP);
    lay(&mut memory, family, MAIN, BRK, main_end, chunks, 0);
    lay(&mut memory, family, second, (second + family.state).next_multiple_of(16), heap_end, chunks, 4);

    memory.put(PAR, 128 << 10);
    memory.put(PAR + 8, 128 << 10);
    memory.put(PAR + 16, 128 << 10);
    memory.put(PAR + 24, 8);
    memory.put_half(PAR + family.mmaps, 1);
    memory.put_half(PAR + family.mmaps + 4, 65536);
    memory.put(PAR + family.mmapped, mapped);
    memory.put(PAR + family.sbrk_base, BRK);
    if let Some((bins, .., lists)) = family.tcache {
        memory.put(PAR + bins, lists.min(64));
        memory.put(PAR + bins + 8, 1032);
        memory.put(PAR + bins + 16, 7);
    }
    let header = if family.fastbins.is_some() { 0 } else { 16 };
    memory.put(MMAPPED + 8, (mapped - header) | 2);
    Built { memory, main_arena: MAIN, par: PAR }
}

fn arena(memory: &mut Memory, family: &Family, at: u64, next: u64, system: u64) {
    for i in 0..127 {
        let sentinel = at + family.bins + 16 * i - 16;
        memory.put(at + family.bins + 16 * i, sentinel);
        memory.put(at + family.bins + 16 * i + 8, sentinel);
    }
    memory.put(at + family.next, next);
    if let Some(attached) = family.attached {
        memory.put(at + attached, 1);
    }
    memory.put(at + family.system, system);
    memory.put(at + family.system + 8, system);
}

/// Writes chunks from `first` on, lists that hold them, and a top up to `end`; `bits` goes into the headers of chunks in
/// use. A last live chunk takes up what is left.
fn lay(memory: &mut Memory, family: &Family, arena: u64, first: u64, end: u64, chunks: &[(u64, Made)], bits: u64) {
    let mut all: Vec<(u64, Made)> = Vec::new();
    all.extend(family.tcache.map(|tcache| (tcache.1, Made::Live)));
    let known = |made: &Made| match made {
        Made::Fast => family.fastbins.is_some(),
        Made::Tcache => family.tcache.is_some(),
        _ => true,
    };
    all.extend(chunks.iter().map(|(size, made)| (*size, if known(made) { *made } else { Made::Live })));
    let used: u64 = all.iter().map(|(size, _)| size).sum();
    all.push((end - memory.page - first - used, Made::Live));
    let (mut at, mut previous) = (first, 1);
    let link = |to: u64, at: u64| if family.safe { to ^ at >> 12 } else { to };
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let tcache = first + 16;
    for &(size, made) in &all {
        let arena_bit = if made == Made::Free { 0 } else { bits };
        memory.put(at + 8, size | previous | arena_bit);
        match made {
            Made::Live => {}
            Made::Free => {
                // At the head of the unsorted bin.
                let sentinel = arena + family.bins - 16;
                let head = read(memory, arena + family.bins);
                memory.put(at + 16, head);
                memory.put(at + 24, sentinel);
                memory.put(head + 24, at);
                memory.put(arena + family.bins, at);
                memory.put(at + size, size);
            }
            Made::Fast => {
                let bin = arena + family.fastbins.unwrap() + 8 * (size / 16 - 2);
                let head = read(memory, bin);
                memory.put(at + 16, link(head, at + 16));
                memory.put(bin, at);
            }
            Made::Tcache => {
                let (_, _, _, entries, _) = family.tcache.unwrap();
                let bin = size / 16 - 2;
                let head = read(memory, tcache + entries + 8 * bin);
                memory.put(at + 16, link(head, at + 16));
                memory.put(tcache + entries + 8 * bin, at + 16);
                *counts.entry(bin).or_default() += 1;
            }
        }
        previous = u64::from(made != Made::Free);
        at += size;
    }
    memory.put(at + 8, (end - at) | previous);
    memory.put(arena + family.top, at);
    if let Some((_, _, width, _, lists)) = family.tcache {
        for bin in 0..lists {
            let held = counts.get(&bin).copied().unwrap_or(0);
            let count = if lists == 76 { 7 - held } else { held };
            let bytes = count.to_le_bytes();
            memory.bytes_at(tcache + bin * width)[..width as usize].copy_from_slice(&bytes[..width as usize]);
        }
    }
}

fn read(memory: &mut Memory, address: u64) -> u64 {
    u64::from_le_bytes(memory.bytes_at(address)[..8].try_into().unwrap())
}
