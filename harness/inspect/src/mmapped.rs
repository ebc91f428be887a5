//! Chunks that malloc mapped one by one. No list leads to them: they are recognised by their header at the start of a
//! page, and malloc's own count of them says when all have been found.
//!
//! Source: glibc malloc/malloc.c (`sysmalloc_mmap`, `_int_memalign`, `mremap_chunk`; `mmap_set_chunk` of 2.43).

use fragbench_proc::Mapping;
use serde::{Deserialize, Serialize};

use crate::arena::{Par, is_plain};
use crate::layout::{CHUNK_FD, FLAGS, IS_MMAPPED, MIN_CHUNK};
use crate::pages::Pages;

/// Pages searched for chunks that do not begin a mapping, at most: 4 GiB of 4 KiB pages.
const PAGES_MAX: u64 = 1 << 20;
/// Greatest alignment of `memalign` that is looked for: 64 MiB.
const ALIGN_MAX_BITS: u32 = 26;

/// A chunk with a mapping of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mmapped {
    /// First address of the mapping.
    pub start: u64,
    /// Its bytes, whole pages.
    pub bytes: u64,
    /// Address of the chunk; not `start` when the caller asked for an alignment.
    pub chunk: u64,
    /// Bytes in memory; `None` when that is not known.
    pub present_bytes: Option<u64>,
}

/// Looks through private memory without a file, `taken` (heaps and stretches of the main arena) left out: every mapping
/// from its start, chunk after chunk; then, if malloc counts more, page by page.
pub(crate) fn find(
    pages: &mut Pages,
    mappings: &[Mapping],
    taken: &[(u64, u64)],
    par: &Par,
    new_layout: bool,
) -> Vec<Mmapped> {
    let free: Vec<(u64, u64)> =
        mappings.iter().filter(|m| is_plain(m)).flat_map(|m| outside(m.start, m.end, taken)).collect();
    let mut found = Vec::new();
    let mut rest = Vec::new();
    let most = par.mmaps.unwrap_or(u64::MAX);
    for &(start, end) in &free {
        let mut at = start;
        while let Some(chunk) = read(pages, at, end, new_layout) {
            at += chunk.bytes;
            found.push(chunk);
        }
        if at < end {
            rest.push((at, end));
        }
    }
    rest.sort_unstable_by_key(|(start, end)| end - start);
    let mut looked = 0;
    'search: for (start, end) in rest {
        let mut at = start + pages.page_bytes();
        while at < end {
            if found.len() as u64 >= most || par.mmaps.is_none() || looked >= PAGES_MAX {
                break 'search;
            }
            looked += 1;
            match read(pages, at, end, new_layout) {
                Some(chunk) => {
                    at += chunk.bytes;
                    found.push(chunk);
                }
                None => at += pages.page_bytes(),
            }
        }
    }
    found.sort_unstable_by_key(|chunk| chunk.start);
    found
}

/// The parts of a range that lie in none of the ascending ranges `taken`.
fn outside(start: u64, end: u64, taken: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    let mut at = start;
    for &(from, to) in taken.iter().filter(|t| t.1 > start && t.0 < end) {
        if from > at {
            left.push((at, from));
        }
        at = at.max(to);
    }
    if at < end {
        left.push((at, end));
    }
    left
}

/// The chunk whose mapping begins at `start`, if there is one.
fn read(pages: &mut Pages, start: u64, end: u64, new_layout: bool) -> Option<Mmapped> {
    // memalign moves a chunk up to where the caller's memory is aligned, or one step further when too little is left.
    let moved = (5..=ALIGN_MAX_BITS).flat_map(|bits| {
        let align = 1u64 << bits;
        let chunk = (start + CHUNK_FD).next_multiple_of(align) - CHUNK_FD;
        [chunk, chunk + align]
    });
    std::iter::once(start).chain(moved.filter(|chunk| chunk - start >= MIN_CHUNK && *chunk < end)).find_map(|chunk| {
        let (front, head) = (pages.word(chunk)?, pages.word(chunk + 8)?);
        let bytes = front.checked_add(head & !FLAGS)?.checked_add(if new_layout { CHUNK_FD } else { 0 })?;
        let fits = bytes > 0 && bytes <= end - start && bytes.is_multiple_of(pages.page_bytes());
        let ours = front == chunk - start && head & FLAGS == IS_MMAPPED && head & !FLAGS >= MIN_CHUNK;
        (fits && ours).then_some(Mmapped { start, bytes, chunk, present_bytes: None })
    })
}
