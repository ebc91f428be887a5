//! The trace file, byte by byte. All integers are little-endian.
//!
//! ```text
//! file header   24 bytes
//!   0   8  magic "FBTRACE\0"            8   4  version (1; 2 with operations of kind 15)          12   4  length of this header
//!  16   4  0                           20   4  CRC-32 of bytes 0..20
//!
//! blocks, back to back
//!   0   8  magic "FBTblk\r\n"
//!   8   1  kind: 0 operations, 1 system calls, 2 facts, 3 index, 4 stacks, 5 memory
//!   9   1  payload: 0 as it is, 1 LZ4 block format
//!  10   2  0                           12   4  thread
//!  16   4  number of the block in its thread and kind, from 0
//!  20   4  lane                        24   8  first_us             32   8  last_us
//!  40   4  events of the malloc API    44   4  slots the lane has used so far
//!  48   4  length of the refill section \
//!  52   4  length of the time section    > of the decoded payload, which is these three in this order
//!  56   4  length of the unit section   /
//!  60   4  bytes of the payload as stored
//!  64   4  entries of the resident section
//!  68   4  CRC-32 of the payload as stored
//!  72   4  CRC-32 of bytes 0..72
//!  76   4  CRC-32 of the resident section
//!  80      resident section (4 bytes an entry), then the payload
//!
//! trailer       24 bytes, at the end of the file
//!   0   8  magic "FBTend\r\n"           8   8  offset of the index block
//!  16   4  0                           20   4  CRC-32 of bytes 0..20
//! ```
//!
//! **Blocks of operations** decode to at most [`DECODED_MAX`] bytes and stand for themselves: a lost block costs its
//! own events and no others. Times are microseconds since the recording began; `first_us` is the first operation's.
//!
//! **Slots.** A live block of the program is named by a slot of a *lane*. A thread allocates in one lane, which it has
//! to itself while it runs; the lane of a thread that has ended goes to a later one. Every fill of a slot (allocation
//! or realloc) raises the slot's *generation* by one, from 0 = never filled; so (lane, slot, generation) names one
//! block for ever. A reader keeps a stack of at most [`STACK_MAX`] free slots, empty at the start of each block. A
//! `free` by the owner pushes its slot (and drops it when the stack is full); an allocation pops one, or, when the
//! stack is empty, takes the next number of the refill section (zigzag varints, each the difference to the number
//! before, the first to 0). Slots freed by another thread come back through the refill section, some time after that
//! free.
//!
//! **Time section.** Pairs (n, d): after n more operations time advances by d microseconds. One byte `d-1 << 4 | n`;
//! n = 15 is followed by a varint n − 15, then d − 1 = 15 by a varint d − 16. Time stands still after the last pair.
//!
//! **Unit section.** 16-bit units, one operation after the other:
//!
//! ```text
//! slot:15  1              free of a slot of the thread's own lane
//! size:14 10              malloc
//! arg:10 kind:4 00        one of the kinds below; arg = 1023: the first argument follows
//! ```
//!
//! An argument that follows takes units of 15 bits, lowest first, the 16th bit set in all but the last.
//!
//! | kind | | first argument | further arguments |
//! |---|---|---|---|
//! | 0 | free, own lane | slot | |
//! | 1 | malloc | size | |
//! | 2 | calloc | size | |
//! | 3 | aligned allocation | log2 of the alignment | size |
//! | 4 | free, other lane | lane | slot, generation |
//! | 5 | free, lane and generation of the last kind 4 to 6, 9, 10 in this block | zigzag slot difference to it | |
//! | 6 | free, lane of it | zigzag generation difference | slot |
//! | 7, 8 | realloc in place, moved; own lane, stays in its slot | slot | size |
//! | 9, 10 | realloc in place, moved, of another lane's block; goes to a slot of the own lane | lane | slot, generation, size |
//! | 11 | realloc of a block whose allocation was not seen | size | |
//! | 12 | free of a block whose allocation was not seen | 0 | |
//! | 13 | turn: stands before the thread's first operation | number | |
//! | 14 | exit: the thread ends here | number | |
//! | 15 | the program's own call of malloc_trim (0) or mallopt (1) | which | argument of malloc_trim; both arguments of mallopt, as 32-bit numbers without sign |
//!
//! **Turns.** First operations and exits of all threads but the first have numbers from 0, in recorded order: the
//! order in which threads take and return arenas.
//!
//! **Resident section.** One entry for each allocation or realloc of [`RESIDENT_MIN`] bytes and more in the block, in
//! order: how many 4 KiB pages of it the program had touched when it was freed, [`RESIDENT_UNKNOWN`] when not known. Known only
//! after the block is written, it is patched in place, so it has a checksum of its own.
//!
//! **Order.** Times never decrease in the order in which the events happened, over all threads. So an operation on a
//! block is never earlier than what made the block, and reading in order of time never has to look ahead by more than
//! the operations of one microsecond.
//!
//! **System calls** are the program's own calls on anonymous memory, of all threads in order. Varints: time since the
//! call before (the first: since `first_us`), thread, number of the call (0 mmap, 1 munmap, 2 mremap, 3 madvise,
//! 4 brk), length before (mremap) or advice (madvise) or `MAP_*` flags (mmap) or 0, length after (0 for brk).
//!
//! **Facts** are lines `key value`, UTF-8: those known at the start in the first block, the totals in the index
//! block's refill section. Unknown keys are kept out of the way: they are ignored. **Index**: one entry of 48 bytes a block
//! of operations or system calls: offset 8, kind 1, 0 3, thread 4, number 4, lane 4, slots 4, events 4, first_us 8,
//! last_us 8.
//!
//! **Stacks**, at most one block, in front of the index: who made the blocks never freed, in the refill section as
//! [`stacks`](crate::stacks) describes. The fact `stacks_at` in the index block is its offset. It is in no index: readers that
//! do not know it read the trace as if it were not there, and so does a replay.
//!
//! **Memory**, at most one block, in front of the index and found as the stacks are, by the fact `memory_at`: what the
//! recorded process held from time to time, in the refill section as [`memory`](crate::memory) describes. Facts of the
//! recording that are known only at its end stand in the index block beside the totals.

