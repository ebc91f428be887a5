//! One thread's events, block after block, a few KiB of them in memory.

use super::decode::Decoder;
use super::event::{Batches, SpoolEvent};
use super::format::BLOCK_HEADER_LEN;
use super::reader::{Block, Damage, DamageKind};
use super::writer::GENERAL_MAX;
use crate::store::Store;

/// One thread's events.
#[derive(Debug)]
pub struct ThreadEvents<'a> {
    source: &'a Store,
    shift: u8,
    blocks: std::slice::Iter<'a, Block>,
    piece: Piece,
    thread: u32,
    decoder: Decoder,
    quantum: u64,
    ready: std::vec::IntoIter<SpoolEvent>,
    damage: Vec<Damage>,
}

/// A block's payload is read by so many bytes: a spool may have threads by the thousands, each with a block open.
const PIECE: usize = 8 << 10;

/// The part of a block's payload that is in memory.
#[derive(Debug, Default)]
pub(super) struct Piece {
    bytes: Vec<u8>,
    /// The next event, in `bytes`.
    at: usize,
    /// Where `bytes` begins in the file.
    from: u64,
    /// Bytes of the payload behind it.
    left: usize,
}

impl Piece {
    /// Begins with `left` bytes of payload at `from`.
    pub(super) fn begin(&mut self, from: u64, left: usize) {
        self.bytes.clear();
        (self.at, self.from, self.left) = (0, from, left);
    }

    pub(super) fn is_done(&self) -> bool {
        self.at >= self.bytes.len() && self.left == 0
    }

    /// Where the next event begins in the file.
    pub(super) fn offset(&self) -> u64 {
        self.from + self.at as u64
    }

    /// Decodes some events. False when what comes next is none.
    pub(super) fn decode(&mut self, decoder: &mut Decoder, out: &mut Vec<SpoolEvent>) -> bool {
        // Behind this an event might go on in the next piece.
        let sure = if self.left == 0 { usize::MAX } else { self.bytes.len().saturating_sub(GENERAL_MAX) };
        decoder.run(&self.bytes, &mut self.at, sure, out)
    }

    /// Leaves the rest; how many bytes that are.
    pub(super) fn give_up(&mut self) -> u64 {
        let rest = self.bytes.len() - self.at + self.left;
        self.from += (self.at + rest) as u64;
        self.bytes.clear();
        (self.at, self.left) = (0, 0);
        rest as u64
    }

    /// Makes sure that the next event is there in whole. False when it cannot be read.
    pub(super) fn slide(&mut self, source: &Store) -> bool {
        if self.left == 0 || self.at + GENERAL_MAX <= self.bytes.len() {
            return true;
        }
        self.from += self.at as u64;
        self.bytes.drain(..self.at);
        self.at = 0;
        let (had, n) = (self.bytes.len(), self.left.min(PIECE));
        self.bytes.resize(had + n, 0);
        self.left -= n;
        matches!(source.read(self.from + had as u64, &mut self.bytes[had..]), Ok(got) if got == n)
    }
}

impl<'a> ThreadEvents<'a> {
    pub(super) fn new(source: &'a Store, shift: u8, thread: u32, blocks: &'a [Block]) -> Self {
        Self {
            source,
            shift,
            blocks: blocks.iter(),
            piece: Piece::default(),
            thread,
            decoder: Decoder::new(0, 0),
            quantum: 0,
            ready: Vec::new().into_iter(),
            damage: Vec::new(),
        }
    }
}

impl Iterator for ThreadEvents<'_> {
    type Item = SpoolEvent;

    fn next(&mut self) -> Option<SpoolEvent> {
        if let Some(event) = self.ready.next() {
            return Some(event);
        }
        let mut events = Vec::new();
        self.more(&mut events);
        self.ready = events.into_iter();
        self.ready.next()
    }
}

impl Batches for ThreadEvents<'_> {
    fn more(&mut self, out: &mut Vec<SpoolEvent>) {
        let had = out.len();
        while out.len() == had {
            if self.piece.is_done() {
                let Some(block) = self.blocks.next() else { return };
                self.piece.begin(block.at + BLOCK_HEADER_LEN as u64, block.header.len as usize);
                self.decoder = Decoder::new(block.header.first_quantum, self.shift);
            }
            if !self.piece.slide(self.source) {
                self.note(DamageKind::Unreadable(self.thread));
            } else if !self.piece.decode(&mut self.decoder, out) {
                self.note(DamageKind::Event(self.thread));
            }
            // Only a damaged block that still matches its checksum could go back in time.
            for event in &mut out[had..] {
                self.quantum = self.quantum.max(event.tsc);
                event.tsc = self.quantum;
            }
        }
    }
}

impl ThreadEvents<'_> {
    /// What was found wrong so far while decoding.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Notes that the rest of the block cannot be used.
    fn note(&mut self, kind: DamageKind) {
        let offset = self.piece.offset();
        let len = self.piece.give_up();
        self.damage.push(Damage { offset, len, kind });
    }
}
