//! Reads a spool while it is written: block after block as far as they are there in whole, each thread's events in order,
//! and which parts of the file nobody needs any more.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::decode::Decoder;
use super::event::{Batches, SpoolEvent};
use super::format::{BLOCK_HEADER_LEN, BlockHeader, BlockKind, HEADER_LEN, Header};
use super::reader::{Block, ClockPair, Spool, SpoolError};
use super::thread_events::Piece;
use crate::store::Store;

/// How far a thread's events were taken: a block's number, and how many of its events.
pub(crate) type Place = (u32, u64);

/// How far the spool is whole: up to a stamp, and what the clocks said when that was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Swept {
    pub(crate) until: u64,
    pub(crate) clock: ClockPair,
}

/// A thread's blocks that have not been taken in whole.
#[derive(Debug, Default)]
struct Waiting {
    current: Option<Block>,
    queue: VecDeque<Block>,
}

#[derive(Debug)]
struct Inner {
    spool: Spool,
    /// What stands before this in the file has been looked at.
    at: u64,
    threads: BTreeMap<u32, Waiting>,
    /// Parts of the file whose events have all been taken.
    done: Vec<(u64, u64)>,
    /// Blocks that are not events.
    facts: Vec<u64>,
    swept: Option<Swept>,
    /// Stretches that could not be used.
    damaged: u64,
}

/// A spool that grows.
#[derive(Debug, Clone)]
pub(crate) struct Tail(Arc<Mutex<Inner>>);

impl Tail {
    /// Opens a spool; nothing is read but its header.
    pub(crate) fn open(path: &Path) -> Result<Self, SpoolError> {
        let source = Store::File(File::open(path)?);
        let (header, closing) = Spool::head(&source)?;
        let mut spool = Spool::empty(source, 0, header, closing);
        // From here on what is found is told.
        spool.take_found();
        let inner = Inner {
            spool,
            at: HEADER_LEN as u64,
            threads: BTreeMap::new(),
            done: Vec::new(),
            facts: Vec::new(),
            swept: None,
            damaged: 0,
        };
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Whoever panicked left nothing half done that matters here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn header(&self) -> Header {
        *self.inner().spool.header()
    }

    /// Reads on; at the spool's `end` also over damage.
    pub(crate) fn poll(&self, end: bool) -> Result<(), SpoolError> {
        self.inner().poll(end)
    }

    pub(crate) fn swept(&self) -> Option<Swept> {
        self.inner().swept
    }

    /// Threads that have events nobody has taken, from before a stamp: those that begin later may not all be known yet.
    pub(crate) fn threads(&self, until: u64) -> Vec<u32> {
        let inner = self.inner();
        let shift = inner.spool.header().quantum_shift;
        let begun = |t: &Waiting| t.queue.front().is_some_and(|block| block.header.first_quantum << shift < until);
        inner.threads.iter().filter(|(_, t)| begun(t)).map(|(thread, _)| *thread).collect()
    }

    /// A thread's events from `place` on.
    pub(crate) fn events(&self, thread: u32, place: Option<Place>) -> TailEvents {
        TailEvents {
            tail: self.clone(),
            thread,
            shift: self.header().quantum_shift,
            piece: Piece::default(),
            decoder: Decoder::new(0, 0),
            last: 0,
            seq: None,
            decoded: 0,
            read: 0,
            place,
        }
    }

    /// Takes the parts of the file that are done, as offset and length, and how many bytes they are.
    pub(crate) fn done_bytes(&self) -> u64 {
        self.inner().done.iter().map(|(_, len)| len).sum()
    }

    /// The parts that are done, neighbours put together; they are not named again.
    pub(crate) fn take_done(&self) -> Vec<(u64, u64)> {
        let mut done = std::mem::take(&mut self.inner().done);
        done.sort_unstable();
        let mut parts: Vec<(u64, u64)> = Vec::new();
        for (at, len) in done {
            match parts.last_mut() {
                Some((from, all)) if *from + *all == at => *all += len,
                _ => parts.push((at, len)),
            }
        }
        parts
    }

    /// Where reading goes on, the blocks before that are still needed, and the damage found.
    pub(crate) fn position(&self) -> (u64, Vec<u64>, u64) {
        let inner = self.inner();
        let blocks = inner.threads.values().flat_map(|t| t.current.iter().chain(&t.queue));
        let mut needed: Vec<u64> = blocks.map(|block| block.at).chain(inner.facts.iter().copied()).collect();
        needed.sort_unstable();
        (inner.at, needed, inner.damaged + inner.spool.damage().len() as u64)
    }

    /// Goes to a position that was told before. False when what was needed is not there.
    pub(crate) fn seek(&self, (at, needed, damaged): (u64, Vec<u64>, u64)) -> Result<bool, SpoolError> {
        let mut inner = self.inner();
        for block in needed {
            let Some(header) = inner.spool.block_header(block)? else { return Ok(false) };
            inner.spool.grow_to(block + BLOCK_HEADER_LEN as u64 + u64::from(header.len));
            inner.spool.scan_blocks(block, true)?;
        }
        inner.sort();
        (inner.at, inner.damaged) = (at, damaged);
        Ok(true)
    }

    /// What is known of the recording besides the events.
    pub(crate) fn with_spool<R>(&self, read: impl FnOnce(&Spool, u64) -> R) -> R {
        let inner = self.inner();
        read(&inner.spool, inner.damaged)
    }
}

impl Inner {
    fn poll(&mut self, end: bool) -> Result<(), SpoolError> {
        self.spool.look_again()?;
        self.at = self.spool.scan_blocks(self.at, !end)?;
        self.sort();
        Ok(())
    }