use crate::error::TraceError;

/// First bytes of a trace.
pub const MAGIC: [u8; 8] = *b"FBTRACE\0";
/// First bytes of a block.
pub const BLOCK_MAGIC: [u8; 8] = *b"FBTblk\r\n";
/// First bytes of the trailer.
pub const END_MAGIC: [u8; 8] = *b"FBTend\r\n";
/// The newest version that can be read, and the one written where the program adjusted its allocator itself.
pub const VERSION: u32 = 2;
/// Version written otherwise.
pub const VERSION_PLAIN: u32 = 1;
/// Length of the file header, bytes.
pub const HEADER_LEN: usize = 24;
/// Length of a block's header, bytes.
pub const BLOCK_HEADER_LEN: usize = 80;
/// Where the resident section's checksum stands in a block.
pub const RESIDENT_CRC_AT: usize = 76;
/// Length of the trailer, bytes.
pub const TRAILER_LEN: usize = 24;
/// Length of an index entry, bytes.
pub const ENTRY_LEN: usize = 48;
/// Most bytes a block of operations or system calls decodes to.
pub const DECODED_MAX: usize = 32 * 1024;
/// Most bytes a block of facts, of stacks or an index decodes to.
pub const LARGE_MAX: usize = 1 << 28;
/// Most free slots a reader of a block keeps.
pub const STACK_MAX: usize = 4096;
/// Allocations of this many bytes and more have an entry in the resident section. Smaller ones have a one-word form
/// (sizes below 2^14), which has no room for one.
pub const RESIDENT_MIN: u64 = 16 * 1024;
/// Stands for a number of resident pages that is not known.
pub const RESIDENT_UNKNOWN: u32 = u32::MAX;
/// Slots a lane can have.
pub const SLOTS_MAX: u32 = 1 << 31;
/// Threads and lanes there can be.
pub const THREADS_MAX: u32 = 1 << 24;
/// Generations a slot can have; a slot near it is not used again.
pub const GENERATIONS: u32 = 1 << 24;
/// Largest size that can be written.
pub const SIZE_MAX: u64 = (1 << 40) - 1;

/// Value of `arg` that says the first argument follows.
pub(crate) const ARG_FOLLOWS: u16 = 1023;

