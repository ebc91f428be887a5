//! Chunks that a walk sees as in use or merely free, and that lists tell more about: tcaches, fast bins, the unsorted
//! bin. Lists are followed only through chunks that the walk found, each chunk once, so a damaged list ends.
//!
//! Since 2.32, and where distributions brought it back, links of tcaches and fast bins are mixed with the address they
//! stand at (safe-linking): both readings are tried, and the one whose links lead to chunks is taken.
//!
//! Source: glibc malloc/malloc.c (`PROTECT_PTR`, `tcache_put`, `tcache_init`, `_int_free`, `unsorted_chunks`).

use serde::{Deserialize, Serialize};

use crate::arena::{Arena, Par};
use crate::chunk::{Chunk, Kind};
use crate::layout::{ALIGN, ARENAS, ArenaLayout, CHUNK_FD, MIN_CHUNK, TCACHE_SMALL_BINS, TCACHES, TcacheLayout};
use crate::pages::Pages;

/// How links of tcaches and fast bins are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Linking {
    /// As they are.
    Plain,
    /// Mixed with the address they stand at.
    Safe,
}

impl Linking {
    fn decode(self, stored: u64, at: u64) -> u64 {
        match self {
            Linking::Plain => stored,
            Linking::Safe => stored ^ at >> 12,
        }
    }
}

/// All chunks of a process by address.
pub(crate) struct Index<'c> {
    stretches: Vec<Indexed<'c>>,
}

struct Indexed<'c> {
    start: u64,
    end: u64,
    chunks: &'c mut Vec<Chunk>,
    /// For every page, the first chunk from it on.
    table: Vec<usize>,
    /// Address and first word of the chunks that lists may lead through.
    links: Vec<(u64, u64)>,
    link_table: Vec<usize>,
}

/// How often a chunk may be met in all lists of tcaches, false ones included.
const LISTS: usize = 4;

/// Log2 of the bytes a place of the tables stands for.
const TABLE_SHIFT: u32 = 12;

/// For every page from `start` to `end` the first of the ascending addresses from it on.
fn table(start: u64, end: u64, addresses: impl Iterator<Item = u64>) -> Vec<usize> {
    let page = |address: u64| (address.saturating_sub(start) >> TABLE_SHIFT) as usize;
    let mut table = Vec::with_capacity(page(end) + 2);
    let mut count = 0;
    for (i, address) in addresses.enumerate() {
        table.resize(table.len().max(page(address) + 1), i);
        count = i + 1;
    }
    table.resize(table.len().max(page(end) + 2), count);
    table
}

