//! Reads a spool back, from a file or from memory, whatever state it is in: blocks that are sound are kept, everything
//! else is reported with its offset. It refuses a file that is no spool, or one of another version, and never panics.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use super::format::{
    BLOCK_HEADER_LEN, BLOCK_MAGIC, BlockHeader, BlockKind, Closing, HEADER_LEN, Header, HeaderFault, Status,
};
use super::provider::{self, Found, Provided};
use super::stacks::{self, Module, RawFrame};
use super::thread_events::ThreadEvents;
use crate::store::Store;

/// Why a file cannot be read as a spool at all.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The operating system would not let us.
    #[error("cannot read the spool: {0}")]
    Io(#[from] std::io::Error),
    /// It is shorter than a header; the program probably never allocated or was killed at once.
    #[error("no spool: {0} bytes, shorter than a spool's header")]
    TooShort(u64),
    /// It begins otherwise.
    #[error("no spool: it does not begin with \"FBSPOOL\"")]
    Foreign,
    /// It is of a version this program does not know.
    #[error("a spool of version {0}; this program reads versions 1 to 3")]
    Version(u32),
    /// The header's checksum does not hold.
    #[error("damaged spool: the checksum of its header (offset 0) does not hold")]
    Header,
}

/// A stretch of a spool that could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins, in bytes from the start of the file (of the block that follows, for a missing block).
    pub offset: u64,
    /// Its length in bytes, where that is known.
    pub len: u64,
    /// What is wrong.
    pub kind: DamageKind,
}

/// What is wrong with a stretch of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DamageKind {
    /// Bytes that belong to no block.
    #[error("bytes that belong to no block")]
    NoBlock,
    /// The file ends within a block.
    #[error("the file ends within a block of thread {0}")]
    Truncated(u32),
    /// A block's payload does not match its checksum.
    #[error("the checksum of a block of thread {0} does not hold")]
    Checksum(u32),
    /// A payload whose checksum holds cannot be decoded.
    #[error("an event of thread {0} cannot be decoded")]
    Event(u32),
    /// A stack or module whose checksum holds cannot be decoded.
    #[error("a stack, module or provider cannot be decoded")]
    Stack,
    /// Blocks of a thread are absent.
    #[error("{missing} blocks of thread {thread} are missing before this one")]
    Missing {
        /// Which thread.
        thread: u32,
        /// How many blocks.
        missing: u32,
    },
    /// The file could be read when it was opened but no longer.
    #[error("a block of thread {0} can no longer be read")]
    Unreadable(u32),
}

/// A time in which recording was switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Counter when it was switched off; none if it had not yet been on.
    pub from_tsc: Option<u64>,
    /// Counter when it was switched on again; none if it never was.
    pub to_tsc: Option<u64>,
}

/// Counter and clock at one moment, for turning the counter into time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockPair {
    /// Counter.
    pub tsc: u64,
    /// `CLOCK_MONOTONIC`, ns.
    pub mono_ns: u64,
}

/// A sound block and where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) at: u64,
    pub(super) header: BlockHeader,
}

/// An opened spool: its header, its sound blocks, its damage.
#[derive(Debug)]
pub struct Spool {
    source: Store,
    len: u64,
    header: Header,
    closing: Option<Closing>,
    threads: BTreeMap<u32, Vec<Block>>,
    marks: Vec<BlockHeader>,
    stacks: HashMap<u32, Vec<RawFrame>>,
    modules: BTreeMap<u32, Module>,
    providers: BTreeMap<u32, Found>,
    last_clock: ClockPair,
    own_bytes_peak: u64,
    damage: Vec<Damage>,
    /// Blocks found, in order; only of a spool that grows.
    found: Option<Vec<Block>>,
}

impl Spool {
    /// Opens a spool and checks each block.
    ///
    /// # Errors
    /// A [`SpoolError`] if this is no spool, or cannot be read. Damage behind the header is no error:
    /// see [`Spool::damage`].
    pub fn open(path: &Path) -> Result<Self, SpoolError> {
        Self::scan(Store::File(File::open(path)?))
    }

