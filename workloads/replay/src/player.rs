//! One thread of the replay: its stream of operations, done one after the other.

use std::sync::Arc;

use fragbench_engine::clock::{monotonic_ns, sleep_ns};
use fragbench_engine::timeline::Seat;
use fragbench_engine::{ALL_PAGES, Block, Ledger, fail, refuse, timeline};
use fragbench_model::Touch;
use fragbench_model::WorkerErrorKind;
use fragbench_trace::HOLE_ALIGN;
use fragbench_trace::decode::{Adjust, Alloc, Block as TraceBlock, Fault, Op, Visitor};

use crate::run::{Run, Tally};
use crate::slots::Slot;
use crate::starter::Starter;
use crate::sys::yield_now;

/// A wait looks this often before it gives up the processor, this often by yielding, and then sleeps.
const SPINS: u32 = 100;
const YIELDS: u32 = 50;
const NAP_NS: u64 = 20_000;
/// A wait this long means that the trace contradicts itself.
const HOPELESS_NS: u64 = 60_000_000_000;

/// Plays the stream of the thread at `place` (`None`: a first thread without operations) and, with a starter, starts
/// the other threads on the way. Answers whether the stream ended with the thread's exit; all others then wait for this
/// thread to be gone.
pub(crate) fn play(
    run: &Arc<Run>,
    copy: usize,
    place: Option<usize>,
    ledger: &mut Ledger,
    starter: Option<&mut Starter>,
) -> bool {
    let thread = place.map_or(&[][..], |p| run.loader.trace.blocks(run.threads[p]));
    let lane = thread.first().map_or(0, |b| b.lane);
    let told = ledger.live_bytes();
    let ledger_tagged = ledger.touch() != Touch::None;
    let mut player = Player {
        run,
        copy,
        seat: run.seat(copy, place),
        own: run.copies[copy].lane(lane),
        ids: id(copy, lane, 0),
        ledger,
        starter,
        tally: Tally::default(),
        told,
        tell_at: run.peak.step(),
        horizon_us: 0,
        pace_us: 0,
        check_us: 0,
        exited: false,
        tagged: ledger_tagged,
        building: run.prologue_us > 0,
        holes: 0,
    };
    let mut block = TraceBlock::default();
    for entry in thread {
        run.loader.load(entry, &mut block);
        match block.visit(&mut player) {
            Ok(()) => {}
            Err(Stop::Exit) => break,
            Err(Stop::Fault(what)) => contradiction(entry.thread, entry.at, what),
        }
    }
    player.finish()
}

/// Identity of what is in a slot: no two live blocks share one.
#[inline(always)]
fn id(copy: usize, lane: u32, slot: u32) -> u64 {
    (copy as u64) << 55 | u64::from(lane) << 31 | u64::from(slot)
}

/// The least microsecond that is not below a horizon.
fn below(horizon_ns: u64) -> u64 {
    horizon_ns.div_ceil(1000)
}

fn contradiction(thread: u32, offset: u64, what: &str) -> ! {
    fail(refuse(
        WorkerErrorKind::BadTrace,
        format!("thread {thread}, block at offset {offset}: {what}; the trace contradicts itself, record it again"),
    ))
}

/// Why a visit of a block ended.
enum Stop {
    /// The thread's exit.
    Exit,
    Fault(&'static str),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault.what())
    }
}

const EMPTY: Stop = Stop::Fault("a free of a slot that holds no block");
const BEYOND: Stop = Stop::Fault("a slot beyond its lane");

struct Player<'r> {
    run: &'r Arc<Run>,
    copy: usize,
    seat: &'r Seat,
    /// Slots of the thread's own lane.
    own: &'r [Slot],
    /// Identity of the own lane's slot 0.
    ids: u64,
    ledger: &'r mut Ledger,
    starter: Option<&'r mut Starter>,
    tally: Tally,
    /// Live bytes of the ledger that [`Run::peak`] knows of.
    told: i64,
    /// A change of that sum that is to be told.
    tell_at: u64,
    horizon_us: u64,
    pace_us: u64,
    /// Time from which something has to be looked after: the least of the horizon, the pace and the next start.
    check_us: u64,
    exited: bool,
    /// Blocks bear tags.
    tagged: bool,
    /// What the process held when it was attached to is being built.
    building: bool,
    /// Free chunks made so far.
    holes: u64,
}

