//! Writes one thread's operations into blocks: the inverse of [`crate::decode`], layout in [`crate::format`].
//!
//! The encoder is told slots, not addresses; which slot an allocation gets is decided by [`Lane`], since the reader's
//! free-slot stack is part of the encoding.

use std::collections::VecDeque;

use crate::decode::Adjust;
use crate::format::{
    ARG_FOLLOWS, DECODED_MAX, GENERATIONS, RESIDENT_MIN, RESIDENT_UNKNOWN, SLOTS_MAX, STACK_MAX, kind,
};
use crate::pack::state::state;
use crate::varint::{put, zigzag};

/// Most bytes one operation adds to a block, over all sections: five arguments of 64 bits, a time step, a refill.
const OP_MAX: usize = 80;

/// Slots freed by another thread rest this long before they are used again, so that in a replay, where threads may
/// stray from each other, the owner rarely finds one not yet emptied.
const REST_US: u64 = 2_000;

/// A live block's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockName {
    pub(crate) lane: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

state!(BlockName { lane, slot, generation });

/// A lane's slots as the packer knows them. The reader knows only what the current block freed.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Free slots the reader does not know of, most recently freed last.
    pool: Vec<u32>,
    /// Slots freed by other threads, and when.
    resting: VecDeque<(u64, u32)>,
    /// Generation of each slot ever used.
    generations: Vec<u32>,
}

state!(Lane { pool, resting, generations });

impl Lane {
    /// Slots used so far.
    pub(crate) fn slots(&self) -> u32 {
        self.generations.len() as u32
    }

    /// Generation of the block that lives in a slot.
    #[inline(always)]
    pub(crate) fn generation(&self, slot: u32) -> u32 {
        self.generations[slot as usize]
    }

    /// Takes back a slot that another thread has freed.
    pub(crate) fn rest(&mut self, slot: u32, now_us: u64) {
        self.resting.push_back((now_us, slot));
    }

    /// A free slot the reader does not have on its stack.
    fn take(&mut self, now_us: u64) -> Option<u32> {
        loop {
            let slot = match self.resting.front() {
                Some(&(at, slot)) if at + REST_US <= now_us => {
                    self.resting.pop_front();
                    slot
                }
                _ => match self.pool.pop() {
                    Some(slot) => slot,
                    None => {
                        let fresh = self.generations.len() as u32;
                        if fresh >= SLOTS_MAX {
                            return None;
                        }
                        self.generations.push(0);
                        fresh
                    }
                },
            };
            // A slot must not come near the end of its generations within this block.
            if self.generations[slot as usize] < GENERATIONS - DECODED_MAX as u32 {
                return Some(slot);
            }
        }
    }

    fn fill(&mut self, slot: u32) -> u32 {
        let generation = &mut self.generations[slot as usize];
        *generation += 1;
        *generation
    }
}

/// A finished block, borrowed from its encoder.
#[derive(Debug)]
pub(crate) struct Finished<'a> {
    pub(crate) seq: u32,
    pub(crate) first_us: u64,
    pub(crate) last_us: u64,
    pub(crate) events: u32,
    pub(crate) refill: &'a [u8],
    pub(crate) time: &'a [u8],
    pub(crate) units: &'a [u8],
    pub(crate) residents: &'a [u32],
}

/// How an allocation was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Malloc,
    Calloc,
    Aligned { log2: u32 },
    ReallocUnseen,
}

/// One thread's open block.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub(crate) lane: u32,
    seq: u32,
    units: Vec<u8>,
    time: Vec<u8>,
    refill: Vec<u8>,
    residents: Vec<u32>,
    stack: Vec<u32>,
    last_refill: u32,
    last_other: BlockName,
    /// Operations since time last advanced.
    run: u64,
    first_us: u64,
    now_us: u64,
    events: u32,
}

state!(Encoder {
    lane,
    seq,
    units,
    time,
    refill,
    residents,
    stack,
    last_refill,
    last_other,
    run,
    first_us,
    now_us,
    events,
});

