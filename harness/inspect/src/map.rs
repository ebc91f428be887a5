//! A survey drawn to scale: each segment as cells with their bytes by what they are, and the chunks that hold its free
//! memory.

use fragbench_model::{HeapCell, HeapMap, HeapPin, HeapRow, PinKind};

use crate::chunk::Kind;
use crate::survey::{Segment, Survey};

impl Survey {
    /// A map of about `cells` cells: fewer when a page is more than a cell, more when there are more segments.
    pub fn map(&self, cells: usize) -> HeapMap {
        let sizes: Vec<u64> = self.segments.iter().map(|s| s.end - s.start).collect();
        let most = (cells as u64).max(sizes.len() as u64).max(1);
        let fits = |cell: u64| sizes.iter().map(|size| size.div_ceil(cell)).sum::<u64>() <= most;
        let mut cell = (sizes.iter().sum::<u64>() / most).next_multiple_of(self.page_bytes).max(self.page_bytes);
        while !fits(cell) {
            cell += (cell / 16).next_multiple_of(self.page_bytes);
        }
        self.map_to_scale(cell)
    }

    /// A map whose cells are of `cell_bytes`, rounded up to whole pages: for maps that are to be compared.
    pub fn map_to_scale(&self, cell_bytes: u64) -> HeapMap {
        let cell_bytes = cell_bytes.max(1).next_multiple_of(self.page_bytes);
        let rows = self.segments.iter().map(|segment| HeapRow {
            arena: segment.arena,
            start: segment.start,
            bytes: segment.end - segment.start,
            resident_bytes: segment.resident().bytes(),
            cells: cells(segment, cell_bytes),
            pins: pins(segment, self.page_bytes),
        });
        HeapMap { cell_bytes, rows: rows.collect() }
    }
}

fn cells(segment: &Segment, cell_bytes: u64) -> Vec<HeapCell> {
    let count = (segment.end - segment.start).div_ceil(cell_bytes) as usize;
    let mut cells = vec![HeapCell::default(); count];
    let resident = segment.resident();
    let mut sweep = resident.sweep();
    for (address, size, kind) in segment.chunks() {
        let (mut at, end) = (address, address + size);
        while at < end {
            let place = (at - segment.start) / cell_bytes;
            let stop = end.min(segment.start + (place + 1) * cell_bytes);
            let bytes = stop - at;
            let cell = &mut cells[place as usize];
            match kind {
                Kind::Live => cell.live += bytes,
                Kind::Tcache => cell.tcache += bytes,
                Kind::Own => cell.own += bytes,
                Kind::Foreign | Kind::Unknown => cell.unknown += bytes,
                Kind::Fast | Kind::Small | Kind::Large | Kind::Unsorted => {
                    let present = sweep.overlap(at..stop);
                    cell.free_resident += present;
                    cell.free_absent += bytes - present;
                }
                Kind::Top => {
                    let present = sweep.overlap(at..stop);
                    cell.top_resident += present;
                    cell.top_absent += bytes - present;
                }
            }
            at = stop;
        }
    }
    cells
}

/// What holds the free memory below a segment's top: the chunks between the top and the first free run of a page or
/// more; and, if they hold less than half of what is free, the fewest chunks below the top whose going would let half of
/// it join the top. Chunks have to go from the top down, since a top grows only into what it borders on.
fn pins(segment: &Segment, page_bytes: u64) -> Vec<HeapPin> {
    let below_top = || segment.chunks().rev().skip_while(|(.., kind)| *kind != Kind::Top).skip(1);
    let free: u64 = below_top().filter(|(.., kind)| kind.is_free()).map(|(_, size, _)| size).sum();
    let mut pins: Vec<HeapPin> = Vec::new();
    if free < page_bytes {
        return pins;
    }
    let mut pin: Option<HeapPin> = None;
    let mut chunks = below_top().peekable();
    while let Some((address, size, kind)) = chunks.next() {
        if kind.is_free() {
            if let Some(pin) = &mut pin {
                pin.holds_bytes += size;
            }
            let run_ends = chunks.peek().is_none_or(|(.., next)| !next.is_free());
            let enough = |pin: &HeapPin| pin.holds_bytes >= if pins.is_empty() { page_bytes } else { free.div_ceil(2) };
            if let Some(held) = pin.as_ref().filter(|pin| run_ends && enough(pin)) {
                pins.push(held.clone());
                if held.holds_bytes >= free.div_ceil(2) {
                    break;
                }
            }
            continue;
        }
        let name = match kind {
            Kind::Live => PinKind::Live,
            Kind::Tcache => PinKind::Tcache,
            Kind::Own => PinKind::Own,
            _ => PinKind::Unknown,
        };
        let so_far = pin.get_or_insert(HeapPin { address, offset: 0, chunks: 0, bytes: 0, kind: name, holds_bytes: 0 });
        so_far.address = address;
        so_far.offset = address - segment.start;
        so_far.chunks += 1;
        so_far.bytes += size;
        if so_far.kind != name {
            so_far.kind = PinKind::Mixed;
        }
    }
    pins
}
