//! All events of a trace in recorded order, with what each block was.
//!
//! The threads are merged by time; within one microsecond the order in which blocks change hands decides. Memory is
//! one block of operations a running thread, and the slots of the live blocks. Damaged blocks of the file are passed
//! over: what they allocated is then freed "unseen", what they freed stays live until its slot is used again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::decode::{Adjust, Alloc, Block, Op};
use crate::error::{Damage, TraceError};
use crate::reader::{BlockEntry, Scratch, Trace};
use crate::varint::get;

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Thread, numbered in order of starting; 0 is the program's first.
    pub thread: u32,
    /// Microseconds since the recording began.
    pub at_us: u64,
    /// What happened.
    pub kind: EventKind,
    /// Number of the block, in order of allocation over the whole trace; a realloc keeps it. `None` where no block is
    /// known or meant.
    pub object: Option<u64>,
    /// Bytes asked for; of a free, of the block freed; of a system call, the length after. 0 where none is known.
    pub size: u64,
    /// The block before: of a free or realloc.
    pub before: Option<Before>,
    /// 4 KiB pages of the new block touched by the time it was freed; known only for blocks of 16 KiB and more.
    pub resident_pages: Option<u32>,
}

/// What a live, freed or reallocated block is or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// Bytes asked for.
    pub size: u64,
    /// Thread that allocated or last reallocated it.
    pub thread: u32,
    /// When it was first allocated.
    pub born_us: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// `malloc`.
    Malloc,
    /// `calloc`.
    Calloc,
    /// With an alignment in bytes.
    Aligned(u64),
    /// `realloc`, moved or in place; without [`Event::before`] when the block's allocation was not seen.
    Realloc {
        /// Whether its address changed.
        moved: bool,
    },
    /// `free`; without [`Event::before`] when the block's allocation was not seen.
    Free,
    /// The thread's first event follows.
    ThreadStart,
    /// The thread ended.
    ThreadExit,
    /// The program's own system call on anonymous memory.
    System {
        /// Which.
        call: SystemCall,
        /// `mremap`: length before. `madvise`: the advice. `mmap`: flags. `mallopt`: the parameter, as a 32-bit number
        /// without sign. Else 0.
        detail: u64,
    },
}

/// System calls that are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemCall {
    /// `mmap` of anonymous memory.
    Mmap,
    /// `munmap`.
    Munmap,
    /// `mremap`.
    Mremap,
    /// `madvise`.
    Madvise,
    /// `brk` or `sbrk`.
    Brk,
    /// `malloc_trim`, which is no system call but asks for some.
    MallocTrim,
    /// `mallopt`, likewise.
    Mallopt,
}

/// What a slot holds.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    generation: u32,
    live: bool,
    thread: u32,
    object: u64,
    size: u64,
    born_us: u64,
}

#[derive(Debug, Default)]
struct Lane {
    slots: Vec<Slot>,
    /// A block of the file was lost: generations can no longer be compared.
    torn: bool,
}

#[derive(Debug)]
struct Stream<'t> {
    thread: u32,
    blocks: std::slice::Iter<'t, BlockEntry>,
    lane: u32,
    /// Opened with the thread's first event, closed after its last.
    block: Option<Box<Block>>,
    next: Option<(u64, Op)>,
}

/// Iterator over a trace's events; see [`Trace::events_in_order`].
#[derive(Debug)]
pub struct Events<'t> {
    trace: &'t Trace,
    streams: Vec<Stream<'t>>,
    heap: BinaryHeap<Reverse<(u64, usize)>>,
    /// Streams whose next event waits for another of the same microsecond.
    stalled: Vec<usize>,
    lanes: Vec<Lane>,
    turns: u64,
    objects: u64,
    system: SystemStream<'t>,
    scratch: Scratch,
    damage: Vec<Damage>,
}