    /// The same from memory.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, SpoolError> {
        Self::scan(Store::Memory(bytes))
    }

    fn scan(source: Store) -> Result<Self, SpoolError> {
        let len = source.len()?;
        let (header, closing) = Self::head(&source)?;
        let mut spool = Self::empty(source, len, header, closing);
        spool.scan_blocks(HEADER_LEN as u64, false)?;
        spool.order_blocks();
        Ok(spool)
    }

    /// Both parts of the file header; the second when it is sound.
    pub(super) fn head(source: &Store) -> Result<(Header, Option<Closing>), SpoolError> {
        let mut head = [0; HEADER_LEN];
        let got = source.read(0, &mut head)?;
        // What is there decides first: a text file of ten bytes is foreign, not short.
        if got >= 8 && head[..8] != super::format::MAGIC {
            return Err(SpoolError::Foreign);
        }
        if got < HEADER_LEN {
            return Err(SpoolError::TooShort(source.len()?));
        }
        let header = Header::from_bytes(&head).map_err(|fault| match fault {
            HeaderFault::Magic => SpoolError::Foreign,
            HeaderFault::Version(v) => SpoolError::Version(v),
            HeaderFault::Checksum => SpoolError::Header,
        })?;
        Ok((header, Closing::from_bytes(&head)))
    }

    pub(super) fn empty(source: Store, len: u64, header: Header, closing: Option<Closing>) -> Self {
        let start = ClockPair { tsc: header.start_tsc, mono_ns: header.start_mono_ns };
        Self {
            source,
            len,
            header,
            last_clock: closing.map_or(start, |c| ClockPair { tsc: c.tsc, mono_ns: c.mono_ns }),
            own_bytes_peak: closing.map_or(0, |c| c.own_bytes_peak),
            closing,
            threads: BTreeMap::new(),
            marks: Vec::new(),
            stacks: HashMap::new(),
            modules: BTreeMap::new(),
            providers: BTreeMap::new(),
            damage: Vec::new(),
            found: None,
        }
    }

    /// Where it is read from.
    pub(super) fn store(&self) -> &Store {
        &self.source
    }

    /// Finds out how long it is now and how it has ended.
    pub(super) fn look_again(&mut self) -> Result<(), SpoolError> {
        self.len = self.source.len()?;
        self.closing = Self::head(&self.source)?.1;
        if let Some(closing) = self.closing {
            self.own_bytes_peak = self.own_bytes_peak.max(closing.own_bytes_peak);
            if closing.mono_ns > self.last_clock.mono_ns {
                self.last_clock = ClockPair { tsc: closing.tsc, mono_ns: closing.mono_ns };
            }
        }
        Ok(())
    }

    /// Has blocks found up to there only.
    pub(super) fn grow_to(&mut self, len: u64) {
        self.len = len;
    }

    /// The blocks found since the last call.
    pub(super) fn take_found(&mut self) -> Vec<Block> {
        self.found.replace(Vec::new()).unwrap_or_default()
    }

    /// Keeps the blocks from `at` on; answers where it stopped. While the spool `grows` that is at the first block that is
    /// not there in whole: it may be being written.
    pub(super) fn scan_blocks(&mut self, mut at: u64, grows: bool) -> Result<u64, SpoolError> {
        let mut payload = Vec::new();
        while at < self.len {
            let Some(header) = self.block_header(at)? else {
                if grows {
                    break;
                }
                let next = self.next_block(at + 1)?;
                self.damage.push(Damage { offset: at, len: next - at, kind: DamageKind::NoBlock });
                at = next;
                continue;
            };
            let body = at + BLOCK_HEADER_LEN as u64;
            let end = body + u64::from(header.len);
            payload.resize(header.len as usize, 0);
            let sound = if self.source.read(body, &mut payload)? < payload.len() {
                Err(DamageKind::Truncated(header.thread))
            } else if crc32fast::hash(&payload) != header.payload_crc {
                Err(DamageKind::Checksum(header.thread))
            } else {
                Ok(())
            };
            at = match sound {
                Ok(()) => {
                    self.keep(Block { at, header }, &payload);
                    end
                }
                Err(_) if grows => break,
                Err(kind) => {
                    // A block that was cut short may be followed by a sound one within its supposed length.
                    let next = self.next_block(body)?;
                    self.damage.push(Damage { offset: at, len: next - at, kind });
                    next
                }
            };
        }
        Ok(at)
    }

    fn keep(&mut self, block: Block, payload: &[u8]) {
        let h = &block.header;
        self.own_bytes_peak = self.own_bytes_peak.max(h.own_bytes);
        if h.mono_ns > self.last_clock.mono_ns {
            self.last_clock = ClockPair { tsc: h.tsc, mono_ns: h.mono_ns };
        }
        if let Some(found) = &mut self.found {
            found.push(block);
        }
        match h.kind {
            BlockKind::Events if self.found.is_some() => {}
            BlockKind::Events => self.threads.entry(h.thread).or_default().push(block),
            BlockKind::Paused | BlockKind::Resumed => self.marks.push(*h),
            BlockKind::Swept => {}
            BlockKind::Stack => {
                let frames = stacks::frames(payload);
                self.note_unless(frames.is_some(), &block);
                self.stacks.extend(frames.map(|frames| (h.seq, frames)));
            }
            BlockKind::Module => {
                let module = stacks::module(payload);
                self.note_unless(module.is_some(), &block);
                self.modules.extend(module.map(|module| (h.seq, module)));
            }
            BlockKind::Provider => {
                let found = provider::provider(payload);
                self.note_unless(found.is_some(), &block);
                self.providers.extend(found.map(|found| (h.seq, found)));
            }
        }
    }

    fn note_unless(&mut self, sound: bool, block: &Block) {
        if !sound {
            let len = BLOCK_HEADER_LEN as u64 + u64::from(block.header.len);
            self.damage.push(Damage { offset: block.at, len, kind: DamageKind::Stack });
        }
    }

    pub(super) fn block_header(&self, at: u64) -> Result<Option<BlockHeader>, SpoolError> {
        let mut raw = [0; BLOCK_HEADER_LEN];
        if self.source.read(at, &mut raw)? < BLOCK_HEADER_LEN {
            return Ok(None);
        }
        Ok(BlockHeader::from_bytes(&raw))
    }

    /// Where the next block's header is, from `at` on, or the end of the file.
    fn next_block(&self, mut at: u64) -> Result<u64, SpoolError> {
        let mut window = vec![0; 256 * 1024];
        while at < self.len {
            let got = self.source.read(at, &mut window)?;
            for i in 0..got.saturating_sub(BLOCK_MAGIC.len() - 1) {
                if window[i] == BLOCK_MAGIC[0]
                    && window[i..i + BLOCK_MAGIC.len()] == BLOCK_MAGIC
                    && self.block_header(at + i as u64)?.is_some()
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

    /// Puts each thread's blocks in order, drops those a longer one of the same number makes superfluous, and notes
    /// which numbers are absent.
    fn order_blocks(&mut self) {
        for (&thread, blocks) in &mut self.threads {
            blocks.sort_by_key(|b| (b.header.seq, std::cmp::Reverse(b.header.len)));
            blocks.dedup_by_key(|b| b.header.seq);
            let mut expected = 0;
            for b in blocks.iter() {
                let missing = b.header.seq - expected;
                if missing > 0 {
                    self.damage.push(Damage { offset: b.at, len: 0, kind: DamageKind::Missing { thread, missing } });
                }
                expected = b.header.seq.saturating_add(1);
            }
        }
        self.marks.sort_by_key(|m| m.tsc);
        self.damage.sort_by_key(|d| d.offset);
    }

    /// The file header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How recording ended; none when that part of the header is damaged.
    pub fn closing(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }

    /// Whether nothing is missing: recording ended because the program did, without damage and without loss.
    pub fn is_complete(&self) -> bool {
        let closed = self.closing.is_some_and(|c| {
            matches!(c.status, Status::Exited | Status::Exec) && c.lost_events == 0 && c.passing_loads == 0
        });
        closed && self.damage.is_empty()
    }

    /// Length of the file in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.len
    }

    /// Greatest memory the recorder had mapped for itself, bytes.
    pub fn own_bytes_peak(&self) -> u64 {
        self.own_bytes_peak
    }

    /// Counter and clock at the start of recording and as late as known: two points of the line between them.
    pub fn clocks(&self) -> (ClockPair, ClockPair) {
        let start = ClockPair { tsc: self.header.start_tsc, mono_ns: self.header.start_mono_ns };
        (start, self.last_clock)
    }

    /// When recording was off.
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for m in &self.marks {
            match (m.kind, gaps.last_mut()) {
                (BlockKind::Paused, _) => gaps.push(Gap { from_tsc: Some(m.tsc), to_tsc: None }),
                (BlockKind::Resumed, Some(g)) if g.to_tsc.is_none() => g.to_tsc = Some(m.tsc),
                (BlockKind::Resumed, _) => gaps.push(Gap { from_tsc: None, to_tsc: Some(m.tsc) }),
                (_, _) => {}
            }
        }
        gaps
    }

    /// A stack's frames, innermost first: the module's number and the offset in it, or no module and the address. None
    /// when the stack is not known.
    pub fn stack(&self, id: u32) -> Option<&[RawFrame]> {
        self.stacks.get(&id).map(Vec::as_slice)
    }

    /// The loaded files that frames lie in, by number.
    pub fn modules(&self) -> &BTreeMap<u32, Module> {
        &self.modules
    }

    /// Who answers a function in the recorded process; none when it has no such function, or is not known.
    pub fn provider(&self, of: Provided) -> Option<&Found> {
        self.providers.get(&(of as u32))
    }

    /// What could not be used, in order of offset.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Numbers of the threads there are events of.
    pub fn threads(&self) -> impl Iterator<Item = u32> + '_ {
        self.threads.keys().copied()
    }

    /// One thread's events in program order; none for an unknown thread. Holds a few KiB of them at a time.
    pub fn events(&self, thread: u32) -> ThreadEvents<'_> {
        let blocks = self.threads.get(&thread).map_or(&[][..], Vec::as_slice);
        ThreadEvents::new(&self.source, self.header.quantum_shift, thread, blocks)
    }
}
