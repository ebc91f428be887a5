//! The k-way merge of the threads' events by stamp, with alternation repair.

mod saved;

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};

use super::blocks::{Blocks, Held};
use super::clock::Clock;
use super::{ALLOCATION_WAIT_NS, FREE_WAIT_NS, PackOptions, PackReport, Source};
use crate::encode::Ask;
use crate::error::TraceError;
use crate::info::{RecordedOn, Totals};
use crate::spool::tail::{Place, Tail};
use crate::spool::{Batches, Spool, SpoolEvent, SpoolKind};
use crate::stacks::Stacks;

/// What a thread does next.
#[derive(Debug, Clone, Copy)]
enum Head {
    /// The event as it stands.
    Event(SpoolEvent),
    /// A realloc that moves: the old block was given up, the new one is to come.
    ReallocEnd { tsc: u64, old: Option<Held>, new: u64, size: u64 },
}

impl Head {
    fn key(&self) -> u64 {
        match self {
            Self::Event(event) => key(event),
            Self::ReallocEnd { tsc, .. } => (*tsc).min(LAST),
        }
    }
}

/// The last stamp there can be; only a damaged spool has later ones.
const LAST: u64 = u64::MAX - 1;

/// When an event is applied.
#[inline(always)]
fn key(event: &SpoolEvent) -> u64 {
    match event.kind {
        SpoolKind::Realloc { began, old, new, .. } if old != new => began.min(event.tsc),
        _ => event.tsc,
    }
    .min(LAST)
}

struct Cursor<'s> {
    thread: u32,
    /// Opened when the merge comes to the thread, closed at its end: a spool may have threads by the thousands.
    events: Option<Box<dyn Batches + 's>>,
    /// Events read and not yet applied are those from `at` on.
    ready: Vec<SpoolEvent>,
    at: usize,
    /// Goes before them: the second half of a realloc that moves.
    second: Option<Head>,
    /// Of the allocation that is to come.
    stack: Option<u32>,
    exited: bool,
}

/// So many events ahead the table of live blocks is told what will be asked for: time for a miss of the caches.
const SOON: usize = 6;

impl Cursor<'_> {
    fn new(thread: u32) -> Self {
        Self { thread, events: None, ready: Vec::new(), at: 0, second: None, stack: None, exited: false }
    }

    fn head(&self) -> Option<Head> {
        self.second.or_else(|| self.ready.get(self.at).copied().map(Head::Event))
    }

    /// Reads on where nothing is ready.
    fn read(&mut self) -> bool {
        if self.at >= self.ready.len() {
            self.at = 0;
            self.ready.clear();
            if let Some(events) = &mut self.events {
                events.more(&mut self.ready);
            }
        }
        !self.ready.is_empty()
    }
}

/// A thread whose next event waits for another thread's.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    cursor: usize,
    addr: u64,
    deadline: u64,
}

/// What became of an event.
enum Outcome {
    /// It happened, and what stood at this address has changed (0: none).
    Done { changed: u64 },
    /// Its first half happened, this is the second.
    Then(Head),
    /// It waits for another event at this address, so many ticks.
    Wait { addr: u64, ticks: u64 },
}

/// Where the merge gets a thread's events.
pub(super) trait Threads<'s> {
    /// From a place on, or from the beginning.
    fn open(&self, thread: u32, place: Option<Place>) -> Box<dyn Batches + 's>;
}

impl Threads<'static> for Tail {
    fn open(&self, thread: u32, place: Option<Place>) -> Box<dyn Batches + 'static> {
        Box::new(self.events(thread, place))
    }
}

impl<'s, S: Source> Threads<'s> for &'s S {
    fn open(&self, thread: u32, _: Option<Place>) -> Box<dyn Batches + 's> {
        self.batches(thread)
    }
}

/// The merge, which can be held at any stamp: events from there on are not looked at until it goes on.
pub(super) struct Merge<'s, T> {
    source: T,
    clock: Clock,
    cursors: Vec<Cursor<'s>>,
    heap: BinaryHeap<Reverse<(u64, usize)>>,
    waiting: Vec<Waiting>,
    /// Whether a thread without events may get more; those that have none at the moment.
    grows: bool,
    parked: Vec<usize>,
    by_thread: HashMap<u32, usize>,
    /// How far the events of threads that have ended were taken.
    ended: HashMap<u32, Place>,
    blocks: Blocks,
    allocation_wait: u64,
    free_wait: u64,
    now_us: u64,
    end_us: u64,
}