impl<'t> Events<'t> {
    pub(crate) fn new(trace: &'t Trace) -> Self {
        let mut streams = Vec::new();
        let mut heap = BinaryHeap::new();
        for thread in trace.threads() {
            let blocks = trace.blocks(thread);
            if let Some(first) = blocks.first() {
                heap.push(Reverse((first.first_us, streams.len())));
                streams.push(Stream { thread, blocks: blocks.iter(), lane: 0, block: None, next: None });
            }
        }
        let mut damage = trace.damage().to_vec();
        let system = SystemStream::new(trace, &mut damage);
        Self {
            trace,
            streams,
            heap,
            stalled: Vec::new(),
            lanes: Vec::new(),
            turns: 0,
            objects: 0,
            system,
            scratch: Scratch::default(),
            damage,
        }
    }

    /// What could not be read so far, in order of discovery.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The blocks that live after the events read so far, by lane and slot.
    pub fn live(&self) -> impl Iterator<Item = ((u32, u32), Before)> + '_ {
        self.lanes.iter().zip(0..).flat_map(|(lane, number)| {
            let slots = lane.slots.iter().zip(0..).filter(|(slot, _)| slot.live);
            slots.map(move |(s, slot)| ((number, slot), Before { size: s.size, thread: s.thread, born_us: s.born_us }))
        })
    }

    /// Makes sure the stream's next operation is decoded; `None` at its end.
    fn peek(&mut self, i: usize) -> Option<(u64, Op)> {
        loop {
            let s = &mut self.streams[i];
            if s.next.is_some() {
                return s.next;
            }
            let block = s.block.get_or_insert_default();
            match block.next_op() {
                Ok(Some(next)) => {
                    s.next = Some(next);
                    continue;
                }
                Ok(None) => {}
                Err(fault) => self.tear(i, fault.what()),
            }
            let s = &mut self.streams[i];
            let Some(entry) = s.blocks.next() else {
                s.block = None;
                return None;
            };
            s.lane = entry.lane;
            let block = s.block.get_or_insert_default();
            if let Err(e) = self.trace.load(entry, block, &mut self.scratch) {
                **s.block.get_or_insert_default() = Block::default();
                match e {
                    TraceError::Damaged(d) => self.tear_at(i, d),
                    _ => self.tear_at(i, Damage { offset: entry.at, len: 0, what: "a block that cannot be read" }),
                }
            }
        }
    }

    fn tear(&mut self, i: usize, what: &'static str) {
        // The block in hand is the one before the iterator's.
        let s = &self.streams[i];
        let read = self.trace.blocks(s.thread).len() - s.blocks.len();
        let offset = self.trace.blocks(s.thread).get(read.wrapping_sub(1)).map_or(0, |e| e.at);
        if let Some(block) = &mut self.streams[i].block {
            **block = Block::default();
        }
        self.tear_at(i, Damage { offset, len: 0, what });
    }

    fn tear_at(&mut self, i: usize, damage: Damage) {
        self.damage.push(damage);
        let lane = self.streams[i].lane;
        if let Some(lane) = self.lane(lane) {
            lane.torn = true;
        }
    }

    fn lane(&mut self, lane: u32) -> Option<&mut Lane> {
        let lane = lane as usize;
        // There are never more lanes than threads; a file that says otherwise names blocks that do not exist.
        if lane >= self.streams.len() {
            return None;
        }
        if self.lanes.len() <= lane {
            self.lanes.resize_with(lane + 1, Lane::default);
        }
        Some(&mut self.lanes[lane])
    }

    /// The slot, if it has ever been filled.
    fn slot(&mut self, lane: u32, slot: u32) -> Option<&mut Slot> {
        self.lane(lane)?.slots.get_mut(slot as usize)
    }

    fn waits_for_empty(&mut self, lane: u32, slot: u32) -> bool {
        self.slot(lane, slot).is_some_and(|s| s.live)
    }

    fn waits_for_full(&mut self, lane: u32, slot: u32, generation: u32) -> bool {
        let torn = self.lane(lane).is_none_or(|l| l.torn);
        match self.slot(lane, slot) {
            Some(s) => !s.live || (s.generation < generation && !torn),
            None => true,
        }
    }

    fn must_wait(&mut self, i: usize, op: &Op) -> bool {
        let lane = self.streams[i].lane;
        match *op {
            Op::Allocate { slot, .. } => self.waits_for_empty(lane, slot),
            Op::FreeOther { lane, slot, generation } => self.waits_for_full(lane, slot, generation),
            Op::ReallocOther { slot, from_lane, from_slot, generation, .. } => {
                self.waits_for_empty(lane, slot) || self.waits_for_full(from_lane, from_slot, generation)
            }
            Op::Turn { number } | Op::Exit { number } => number > self.turns,
            Op::Free { .. } | Op::FreeUnseen | Op::Realloc { .. } | Op::Adjust(_) => false,
        }
    }

    /// Empties a slot and answers what was in it.
    fn take(&mut self, lane: u32, slot: u32, generation: Option<u32>) -> Option<Slot> {
        let torn = self.lane(lane)?.torn;
        let s = self.slot(lane, slot)?;
        if !s.live || (generation.is_some_and(|g| g != s.generation) && !torn) {
            return None;
        }
        s.live = false;
        Some(*s)
    }

    fn fill(&mut self, i: usize, slot: u32, size: u64, at_us: u64, was: Option<Slot>) -> u64 {
        let (thread, lane) = (self.streams[i].thread, self.streams[i].lane);
        let object = was.map_or(self.objects, |w| w.object);
        self.objects += u64::from(was.is_none());
        let Some(lane) = self.lane(lane) else { return object };
        // Slots are handed out in order, so a table that grows past them by much is a file's lie.
        if lane.slots.len() <= slot as usize && slot as usize <= lane.slots.len() + crate::format::DECODED_MAX {
            lane.slots.resize(slot as usize + 1, Slot::default());
        }
        if let Some(s) = lane.slots.get_mut(slot as usize) {
            let generation = s.generation.wrapping_add(1);
            *s = Slot { generation, live: true, thread, object, size, born_us: was.map_or(at_us, |w| w.born_us) };
        }
        object
    }

    fn apply(&mut self, i: usize, at_us: u64, op: Op) -> Event {
        let (thread, lane) = (self.streams[i].thread, self.streams[i].lane);
        let mut event =
            Event { thread, at_us, kind: EventKind::Free, object: None, size: 0, before: None, resident_pages: None };
        let before = |w: Slot| Before { size: w.size, thread: w.thread, born_us: w.born_us };
        match op {
            Op::Allocate { slot, size, by, resident_pages } => {
                event.kind = match by {
                    Alloc::Malloc => EventKind::Malloc,
                    Alloc::Calloc => EventKind::Calloc,
                    Alloc::Aligned(align) => EventKind::Aligned(align),
                    Alloc::ReallocUnseen => EventKind::Realloc { moved: true },
                };
                event.size = size;
                event.resident_pages = resident_pages;
                event.object = Some(self.fill(i, slot, size, at_us, None));
            }
            Op::Free { .. } | Op::FreeOther { .. } | Op::FreeUnseen => {
                let was = match op {
                    Op::Free { slot } => self.take(lane, slot, None),
                    Op::FreeOther { lane, slot, generation } => self.take(lane, slot, Some(generation)),
                    _ => None,
                };
                event.object = was.map(|w| w.object);
                event.size = was.map_or(0, |w| w.size);
                event.before = was.map(before);
            }
            Op::Realloc { slot, size, moved, resident_pages } => {
                let was = self.take(lane, slot, None);
                event.before = was.map(before);
                event.kind = EventKind::Realloc { moved };
                event.size = size;
                event.resident_pages = resident_pages;
                event.object = Some(self.fill(i, slot, size, at_us, was));
            }
            Op::ReallocOther { slot, size, from_lane, from_slot, generation, moved, resident_pages } => {
                let was = self.take(from_lane, from_slot, Some(generation));
                event.before = was.map(before);
                event.kind = EventKind::Realloc { moved };
                event.size = size;
                event.resident_pages = resident_pages;
                event.object = Some(self.fill(i, slot, size, at_us, was));
            }
            Op::Turn { number } => {
                self.turns = self.turns.max(number.saturating_add(1));
                event.kind = EventKind::ThreadStart;
            }
            Op::Adjust(Adjust::Trim { pad }) => {
                event.kind = EventKind::System { call: SystemCall::MallocTrim, detail: 0 };
                event.size = pad;
            }
            Op::Adjust(Adjust::Mallopt { param, value }) => {
                let detail = (param as u32).into();
                event.kind = EventKind::System { call: SystemCall::Mallopt, detail };
                event.size = (value as u32).into();
            }
            Op::Exit { number } => {
                self.turns = self.turns.max(number.saturating_add(1));
                event.kind = EventKind::ThreadExit;
            }
        }
        event
    }
}

