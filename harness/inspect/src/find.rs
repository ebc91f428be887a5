//! Finding `main_arena` and `mp_` of a process without debug symbols, and which family of layouts it has.
//!
//! In order: symbols of the mapped file; the file's initial data, in which `main_arena.next` points at `main_arena`,
//! so that the distance between the two gives the layout; the running process's data, in which the sentinels of empty
//! bins point at themselves; the heaps of other arenas, whose ring of `next` leads back to `main_arena`. Whatever is
//! found must prove itself: the ring of arenas has to close.
//!
//! Source: glibc malloc/malloc.c (initialiser of `main_arena`, `mp_`, `malloc_init_state`), malloc/arena.c.

use std::collections::HashSet;
use std::path::PathBuf;

use fragbench_proc::{Mapping, Source};
use serde::{Deserialize, Serialize};

use crate::image::Image;
use crate::layout::{
    ALIGN, ARENA_TEST, ARENAS, ArenaLayout, BINS, CHUNK_FD, HEAP_ARENA, HEAP_HEADERS, HEAP_MAX, HEAP_SIZE, MMAPS_MAX,
    PAR_ARENA_TEST, PARS, ParLayout, THRESHOLD,
};
use crate::objects::is_libc;
use crate::pages::Pages;

/// Arenas followed at most; glibc's default limit is eight a core.
const ARENAS_MAX: usize = 1 << 16;

/// How `main_arena` was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// By the symbol in the mapped file.
    Symbol,
    /// By the initial data of the mapped file.
    InitialData,
    /// By the sentinels of empty bins in the running process.
    Sentinels,
    /// By the ring of arenas, entered through a heap of another arena.
    Ring,
}

/// What was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Address of every arena, `main_arena` first.
    pub(crate) arenas: Vec<u64>,
    pub(crate) layout: &'static ArenaLayout,
    pub(crate) par: Option<(u64, &'static ParLayout)>,
    pub(crate) method: Method,
    /// File that holds malloc; `None` when it was found by what is in memory alone.
    pub(crate) object: Option<PathBuf>,
}

/// Looks in the files that are named like libc first, then in the program (which may be static), then in memory.
pub(crate) fn find(pages: &mut Pages, mappings: &[Mapping]) -> Option<Found> {
    let objects = objects(mappings);
    for path in &objects {
        let of_file: Vec<&Mapping> = mappings.iter().filter(|m| m.source == Source::File(path.clone())).collect();
        let Some(bytes) = of_file.first().and_then(|first| pages.target().file(first)) else { continue };
        let Some(image) = Image::parse(&bytes) else { continue };
        let Some(bias) = image.bias(of_file[0].start, of_file[0].offset, pages.page_bytes()) else { continue };
        let symbol = image.main_arena().map(|at| (Method::Symbol, at));
        let initial = initial_arenas(&image).map(|at| (Method::InitialData, at));
        let candidates: Vec<_> = symbol.into_iter().chain(initial).collect();
        for (method, address) in candidates {
            if let Some((layout, arenas)) = prove(pages, mappings, address.wrapping_add(bias)) {
                let par = image.par().into_iter().chain(initial_pars(&image)).find_map(|at| {
                    let at = at.wrapping_add(bias);
                    Some((at, par_layout(pages, mappings, at)?))
                });
                let par = par.or_else(|| par_in_memory(pages, mappings, arenas[0]));
                return Some(Found { arenas, layout, par, method, object: Some(path.clone()) });
            }
        }
    }
    let in_memory = |(method, (layout, arenas)): (Method, (&'static ArenaLayout, Vec<u64>)), pages: &mut Pages| {
        let object = mappings.iter().rfind(|m| m.start <= arenas[0] && matches!(m.source, Source::File(_)));
        Found {
            par: par_in_memory(pages, mappings, arenas[0]),
            object: object.and_then(|m| match &m.source {
                Source::File(path) => Some(path.clone()),
                _ => None,
            }),
            arenas,
            layout,
            method,
        }
    };
    let found = by_sentinels(pages, mappings, &objects).map(|found| (Method::Sentinels, found));
    let found = found.or_else(|| by_ring(pages, mappings).map(|found| (Method::Ring, found)));
    found.map(|found| in_memory(found, pages))
}

/// Mapped files in the order in which malloc is looked for in them.
fn objects(mappings: &[Mapping]) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for mapping in mappings.iter().filter(|m| m.private) {
        if let Source::File(path) = &mapping.source
            && !files.contains(path)
        {
            files.push(path.clone());
        }
    }
    // The program itself is mapped lowest but for rare fixed mappings, and is the only other place malloc can be in.
    files.sort_by_key(|path| !is_libc(path));
    files.truncate(files.iter().filter(|p| is_libc(p)).count() + 1);
    files
}

