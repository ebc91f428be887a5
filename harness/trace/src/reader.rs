//! Opens a trace, whole or damaged, and reads its blocks one at a time.
//!
//! The index at the end of the file says where the blocks are; where it is lost the file is scanned for them. A block
//! is checked when it is read. What cannot be used is reported with its offset; the rest stays readable. Refused:
//! files that are no trace, and traces of a newer version.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use crate::decode::Block;
use crate::error::{Damage, TraceError};
use crate::format::{
    BLOCK_HEADER_LEN, BLOCK_MAGIC, BlockHeader, BlockKind, ENTRY_LEN, HEADER_LEN, RESIDENT_CRC_AT, TRAILER_LEN,
    check_file_header, index_at, u32_at, u64_at,
};
use crate::info::{RecordedOn, Totals, TraceInfo};
use crate::memory::MemorySeries;
use crate::order::Events;
use crate::stacks::Stacks;
use crate::store::Store;
use crate::text::Known;

/// Where a block is and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEntry {
    /// Offset in the file.
    pub at: u64,
    /// Operations or system calls.
    pub kind: BlockKind,
    /// Thread.
    pub thread: u32,
    /// Number in its thread and kind.
    pub seq: u32,
    /// Lane the thread allocates in.
    pub lane: u32,
    /// Slots the lane has used at the block's end.
    pub slots: u32,
    /// Events.
    pub events: u32,
    /// Time of the first operation, µs.
    pub first_us: u64,
    /// Time of the last operation, µs.
    pub last_us: u64,
}

impl BlockEntry {
    pub(crate) fn new(at: u64, h: &BlockHeader) -> Self {
        Self {
            at,
            kind: h.kind,
            thread: h.thread,
            seq: h.seq,
            lane: h.lane,
            slots: h.slots,
            events: h.events,
            first_us: h.first_us,
            last_us: h.last_us,
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; ENTRY_LEN] {
        let mut b = [0; ENTRY_LEN];
        b[..8].copy_from_slice(&self.at.to_le_bytes());
        b[8] = self.kind as u8;
        for (i, w) in [self.thread, self.seq, self.lane, self.slots, self.events].into_iter().enumerate() {
            b[12 + 4 * i..16 + 4 * i].copy_from_slice(&w.to_le_bytes());
        }
        b[32..40].copy_from_slice(&self.first_us.to_le_bytes());
        b[40..].copy_from_slice(&self.last_us.to_le_bytes());
        b
    }

    pub(crate) fn from_bytes(b: &[u8]) -> Option<Self> {
        Some(Self {
            at: u64_at(b, 0),
            kind: match b[8] {
                0 => BlockKind::Ops,
                1 => BlockKind::System,
                _ => return None,
            },
            thread: u32_at(b, 12),
            seq: u32_at(b, 16),
            lane: u32_at(b, 20),
            slots: u32_at(b, 24),
            events: u32_at(b, 28),
            first_us: u64_at(b, 32),
            last_us: u64_at(b, 40),
        })
    }
}

/// Resident section and payload of a block, as stored.
type Sections<'b> = (&'b [u8], &'b [u8]);

/// Buffers that reading a block needs for a moment; kept to be used again.
#[derive(Debug, Default)]
pub struct Scratch {
    raw: Vec<u8>,
    bytes: Vec<u8>,
}

/// A trace, opened. Reading is by position and needs only a shared reference, so threads may share one.
#[derive(Debug)]
pub struct Trace {
    store: Store,
    version: u32,
    len: u64,
    /// By thread and number; blocks of system calls behind all others.
    entries: Vec<BlockEntry>,
    /// Thread and its part of `entries`.
    threads: Vec<(u32, Range<usize>)>,
    system: Range<usize>,
    totals: Option<Totals>,
    stacks_at: Option<u64>,
    memory_at: Option<u64>,
    recorded_on: RecordedOn,
    damage: Vec<Damage>,
}

impl Trace {
    /// Opens a trace. Damage behind the file header is no error: see [`Self::damage`].
    ///
    /// # Errors
    /// The file cannot be read, is no trace, or is of a newer version.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        Self::read(Store::File(File::open(path)?))
    }

