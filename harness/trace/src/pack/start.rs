//! What a process held when it was attached to, as the first events of its trace: built within a prologue, in front of
//! everything that was recorded, so that later frees and reallocs find their blocks.
//!
//! Each arena's blocks are made in order of address by a thread of their own, the main arena's by the first thread; the
//! threads begin before any of them goes on, so that each is given an arena, and end before the recording begins. Free
//! chunks are made too, as allocations aligned to 16 bytes, and freed when all is built: holes. Where an allocator is not
//! glibc's a replay leaves them out. A block's size is what its chunk had room for.

use std::collections::HashSet;

use super::Source;
use crate::spool::format::RESIDENCY_MIN;
use crate::spool::{ClockPair, Spool, SpoolEvent, SpoolKind};

/// Length of the prologue. Longer than the threads of a replay may be apart.
pub const PROLOGUE_NS: u64 = 1_000_000_000;
/// Alignment by which a hole is known: that of every block.
pub const HOLE_ALIGN: u64 = 16;
/// Numbers of the threads that build, behind those of any recorded one.
const BUILDERS: u32 = 1 << 31;
/// The thread that tells, behind the end, how much of the blocks that still live was in memory.
const WITNESS: u32 = u32::MAX;
/// Address of the block that moves the threshold: none of the process's.
const MOVER: u64 = 16;
/// Between the steps of the prologue, ticks.
const STEP: u64 = 64;
/// glibc's first threshold, bytes (`DEFAULT_MMAP_THRESHOLD`).
const THRESHOLD: u64 = 128 << 10;

/// A chunk of the heap at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartBlock {
    /// Address, as the program has it.
    pub addr: u64,
    /// Bytes it has room for.
    pub size: u64,
    /// In use; a hole otherwise.
    pub live: bool,
    /// Pages of it in memory; `None` where that is not known or does not matter.
    pub resident_pages: Option<u32>,
}

/// What a heap held when recording began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// Each arena's chunks, ascending; the main arena first, with what was mapped block by block.
    pub arenas: Vec<Vec<StartBlock>>,
    /// From which size blocks were mapped one by one, bytes, where that had moved.
    pub mmap_threshold: Option<u64>,
}

impl Start {
    /// Count and bytes of the live blocks, or of the holes.
    pub fn sum(&self, live: bool) -> (u64, u64) {
        let blocks = self.arenas.iter().flatten().filter(|block| block.live == live);
        blocks.fold((0, 0), |(count, bytes), block| (count + 1, bytes + block.size))
    }
}

/// A spool behind its start.
pub(super) struct Begun<'s> {
    spool: &'s Spool,
    start: &'s Start,
    clocks: (ClockPair, ClockPair),
    /// Larger blocks of the start that live at the end.
    kept: Vec<StartBlock>,
}

impl<'s> Begun<'s> {
    pub(super) fn new(spool: &'s Spool, start: &'s Start) -> Self {
        let (from, to) = Spool::clocks(spool);
        let ticks = u128::from(to.tsc.saturating_sub(from.tsc).max(1));
        let ns = u128::from(to.mono_ns.saturating_sub(from.mono_ns).max(1));
        let before = u64::try_from(ticks * u128::from(PROLOGUE_NS) / ns).unwrap_or(u64::MAX);
        let early =
            ClockPair { tsc: from.tsc.saturating_sub(before), mono_ns: from.mono_ns.saturating_sub(PROLOGUE_NS) };
        Self { spool, start, clocks: (early, to), kept: kept(spool, start) }
    }

    /// Length of the trace, µs.
    pub(super) fn end_us(&self) -> u64 {
        self.clocks.1.mono_ns.saturating_sub(self.clocks.0.mono_ns) / 1000
    }

