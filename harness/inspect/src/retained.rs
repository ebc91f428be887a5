//! What holds free memory: for every stretch of heap with free memory that is still resident, the fewest chunks whose
//! going would let it go.
//!
//! A stretch that ends in its arena's top shrinks from its end only, so its pins are the chunks from the top down, as
//! far as free memory worth the name lies below them. A full heap of an arena goes as a whole, once everything in
//! it is free: its pins are all its chunks.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use fragbench_model::{PinGroup, PinKind, Retained, StretchKind};

use crate::chunk::Kind;
use crate::layout::{ALIGN, THRESHOLD};
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
        all.sort_by_key(|held| Reverse(held.free_resident_bytes));
        all
    }

    fn held(&self, segment: &Segment, types: &mut Types) -> Option<Retained> {
        let resident = segment.resident();
        let mut sweep = resident.sweep();
        let (mut free, mut mappable_chunks, mut mappable_bytes) = (0, 0, 0);
        for (at, size, _) in segment.chunks().filter(|chunk| chunk.2.is_free()) {
            let present = sweep.overlap(at..at + size);
            free += present;
            if present > 0 && size >= THRESHOLD {
                mappable_chunks += 1;
                mappable_bytes += present;
            }
        }
        if free < LEAST {
            return None;
        }
        let ends_in_top = segment.chunks().next_back().is_some_and(|chunk| chunk.2 == Kind::Top);
        // From the end down, as far as most of it is. A full heap goes with its last chunk.
        let goal = if ends_in_top { free / 10 * HELD } else { u64::MAX };
        let mut pins = Pins::default();
        let mut held = 0;
        for (at, size, kind) in segment.chunks().rev() {
            let fencepost = kind == Kind::Own && at + size == segment.end;
            let header = kind == Kind::Own && at == segment.start;
            if kind.is_free() {
                held += resident.overlap(at..at + size);
                if held >= goal {
                    break;
                }
            } else if kind != Kind::Top && !fencepost && !header {
                pins.add(at, size, kind, types);
            }
        }
        Some(Retained {
            arena: segment.arena,
            start: segment.start,
            free_resident_bytes: free,
            held_bytes: held,
            releasable_bytes: self.releasable(segment),
            kind: if ends_in_top { StretchKind::Top } else { StretchKind::Heap },
            pin_chunks: pins.chunks,
            mappable_chunks,
            mappable_bytes,
            pins: pins.groups(types),
        })
    }
}

/// Chunks in use, counted by kind and size.
#[derive(Default)]
struct Pins {
    chunks: u64,
    /// By size and kind: how many, and the first.
    small: Vec<(u64, u64)>,
    large: BTreeMap<(u64, Kind), (u64, u64)>,
    types: BTreeMap<(u64, Kind), BTreeMap<String, u64>>,
    typed: usize,
}

/// Sizes that are counted in a table.
const SMALL: u64 = 16 << 10;

impl Pins {
    fn add(&mut self, at: u64, size: u64, kind: Kind, types: &mut Types) {
        self.chunks += 1;
        let count = if size < SMALL {
            self.small.resize(self.small.len().max(SMALL as usize), (0, 0));
            &mut self.small[(size / ALIGN) as usize * Kind::ALL.len() + kind as usize]
        } else {
            self.large.entry((size, kind)).or_default()
        };
        if count.0 == 0 {
            count.1 = at;
        }
        count.0 += 1;
        if kind == Kind::Live && self.typed < TYPED {
            self.typed += 1;
            if let Some(name) = types.of(at) {
                *self.types.entry((size, kind)).or_default().entry(name).or_default() += 1;
            }
        }
    }

    /// The most frequent.
    fn groups(mut self, types: &mut Types) -> Vec<PinGroup> {
        let kinds = Kind::ALL.len();
        let small = self.small.iter().enumerate().filter(|(_, count)| count.0 > 0);
        let small = small.map(|(i, count)| (((i / kinds) as u64 * ALIGN, Kind::ALL[i % kinds]), *count));
        let mut all: Vec<_> = small.chain(self.large).collect();
        all.sort_by_key(|((size, kind), (count, _))| (Reverse((*count, *size)), *kind));
        all.truncate(GROUPS);
        all.into_iter()
            .map(|((size, kind), (chunks, example))| PinGroup {
                kind: match kind {
                    Kind::Live => PinKind::Live,
                    Kind::Tcache => PinKind::Tcache,
                    Kind::Own => PinKind::Own,
                    _ => PinKind::Unknown,
                },
                chunk_bytes: size,
                chunks,
                example,
                types: self.types.remove(&(size, kind)).unwrap_or_default(),
                contents: types.contents(example, size),
            })
            .collect()
    }
}