/// Addresses at which the initial data looks like `main_arena`: all zero but for `next`, which points back at it, and
/// `attached_threads`, which is one.
fn initial_arenas<'i>(image: &'i Image) -> impl Iterator<Item = u64> + 'i {
    image.pointers().filter_map(|(at, value)| {
        let distance = at.checked_sub(value)?;
        ARENAS.iter().filter(|layout| layout.next == distance).find_map(|layout| {
            let zero = |field: u64| image.word(value + field).is_none_or(|word| word == 0);
            let as_made = (0..layout.size).step_by(8).all(|field| match field {
                _ if field == layout.next => true,
                _ if Some(field) == layout.attached => image.word(value + field) == Some(1),
                _ => zero(field),
            });
            as_made.then_some(value)
        })
    })
}

/// Addresses at which the initial data looks like `mp_`.
fn initial_pars<'i>(image: &'i Image) -> impl Iterator<Item = u64> + 'i {
    image
        .writable_words()
        .filter(|(_, word)| *word == THRESHOLD)
        .map(|(at, _)| at)
        .filter(|at| [8, 16, 24].map(|f| image.word(at + f)) == [Some(THRESHOLD), Some(THRESHOLD), Some(ARENA_TEST)])
}

/// The layout under which an address is `main_arena`, and all arenas of its ring.
fn prove(pages: &mut Pages, mappings: &[Mapping], main: u64) -> Option<(&'static ArenaLayout, Vec<u64>)> {
    ARENAS.iter().find_map(|layout| Some((layout, ring(pages, mappings, layout, main)?)))
}

/// Follows `next` from one arena until it is back; `None` when it strays.
fn ring(pages: &mut Pages, mappings: &[Mapping], layout: &ArenaLayout, start: u64) -> Option<Vec<u64>> {
    let mut arenas = Vec::new();
    let mut seen = HashSet::new();
    let mut strays = 0;
    let mut at = start;
    while arenas.len() < ARENAS_MAX {
        if !seen.insert(at) || !at.is_multiple_of(8) || !may_write(mappings, at) || !is_arena(pages, layout, at) {
            return None;
        }
        // Every arena but the main one stands behind the header of its first heap.
        strays += usize::from(!HEAP_HEADERS.contains(&(at % pages.page_bytes())));
        if strays > 1 {
            return None;
        }
        arenas.push(at);
        at = pages.word(at + layout.next)?;
        if at == start {
            return Some(arenas);
        }
    }
    None
}

/// Whether every bin is a list whose ends are plausible, and the totals are those of an arena.
fn is_arena(pages: &mut Pages, layout: &ArenaLayout, arena: u64) -> bool {
    let mut field = |offset: u64| pages.word(arena.wrapping_add(offset));
    let (Some(top), Some(system), Some(most)) = (field(layout.top), field(layout.system), field(layout.system + 8))
    else {
        return false;
    };
    let threads = layout.attached.map_or(Some(0), &mut field);
    // What is larger is the `system_mem` of the family before: a heap begins with 132 KiB.
    let threads = threads.is_some_and(|n| n < 1 << 16);
    if !threads || !system.is_multiple_of(ALIGN) || !most.is_multiple_of(ALIGN) || most < system {
        return false;
    }
    let unused = top == 0 && system == 0;
    (1..BINS).all(|i| {
        let sentinel = layout.bin(arena, i);
        let (fd, bk) = (field(layout.bins + 16 * (i - 1)), field(layout.bins + 16 * (i - 1) + 8));
        match (fd, bk) {
            (Some(0), Some(0)) => unused,
            (Some(fd), Some(bk)) if fd == sentinel || bk == sentinel => fd == bk,
            (Some(fd), Some(bk)) => fd != 0 && bk != 0 && fd.is_multiple_of(ALIGN) && bk.is_multiple_of(ALIGN),
            _ => false,
        }
    })
}