/// Kind numbers of the unit section.
pub(crate) mod kind {
    pub(crate) const FREE: u16 = 0;
    pub(crate) const MALLOC: u16 = 1;
    pub(crate) const CALLOC: u16 = 2;
    pub(crate) const ALIGNED: u16 = 3;
    pub(crate) const FREE_OTHER: u16 = 4;
    pub(crate) const FREE_NEAR: u16 = 5;
    pub(crate) const FREE_SAME_LANE: u16 = 6;
    pub(crate) const REALLOC_IN_PLACE: u16 = 7;
    pub(crate) const REALLOC_MOVED: u16 = 8;
    pub(crate) const REALLOC_OTHER_IN_PLACE: u16 = 9;
    pub(crate) const REALLOC_OTHER_MOVED: u16 = 10;
    pub(crate) const REALLOC_UNSEEN: u16 = 11;
    pub(crate) const FREE_UNSEEN: u16 = 12;
    pub(crate) const TURN: u16 = 13;
    pub(crate) const EXIT: u16 = 14;
    pub(crate) const ADJUST: u16 = 15;
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockKind {
    /// Operations of one thread.
    Ops = 0,
    /// The program's own system calls on anonymous memory.
    System = 1,
    /// Facts known when recording began.
    Facts = 2,
    /// Totals and index.
    Index = 3,
    /// Stacks of blocks never freed.
    Stacks = 4,
    /// Memory of the recorded process over time.
    Memory = 5,
}

impl BlockKind {
    fn from_number(n: u8) -> Option<Self> {
        [Self::Ops, Self::System, Self::Facts, Self::Index, Self::Stacks, Self::Memory]
            .into_iter()
            .find(|k| *k as u8 == n)
    }

    /// Most bytes a block of this kind decodes to.
    fn decoded_max(self) -> usize {
        match self {
            Self::Ops | Self::System => DECODED_MAX,
            Self::Facts | Self::Index | Self::Stacks | Self::Memory => LARGE_MAX,
        }
    }
}

/// A block's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// What it holds.
    pub kind: BlockKind,
    /// Whether the payload is LZ4.
    pub lz4: bool,
    /// Thread, numbered in order of starting; 0 is the program's first. A thread without events has no block.
    pub thread: u32,
    /// Number of the block in its thread and kind.
    pub seq: u32,
    /// Lane its allocations go to.
    pub lane: u32,
    /// Time of the first operation, µs since recording began.
    pub first_us: u64,
    /// Time of the last operation.
    pub last_us: u64,
    /// Events of the malloc API (of system calls in a block of these).
    pub events: u32,
    /// Slots the lane has used so far.
    pub slots: u32,
    /// Bytes of the refill section.
    pub refill_len: u32,
    /// Bytes of the time section.
    pub time_len: u32,
    /// Bytes of the unit section.
    pub units_len: u32,
    /// Bytes of the payload as stored.
    pub stored_len: u32,
    /// Entries of the resident section.
    pub residents: u32,
    /// CRC-32 of the payload as stored.
    pub payload_crc: u32,
}

impl BlockHeader {
    /// Bytes of the payload decoded.
    pub fn decoded_len(&self) -> usize {
        self.refill_len as usize + self.time_len as usize + self.units_len as usize
    }

    /// Bytes from the header's start to the next block.
    pub fn total_len(&self) -> u64 {
        BLOCK_HEADER_LEN as u64 + 4 * u64::from(self.residents) + u64::from(self.stored_len)
    }

