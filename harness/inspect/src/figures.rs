//! The bytes of a survey by what they are.

use fragbench_model::HeapBytes;

use crate::chunk::Kind;
use crate::survey::{Segment, Survey};

impl Survey {
    /// The whole heap.
    pub fn bytes(&self) -> HeapBytes {
        let mut sum = HeapBytes::default();
        for arena in 0..self.arenas.len() {
            let part = self.arena_bytes(arena);
            sum = add(sum, &part);
        }
        let found: u64 = self.mmapped.iter().map(|m| m.bytes).sum();
        let missing = self.settings.mmapped_bytes.map_or(0, |counted| counted.saturating_sub(found));
        sum.live_bytes += found;
        sum.mmapped_bytes += found;
        sum.unknown_bytes += missing;
        sum.system_bytes += found + missing;
        sum.resident_bytes += self.mmapped.iter().map(|m| m.present_bytes.unwrap_or(m.bytes)).sum::<u64>();
        sum
    }

    /// One arena, by its index. What malloc counts as the arena's and no segment shows is unknown.
    pub fn arena_bytes(&self, arena: usize) -> HeapBytes {
        let segments = self.segments.iter().filter(|s| s.arena == arena);
        let mut sum = segments.map(Segment::bytes).fold(HeapBytes::default(), |sum, part| add(sum, &part));
        let counted = self.arenas.get(arena).map_or(0, |a| a.system_bytes);
        let missing = counted.saturating_sub(sum.system_bytes);
        sum.unknown_bytes += missing;
        sum.system_bytes += missing;
        sum
    }
}

impl Segment {
    /// This segment.
    pub fn bytes(&self) -> HeapBytes {
        let resident = self.resident();
        let mut sweep = resident.sweep();
        let mut sum = HeapBytes {
            system_bytes: self.end - self.start,
            resident_bytes: resident.bytes(),
            swapped_bytes: self.swapped.bytes(),
            ..HeapBytes::default()
        };
        for (address, size, kind) in self.chunks() {
            match kind {
                Kind::Live => sum.live_bytes += size,
                Kind::Tcache => sum.tcache_bytes += size,
                Kind::Fast | Kind::Small | Kind::Large | Kind::Unsorted => {
                    sum.free_bytes += size;
                    sum.free_resident_bytes += sweep.overlap(address..address + size);
                    if kind == Kind::Fast {
                        sum.fast_bytes += size;
                    }
                }
                Kind::Top => {
                    sum.top_bytes += size;
                    sum.top_resident_bytes += sweep.overlap(address..address + size);
                }
                Kind::Own => sum.own_bytes += size,
                Kind::Foreign => sum.foreign_bytes += size,
                Kind::Unknown => sum.unknown_bytes += size,
            }
        }
        sum
    }
}

fn add(a: HeapBytes, b: &HeapBytes) -> HeapBytes {
    HeapBytes {
        system_bytes: a.system_bytes + b.system_bytes,
        resident_bytes: a.resident_bytes + b.resident_bytes,
        swapped_bytes: a.swapped_bytes + b.swapped_bytes,
        live_bytes: a.live_bytes + b.live_bytes,
        mmapped_bytes: a.mmapped_bytes + b.mmapped_bytes,
        free_bytes: a.free_bytes + b.free_bytes,
        free_resident_bytes: a.free_resident_bytes + b.free_resident_bytes,
        fast_bytes: a.fast_bytes + b.fast_bytes,
        tcache_bytes: a.tcache_bytes + b.tcache_bytes,
        top_bytes: a.top_bytes + b.top_bytes,
        top_resident_bytes: a.top_resident_bytes + b.top_resident_bytes,
        own_bytes: a.own_bytes + b.own_bytes,
        foreign_bytes: a.foreign_bytes + b.foreign_bytes,
        unknown_bytes: a.unknown_bytes + b.unknown_bytes,
    }
}