impl Iterator for Events<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            let head = self.heap.peek().map(|Reverse(h)| *h);
            // Whoever waits for something of an earlier microsecond will not get it any more.
            let stalled_us = self.stalled.first().and_then(|&i| self.streams[i].next).map(|(us, _)| us);
            let forced = match (stalled_us, head) {
                (Some(us), Some((next, _))) => next > us,
                (Some(_), None) => true,
                (None, _) => false,
            };
            let i = if forced {
                self.stalled.remove(0)
            } else {
                let call_us = self.system.next.map(|e| e.at_us);
                if call_us.is_some_and(|call_us| head.is_none_or(|(us, _)| call_us < us)) {
                    return self.system.advance(self.trace, &mut self.damage);
                }
                let (_, i) = head?;
                self.heap.pop();
                i
            };
            let Some((us, op)) = self.peek(i) else { continue };
            if !forced {
                // The heap knew only when the next block begins, or that the last operation's time was this.
                if self.heap.peek().is_some_and(|Reverse((next, _))| *next < us) {
                    self.heap.push(Reverse((us, i)));
                    continue;
                }
                if self.must_wait(i, &op) {
                    self.stalled.push(i);
                    continue;
                }
            }
            self.streams[i].next = None;
            let event = self.apply(i, us, op);
            self.heap.push(Reverse((us, i)));
            for i in self.stalled.drain(..) {
                self.heap.push(Reverse((us, i)));
            }
            return Some(event);
        }
    }
}