impl<'s, T: Threads<'s>> Merge<'s, T> {
    pub(super) fn new(source: T, clock: Clock, blocks: Blocks) -> Self {
        Self {
            source,
            clock,
            cursors: Vec::new(),
            heap: BinaryHeap::new(),
            waiting: Vec::new(),
            grows: false,
            parked: Vec::new(),
            by_thread: HashMap::new(),
            ended: HashMap::new(),
            blocks,
            allocation_wait: clock.ticks(ALLOCATION_WAIT_NS),
            free_wait: clock.ticks(FREE_WAIT_NS),
            now_us: 0,
            end_us: u64::MAX,
        }
    }

    /// Ends the trace after so many microseconds; what follows is still read for what it tells of blocks that live then.
    pub(super) fn end_at(&mut self, end_us: Option<u64>) {
        self.end_us = end_us.unwrap_or(u64::MAX);
    }

    /// Adds a thread, which is opened only when the merge comes to its first event.
    pub(super) fn add(&mut self, thread: u32) {
        let mut first = Vec::new();
        self.source.open(thread, None).more(&mut first);
        if let Some(first) = first.first() {
            self.heap.push(Reverse((key(first), self.cursors.len())));
            self.cursors.push(Cursor::new(thread));
        }
    }

    /// From here on threads may get more events, and others may come.
    pub(super) fn grow(&mut self) {
        self.grows = true;
    }

    /// Takes in the events that have come since: of threads that had none left, and of these.
    pub(super) fn take_in(&mut self, threads: &[u32]) {
        for cursor in std::mem::take(&mut self.parked) {
            self.cursors[cursor].read();
            self.park_or_queue(cursor);
        }
        for thread in threads.iter().filter(|thread| !self.by_thread.contains_key(thread)).collect::<Vec<_>>() {
            let mut cursor = Cursor::new(*thread);
            // Of a thread that has ended: its last block written again, or what was freed for it after its end.
            if self.ended.contains_key(thread) {
                cursor.events = Some(self.source.open(*thread, self.ended.get(thread).copied()));
                if !cursor.read() {
                    continue;
                }
            }
            self.open(cursor, None);
        }
    }

    fn open(&mut self, mut cursor: Cursor<'s>, place: Option<Place>) {
        if cursor.events.is_none() {
            cursor.events = Some(self.source.open(cursor.thread, place));
            cursor.read();
        }
        self.by_thread.insert(cursor.thread, self.cursors.len());
        self.cursors.push(cursor);
        self.park_or_queue(self.cursors.len() - 1);
    }

    fn park_or_queue(&mut self, cursor: usize) {
        match self.cursors[cursor].head() {
            Some(head) => self.heap.push(Reverse((head.key(), cursor))),
            None => self.parked.push(cursor),
        }
    }

    pub(super) fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }

    /// Applies all events stamped before `until`; with `None` all there are, waiting for nothing.
    pub(super) fn run(&mut self, until: Option<u64>) -> Result<(), TraceError> {
        let until = until.unwrap_or(u64::MAX);
        loop {
            if !self.waiting.is_empty() {
                if !self.attend(until)? {
                    return Ok(());
                }
            } else if self.heap.peek().is_some_and(|Reverse((key, _))| *key < until) {
                self.run_first(until)?;
            } else {
                return Ok(());
            }
        }
    }

    /// Ends the trace; `options` and `known` hold what is known of the recording besides its events.
    pub(super) fn finish(
        self,
        options: &PackOptions,
        known: Totals,
        last: u64,
        spool: Option<&Spool>,
    ) -> Result<PackReport, TraceError> {
        let end = self.clock.us(last).max(self.now_us).min(self.end_us);
        let late = if self.grows { &options.recorded_on } else { &RecordedOn::default() };
        self.blocks.finish(end, known, late, options.memory.clone(), |held| {
            spool.map(|spool| Stacks::resolve(spool, held, options.symbols))
        })
    }

    /// The first thread's events up to the next thread's first: nobody waits, so nothing else can come between.
    fn run_first(&mut self, until: u64) -> Result<(), TraceError> {
        let (Some(&Reverse((_, cursor))), rest) = (self.heap.peek(), self.heap.as_slice()) else { return Ok(()) };
        // The root's children in the heap's array.
        let second = rest.iter().skip(1).take(2).map(|Reverse((key, _))| *key).min().unwrap_or(u64::MAX);
        let second = second.min(until - 1);
        let next = loop {
            match self.step(cursor, false)? {
                Some(key) if key <= second => {}
                next => break next,
            }
        };
        // It is still the first: steps push nothing while nobody waits.
        let Some(mut first) = self.heap.peek_mut() else { return Ok(()) };
        match next {
            Some(key) => first.0.0 = key,
            None => drop(PeekMut::pop(first)),
        }
        Ok(())
    }

    /// One step while threads wait: who has waited too long comes first; all of them when nobody else is left. False when
    /// nothing can be done before `until`.
    fn attend(&mut self, until: u64) -> Result<bool, TraceError> {
        let next = self.heap.peek().map(|Reverse((key, _))| *key).filter(|key| *key < until);
        let (cursor, force) = match self.overdue(next.unwrap_or(until)) {
            Some(i) => (self.waiting.remove(i).cursor, true),
            None if next.is_none() => return Ok(false),
            None => match self.heap.pop() {
                Some(Reverse((_, cursor))) => (cursor, false),
                None => return Ok(false),
            },
        };
        if let Some(key) = self.step(cursor, force)? {
            self.heap.push(Reverse((key, cursor)));
        }
        Ok(true)
    }

    /// The first waiting thread whose time has passed at `key`.
    fn overdue(&self, key: u64) -> Option<usize> {
        let (i, w) = self.waiting.iter().enumerate().min_by_key(|(_, w)| w.deadline)?;
        (w.deadline < key || key == u64::MAX).then_some(i)
    }

    fn resume(&mut self, cursor: usize) {
        if let Some(head) = self.cursors[cursor].head() {
            self.heap.push(Reverse((head.key(), cursor)));
        }
    }

    /// Applies a thread's next event. Answers the key of the one after; `None` when the thread has ended or waits.
    #[inline]
    fn step(&mut self, cursor: usize, force: bool) -> Result<Option<u64>, TraceError> {
        let c = &mut self.cursors[cursor];
        if c.events.is_none() {
            c.events = Some(self.source.open(c.thread, None));
            c.read();
        }
        if let Some(soon) = c.ready.get(c.at + SOON) {
            self.blocks.ahead(soon);
        }
        let Some(head) = c.head() else { return Ok(None) };
        let key = head.key();
        self.now_us = self.now_us.max(self.clock.us(key));
        let cut = self.now_us >= self.end_us;
        if !cut {
            self.blocks.now(self.now_us);
        }
        match self.apply(cursor, head, force, cut)? {
            Outcome::Wait { addr, ticks } => {
                self.waiting.push(Waiting { cursor, addr, deadline: key.saturating_add(ticks) });
                Ok(None)
            }
            Outcome::Then(second) => {
                let c = &mut self.cursors[cursor];
                c.second = Some(second);
                c.at += 1;
                Ok(Some(second.key()))
            }
            Outcome::Done { changed } => {
                if !self.waiting.is_empty() {
                    self.wake(changed);
                }
                self.follow(cursor, cut)
            }
        }
    }

    /// Moves on to the thread's next event.
    #[inline]
    fn follow(&mut self, cursor: usize, cut: bool) -> Result<Option<u64>, TraceError> {
        let c = &mut self.cursors[cursor];
        if c.second.take().is_none() {
            c.at += 1;
        }
        if let Some(event) = c.ready.get(c.at) {
            return Ok(Some(key(event)));
        }
        if c.read() {
            return Ok(Some(key(&c.ready[0])));
        }
        if self.grows && !c.exited {
            self.parked.push(cursor);
            return Ok(None);
        }
        let place = c.events.take().and_then(|events| events.place());
        c.ready = Vec::new();
        if self.grows {
            self.by_thread.remove(&c.thread);
            self.ended.extend(place.map(|place| (c.thread, place)));
        }
        if !cut {
            self.blocks.end_thread(cursor, c.exited)?;
        }
        Ok(None)
    }

    /// Lets those go on who wait for something at an address that has changed.
    fn wake(&mut self, changed: u64) {
        let mut i = 0;
        while i < self.waiting.len() {
            if changed == self.waiting[i].addr {
                let cursor = self.waiting.remove(i).cursor;
                self.blocks.count_reordered();
                self.resume(cursor);
            } else {
                i += 1;
            }
        }
    }

    fn apply(&mut self, cursor: usize, head: Head, force: bool, cut: bool) -> Result<Outcome, TraceError> {
        let blocks = &mut self.blocks;
        let Head::Event(event) = head else {
            let Head::ReallocEnd { old, new, size, .. } = head else { unreachable!("two kinds of heads") };
            if cut {
                blocks.keep(old);
                return Ok(Outcome::Done { changed: 0 });
            }
            if blocks.is_live(new) {
                if !force {
                    return Ok(Outcome::Wait { addr: new, ticks: self.allocation_wait });
                }
                blocks.free_unresolved(cursor, new)?;
            }
            blocks.realloc(cursor, old, new, size, true, self.cursors[cursor].stack.take())?;
            return Ok(Outcome::Done { changed: new });
        };
        let (addr, size, ask) = match event.kind {
            SpoolKind::Malloc { addr, size } => (addr, size, Ask::Malloc),
            SpoolKind::Calloc { addr, size } => (addr, size, Ask::Calloc),
            SpoolKind::Aligned { addr, size, align } => {
                // memalign of glibc takes the next power of two for an alignment that is none.
                (addr, size, Ask::Aligned { log2: align.clamp(1, 1 << 47).next_power_of_two().ilog2() })
            }
            SpoolKind::Free { addr } => return self.free(cursor, addr, None, force, cut),
            SpoolKind::FreeResident { addr, resident_pages } => {
                return self.free(cursor, addr, Some(resident_pages), force, cut);
            }
            SpoolKind::Realloc { old, new, size, resident_pages, .. } => {
                if !blocks.is_live(old) && !force && !cut {
                    return Ok(Outcome::Wait { addr: old, ticks: self.free_wait });
                }
                let held = blocks.take(old, resident_pages)?;
                if old == new {
                    // In place the address never changes hands: nobody who waits for it may get it in between.
                    if cut {
                        blocks.keep(held);
                    } else {
                        blocks.realloc(cursor, held, new, size, false, self.cursors[cursor].stack.take())?;
                    }
                    return Ok(Outcome::Done { changed: if held.is_some() { 0 } else { new } });
                }
                self.wake(old);
                return Ok(Outcome::Then(Head::ReallocEnd { tsc: event.tsc, old: held, new, size }));
            }
            SpoolKind::Stack { id } => {
                self.cursors[cursor].stack = Some(id);
                return Ok(Outcome::Done { changed: 0 });
            }
            SpoolKind::Trim { .. } | SpoolKind::Mallopt { .. } => {
                if !cut {
                    blocks.adjust(cursor, &event.kind)?;
                }
                return Ok(Outcome::Done { changed: 0 });
            }
            SpoolKind::ThreadStart => return Ok(Outcome::Done { changed: 0 }),
            SpoolKind::ThreadExit => {
                self.cursors[cursor].exited = true;
                return Ok(Outcome::Done { changed: 0 });
            }
            SpoolKind::Mmap { .. }
            | SpoolKind::Munmap { .. }
            | SpoolKind::Mremap { .. }
            | SpoolKind::Madvise { .. }
            | SpoolKind::Brk { .. } => {
                if !cut {
                    blocks.system(cursor, &event.kind)?;
                }
                return Ok(Outcome::Done { changed: 0 });
            }
        };
        if cut {
            return Ok(Outcome::Done { changed: 0 });
        }
        if blocks.is_live(addr) {
            if !force {
                return Ok(Outcome::Wait { addr, ticks: self.allocation_wait });
            }
            blocks.free_unresolved(cursor, addr)?;
        }
        blocks.allocate(cursor, addr, size, ask, self.cursors[cursor].stack.take())?;
        Ok(Outcome::Done { changed: addr })
    }

    fn free(
        &mut self,
        cursor: usize,
        addr: u64,
        resident_pages: Option<u32>,
        force: bool,
        cut: bool,
    ) -> Result<Outcome, TraceError> {
        if cut {
            let held = self.blocks.take(addr, resident_pages)?;
            self.blocks.keep(held);
        } else if let Some(held) = self.blocks.take(addr, resident_pages)? {
            self.blocks.free(cursor, held)?;
        } else if force {
            self.blocks.free_unseen(cursor)?;
        } else {
            return Ok(Outcome::Wait { addr, ticks: self.free_wait });
        }
        Ok(Outcome::Done { changed: addr })
    }
}