impl Player<'_> {
    fn finish(mut self) -> bool {
        while let Some(start) = self.starter.as_ref().and_then(|s| s.next()) {
            self.look(start.us);
        }
        self.built();
        self.tell();
        self.run.counts.add(&self.tally);
        timeline().leave(self.seat);
        if self.exited {
            self.run.turns.pass_and_exit();
        }
        self.exited
    }

    /// What the process held is there; its holes were made and freed.
    fn built(&mut self) {
        self.building = false;
        self.ledger.uncount_calls(2 * std::mem::take(&mut self.holes));
    }

    /// Brings the thread to operations at `us`, and starts the threads that begin before.
    #[cold]
    #[inline(never)]
    fn look(&mut self, us: u64) {
        loop {
            let start = self.starter.as_ref().and_then(|s| s.next());
            let Some(start) = start.filter(|s| s.us <= us) else {
                self.reach(us);
                let next_start_us = start.map_or(u64::MAX, |s| s.us);
                let pace_us = if self.run.paced.is_some() { self.pace_us } else { u64::MAX };
                if us >= self.run.prologue_us {
                    self.built();
                }
                let built_us = if self.building { self.run.prologue_us } else { u64::MAX };
                self.check_us = self.horizon_us.min(pace_us).min(next_start_us).min(built_us);
                return;
            };
            // A start is an operation of this thread: it parks with the start's time, not with that of what follows.
            self.reach(start.us);
            let run = self.run;
            let number = run.turn(self.copy, start.turn);
            self.tally.turn_waits += self.wait(|| run.turns.has_come(number));
            if let Some(starter) = &mut self.starter {
                starter.start();
            }
            run.turns.pass();
        }
    }

    /// Returns when recorded time, and with a pace the wall's, has come to `us`.
    fn reach(&mut self, us: u64) {
        if us >= self.horizon_us {
            self.horizon_us = below(timeline().horizon_ns());
            if us >= self.horizon_us {
                self.tell();
                self.horizon_us = below(timeline().park(self.seat, us.saturating_mul(1000)));
            }
        }
        if let Some(paced) = &self.run.paced
            && us >= self.pace_us
        {
            self.pace_us = paced.wait(us);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell(&mut self) {
        // Holes are no live blocks.
        if self.building {
            return;
        }
        let live = self.ledger.live_bytes();
        self.run.peak.add(live - self.told);
        self.told = live;
    }

    /// Waits for something that another thread does; 1 if it had to.
    #[cold]
    #[inline(never)]
    fn wait(&mut self, ready: impl Fn() -> bool) -> u64 {
        if ready() {
            return 0;
        }
        let start = monotonic_ns();
        let mut looks = 0;
        while !ready() {
            looks += 1;
            if looks < SPINS {
                std::hint::spin_loop();
            } else if looks < SPINS + YIELDS {
                yield_now();
            } else {
                sleep_ns(NAP_NS);
                if monotonic_ns() - start > HOPELESS_NS {
                    let text = "a thread has waited for a minute for what another should do; \
                                the trace contradicts itself, record it again";
                    fail(refuse(WorkerErrorKind::BadTrace, text));
                }
            }
        }
        self.ledger.waited(monotonic_ns() - start);
        1
    }

    /// The slot of the own lane that an allocation goes to, empty.
    #[inline(always)]
    fn vacant(&mut self, slot: u32) -> Result<&'_ Slot, Stop> {
        let own = self.own;
        let s = own.get(slot as usize).ok_or(BEYOND)?;
        if !s.is_empty() {
            self.tally.slot_waits += self.wait(|| s.is_empty());
        }
        Ok(s)
    }

    fn take_other(&mut self, lane: u32, slot: u32, generation: u32) -> Result<Block, Stop> {
        let s = self.run.copies[self.copy].lane(lane).get(slot as usize).ok_or(BEYOND)?;
        if !s.holds(generation) {
            self.tally.waits += self.wait(|| s.holds(generation));
        }
        s.take_other(id(self.copy, lane, slot)).ok_or(EMPTY)
    }

    /// Does to glibc's allocator what the program did to it; another's has no such calls.
    fn adjust(&mut self, adjust: Adjust) {
        let done = match adjust {
            Adjust::Trim { pad } => fragbench_engine::adjust::trim(usize::try_from(pad).unwrap_or(usize::MAX)),
            Adjust::Mallopt { param, value } => fragbench_engine::adjust::mallopt(param, value),
        };
        *(if done { &mut self.tally.adjusts } else { &mut self.tally.adjusts_left_out }) += 1;
    }

    #[cold]
    #[inline(never)]
    fn general(&mut self, op: Op) -> Result<(), Stop> {
        match op {
            // Under glibc the holes make its heap what it was; for another they mean nothing.
            Op::Allocate { slot, size, by: Alloc::Aligned(HOLE_ALIGN), resident_pages } if self.building => {
                let s = self.own.get(slot as usize).ok_or(BEYOND)?;
                if self.run.no_holes {
                    s.skip();
                    return Ok(());
                }
                let (id, size) = (self.ids + u64::from(slot), size as usize);
                s.put(self.ledger.malloc_touching(id, size, resident_pages.unwrap_or(ALL_PAGES)));
                // No work: the same is counted under every allocator.
                self.ledger.uncount(id, size);
                self.holes += 1;
            }
            Op::Allocate { slot, size, by, resident_pages } => {
                let s = self.own.get(slot as usize).ok_or(BEYOND)?;
                self.vacant(slot)?;
                let (id, size) = (self.ids + u64::from(slot), size as usize);
                let pages = resident_pages.unwrap_or(ALL_PAGES);
                s.put(match by {
                    Alloc::Malloc | Alloc::ReallocUnseen => self.ledger.malloc_touching(id, size, pages),
                    Alloc::Calloc => self.ledger.calloc(id, size, pages),
                    Alloc::Aligned(align) => self.ledger.aligned(id, align as usize, size, pages),
                });
            }
            Op::Free { slot } => return self.free(slot),
            Op::FreeOther { lane, slot, generation } => {
                let block = self.take_other(lane, slot, generation)?;
                self.ledger.free(block);
            }
            Op::FreeUnseen => self.tally.unseen_frees += 1,
            Op::Realloc { slot, size, resident_pages, .. } => {
                let s = self.own.get(slot as usize).ok_or(BEYOND)?;
                let block = s.take(self.ids + u64::from(slot)).ok_or(EMPTY)?;
                s.put(self.ledger.realloc(block, (size as usize).max(1), resident_pages.unwrap_or(ALL_PAGES)));
            }
            Op::ReallocOther { slot, size, from_lane, from_slot, generation, resident_pages, .. } => {
                let s = self.own.get(slot as usize).ok_or(BEYOND)?;
                let block = self.take_other(from_lane, from_slot, generation)?;
                self.vacant(slot)?;
                let block = self.ledger.realloc(block, (size as usize).max(1), resident_pages.unwrap_or(ALL_PAGES));
                s.put(self.ledger.rename(block, self.ids + u64::from(slot)));
            }
            Op::Adjust(adjust) => self.adjust(adjust),
            // The thread that started this one waited for the turn.
            Op::Turn { .. } => {}
            Op::Exit { number } => {
                let run = self.run;
                let number = run.turn(self.copy, number);
                self.tally.turn_waits += self.wait(|| run.turns.has_come(number));
                self.exited = true;
                return Err(Stop::Exit);
            }
        }
        Ok(())
    }
}

