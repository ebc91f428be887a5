//! Work again, after memory was given back: the stretch of the trace that leads to its live peak, on new threads, as
//! work that comes back finds a server whose connections have gone. Each thread does its own blocks' operations on
//! blocks made in the stretch, skips what belongs to others, and frees at the end what it has left.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use fragbench_engine::{ALL_PAGES, Block, Context, Ledger};
use fragbench_trace::decode::{Alloc, Block as TraceBlock, Fault, Op, Visitor};
use fragbench_trace::{BlockEntry, Totals};

use crate::run::Run;

/// Events replayed again, to the block.
const EVENTS: u64 = 300_000;

/// Replays the stretch.
pub(crate) fn resume(run: &Arc<Run>, totals: &Totals, first: Option<usize>, ctx: &mut Context) {
    let trace = &run.loader.trace;
    let all = || run.threads.iter().enumerate().flat_map(|(p, t)| trace.blocks(*t).iter().map(move |b| (p, *b)));
    // The blocks that begin latest before the peak.
    let mut stretch: Vec<(usize, BlockEntry)> = all().filter(|(_, b)| b.first_us <= totals.peak_live_at_us).collect();
    stretch.sort_by_key(|(_, b)| std::cmp::Reverse(b.first_us));
    let mut events = 0;
    let taken = stretch.iter().take_while(|(_, b)| {
        let more = events < EVENTS;
        events += u64::from(b.events);
        more
    });
    let mut by_thread: HashMap<usize, Vec<BlockEntry>> = HashMap::new();
    for (place, block) in taken {
        by_thread.entry(*place).or_default().push(*block);
    }
    // Never above the peak that the replay itself has reached.
    let room = totals.peak_live_bytes.saturating_sub(totals.live_end_bytes);
    let room = Arc::new(AtomicI64::new(i64::try_from(room).unwrap_or(i64::MAX)));
    let own = first.and_then(|p| by_thread.remove(&p));
    let mut order: Vec<_> = by_thread.into_iter().collect();
    order.sort_by_key(|(place, _)| *place);
    let others: Vec<_> = order
        .into_iter()
        .map(|(_, blocks)| {
            let (run, room) = (run.clone(), room.clone());
            ctx.spawner().spawn(move |ledger| again(&run, blocks, &room, ledger))
        })
        .collect();
    if let Some(blocks) = own {
        again(run, blocks, &room, ctx.ledger());
    }
    drop(others);
}

fn again(run: &Run, mut blocks: Vec<BlockEntry>, room: &AtomicI64, ledger: &mut Ledger) {
    blocks.sort_by_key(|b| b.seq);
    let mut player = Again { held: HashMap::new(), room, ledger };
    let mut block = TraceBlock::default();
    for entry in &blocks {
        run.loader.load(entry, &mut block);
        // It was decoded before: the run would have ended on a fault.
        let _: Result<(), Fault> = block.visit(&mut player);
    }
    let mut slots: Vec<u32> = player.held.keys().copied().collect();
    slots.sort_unstable();
    for slot in slots {
        player.give_up(slot);
    }
}

struct Again<'r> {
    held: HashMap<u32, Block>,
    /// Bytes that may still be taken, by all threads together.
    room: &'r AtomicI64,
    ledger: &'r mut Ledger,
}

impl Again<'_> {
    fn give_up(&mut self, slot: u32) {
        if let Some(block) = self.held.remove(&slot) {
            self.room.fetch_add(block.size() as i64, Ordering::Relaxed);
            self.ledger.free(block);
        }
    }

    fn make(&mut self, slot: u32, size: u64, by: Alloc, resident_pages: Option<u32>) {
        // What another thread freed in the recording is still here.
        self.give_up(slot);
        if self.room.fetch_sub(size as i64, Ordering::Relaxed) < size as i64 {
            self.room.fetch_add(size as i64, Ordering::Relaxed);
            return;
        }
        let (id, pages, size) = (self.ledger.next_id(), resident_pages.unwrap_or(ALL_PAGES), size as usize);
        let block = match by {
            Alloc::Malloc | Alloc::ReallocUnseen => self.ledger.malloc_touching(id, size, pages),
            Alloc::Calloc => self.ledger.calloc(id, size, pages),
            Alloc::Aligned(align) => self.ledger.aligned(id, align as usize, size, pages),
        };
        self.held.insert(slot, block);
    }
}

impl Visitor for Again<'_> {
    type Stop = Fault;

    fn at(&mut self, _us: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn malloc(&mut self, slot: u32, size: u32) -> Result<(), Fault> {
        self.make(slot, size.into(), Alloc::Malloc, None);
        Ok(())
    }

    fn free(&mut self, slot: u32) -> Result<(), Fault> {
        self.give_up(slot);
        Ok(())
    }

    fn other(&mut self, op: Op) -> Result<(), Fault> {
        match op {
            Op::Allocate { slot, size, by, resident_pages } => self.make(slot, size, by, resident_pages),
            Op::ReallocOther { slot, size, resident_pages, .. } => self.make(slot, size, Alloc::Malloc, resident_pages),
            Op::Free { slot } => self.give_up(slot),
            Op::Realloc { slot, size, resident_pages, .. } => match self.held.remove(&slot) {
                Some(block) => {
                    let grown = size as i64 - block.size() as i64;
                    self.room.fetch_sub(grown, Ordering::Relaxed);
                    let pages = resident_pages.unwrap_or(ALL_PAGES);
                    let block = self.ledger.realloc(block, (size as usize).max(1), pages);
                    self.held.insert(slot, block);
                }
                None => self.make(slot, size, Alloc::Malloc, resident_pages),
            },
            Op::FreeOther { .. } | Op::FreeUnseen | Op::Adjust(_) | Op::Turn { .. } | Op::Exit { .. } => {}
        }
        Ok(())
    }
}