#[derive(Debug)]
struct SystemStream<'t> {
    blocks: std::slice::Iter<'t, BlockEntry>,
    bytes: Vec<u8>,
    at: usize,
    offset: u64,
    now_us: u64,
    next: Option<Event>,
}

impl<'t> SystemStream<'t> {
    fn new(trace: &'t Trace, damage: &mut Vec<Damage>) -> Self {
        let mut stream =
            Self { blocks: trace.system_blocks().iter(), bytes: Vec::new(), at: 0, offset: 0, now_us: 0, next: None };
        stream.advance(trace, damage);
        stream
    }

    /// Answers the next call and reads the one after it.
    fn advance(&mut self, trace: &'t Trace, damage: &mut Vec<Damage>) -> Option<Event> {
        let out = self.next.take();
        while self.next.is_none() {
            if self.at < self.bytes.len() {
                self.next = self.parse();
                if self.next.is_none() {
                    damage.push(Damage { offset: self.offset, len: 0, what: "a system call that cannot be decoded" });
                    self.at = self.bytes.len();
                }
                continue;
            }
            let Some(entry) = self.blocks.next() else { break };
            self.at = 0;
            self.offset = entry.at;
            self.now_us = entry.first_us;
            match trace.system_block(entry) {
                Ok(bytes) => self.bytes = bytes,
                Err(e) => {
                    self.bytes.clear();
                    let what = "a block that cannot be read";
                    damage.push(match e {
                        TraceError::Damaged(d) => d,
                        _ => Damage { offset: entry.at, len: 0, what },
                    });
                }
            }
        }
        out
    }

    fn parse(&mut self) -> Option<Event> {
        let mut number = || get(&self.bytes, &mut self.at);
        let (dt, thread, call, detail, size) = (number()?, number()?, number()?, number()?, number()?);
        self.now_us = self.now_us.checked_add(dt)?;
        let calls = [SystemCall::Mmap, SystemCall::Munmap, SystemCall::Mremap, SystemCall::Madvise, SystemCall::Brk];
        Some(Event {
            thread: u32::try_from(thread).ok()?,
            at_us: self.now_us,
            kind: EventKind::System { call: *calls.get(call as usize)?, detail },
            object: None,
            size,
            before: None,
            resident_pages: None,
        })
    }
}