    /// The header as written, without the resident section's checksum.
    pub(crate) fn to_bytes(self) -> [u8; BLOCK_HEADER_LEN] {
        let mut b = [0; BLOCK_HEADER_LEN];
        b[..8].copy_from_slice(&BLOCK_MAGIC);
        b[8] = self.kind as u8;
        b[9] = self.lz4.into();
        let words = [self.thread, self.seq, self.lane];
        for (i, w) in words.into_iter().enumerate() {
            b[12 + 4 * i..16 + 4 * i].copy_from_slice(&w.to_le_bytes());
        }
        b[24..32].copy_from_slice(&self.first_us.to_le_bytes());
        b[32..40].copy_from_slice(&self.last_us.to_le_bytes());
        let words = [
            self.events,
            self.slots,
            self.refill_len,
            self.time_len,
            self.units_len,
            self.stored_len,
            self.residents,
            self.payload_crc,
        ];
        for (i, w) in words.into_iter().enumerate() {
            b[40 + 4 * i..44 + 4 * i].copy_from_slice(&w.to_le_bytes());
        }
        let crc = crc32fast::hash(&b[..72]);
        b[72..76].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// A checked header; `None` when these bytes are none.
    pub(crate) fn from_bytes(b: &[u8; BLOCK_HEADER_LEN]) -> Option<Self> {
        if b[..8] != BLOCK_MAGIC || crc32fast::hash(&b[..72]) != u32_at(b, 72) {
            return None;
        }
        let header = Self {
            kind: BlockKind::from_number(b[8])?,
            lz4: match b[9] {
                0 => false,
                1 => true,
                _ => return None,
            },
            thread: u32_at(b, 12),
            seq: u32_at(b, 16),
            lane: u32_at(b, 20),
            first_us: u64_at(b, 24),
            last_us: u64_at(b, 32),
            events: u32_at(b, 40),
            slots: u32_at(b, 44),
            refill_len: u32_at(b, 48),
            time_len: u32_at(b, 52),
            units_len: u32_at(b, 56),
            stored_len: u32_at(b, 60),
            residents: u32_at(b, 64),
            payload_crc: u32_at(b, 68),
        };
        let max = header.kind.decoded_max();
        let sections = [header.refill_len, header.time_len, header.units_len, header.stored_len];
        let fits = sections.iter().all(|n| *n as usize <= max) && header.decoded_len() <= max;
        let sane = header.thread < THREADS_MAX
            && header.lane < THREADS_MAX
            && header.slots <= SLOTS_MAX
            && header.units_len.is_multiple_of(2)
            && header.residents as usize <= DECODED_MAX
            && header.first_us <= header.last_us;
        (fits && sane).then_some(header)
    }
}

/// The file header.
pub(crate) fn file_header(version: u32) -> [u8; HEADER_LEN] {
    let mut b = [0; HEADER_LEN];
    b[..8].copy_from_slice(&MAGIC);
    b[8..12].copy_from_slice(&version.to_le_bytes());
    b[12..16].copy_from_slice(&(HEADER_LEN as u32).to_le_bytes());
    let crc = crc32fast::hash(&b[..20]);
    b[20..].copy_from_slice(&crc.to_le_bytes());
    b
}

/// Checks the file's first bytes (fewer than a header's when the file is shorter); the version.
///
/// # Errors
/// Empty, foreign, of a newer version, or damaged.
pub(crate) fn check_file_header(b: &[u8]) -> Result<u32, TraceError> {
    if b.is_empty() {
        return Err(TraceError::Empty);
    }
    let magic = b.len().min(MAGIC.len());
    if b[..magic] != MAGIC[..magic] {
        let spool = b.len() >= 8 && b[..8] == crate::spool::format::MAGIC;
        return Err(if spool { TraceError::IsSpool } else { TraceError::Foreign });
    }
    if b.len() < HEADER_LEN {
        return Err(TraceError::TooShort { bytes: b.len() as u64 });
    }
    // The version decides before the checksum: where a newer header keeps its checksum is not for us to know.
    let version = u32_at(b, 8);
    if version > VERSION {
        return Err(TraceError::Newer { version });
    }
    if version == 0 || crc32fast::hash(&b[..20]) != u32_at(b, 20) {
        return Err(TraceError::Header);
    }
    Ok(version)
}

/// The trailer that names the index block.
pub(crate) fn trailer(index_at: u64) -> [u8; TRAILER_LEN] {
    let mut b = [0; TRAILER_LEN];
    b[..8].copy_from_slice(&END_MAGIC);
    b[8..16].copy_from_slice(&index_at.to_le_bytes());
    let crc = crc32fast::hash(&b[..20]);
    b[20..].copy_from_slice(&crc.to_le_bytes());
    b
}

/// Offset of the index block, from a sound trailer.
pub(crate) fn index_at(b: &[u8; TRAILER_LEN]) -> Option<u64> {
    (b[..8] == END_MAGIC && crc32fast::hash(&b[..20]) == u32_at(b, 20)).then(|| u64_at(b, 8))
}

pub(crate) fn u32_at(b: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&b[at..at + 4]);
    u32::from_le_bytes(raw)
}

pub(crate) fn u64_at(b: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&b[at..at + 8]);
    u64::from_le_bytes(raw)
}