    /// Puts the blocks just found where they belong.
    fn sort(&mut self) {
        for block in self.spool.take_found() {
            let h = &block.header;
            match h.kind {
                BlockKind::Events => self.threads.entry(h.thread).or_default().queue.push_back(block),
                BlockKind::Swept => {
                    let clock = ClockPair { tsc: h.tsc, mono_ns: h.mono_ns };
                    let until = h.first_quantum << self.spool.header().quantum_shift;
                    self.swept = Some(Swept { until, clock });
                    self.done.push(range(h, block.at));
                }
                _ => self.facts.push(block.at),
            }
        }
    }

    /// A thread's next block, once it has done with the one before.
    fn next(&mut self, thread: u32) -> Option<Block> {
        let waiting = self.threads.get_mut(&thread)?;
        self.done.extend(waiting.current.take().map(|block| range(&block.header, block.at)));
        loop {
            let Some(block) = waiting.queue.pop_front() else {
                self.threads.remove(&thread);
                return None;
            };
            // Written again before it was full: the later one holds it too.
            if waiting.queue.front().is_some_and(|later| later.header.seq == block.header.seq) {
                self.done.push(range(&block.header, block.at));
                continue;
            }
            waiting.current = Some(block);
            return Some(block);
        }
    }
}

fn range(header: &BlockHeader, at: u64) -> (u64, u64) {
    (at, BLOCK_HEADER_LEN as u64 + u64::from(header.len))
}

/// A thread's events as far as they are there.
#[derive(Debug)]
pub(crate) struct TailEvents {
    tail: Tail,
    thread: u32,
    shift: u8,
    piece: Piece,
    decoder: Decoder,
    /// Greatest stamp so far.
    last: u64,
    seq: Option<u32>,
    /// Events of this block decoded, and bytes of its payload.
    decoded: u64,
    read: u64,
    /// Where to begin.
    place: Option<Place>,
}

impl TailEvents {
    fn begin(&mut self, block: &Block, inner: &mut Inner) {
        let seq = block.header.seq;
        if self.seq != Some(seq) {
            // Of a thread's first block nothing is known: what is freed when a thread has ended may come late.
            if self.seq.is_some_and(|before| seq > before.wrapping_add(1)) {
                inner.damaged += 1;
            }
            self.decoder = Decoder::new(block.header.first_quantum, self.shift);
            (self.seq, self.decoded, self.read) = (Some(seq), 0, 0);
        }
        let left = u64::from(block.header.len).saturating_sub(self.read) as usize;
        self.piece.begin(block.at + BLOCK_HEADER_LEN as u64 + self.read, left);
    }
}

impl Batches for TailEvents {
    fn more(&mut self, out: &mut Vec<SpoolEvent>) {
        let tail = self.tail.clone();
        let mut inner = tail.inner();
        let had = out.len();
        while out.len() == had {
            if self.piece.is_done() {
                let Some(block) = inner.next(self.thread) else { return };
                self.begin(&block, &mut inner);
            }
            let from = self.piece.offset();
            let sound = self.piece.slide(inner.spool.store()) && self.piece.decode(&mut self.decoder, out);
            self.read += self.piece.offset() - from;
            if !sound {
                inner.damaged += 1;
                self.piece.give_up();
            }
            let fresh = (out.len() - had) as u64;
            if let Some((seq, taken)) = self.place.filter(|_| fresh > 0) {
                if Some(seq) == self.seq && self.decoded < taken {
                    out.drain(had..had + fresh.min(taken - self.decoded) as usize);
                } else {
                    self.place = None;
                }
            }
            self.decoded += fresh;
            // Only a damaged block that still matches its checksum could go back in time.
            for event in &mut out[had..] {
                self.last = self.last.max(event.tsc);
                event.tsc = self.last;
            }
        }
    }

    fn place(&self) -> Option<Place> {
        match (self.seq, self.place) {
            (Some(seq), Some((from, taken))) if seq == from => Some((seq, self.decoded.max(taken))),
            (Some(seq), _) => Some((seq, self.decoded)),
            (None, place) => place,
        }
    }
}
