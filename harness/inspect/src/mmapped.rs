//! Chunks that malloc mapped one by one. No list leads to them: they are recognised by their header at the start of a
//! page, and malloc's own count of them says when all have been found.
//!
//! Source: glibc malloc/malloc.c (`sysmalloc_mmap`, `_int_memalign`, `mremap_chunk`; `mmap_set_chunk` of 2.43).

use fragbench_proc::{Mapping, Part, ProcError};
use serde::{Deserialize, Serialize};

use crate::arena::{Par, is_plain};
use crate::layout::{CHUNK_FD, FLAGS, IS_MMAPPED, MIN_CHUNK};
use crate::pages::Pages;

/// Present pages searched for chunks that do not begin a mapping, at most: 16 GiB of 4 KiB pages.
const PAGES_MAX: u64 = 1 << 22;
/// Headers read in one call.
const BATCH: usize = 1024;
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
/// from its start, chunk after chunk; then, if malloc counts more, from
/// every page, the smallest mappings first.
///
/// # Errors
/// When the target cannot be read any more.
pub(crate) fn find(
    pages: &mut Pages,
    mappings: &[Mapping],
    taken: &[(u64, u64)],
    par: &Par,
    new_layout: bool,
) -> Result<Vec<Mmapped>, ProcError> {
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
    for (start, end) in rest {
        if par.mmaps.is_none() || found.len() as u64 >= most || looked >= PAGES_MAX {
            break;
        }
        let mut at = start;
        for page in candidates(pages, start, end, PAGES_MAX - looked, &mut looked)? {
            if page >= at
                && let Some(chunk) = read(pages, page, end, new_layout)
            {
                at = page + chunk.bytes;
                found.push(chunk);
            }
        }
    }
    found.sort_unstable_by_key(|chunk| chunk.start);
    Ok(found)
}

/// Pages of a range that begin as a mapped chunk does; `looked` is raised by the pages that were read, at most `most`.
fn candidates(pages: &Pages, start: u64, end: u64, most: u64, looked: &mut u64) -> Result<Vec<u64>, ProcError> {
    let present = match pages.target().residency(start..end)? {
        Some(residency) => residency.present,
        None => std::iter::once(start..end).collect(),
    };
    let step = pages.page_bytes() as usize;
    let all: Vec<u64> = present.into_iter().flat_map(|run| run.step_by(step)).take(most as usize).collect();
    *looked += all.len() as u64;
    let mut passed = Vec::new();
    for batch in all.chunks(BATCH) {
        let mut headers = vec![0u8; 16 * batch.len()];
        let slots = headers.chunks_exact_mut(16);
        let mut parts: Vec<Part> = batch.iter().zip(slots).map(|(page, into)| Part::new(*page, into)).collect();
        pages.target().read(&mut parts)?;
        for (page, header) in batch.iter().zip(headers.as_chunks::<16>().0) {
            let header = u128::from_le_bytes(*header);
            if begins(header as u64, (header >> 64) as u64) {
                passed.push(*page);
            }
        }
    }
    Ok(passed)
}

/// Whether two words are the header that malloc writes at the start of a mapping. It stays there when the chunk is moved
/// up for an alignment.
fn begins(front: u64, head: u64) -> bool {
    front == 0 && head & FLAGS == IS_MMAPPED && head & !FLAGS >= MIN_CHUNK
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
    if !begins(pages.word(start)?, pages.word(start + 8)?) {
        return None;
    }
    // memalign moves a chunk up to where the caller's memory is aligned, or one step further when too little is left.
    // Only the moved header is kept up afterwards, so it comes first.
    let moved = (5..=ALIGN_MAX_BITS).flat_map(|bits| {
        let align = 1u64 << bits;
        let chunk = (start + CHUNK_FD).next_multiple_of(align) - CHUNK_FD;
        [chunk, chunk + align]
    });
    let moved = moved.filter(|chunk| chunk - start >= MIN_CHUNK && *chunk < end);
    moved.chain(std::iter::once(start)).find_map(|chunk| {
        let (front, head) = (pages.word(chunk)?, pages.word(chunk + 8)?);
        let bytes = front.checked_add(head & !FLAGS)?.checked_add(if new_layout { CHUNK_FD } else { 0 })?;
        let fits = bytes > 0 && bytes <= end - start && bytes.is_multiple_of(pages.page_bytes());
        let ours = front == chunk - start && head & FLAGS == IS_MMAPPED && head & !FLAGS >= MIN_CHUNK;
        (fits && ours).then_some(Mmapped { start, bytes, chunk, present_bytes: None })
    })
}