impl Visitor for Player<'_> {
    type Stop = Stop;

    #[inline(always)]
    fn at(&mut self, us: u64) -> Result<(), Stop> {
        if us >= self.check_us {
            self.look(us);
        }
        if (self.ledger.live_bytes() - self.told).unsigned_abs() > self.tell_at {
            self.tell();
        }
        Ok(())
    }

    #[inline(always)]
    fn malloc(&mut self, slot: u32, size: u32) -> Result<(), Stop> {
        let own = self.own;
        let s = own.get(slot as usize).ok_or(BEYOND)?;
        if !s.is_empty() {
            self.tally.slot_waits += self.wait(|| s.is_empty());
        }
        s.put(self.ledger.malloc(self.ids + u64::from(slot), size as usize));
        Ok(())
    }

    #[inline(always)]
    fn free(&mut self, slot: u32) -> Result<(), Stop> {
        let s = self.own.get(slot as usize).ok_or(BEYOND)?;
        let Some(block) = s.take(self.ids + u64::from(slot)) else {
            return if self.building && self.run.no_holes { Ok(()) } else { Err(EMPTY) };
        };
        self.ledger.free(block);
        Ok(())
    }

    #[inline(always)]
    fn other(&mut self, op: Op) -> Result<(), Stop> {
        self.general(op)
    }
    const LOOKS_AHEAD: bool = true;

    /// Fetches what is the replay's own: the slot, and the tag that is checked before the block is freed. The allocator
    /// finds the block's first line fetched either way, since the check comes before the call. Without tags the block is
    /// left alone: the allocator's own misses are part of what is measured.
    #[inline(always)]
    fn ahead(&mut self, soon: u32) {
        if self.tagged
            && let Some(slot) = self.own.get(soon as usize)
        {
            slot.fetch_block();
        }
    }
}
