//! Reads the operations of one block. Layout and meaning in [`crate::format`].
//!
//! Everything is checked: a block made by anybody decodes to operations or to a [`Fault`], never to a panic. Whether
//! the slots named hold what they should is for the caller to see, who keeps the slots.

use crate::format::{
    ARG_FOLLOWS, BlockHeader, GENERATIONS, RESIDENT_MIN, RESIDENT_UNKNOWN, SIZE_MAX, SLOTS_MAX, STACK_MAX, THREADS_MAX,
    kind,
};
pub use crate::operation::{Adjust, Alloc, Fault, Op, Visitor};
use crate::varint::{get, unzigzag};

/// One decoded block of operations and the state of reading it. Made to be reused from block to block.
#[derive(Debug, Default)]
pub struct Block {
    units: Vec<u16>,
    at: usize,
    /// Refill and time section.
    bytes: Vec<u8>,
    refill_at: usize,
    refill_end: usize,
    time_at: usize,
    last_refill: u32,
    residents: Vec<u32>,
    resident_at: usize,
    now_us: u64,
    last_us: u64,
    /// Operations left before time advances by `step`.
    run: u64,
    step: u64,
    last_other: (u32, u32, u32),
    top: usize,
    /// Of `STACK_MAX` slots, allocated when first needed.
    stack: Vec<u32>,
}

const SLOT: Fault = Fault("a slot out of range");
const SIZE: Fault = Fault("a size out of range");
const CUT: Fault = Fault("an operation cut short");
const REFILL: Fault = Fault("too few slots");
const TIME: Fault = Fault("a time that is not its own");