/// Memory that a libc's or a program's data can be in: writable mappings of the object, and what follows them.
fn data_of<'m>(mappings: &'m [Mapping], objects: &[PathBuf]) -> Vec<&'m Mapping> {
    let mut data: Vec<&Mapping> = Vec::new();
    for mapping in mappings.iter().filter(|m| m.writable && m.private) {
        let own = matches!(&mapping.source, Source::File(path) if objects.contains(path));
        let follows = mapping.source == Source::Anonymous && data.last().is_some_and(|d| d.end == mapping.start);
        let bytes = mapping.end - mapping.start;
        if own && bytes < 1 << 30 || follows && bytes < 64 << 20 {
            data.push(mapping);
        }
    }
    data
}

fn by_sentinels(
    pages: &mut Pages,
    mappings: &[Mapping],
    objects: &[PathBuf],
) -> Option<(&'static ArenaLayout, Vec<u64>)> {
    for mapping in data_of(mappings, objects) {
        for at in (mapping.start..mapping.end).step_by(8) {
            // The last bin is empty in nearly every heap: its two links point 16 bytes before themselves.
            let last = at.wrapping_sub(CHUNK_FD);
            if pages.word(at) != Some(last) || pages.word(at.wrapping_add(8)) != Some(last) {
                continue;
            }
            for layout in &ARENAS {
                let Some(main) = at.checked_sub(layout.bins + 16 * (BINS - 2)) else { continue };
                if let Some(arenas) = ring(pages, mappings, layout, main) {
                    return Some((layout, arenas));
                }
            }
        }
    }
    None
}

fn by_ring(pages: &mut Pages, mappings: &[Mapping]) -> Option<(&'static ArenaLayout, Vec<u64>)> {
    let aligned = mappings.iter().filter(|m| m.writable && m.start.is_multiple_of(HEAP_MAX));
    for heap in aligned {
        let (arena, size) = (pages.word(heap.start + HEAP_ARENA), pages.word(heap.start + HEAP_SIZE));
        let (Some(arena), Some(size)) = (arena, size) else { continue };
        if size == 0 || size > HEAP_MAX || !size.is_multiple_of(pages.page_bytes()) {
            continue;
        }
        for layout in &ARENAS {
            let Some(mut arenas) = ring(pages, mappings, layout, arena) else { continue };
            if let Some(main) = arenas.iter().position(|a| a % HEAP_MAX > HEAP_HEADERS[0]) {
                arenas.rotate_left(main);
                return Some((layout, arenas));
            }
        }
    }
    None
}

/// The layout of a `mp_` at an address; `None` when it is none.
fn par_layout(pages: &mut Pages, mappings: &[Mapping], par: u64) -> Option<&'static ParLayout> {
    let holds_heap = |at: u64| mappings.iter().any(|m| m.source == Source::Heap && m.holds(at));
    PARS.iter().find(|layout| {
        let mut field = |offset: u64| pages.word(par.wrapping_add(offset));
        let most = field((layout.n_mmaps + 4) & !7).map(|w| (w >> (8 * ((layout.n_mmaps + 4) & 4))) as u32);
        let tcache = layout.tcache.and_then(&mut field);
        let base = field(layout.sbrk_base);
        most == Some(MMAPS_MAX)
            && match layout.tcache {
                Some(_) => tcache.is_some_and(|bins| (1..=76).contains(&bins)),
                // Two families differ in the place of `sbrk_base` only; the last one takes what is left.
                None => layout.sbrk_base == 0x50 || base.is_some_and(holds_heap),
            }
    })
}

/// Looks for `mp_` in the running process, near `main_arena`: thresholds may have been changed, `arena_test` and
/// `n_mmaps_max` seldom are.
fn par_in_memory(pages: &mut Pages, mappings: &[Mapping], main: u64) -> Option<(u64, &'static ParLayout)> {
    let home = mappings.iter().position(|m| m.holds(main))?;
    let near = mappings.iter().enumerate().filter(|(i, m)| i.abs_diff(home) <= 2 && m.writable);
    for (_, mapping) in near {
        for at in (mapping.start..mapping.end.saturating_sub(0x90)).step_by(8) {
            if pages.word(at + PAR_ARENA_TEST) == Some(ARENA_TEST)
                && pages.word(at + 8).is_some_and(|pad| pad.is_multiple_of(4096))
                && let Some(layout) = par_layout(pages, mappings, at)
            {
                return Some((at, layout));
            }
        }
    }
    None
}

fn may_write(mappings: &[Mapping], address: u64) -> bool {
    let after = mappings.partition_point(|m| m.start <= address);
    after > 0 && mappings[after - 1].holds(address) && mappings[after - 1].writable
}