    /// What the thread of an arena does.
    fn build(&self, arena: usize) -> impl Iterator<Item = SpoolEvent> + Send + 's {
        let at = self.clocks.0.tsc;
        let all = at + STEP * (self.start.arenas.len() as u64 + 2);
        let blocks = self.start.arenas.get(arena).map_or(&[][..], Vec::as_slice);
        let mover = self.start.mmap_threshold.filter(|bytes| arena == 0 && *bytes > THRESHOLD);
        let mover = mover.into_iter().flat_map(move |threshold| {
            let made = SpoolKind::Aligned { addr: MOVER, size: threshold - 16, align: HOLE_ALIGN };
            [made, SpoolKind::FreeResident { addr: MOVER, resident_pages: 1 }].map(|kind| SpoolEvent { tsc: at, kind })
        });
        let begin = std::iter::once(SpoolEvent { tsc: at, kind: SpoolKind::ThreadStart });
        let make = blocks.iter().enumerate().map(move |(i, block)| {
            let (addr, size) = (block.addr, block.size);
            let kind = match block.live {
                true => SpoolKind::Malloc { addr, size },
                false => SpoolKind::Aligned { addr, size, align: HOLE_ALIGN },
            };
            SpoolEvent { tsc: if i == 0 { at + STEP * (arena as u64 + 1) } else { all }, kind }
        });
        let empty = blocks.iter().filter(|block| !block.live).map(move |block| {
            let kind = match block.resident_pages {
                Some(resident_pages) => SpoolKind::FreeResident { addr: block.addr, resident_pages },
                None => SpoolKind::Free { addr: block.addr },
            };
            SpoolEvent { tsc: all + STEP, kind }
        });
        let end = (arena > 0).then_some(SpoolEvent { tsc: all + 2 * STEP, kind: SpoolKind::ThreadExit });
        begin.chain(mover).chain(make).chain(empty).chain(end)
    }
}

/// Larger blocks of the start that nobody frees.
fn kept(spool: &Spool, start: &Start) -> Vec<StartBlock> {
    let large = |block: &&StartBlock| block.live && block.size >= RESIDENCY_MIN && block.resident_pages.is_some();
    let mut held: HashSet<u64> = start.arenas.iter().flatten().filter(large).map(|block| block.addr).collect();
    for thread in Spool::threads(spool) {
        for event in Spool::events(spool, thread) {
            use SpoolKind::{Free, FreeResident, Realloc};
            if let Free { addr } | FreeResident { addr, .. } | Realloc { old: addr, .. } = event.kind {
                held.remove(&addr);
            }
        }
    }
    start.arenas.iter().flatten().filter(|block| block.live && held.contains(&block.addr)).copied().collect()
}

impl Source for Begun<'_> {
    fn threads(&self) -> Vec<u32> {
        let mut recorded = Spool::threads(self.spool);
        let first = recorded.next().unwrap_or(0);
        let builders = (1..self.start.arenas.len() as u32).map(|arena| BUILDERS + arena);
        std::iter::once(first).chain(builders).chain(recorded).chain([WITNESS]).collect()
    }

    fn events(&self, thread: u32) -> Box<dyn Iterator<Item = SpoolEvent> + Send + '_> {
        if thread == WITNESS {
            let tsc = self.clocks.1.tsc.saturating_add(1 << 32);
            return Box::new(self.kept.iter().map(move |block| {
                let resident_pages = block.resident_pages.unwrap_or(0);
                SpoolEvent { tsc, kind: SpoolKind::FreeResident { addr: block.addr, resident_pages } }
            }));
        }
        if thread >= BUILDERS {
            return Box::new(self.build((thread - BUILDERS) as usize));
        }
        let recorded = Spool::events(self.spool, thread);
        if Spool::threads(self.spool).next().unwrap_or(0) == thread {
            return Box::new(self.build(0).chain(recorded));
        }
        Box::new(recorded)
    }

    fn clocks(&self) -> (ClockPair, ClockPair) {
        self.clocks
    }

    fn stacks(&self) -> Option<&Spool> {
        Source::stacks(self.spool)
    }
}