impl Encoder {
    pub(crate) fn new(lane: u32) -> Self {
        Self {
            lane,
            seq: 0,
            units: Vec::new(),
            time: Vec::new(),
            refill: Vec::new(),
            residents: Vec::new(),
            stack: Vec::new(),
            last_refill: 0,
            last_other: BlockName { lane: 0, slot: 0, generation: 0 },
            run: 0,
            first_us: 0,
            now_us: 0,
            events: 0,
        }
    }

    /// Number of the open block.
    pub(crate) fn seq(&self) -> u32 {
        self.seq
    }

    /// Whether another operation might not fit.
    pub(crate) fn is_full(&self) -> bool {
        self.units.len() + self.time.len() + self.refill.len() + OP_MAX > DECODED_MAX
            || self.residents.len() >= DECODED_MAX / 8
    }

    /// Whether nothing is in the open block.
    pub(crate) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// The open block as it is to be written.
    pub(crate) fn finished(&self) -> Finished<'_> {
        Finished {
            seq: self.seq,
            first_us: self.first_us,
            last_us: self.now_us,
            events: self.events,
            refill: &self.refill,
            time: &self.time,
            units: &self.units,
            residents: &self.residents,
        }
    }

    /// Begins the next block: what the reader had on its stack is known only here from now on.
    pub(crate) fn next_block(&mut self, lane: &mut Lane) {
        lane.pool.append(&mut self.stack);
        self.seq += 1;
        self.units.clear();
        self.time.clear();
        self.refill.clear();
        self.residents.clear();
        self.last_refill = 0;
        self.last_other = BlockName { lane: 0, slot: 0, generation: 0 };
        self.run = 0;
        self.events = 0;
    }

    /// Resident entry of the open block, to be filled in.
    pub(crate) fn resident_mut(&mut self, index: u32) -> Option<&mut u32> {
        self.residents.get_mut(index as usize)
    }

    /// An allocation; `None` when the lane has no more slots. With the block's name comes the index of its resident
    /// entry, if it has one.
    pub(crate) fn allocate(
        &mut self,
        lane: &mut Lane,
        us: u64,
        size: u64,
        ask: Ask,
    ) -> Option<(BlockName, Option<u32>)> {
        self.at(us);
        let name = self.fill(lane)?;
        match ask {
            Ask::Malloc if size < 1 << 14 => self.unit((size as u16) << 2 | 0b10),
            Ask::Malloc => self.op(kind::MALLOC, size),
            Ask::Calloc => self.op(kind::CALLOC, size),
            Ask::ReallocUnseen => self.op(kind::REALLOC_UNSEEN, size),
            Ask::Aligned { log2 } => {
                self.op(kind::ALIGNED, log2.into());
                self.arg(size);
            }
        }
        Some((name, self.resident(size)))
    }

    /// A free of a block of the own lane.
    pub(crate) fn free(&mut self, us: u64, slot: u32) {
        self.at(us);
        if slot < 1 << 15 {
            self.unit((slot as u16) << 1 | 1);
        } else {
            self.op(kind::FREE, slot.into());
        }
    }

    /// Puts a slot freed by its owner where the reader puts it.
    pub(crate) fn release(&mut self, lane: &mut Lane, slot: u32) {
        if self.stack.len() < STACK_MAX {
            self.stack.push(slot);
        } else {
            lane.pool.push(slot);
        }
    }

    /// A free of another lane's block.
    pub(crate) fn free_other(&mut self, us: u64, name: BlockName) {
        self.at(us);
        let last = self.last_other;
        let slots = zigzag(i64::from(name.slot) - i64::from(last.slot));
        let generations = zigzag(i64::from(name.generation) - i64::from(last.generation));
        let same_lane = last.generation != 0 && name.lane == last.lane;
        if same_lane && generations == 0 && slots < ARG_FOLLOWS.into() {
            self.op(kind::FREE_NEAR, slots);
        } else if same_lane && generations < ARG_FOLLOWS.into() {
            self.op(kind::FREE_SAME_LANE, generations);
            self.arg(name.slot.into());
        } else {
            self.op(kind::FREE_OTHER, name.lane.into());
            self.arg(name.slot.into());
            self.arg(name.generation.into());
        }
        self.last_other = name;
    }

    /// A free of a block nobody has seen.
    pub(crate) fn free_unseen(&mut self, us: u64) {
        self.at(us);
        self.op(kind::FREE_UNSEEN, 0);
    }

    /// A realloc of a block of the own lane, which keeps its slot.
    pub(crate) fn realloc(
        &mut self,
        lane: &mut Lane,
        us: u64,
        slot: u32,
        size: u64,
        moved: bool,
    ) -> (BlockName, Option<u32>) {
        self.at(us);
        self.op(if moved { kind::REALLOC_MOVED } else { kind::REALLOC_IN_PLACE }, slot.into());
        self.arg(size);
        (BlockName { lane: self.lane, slot, generation: lane.fill(slot) }, self.resident(size))
    }

    /// A realloc of another lane's block, which goes to a slot of the own lane.
    pub(crate) fn realloc_other(
        &mut self,
        lane: &mut Lane,
        us: u64,
        old: BlockName,
        size: u64,
        moved: bool,
    ) -> Option<(BlockName, Option<u32>)> {
        self.at(us);
        let name = self.fill(lane)?;
        self.op(if moved { kind::REALLOC_OTHER_MOVED } else { kind::REALLOC_OTHER_IN_PLACE }, old.lane.into());
        self.arg(old.slot.into());
        self.arg(old.generation.into());
        self.arg(size);
        self.last_other = old;
        Some((name, self.resident(size)))
    }

    /// The thread's turn in the order of first operations and exits; no event of the malloc API.
    pub(crate) fn turn(&mut self, us: u64, number: u64) {
        self.at(us);
        self.events -= 1;
        self.op(kind::TURN, number);
    }

    /// The thread's end; no event of the malloc API.
    pub(crate) fn exit(&mut self, us: u64, number: u64) {
        self.at(us);
        self.events -= 1;
        self.op(kind::EXIT, number);
    }

    /// The program adjusts its allocator; no event of the malloc API.
    pub(crate) fn adjust(&mut self, us: u64, adjust: Adjust) {
        self.at(us);
        self.events -= 1;
        match adjust {
            Adjust::Trim { pad } => {
                self.op(kind::ADJUST, 0);
                self.arg(pad);
            }
            Adjust::Mallopt { param, value } => {
                self.op(kind::ADJUST, 1);
                self.arg((param as u32).into());
                self.arg((value as u32).into());
            }
        }
    }

    fn fill(&mut self, lane: &mut Lane) -> Option<BlockName> {
        let slot = match self.stack.pop() {
            Some(slot) => slot,
            None => {
                let slot = lane.take(self.now_us)?;
                put(&mut self.refill, zigzag(i64::from(slot) - i64::from(self.last_refill)));
                self.last_refill = slot;
                slot
            }
        };
        Some(BlockName { lane: self.lane, slot, generation: lane.fill(slot) })
    }

    fn resident(&mut self, size: u64) -> Option<u32> {
        (size >= RESIDENT_MIN).then(|| {
            self.residents.push(RESIDENT_UNKNOWN);
            self.residents.len() as u32 - 1
        })
    }

    /// Counts an operation at `us`, which is never before the one before.
    fn at(&mut self, us: u64) {
        if self.units.is_empty() {
            self.first_us = us.max(self.now_us);
            self.now_us = self.first_us;
        }
        if us > self.now_us {
            let (n, d) = (self.run, us - self.now_us);
            self.time.push(((d - 1).min(15) << 4 | n.min(15)) as u8);
            if n >= 15 {
                put(&mut self.time, n - 15);
            }
            if d >= 16 {
                put(&mut self.time, d - 16);
            }
            self.now_us = us;
            self.run = 0;
        }
        self.run += 1;
        self.events += 1;
    }

    fn unit(&mut self, unit: u16) {
        self.units.extend_from_slice(&unit.to_le_bytes());
    }

    fn op(&mut self, kind: u16, first: u64) {
        if first < ARG_FOLLOWS.into() {
            self.unit((first as u16) << 6 | kind << 2);
        } else {
            self.unit(ARG_FOLLOWS << 6 | kind << 2);
            self.arg(first);
        }
    }

    fn arg(&mut self, mut v: u64) {
        while v >= 1 << 15 {
            self.unit(v as u16 | 1 << 15);
            v >>= 15;
        }
        self.unit(v as u16);
    }
}
