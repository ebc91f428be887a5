//! The arenas of a process and the stretches of memory each has: for the main arena what `brk` gave and, where that
//! was refused, what was mapped instead; for every other a chain of heaps.
//!
//! Source: glibc malloc/arena.c (`heap_info`, `new_heap`, `_int_new_arena`), malloc/malloc.c (`sysmalloc`).

use fragbench_proc::{Mapping, Source};

use crate::find::Found;
use crate::layout::{
    ALIGN, ArenaLayout, CHUNK_FD, FASTBINS, FLAGS, HEAP_ARENA, HEAP_HEADERS, HEAP_MAX, HEAP_PREV, HEAP_SIZE, MIN_CHUNK,
    NONCONTIGUOUS,
};
use crate::pages::Pages;
use crate::walk::Stretch;

/// Heaps of an arena followed at most: 64 TiB.
const HEAPS_MAX: usize = 1 << 20;

/// An arena's own fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arena {
    pub(crate) address: u64,
    pub(crate) main: bool,
    pub(crate) locked: bool,
    pub(crate) contiguous: bool,
    pub(crate) top: u64,
    pub(crate) system: u64,
    pub(crate) attached: Option<u64>,
    /// First chunk of every fast bin, as stored.
    pub(crate) fastbins: Vec<u64>,
    /// Address of its field `top`.
    pub(crate) top_pointer: u64,
}

/// A stretch and the memory before its first chunk that is malloc's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) stretch: Stretch,
}

impl Arena {
    /// Reads the arena at an address.
    pub(crate) fn read(pages: &mut Pages, layout: &ArenaLayout, address: u64, main: bool) -> Option<Arena> {
        // The page is read again each time: a second reading tells whether the arena has moved meanwhile.
        (0..=layout.size).step_by(64).for_each(|offset| pages.forget(address + offset));
        let locked = pages.half(address)? != 0;
        let flags = pages.half(address + 4)?;
        let mut field = |offset: u64| pages.word(address + offset);
        Some(Arena {
            address,
            main,
            locked,
            contiguous: flags & NONCONTIGUOUS == 0,
            top_pointer: address + layout.top,
            top: field(layout.top)?,
            system: field(layout.system)?,
            attached: match layout.attached {
                Some(offset) => Some(field(offset)?),
                None => None,
            },
            fastbins: match layout.fastbins {
                Some(first) => (0..FASTBINS).map(|i| field(first + 8 * i)).collect::<Option<_>>()?,
                None => Vec::new(),
            },
        })
    }

    /// Which fast bins hold chunks, a bit each.
    fn fast_sizes(&self) -> u16 {
        self.fastbins.iter().enumerate().filter(|(_, head)| **head != 0).map(|(bin, _)| 1 << bin).sum()
    }

    /// End of the top chunk; `None` when its header is no top's.
    fn top_end(&self, pages: &mut Pages) -> Option<u64> {
        pages.forget(self.top);
        let size = pages.word(self.top.checked_add(8)?)? & !FLAGS;
        let end = self.top.checked_add(size)?;
        (self.top.is_multiple_of(ALIGN) && size >= MIN_CHUNK && size.is_multiple_of(ALIGN)).then_some(end)
    }
}

/// What a process says of its heap besides the arenas.
#[derive(Debug, Clone, Default)]
pub(crate) struct Par {
    pub(crate) sbrk_base: Option<u64>,
    pub(crate) thp_page: Option<u64>,
    pub(crate) hp_page: Option<u64>,
    pub(crate) mmap_threshold: Option<u64>,
    pub(crate) trim_threshold: Option<u64>,
    pub(crate) mmaps: Option<u64>,
    pub(crate) mmapped: Option<u64>,
    pub(crate) tcache_count: Option<u64>,
    pub(crate) no_dyn_threshold: Option<bool>,
}

impl Par {
    /// Reads `mp_`, if it was found.
    pub(crate) fn read(pages: &mut Pages, found: &Found) -> Par {
        let Some((at, layout)) = found.par else { return Par::default() };
        let mut field = |offset: Option<u64>| pages.word(at + offset?);
        Par {
            sbrk_base: field(Some(layout.sbrk_base)).filter(|base| *base != 0),
            thp_page: field(layout.thp_page).filter(|n| n.is_power_of_two()),
            hp_page: field(layout.hp_page).filter(|n| n.is_power_of_two()),
            trim_threshold: field(Some(0)),
            mmap_threshold: field(Some(0x10)),
            mmapped: field(Some(layout.mmapped)),
            tcache_count: field(layout.tcache.map(|bins| bins + 16)),
            mmaps: pages.half(at + layout.n_mmaps).map(u64::from),
            no_dyn_threshold: pages.half(at + layout.no_dyn_threshold).map(|n| n != 0),
        }
    }
}