impl Block {
    /// Starts on a block: `payload` and `residents` as stored; `scratch` is needed for the call only.
    ///
    /// # Errors
    /// The payload does not decompress to the header's length.
    pub fn load(
        &mut self,
        header: &BlockHeader,
        payload: &[u8],
        residents: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let bytes = if header.lz4 {
            scratch.resize(header.decoded_len(), 0);
            match lz4_flex::block::decompress_into(payload, scratch) {
                Ok(n) if n == scratch.len() => &scratch[..],
                _ => return Err(Fault("a payload that does not decompress")),
            }
        } else if payload.len() == header.decoded_len() {
            payload
        } else {
            return Err(Fault("a payload of another length than it says"));
        };
        self.refill_at = 0;
        self.refill_end = header.refill_len as usize;
        self.time_at = self.refill_end;
        let units_at = self.time_at + header.time_len as usize;
        self.units.clear();
        self.units.extend(bytes[units_at..].chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])));
        self.bytes.clear();
        self.bytes.extend_from_slice(&bytes[..units_at]);
        self.at = 0;
        self.residents.clear();
        self.residents.extend(residents.chunks_exact(4).map(|b| crate::format::u32_at(b, 0)));
        self.resident_at = 0;
        self.last_refill = 0;
        self.last_other = (0, 0, 0);
        self.top = 0;
        self.stack.resize(STACK_MAX, 0);
        self.now_us = header.first_us;
        self.last_us = header.last_us;
        self.next_run()
    }

    /// Time of the next operation.
    #[inline]
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Whether every operation has been read.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.at >= self.units.len()
    }

    /// The next operation, with its time. `None` at the end.
    ///
    /// # Errors
    /// The block cannot be decoded; what follows in it is lost.
    pub fn next_op(&mut self) -> Result<Option<(u64, Op)>, Fault> {
        while self.run == 0 {
            self.advance()?;
        }
        let Some(&unit) = self.units.get(self.at) else { return Ok(None) };
        self.at += 1;
        self.run -= 1;
        let op = if unit & 1 == 1 {
            let slot = u32::from(unit >> 1);
            self.push(slot);
            Op::Free { slot }
        } else if unit & 3 == 2 {
            Op::Allocate { slot: self.pop()?, size: u64::from(unit >> 2), by: Alloc::Malloc, resident_pages: None }
        } else {
            self.general(unit)?
        };
        Ok(Some((self.now_us, op)))
    }

    /// Tells all that is left of the block to `visitor`: the fast way through.
    ///
    /// Position and stack pointer are kept in variables of the loop: a field would be stored and loaded again around
    /// every call the visitor makes.
    ///
    /// # Errors
    /// What the visitor answers, or a [`Fault`]; the rest of the block is then lost.
    #[inline]
    pub fn visit<V: Visitor>(&mut self, visitor: &mut V) -> Result<(), V::Stop> {
        /// How many units ahead "soon" is: time for a miss of the caches.
        const SOON: usize = 8;
        // Not branched on: whether a unit is a free is as hard to foretell here as when its turn comes.
        let freed = |unit: u16| u32::from(unit >> 1) * u32::from(unit & 1);
        let mut units = std::mem::take(&mut self.units);
        let mut stack = std::mem::take(&mut self.stack);
        let (mut at, mut top) = (self.at, self.top);
        while at < units.len() {
            while self.run == 0 {
                self.advance()?;
            }
            visitor.at(self.now_us)?;
            // A run counts operations, of which there are no more than units.
            let n = self.run.min((units.len() - at) as u64);
            self.run -= n;
            for _ in 0..n {
                let Some(&unit) = units.get(at) else { break };
                at += 1;
                if unit & 1 == 1 {
                    if V::LOOKS_AHEAD
                        && let Some(&soon) = units.get(at + SOON - 1)
                    {
                        visitor.ahead(freed(soon));
                    }
                    let slot = u32::from(unit >> 1);
                    if let Some(free) = stack.get_mut(top) {
                        *free = slot;
                        top += 1;
                    }
                    visitor.free(slot)?;
                } else if unit & 3 == 2 {
                    let slot = match stack.get(top.wrapping_sub(1)) {
                        Some(&slot) => {
                            top -= 1;
                            slot
                        }
                        None => self.refill()?,
                    };
                    visitor.malloc(slot, u32::from(unit >> 2))?;
                } else {
                    (self.units, self.stack, self.at, self.top) = (units, stack, at, top);
                    let op = self.general(unit);
                    (units, stack, at, top) =
                        (std::mem::take(&mut self.units), std::mem::take(&mut self.stack), self.at, self.top);
                    visitor.other(op?)?;
                }
            }
        }
        (self.units, self.stack, self.at, self.top) = (units, stack, at, top);
        Ok(())
    }

    fn advance(&mut self) -> Result<(), Fault> {
        self.now_us = self.now_us.checked_add(self.step).filter(|t| *t <= self.last_us).ok_or(TIME)?;
        self.next_run()
    }

    /// Reads the next pair of the time section.
    fn next_run(&mut self) -> Result<(), Fault> {
        let Some(&b) = self.bytes.get(self.time_at) else {
            // Time stands still after the last pair.
            self.run = u64::MAX;
            self.step = 0;
            return Ok(());
        };
        self.time_at += 1;
        self.run = u64::from(b & 15);
        self.step = u64::from(b >> 4) + 1;
        if self.run == 15 {
            self.run = get(&self.bytes, &mut self.time_at).and_then(|n| n.checked_add(15)).ok_or(TIME)?;
        }
        if self.step == 16 {
            self.step = get(&self.bytes, &mut self.time_at).and_then(|d| d.checked_add(16)).ok_or(TIME)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn push(&mut self, slot: u32) {
        if let Some(free) = self.stack.get_mut(self.top) {
            *free = slot;
            self.top += 1;
        }
    }

    #[inline(always)]
    fn pop(&mut self) -> Result<u32, Fault> {
        match self.top.checked_sub(1).and_then(|top| self.stack.get(top)) {
            Some(&slot) => {
                self.top -= 1;
                Ok(slot)
            }
            None => self.refill(),
        }
    }

    fn refill(&mut self) -> Result<u32, Fault> {
        let section = &self.bytes[..self.refill_end];
        let delta = unzigzag(get(section, &mut self.refill_at).ok_or(REFILL)?);
        let slot = i64::from(self.last_refill).checked_add(delta).ok_or(SLOT)?;
        self.last_refill = u32::try_from(slot).ok().filter(|s| *s < SLOTS_MAX).ok_or(SLOT)?;
        Ok(self.last_refill)
    }

    fn arg(&mut self) -> Result<u64, Fault> {
        let mut v = 0;
        for shift in [0, 15, 30, 45, 60] {
            let unit = *self.units.get(self.at).ok_or(CUT)?;
            self.at += 1;
            v |= u64::from(unit & 0x7fff) << shift;
            if unit < 0x8000 {
                return Ok(v);
            }
        }
        Err(CUT)
    }

    fn slot(&mut self) -> Result<u32, Fault> {
        small(self.arg()?, SLOTS_MAX, SLOT)
    }

    /// A 32-bit number written without its sign.
    fn signed(&mut self) -> Result<i32, Fault> {
        u32::try_from(self.arg()?).map(|v| v as i32).map_err(|_| Fault("a number of more than 32 bits"))
    }

    fn size(&mut self) -> Result<u64, Fault> {
        let size = self.arg()?;
        if size <= SIZE_MAX { Ok(size) } else { Err(SIZE) }
    }

    fn resident(&mut self, size: u64) -> Option<u32> {
        if size < RESIDENT_MIN {
            return None;
        }
        let pages = self.residents.get(self.resident_at).copied().filter(|p| *p != RESIDENT_UNKNOWN);
        self.resident_at += 1;
        pages
    }

    fn allocate(&mut self, size: u64, by: Alloc) -> Result<Op, Fault> {
        if size > SIZE_MAX {
            return Err(SIZE);
        }
        Ok(Op::Allocate { slot: self.pop()?, size, by, resident_pages: self.resident(size) })
    }

    /// Remembers the last block of another lane, to which the next one is a difference.
    fn other_lane(&mut self, lane: u32, slot: u32, generation: u32) -> (u32, u32, u32) {
        self.last_other = (lane, slot, generation);
        self.last_other
    }

    fn full_name(&mut self, lane: u64) -> Result<(u32, u32, u32), Fault> {
        let lane = small(lane, THREADS_MAX, Fault("a lane out of range"))?;
        let slot = self.slot()?;
        let generation = small(self.arg()?, GENERATIONS, Fault("a generation out of range"))?;
        Ok(self.other_lane(lane, slot, generation))
    }

    #[inline(never)]
    fn general(&mut self, unit: u16) -> Result<Op, Fault> {
        let first = match unit >> 6 {
            ARG_FOLLOWS => self.arg()?,
            arg => arg.into(),
        };
        let kind = unit >> 2 & 15;
        Ok(match kind {
            kind::FREE => {
                let slot = small(first, SLOTS_MAX, SLOT)?;
                self.push(slot);
                Op::Free { slot }
            }
            kind::MALLOC => self.allocate(first, Alloc::Malloc)?,
            kind::CALLOC => self.allocate(first, Alloc::Calloc)?,
            kind::REALLOC_UNSEEN => self.allocate(first, Alloc::ReallocUnseen)?,
            kind::ALIGNED => {
                let log2 = small(first, 48, Fault("an alignment out of range"))?;
                let size = self.size()?;
                self.allocate(size, Alloc::Aligned(1 << log2))?
            }
            kind::FREE_OTHER => {
                let (lane, slot, generation) = self.full_name(first)?;
                Op::FreeOther { lane, slot, generation }
            }
            kind::FREE_NEAR => {
                let (lane, slot, generation) = self.last_other;
                let slot = moved(slot, first, SLOTS_MAX).ok_or(SLOT)?;
                self.other_lane(lane, slot, generation);
                Op::FreeOther { lane, slot, generation }
            }
            kind::FREE_SAME_LANE => {
                let (lane, _, generation) = self.last_other;
                let generation = moved(generation, first, GENERATIONS).ok_or(Fault("a generation out of range"))?;
                let slot = self.slot()?;
                self.other_lane(lane, slot, generation);
                Op::FreeOther { lane, slot, generation }
            }
            kind::FREE_UNSEEN => Op::FreeUnseen,
            kind::REALLOC_IN_PLACE | kind::REALLOC_MOVED => {
                let slot = small(first, SLOTS_MAX, SLOT)?;
                let size = self.size()?;
                let resident_pages = self.resident(size);
                Op::Realloc { slot, size, moved: kind == kind::REALLOC_MOVED, resident_pages }
            }
            kind::REALLOC_OTHER_IN_PLACE | kind::REALLOC_OTHER_MOVED => {
                let (from_lane, from_slot, generation) = self.full_name(first)?;
                let size = self.size()?;
                Op::ReallocOther {
                    slot: self.pop()?,
                    size,
                    from_lane,
                    from_slot,
                    generation,
                    moved: kind == kind::REALLOC_OTHER_MOVED,
                    resident_pages: self.resident(size),
                }
            }
            kind::TURN => Op::Turn { number: first },
            kind::EXIT => Op::Exit { number: first },
            kind::ADJUST => Op::Adjust(match first {
                0 => Adjust::Trim { pad: self.arg()? },
                1 => Adjust::Mallopt { param: self.signed()?, value: self.signed()? },
                _ => return Err(Fault("a call of an unknown kind that adjusts the allocator")),
            }),
            _ => return Err(Fault("an operation of an unknown kind")),
        })
    }
}

fn small(v: u64, end: u32, fault: Fault) -> Result<u32, Fault> {
    u32::try_from(v).ok().filter(|v| *v < end).ok_or(fault)
}

fn moved(from: u32, by: u64, end: u32) -> Option<u32> {
    let v = i64::from(from).checked_add(unzigzag(by))?;
    u32::try_from(v).ok().filter(|v| *v < end)
}