impl<'c> Index<'c> {
    /// Over stretches: first address, end, chunks, links.
    pub(crate) fn new(stretches: impl IntoIterator<Item = (u64, u64, &'c mut Vec<Chunk>, Vec<(u64, u64)>)>) -> Self {
        let indexed = stretches.into_iter().map(|(start, end, chunks, links)| Indexed {
            table: table(start, end, chunks.iter().map(|c| c.address())),
            link_table: table(start, end, links.iter().map(|l| l.0)),
            start,
            end,
            chunks,
            links,
        });
        let mut stretches: Vec<Indexed> = indexed.collect();
        stretches.sort_unstable_by_key(|s| s.start);
        Self { stretches }
    }

    /// Chunks of all stretches.
    fn chunks(&self) -> usize {
        self.stretches.iter().map(|s| s.chunks.len()).sum()
    }

    fn stretch(&self, address: u64) -> Option<usize> {
        let stretch = self.stretches.partition_point(|s| s.start <= address).checked_sub(1)?;
        (address < self.stretches[stretch].end).then_some(stretch)
    }

    /// Stretch and place in it of the chunk at exactly this address, its size and kind.
    fn find(&self, address: u64) -> Option<(usize, usize, u64, Kind)> {
        let stretch = self.stretch(address)?;
        let s = &self.stretches[stretch];
        let page = ((address - s.start) >> TABLE_SHIFT) as usize;
        let (from, to) = (s.table[page], s.table[page + 1]);
        let place = from + s.chunks[from..to].binary_search_by_key(&address, |c| c.address()).ok()?;
        let next = s.chunks.get(place + 1).map_or(s.end, |c| c.address());
        Some((stretch, place, next - address, s.chunks[place].kind()))
    }

    /// The first word of a chunk that lists may lead through.
    fn link(&self, address: u64) -> Option<u64> {
        let s = &self.stretches[self.stretch(address)?];
        let page = ((address - s.start) >> TABLE_SHIFT) as usize;
        let links = &s.links[s.link_table[page]..s.link_table[page + 1]];
        Some(links[links.binary_search_by_key(&address, |link| link.0).ok()?].1)
    }

    /// Whether a live chunk starts here; its size.
    fn live(&self, address: u64) -> Option<u64> {
        self.find(address).filter(|f| f.3 == Kind::Live).map(|f| f.2)
    }

    /// Gives the chunk at this address another kind if its own kind and size pass; says whether they did.
    fn mark(&mut self, address: u64, kind: Kind, passes: impl Fn(Kind, u64) -> bool) -> bool {
        let Some((stretch, place, size, before)) = self.find(address) else { return false };
        let fits = passes(before, size);
        if fits {
            self.stretches[stretch].chunks[place] = Chunk::new(address, kind);
        }
        fits
    }
}

/// A thread's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tcache {
    /// Address of the structure.
    pub address: u64,
    /// Chunks in its lists.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Marks the chunks of all tcaches, and the structures themselves as malloc's own. `candidates` are live chunks of the
/// size of a structure; a chunk of that size that the program uses fails the checks, since every list must be as long as
/// its count says and lead through live chunks of its size.
pub(crate) fn mark_tcaches(
    pages: &mut Pages,
    index: &mut Index<'_>,
    candidates: &[u64],
    arena: &ArenaLayout,
    par: &Par,
) -> (Vec<Tcache>, Option<Linking>) {
    // Every thread of a process has the same kind of structure and of links: the pair that explains most is taken.
    let fits_arena = |t: &&TcacheLayout| t.slots_left || *arena != ARENAS[0];
    let ways = TCACHES.iter().filter(fits_arena).flat_map(|t| [(t, Linking::Safe), (t, Linking::Plain)]);
    let best = ways
        .map(|(layout, linking)| {
            // No chunk is in two lists, so that all true lists together are no longer than this, whatever counts say.
            let mut links = LISTS * index.chunks();
            let read = |at: &u64| read_tcache(pages, index, layout, linking, par, *at, &mut links);
            let found: Vec<_> = candidates.iter().filter_map(read).collect();
            (found, linking)
        })
        .max_by_key(|(found, _)| found.iter().map(|(_, chunks)| 1 + chunks.len()).sum::<usize>());
    let Some((found, linking)) = best else { return (Vec::new(), None) };
    let mut tcaches = Vec::new();
    for (address, chunks) in &found {
        let mut tcache = Tcache { address: *address, chunks: 0, bytes: 0 };
        for at in chunks {
            let Some(size) = index.live(*at) else { continue };
            index.mark(*at, Kind::Tcache, |_, _| true);
            tcache.chunks += 1;
            tcache.bytes += size;
        }
        index.mark(*address, Kind::Own, |_, _| true);
        tcaches.push(tcache);
    }
    let seen = found.iter().any(|(_, chunks)| chunks.len() > 1);
    (tcaches, seen.then_some(linking))
}

/// The chunks of the tcache at a chunk's address; `None` when it is none, or an empty one.
fn read_tcache(
    pages: &mut Pages,
    index: &Index<'_>,
    layout: &TcacheLayout,
    linking: Linking,
    par: &Par,
    at: u64,
    links: &mut usize,
) -> Option<(u64, Vec<u64>)> {
    if !layout.fits(index.live(at)?) {
        return None;
    }
    let structure = at + CHUNK_FD;
    let most = par.tcache_count.unwrap_or(if layout.slots_left { 16 } else { 7 }).min(u64::from(u16::MAX));
    let mut chunks = Vec::new();
    for bin in 0..layout.bins {
        let word = pages.word((structure + bin * layout.width) & !7)?;
        let bits = 8 * layout.width;
        let stored = word >> (8 * ((structure + bin * layout.width) & 7)) & ((1 << bits) - 1);
        let mut left = if layout.slots_left { most.checked_sub(stored)? } else { stored };
        let mut entry = pages.word(structure + layout.entries + 8 * bin)?;
        if left > most || (left == 0) != (entry == 0) {
            return None;
        }
        while left > 0 {
            *links = links.checked_sub(1)?;
            let chunk = entry.checked_sub(CHUNK_FD)?;
            let size = index.live(chunk)?;
            if bin < TCACHE_SMALL_BINS && size != MIN_CHUNK + ALIGN * bin {
                return None;
            }
            chunks.push(chunk);
            entry = linking.decode(pages.word(entry)?, entry);
            left -= 1;
        }
        if entry != 0 {
            return None;
        }
    }
    (!chunks.is_empty()).then_some((at, chunks))
}

/// Marks the chunks of an arena's fast bins; gives how links are stored when that could be seen.
pub(crate) fn mark_fastbins(index: &mut Index<'_>, arena: &Arena, linking: Option<Linking>) -> Option<Linking> {
    let mut seen = linking;
    for (bin, head) in arena.fastbins.iter().enumerate().filter(|(_, head)| **head != 0) {
        let size = MIN_CHUNK + ALIGN * bin as u64;
        let next = |index: &Index<'_>, at: u64, how: Linking| Some(how.decode(index.link(at)?, at + CHUNK_FD));
        let leads =
            |how: &Linking| next(index, *head, *how).is_some_and(|after| after == 0 || index.live(after) == Some(size));
        let Some(how) = seen.or_else(|| [Linking::Safe, Linking::Plain].into_iter().find(leads)) else { continue };
        let (mut at, mut length) = (*head, 0);
        // A chunk that is marked is no longer live, so a list that bites its tail ends.
        while at != 0 && index.mark(at, Kind::Fast, |kind, bytes| kind == Kind::Live && bytes == size) {
            let Some(after) = next(index, at, how) else { break };
            at = after;
            length += 1;
        }
        if length > 1 {
            seen = Some(how);
        }
    }
    seen
}

/// Marks the chunks of an arena's unsorted bin.
pub(crate) fn mark_unsorted(pages: &mut Pages, index: &mut Index<'_>, layout: &ArenaLayout, arena: u64) {
    let Some(mut at) = pages.word(arena + layout.bins) else { return };
    let binned = |kind: Kind, _: u64| matches!(kind, Kind::Small | Kind::Large);
    while at != layout.bin(arena, 1) && index.mark(at, Kind::Unsorted, binned) {
        let Some(after) = index.link(at) else { break };
        at = after;
    }
}
