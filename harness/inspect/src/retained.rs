//! What holds free memory: for every stretch of heap with free memory that is still resident, the fewest chunks whose
//! going would let it go.
//!
//! A stretch that ends in its arena's top shrinks from its end only, so its pins are the chunks from the top down, as
//! far as free memory worth the name lies below them. A full heap of an arena goes as a whole, once everything in
//! it is free: its pins are all its chunks.

use std::collections::BTreeMap;

use fragbench_model::{PinGroup, Retained};

use crate::chunk::Kind;
use crate::survey::{Segment, Survey};
use crate::types::Types;

/// Less free memory than this is not looked into.
const LEAST: u64 = 64 << 10;
/// Share of the free memory that the pins named hold at least, of 10.
const HELD: u64 = 9;
/// Sizes named for a stretch.
const GROUPS: usize = 8;
/// Chunks whose type is looked up, for a stretch.
const TYPED: usize = 4096;

impl Survey {
    /// What holds free memory, the most first.
    pub(crate) fn retained(&self, types: &mut Types) -> Vec<Retained> {
        let mut all: Vec<Retained> = self.segments.iter().filter_map(|segment| self.held(segment, types)).collect();
        all.sort_by_key(|held| std::cmp::Reverse(held.free_resident_bytes));
        all
    }

    fn held(&self, segment: &Segment, types: &mut Types) -> Option<Retained> {
        let resident = segment.resident();
        let mut sweep = resident.sweep();
        // Every chunk with what of it is free and in memory.
        let mut chunks: Vec<(u64, u64, Kind, u64)> = segment
            .chunks()
            .map(|(at, size, kind)| (at, size, kind, if kind.is_free() { sweep.overlap(at..at + size) } else { 0 }))
            .collect();
        let ends_in_top = chunks.last().is_some_and(|chunk| chunk.2 == Kind::Top);
        if ends_in_top {
            chunks.pop();
        } else if chunks.last().is_some_and(|chunk| chunk.2 == Kind::Own) {
            // Fenceposts.
            chunks.pop();
        }
        let free: u64 = chunks.iter().map(|chunk| chunk.3).sum();
        if free < LEAST {
            return None;
        }
        // From the end down: the shortest stretch of chunks below which little is left. For a full heap all of it.
        let goal = if ends_in_top { free / 10 * HELD } else { free };
        let (mut held, mut last) = (0, chunks.len());
        for (i, chunk) in chunks.iter().enumerate().rev() {
            last = i;
            held += chunk.3;
            if ends_in_top && held >= goal {
                break;
            }
        }
        let threshold = self.settings.mmap_threshold.unwrap_or(0);
        let mappable = |size: u64| size >= crate::layout::THRESHOLD && size <= threshold;
        let large = chunks.iter().filter(|chunk| chunk.2.is_free() && chunk.3 > 0 && mappable(chunk.1));
        let (large_chunks, large_bytes) = large.fold((0, 0), |(n, sum), chunk| (n + 1, sum + chunk.3));
        // The heap's own header, and in an arena's first heap the arena, never go.
        let first = usize::from(chunks.first().is_some_and(|chunk| chunk.2 == Kind::Own));
        let pins = groups(&chunks[last.max(first)..], types);
        Some(Retained {
            arena: segment.arena,
            start: segment.start,
            free_resident_bytes: free,
            held_bytes: held,
            releasable_bytes: self.releasable(segment),
            kind: if ends_in_top { "top" } else { "heap" }.into(),
            pin_chunks: pins.iter().map(|group| group.chunks).sum(),
            mappable_chunks: large_chunks,
            mappable_bytes: large_bytes,
            pins: pins.into_iter().take(GROUPS).collect(),
        })
    }
}

/// Chunks in use by kind and size, the most chunks first.
fn groups(chunks: &[(u64, u64, Kind, u64)], types: &mut Types) -> Vec<PinGroup> {
    let mut groups: BTreeMap<(Kind, u64), PinGroup> = BTreeMap::new();
    let mut typed = 0;
    for &(at, size, kind, _) in chunks.iter().rev().filter(|chunk| !chunk.2.is_free()) {
        let name = match kind {
            Kind::Live => "live",
            Kind::Tcache => "tcache",
            Kind::Own => "own",
            _ => "unknown",
        };
        let group = groups.entry((kind, size)).or_insert_with(|| PinGroup {
            kind: name.into(),
            chunk_bytes: size,
            chunks: 0,
            example: at,
            types: BTreeMap::new(),
            contents: types.contents(at, size),
        });
        group.chunks += 1;
        if kind == Kind::Live && typed < TYPED {
            typed += 1;
            if let Some(name) = types.of(at) {
                *group.types.entry(name).or_default() += 1;
            }
        }
    }
    let mut groups: Vec<PinGroup> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse((group.chunks, group.chunk_bytes)));
    groups
}