    /// The same from memory.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, TraceError> {
        Self::read(Store::Memory(bytes))
    }

    fn read(store: Store) -> Result<Self, TraceError> {
        let len = store.len()?;
        let mut head = [0; HEADER_LEN];
        let got = store.read(0, &mut head)?;
        let version = check_file_header(&head[..got])?;
        let mut trace = Self {
            store,
            version,
            len,
            entries: Vec::new(),
            threads: Vec::new(),
            system: 0..0,
            totals: None,
            stacks_at: None,
            memory_at: None,
            recorded_on: RecordedOn::default(),
            damage: Vec::new(),
        };
        trace.read_facts()?;
        if !trace.read_index()? {
            trace.scan()?;
        }
        trace.group();
        Ok(trace)
    }

    fn read_facts(&mut self) -> Result<(), TraceError> {
        match self.stored_block(HEADER_LEN as u64)? {
            Ok((header, bytes)) if header.kind == BlockKind::Facts => {
                self.recorded_on = RecordedOn::from_facts(&bytes);
            }
            Ok(_) => self.damage.push(Damage { offset: HEADER_LEN as u64, len: 0, what: "no facts of the recording" }),
            Err(damage) => self.damage.push(damage),
        }
        Ok(())
    }

    /// Takes the index, if it is there and sound.
    fn read_index(&mut self) -> Result<bool, TraceError> {
        let lost = |at| Damage { offset: at, len: 0, what: "the index is missing, the blocks were searched for" };
        let mut end = [0; TRAILER_LEN];
        let end_at = self.len.saturating_sub(TRAILER_LEN as u64);
        self.store.read(end_at, &mut end)?;
        let Some(at) = index_at(&end) else {
            self.damage.push(lost(end_at));
            return Ok(false);
        };
        let sound = self.stored_block(at)?.ok().filter(|(h, _)| h.kind == BlockKind::Index);
        let Some((header, bytes)) = sound else {
            self.damage.push(lost(at));
            return Ok(false);
        };
        let (facts, entries) = bytes.split_at(header.refill_len as usize);
        let parsed: Option<Vec<_>> = entries.chunks_exact(ENTRY_LEN).map(BlockEntry::from_bytes).collect();
        let Some(entries) = parsed.filter(|_| entries.len().is_multiple_of(ENTRY_LEN)) else {
            self.damage.push(lost(at));
            return Ok(false);
        };
        self.totals = Totals::from_facts(facts);
        let known = Known::parse(facts);
        self.stacks_at = known.number("stacks_at");
        self.memory_at = known.number("memory_at");
        self.recorded_on.learn(RecordedOn::from_facts(facts));
        self.entries = entries;
        Ok(true)
    }

    /// Finds the blocks one after the other, and past damage by their magic bytes.
    fn scan(&mut self) -> Result<(), TraceError> {
        let mut at = HEADER_LEN as u64;
        while at < self.len {
            let sound = match self.header_at(at)? {
                Some(header) if at + header.total_len() <= self.len => {
                    if matches!(header.kind, BlockKind::Ops | BlockKind::System) {
                        self.entries.push(BlockEntry::new(at, &header));
                    }
                    match header.kind {
                        BlockKind::Stacks => self.stacks_at = Some(at),
                        BlockKind::Memory => self.memory_at = Some(at),
                        _ => {}
                    }
                    Some(at + header.total_len())
                }
                _ => None,
            };
            at = match sound {
                Some(next) => next,
                None => {
                    let next = self.next_block(at + 1)?;
                    let tail = self.len - at <= TRAILER_LEN as u64;
                    if !tail {
                        let what = "bytes that belong to no whole block";
                        self.damage.push(Damage { offset: at, len: next - at, what });
                    }
                    next
                }
            };
        }
        Ok(())
    }

    /// Orders the blocks and notes which are absent.
    fn group(&mut self) {
        self.entries.sort_by_key(|e| (e.kind == BlockKind::System, e.thread, e.seq));
        self.entries.dedup_by_key(|e| (e.kind, e.thread, e.seq));
        let mut expected = 0;
        for (i, e) in self.entries.iter().enumerate() {
            if e.kind == BlockKind::System {
                if self.system.is_empty() {
                    self.system.start = i;
                    expected = 0;
                }
                self.system.end = i + 1;
            } else if self.threads.last().is_none_or(|(t, _)| *t != e.thread) {
                self.threads.push((e.thread, i..i + 1));
                expected = 0;
            } else if let Some((_, range)) = self.threads.last_mut() {
                range.end = i + 1;
            }
            if e.seq != expected {
                self.damage.push(Damage { offset: e.at, len: 0, what: "earlier blocks of the thread are missing" });
            }
            expected = e.seq.wrapping_add(1);
        }
        self.damage.sort_by_key(|d| d.offset);
    }

    fn header_at(&self, at: u64) -> io::Result<Option<BlockHeader>> {
        let mut raw = [0; BLOCK_HEADER_LEN];
        if self.store.read(at, &mut raw)? < BLOCK_HEADER_LEN {
            return Ok(None);
        }
        Ok(BlockHeader::from_bytes(&raw))
    }

    fn next_block(&self, mut at: u64) -> io::Result<u64> {
        let mut window = vec![0; 256 * 1024];
        while at < self.len {
            let got = self.store.read(at, &mut window)?;
            for i in 0..got.saturating_sub(BLOCK_MAGIC.len() - 1) {
                if window[i] == BLOCK_MAGIC[0]
                    && window[i..i + BLOCK_MAGIC.len()] == BLOCK_MAGIC
                    && self.header_at(at + i as u64)?.is_some()
                {
                    return Ok(at + i as u64);
                }
            }
            if got < window.len() {
                break;
            }
            at += (got - (BLOCK_MAGIC.len() - 1)) as u64;
        }
        Ok(self.len)
    }

    /// A block of facts or index, decoded.
    fn stored_block(&self, at: u64) -> io::Result<Result<(BlockHeader, Vec<u8>), Damage>> {
        let damage = |what| Ok(Err(Damage { offset: at, len: 0, what }));
        let Some(header) = self.header_at(at)? else { return damage("no block's header") };
        let mut raw = Vec::new();
        let payload = match self.raw_block(at, &header, &mut raw)? {
            Ok(sections) => sections.1,
            Err(d) => return Ok(Err(d)),
        };
        if !header.lz4 {
            return Ok(Ok((header, payload.to_vec())));
        }
        let mut bytes = vec![0; header.decoded_len()];
        match lz4_flex::block::decompress_into(payload, &mut bytes) {
            Ok(n) if n == bytes.len() => Ok(Ok((header, bytes))),
            _ => damage("a payload that does not decompress"),
        }
    }

    /// Reads and checks a block's resident section and payload.
    fn raw_block<'b>(
        &self,
        at: u64,
        header: &BlockHeader,
        raw: &'b mut Vec<u8>,
    ) -> io::Result<Result<Sections<'b>, Damage>> {
        let damage = |what| Ok(Err(Damage { offset: at, len: header.total_len(), what }));
        let body = header.total_len() - RESIDENT_CRC_AT as u64;
        if at.checked_add(header.total_len()).is_none_or(|end| end > self.len) {
            return damage("a block that the file's end cuts short");
        }
        raw.clear();
        raw.resize(body as usize, 0);
        if self.store.read(at + RESIDENT_CRC_AT as u64, raw)? < raw.len() {
            return damage("a block that the file's end cuts short");
        }
        let (residents, payload) = raw[4..].split_at(4 * header.residents as usize);
        if crc32fast::hash(residents) != u32_at(raw, 0) {
            return damage("a block whose resident counts do not match their checksum");
        }
        if crc32fast::hash(payload) != header.payload_crc {
            return damage("a block that does not match its checksum");
        }
        Ok(Ok((residents, payload)))
    }

    /// Reads a block of operations into `block`, by way of `scratch`.
    ///
    /// # Errors
    /// The block is damaged, or the file cannot be read.
    pub fn load(&self, entry: &BlockEntry, block: &mut Block, scratch: &mut Scratch) -> Result<(), TraceError> {
        let damage = |what| TraceError::Damaged(Damage { offset: entry.at, len: 0, what });
        let header = self.header_at(entry.at)?.ok_or_else(|| damage("no block's header"))?;
        if BlockEntry::new(entry.at, &header) != *entry {
            return Err(damage("another block than the index says"));
        }
        let (residents, payload) = self.raw_block(entry.at, &header, &mut scratch.raw)??;
        block.load(&header, payload, residents, &mut scratch.bytes).map_err(|fault| damage(fault.what()))
    }

    /// Decoded bytes of a block of system calls.
    pub(crate) fn system_block(&self, entry: &BlockEntry) -> Result<Vec<u8>, TraceError> {
        Ok(self.stored_block(entry.at)??.1)
    }

    /// Blocks of system calls, in order.
    pub(crate) fn system_blocks(&self) -> &[BlockEntry] {
        &self.entries[self.system.clone()]
    }

    /// Who made the blocks never freed; `None` when that was not recorded.
    ///
    /// # Errors
    /// The stacks are damaged, or the file cannot be read.
    pub fn stacks(&self) -> Result<Option<Stacks>, TraceError> {
        let Some(at) = self.stacks_at else { return Ok(None) };
        let (header, bytes) = self.stored_block(at)??;
        let sound = (header.kind == BlockKind::Stacks).then(|| Stacks::from_bytes(&bytes)).flatten();
        Ok(Some(sound.ok_or(Damage { offset: at, len: header.total_len(), what: "a block that holds no stacks" })?))
    }

    /// What the recorded process held over time; `None` when that was not recorded.
    ///
    /// # Errors
    /// The series is damaged, or the file cannot be read.
    pub fn memory(&self) -> Result<Option<MemorySeries>, TraceError> {
        let Some(at) = self.memory_at else { return Ok(None) };
        let (header, bytes) = self.stored_block(at)??;
        let sound = (header.kind == BlockKind::Memory).then(|| MemorySeries::from_bytes(&bytes)).flatten();
        Ok(Some(sound.ok_or(Damage { offset: at, len: header.total_len(), what: "a block that holds no memory" })?))
    }

    /// Where the trace was recorded.
    pub fn recorded_on(&self) -> &RecordedOn {
        &self.recorded_on
    }

    /// Threads that have blocks, ascending.
    pub fn threads(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.threads.iter().map(|(t, _)| *t)
    }

    /// Blocks of a thread's operations, in order; none for an unknown thread.
    pub fn blocks(&self, thread: u32) -> &[BlockEntry] {
        match self.threads.binary_search_by_key(&thread, |(t, _)| *t) {
            Ok(i) => &self.entries[self.threads[i].1.clone()],
            Err(_) => &[],
        }
    }

    /// Slots that each lane uses over the whole trace, by number of the lane.
    ///
    /// # Errors
    /// Lanes or slots that no recording of this many events can have.
    pub fn lane_slots(&self) -> Result<Vec<u32>, TraceError> {
        let mut slots = Vec::new();
        let ops = &self.entries[..self.entries.len() - self.system.len()];
        for e in ops {
            if e.lane as usize >= self.threads.len() {
                return Err(Damage { offset: e.at, len: 0, what: "a block of a lane too many" }.into());
            }
            if slots.len() <= e.lane as usize {
                slots.resize(e.lane as usize + 1, 0);
            }
            slots[e.lane as usize] = e.slots.max(slots[e.lane as usize]);
        }
        let used: u64 = slots.iter().map(|n| u64::from(*n)).sum();
        if used > ops.iter().map(|e| u64::from(e.events)).sum() {
            return Err(Damage { offset: 0, len: 0, what: "blocks with more slots than allocations" }.into());
        }
        Ok(slots)
    }

    /// Totals counted when the trace was packed; `None` when they are lost.
    pub fn totals(&self) -> Option<&Totals> {
        self.totals.as_ref()
    }

    /// What was found damaged when the trace was opened, by offset. Damage within blocks shows when they are read;
    /// [`Self::verify`] reads them all.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Checks every block and answers all damage, by offset.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn verify(&self) -> Result<Vec<Damage>, TraceError> {
        let mut damage = self.damage.clone();
        let mut raw = Vec::new();
        for e in &self.entries {
            match self.header_at(e.at)? {
                Some(header) if BlockEntry::new(e.at, &header) == *e => {
                    if let Err(d) = self.raw_block(e.at, &header, &mut raw)? {
                        damage.push(d);
                    }
                }
                _ => damage.push(Damage { offset: e.at, len: 0, what: "another block than the index says" }),
            }
        }
        for read in [self.stacks().err(), self.memory().err()] {
            match read {
                Some(TraceError::Damaged(d)) => damage.push(d),
                Some(other) => return Err(other),
                None => {}
            }
        }
        damage.sort_by_key(|d| d.offset);
        Ok(damage)
    }

    /// `trace info`: cheap, reads no block of operations.
    pub fn info(&self) -> TraceInfo {
        let ops = &self.entries[..self.entries.len() - self.system.len()];
        let events = self.totals.map_or_else(|| ops.iter().map(|e| u64::from(e.events)).sum(), |t| t.events);
        let duration_us =
            self.totals.map_or_else(|| ops.iter().map(|e| e.last_us).max().unwrap_or(0), |t| t.duration_us);
        TraceInfo {
            schema: fragbench_model::SCHEMA,
            format: self.version,
            events,
            threads: self.totals.map_or(self.threads.len() as u64, |t| t.threads.into()),
            bytes: self.len,
            bytes_per_event: (events > 0).then(|| self.len as f64 / events as f64),
            duration_s: duration_us as f64 / 1e6,
            complete: self.damage.is_empty() && self.totals.is_some_and(|t| t.complete),
            peak_live_bytes: self.totals.map(|t| t.peak_live_bytes),
            live_end_bytes: self.totals.map(|t| t.live_end_bytes),
            totals: self.totals,
            stacks: self.stacks_at.is_some(),
            // A series that is damaged is no series; `verify` names the damage.
            memory: self.memory().ok().flatten().and_then(|series| series.summary()),
            recorded_on: self.recorded_on.clone(),
            damage: self.damage.iter().map(Damage::to_string).collect(),
        }
    }

    /// All events in recorded order. Damaged blocks are passed over; [`Events::damage`] names them.
    pub fn events_in_order(&self) -> Events<'_> {
        Events::new(self)
    }
}