/// Where the main arena's chunks are.
pub(crate) fn main_extents(pages: &mut Pages, mappings: &[Mapping], arena: &Arena, par: &Par) -> Vec<Extent> {
    if arena.system == 0 {
        return Vec::new();
    }
    let mut extents = Vec::new();
    let top_end = arena.top_end(pages);
    let brk = mappings.iter().filter(|m| m.source == Source::Heap);
    let (low, high) = brk.fold((u64::MAX, 0), |(low, high), m| (low.min(m.start), high.max(m.end)));
    let top_in = |from: u64, to: u64| top_end.filter(|end| (from..to).contains(&arena.top) && *end <= to);
    if low < high {
        let base = par.sbrk_base.filter(|base| (low..high).contains(base));
        let first = base.unwrap_or(low).next_multiple_of(ALIGN);
        let top = top_in(first, high);
        let end = top.unwrap_or(high);
        let stretch = Stretch {
            first,
            end,
            top: top.map(|_| arena.top),
            main: true,
            known: base.is_some(),
            fast: arena.fast_sizes(),
            top_pointer: arena.top_pointer,
        };
        extents.push(Extent { start: first, stretch });
    }
    // Where brk was refused the arena goes on in mappings. One of them holds the top, or bounds it from the brk side.
    let refused = !arena.contiguous || top_in(low.min(high), high).is_none();
    if refused {
        for mapping in mappings.iter().filter(|m| is_plain(m)) {
            let top = top_in(mapping.start, mapping.end);
            let begins = par.sbrk_base == Some(mapping.start);
            if begins || top.is_some() || !arena.contiguous && looks_like_main(pages, mapping) {
                // Mappings grow downwards, so what malloc mapped earlier may follow the top.
                let pieces = [(mapping.start, top.unwrap_or(mapping.end)), (top.unwrap_or(mapping.end), mapping.end)];
                for (start, end) in pieces.into_iter().filter(|(start, end)| start < end) {
                    let top = Some(arena.top).filter(|top| (start..end).contains(top) && top_end == Some(end));
                    let stretch = Stretch {
                        first: start,
                        end,
                        top,
                        main: true,
                        known: false,
                        fast: arena.fast_sizes(),
                        top_pointer: arena.top_pointer,
                    };
                    extents.push(Extent { start, stretch });
                }
            }
        }
    }
    extents
}

/// Private memory without a file that the process may write.
pub(crate) fn is_plain(mapping: &Mapping) -> bool {
    mapping.source == Source::Anonymous && mapping.private && mapping.readable && mapping.writable
}

/// Whether all of a range may be written, be it in one mapping or in several.
fn may_write(mappings: &[Mapping], start: u64, end: u64) -> bool {
    let first = mappings.partition_point(|m| m.end <= start);
    let mut at = start;
    for mapping in mappings[first..].iter().take_while(|m| m.start < end) {
        if mapping.start > at || !mapping.writable {
            return false;
        }
        at = mapping.end;
    }
    at >= end
}

/// Whether a mapping begins with a chunk of the main arena: in use before and behind, of a size that stays inside.
fn looks_like_main(pages: &mut Pages, mapping: &Mapping) -> bool {
    let Some(head) = pages.word(mapping.start + 8) else { return false };
    let size = head & !FLAGS;
    head & FLAGS == 1 && size >= MIN_CHUNK && size.is_multiple_of(ALIGN) && size < mapping.end - mapping.start
}

/// Where the chunks of another arena are: its heaps, newest first.
pub(crate) fn heap_extents(
    pages: &mut Pages,
    mappings: &[Mapping],
    layout: &ArenaLayout,
    arena: &Arena,
    par: &Par,
) -> Vec<Extent> {
    let sizes = [Some(HEAP_MAX), par.hp_page.and_then(|n| n.checked_mul(4))];
    let belongs = |pages: &mut Pages, heap: u64| pages.word(heap + HEAP_ARENA) == Some(arena.address);
    let newest = sizes.into_iter().flatten().filter(|n| n.is_power_of_two()).find_map(|max| {
        let heap = arena.top & !(max - 1);
        belongs(pages, heap).then_some((heap, max))
    });
    let Some((mut heap, max)) = newest else { return Vec::new() };
    let mut extents = Vec::new();
    while extents.len() < HEAPS_MAX && heap.is_multiple_of(max) && heap != 0 && belongs(pages, heap) {
        let (Some(previous), Some(size)) = (pages.word(heap + HEAP_PREV), pages.word(heap + HEAP_SIZE)) else { break };
        let Some(end) = heap.checked_add(size.min(max)) else { break };
        let header = arena.address % pages.page_bytes();
        let first = if heap + header == arena.address {
            // The arena itself stands in its first heap.
            (arena.address + layout.size + CHUNK_FD).next_multiple_of(ALIGN) - CHUNK_FD
        } else {
            heap + header
        };
        let mapped = may_write(mappings, heap, end);
        let seen = extents.iter().any(|e: &Extent| e.start == heap);
        if !HEAP_HEADERS.contains(&header) || !mapped || first >= end || seen {
            break;
        }
        let top = (heap..end).contains(&arena.top).then_some(arena.top);
        let stretch = Stretch {
            first,
            end,
            top,
            main: false,
            known: true,
            fast: arena.fast_sizes(),
            top_pointer: arena.top_pointer,
        };
        extents.push(Extent { start: heap, stretch });
        heap = previous;
    }
    extents
}
