//! The spool file, byte by byte. All integers are little-endian; nothing is aligned.
//!
//! ```text
//! file header   160 bytes
//!   0   8  magic "FBSPOOL\0"            8   4  version (1; 2 with stacks; 3 with sweeps)   12   4  length of this header
//!  16   1  quantum shift               17   1  architecture (0 x86-64, 1 aarch64)
//!  18   1  in version 3: whether with stacks, 0 or 1                    19   1  0
//!  20   4  page size                   24   4  pid                  28   4  parent's pid
//!  32   8  counter  \                  40   8  CLOCK_MONOTONIC ns    \
//!                    at the start                                     at the start
//!  48   8  CLOCK_REALTIME ns  /        56  16  name of the program (comm), padded with 0
//!  72   4  0                           76   4  CRC-32 of bytes 0..76
//!  80   4  status (see Status)         84   4  errno of the write that failed, or 0
//!  88   8  counter at the last change  96   8  CLOCK_MONOTONIC ns of it
//! 104   8  events lost                112   8  calls before recording could begin
//! 120   8  greatest memory of the recorder itself, bytes
//! 128   8  bytes written              136   8  calls to an allocator made by itself, not recorded
//! 144   4  libraries loaded whose calls pass the recorder by
//! 148   8  0                          156   4  CRC-32 of bytes 80..156
//!
//! block         64 bytes + payload, at most BLOCK_MAX bytes of payload
//!   0   8  magic "FBblock\n"            8   4  length of the payload
//!  12   4  kind: 0 events, 1 paused, 2 resumed (no payload, thread 0), 3 stack, 4 module, 5 provider (thread 0),
//!             6 swept (no payload, thread 0)
//!  16   4  thread                      20   4  number of the block in its thread, from 0; of the stack, the module, the function
//!  24   8  quantum the payload's first time difference starts from; of swept, see below
//!  32   8  counter  \ when the block    40  8  CLOCK_MONOTONIC ns  \ when the block
//!                    was written                                    was written
//!  48   8  memory of the recorder itself, bytes
//!  56   4  CRC-32 of the payload       60   4  CRC-32 of bytes 0..60
//! ```
//!
//! Two blocks may bear the same thread and number: a buffer was written out while its thread was still filling it.
//! The shorter is a prefix of the longer, which counts alone. Space between blocks is never meaningful: a write that
//! failed half-way leaves such space.
//!
//! A spool that is packed while it is written is swept now and then: what waits in any thread's buffer is written. *Swept*
//! says that every event stamped before its quantum stands in front of it, but for those that a thread had stamped and
//! not yet stored: nothing in front of it can depend on such an event. It may stand before blocks that were begun earlier
//! and are not yet written, which is seen by their headers.
//!
//! The payload is a sequence of events. The decoder keeps the last quantum (from the block's header), the last address
//! of each of eight bases (0 at the start of each block), and the last address of a general event (likewise). The base
//! of an address is its 64 MiB region modulo 8 ([`base_of`]), so that the heaps of glibc's arenas, which are such regions,
//! do not disturb each other; every address of an event becomes the last of its base. The lowest bits of an event's
//! first byte tell its form:
//!
//! ```text
//!  01  malloc   6 bytes:  01 | base:3 | dt:11 | size:12 | diff:20
//!  10  free     5 bytes:  10 | base:3 | dt:13 | diff:22
//! 011  malloc   8 bytes: 011 | base:3 | dt:13 | size:16 | diff:29
//! 111  free     8 bytes: 111 | base:3 | dt:14 | diff:44
//!  00  general  a byte 00 | kind:6, then fields as below
//! ```
//!
//! The first four are bit fields, lowest first: `dt` is the quanta since the event before, `size` in bytes, `diff` the
//! difference from the base in granules of 16 bytes, plus half its range. Few forms of fixed width take a byte more
//! than the best encoding would, but what they cost is what recording costs. In the general form every field is a
//! LEB128 varint, the first of them `dt`; an address is the zigzag difference in bytes (wrapping) from the last address
//! of a general event.
//!
//! | kind | | fields after `dt` |
//! |---|---|---|
//! | 0 | malloc | size, address |
//! | 1 | calloc | size, address |
//! | 2 | aligned | size, alignment, address |
//! | 3 | realloc | size, quanta the call took, old address, new address |
//! | 4 | realloc of a large block | as 3, resident pages |
//! | 5 | free | address |
//! | 6 | free of a large block | address, resident pages |
//! | 7, 8 | thread start, thread exit | |
//! | 9 | mmap | address, length, prot, flags |
//! | 10 | munmap | address, length |
//! | 11 | mremap | old address, old length, new address, new length |
//! | 12 | madvise | address, length, advice |
//! | 13 | brk | address |
//! | 14 | stack: of the thread's next allocation or realloc, which follows at once | number of the stack |
//! | 15 | malloc_trim | its argument |
//! | 16 | mallopt | its arguments, as 32-bit numbers without sign |
//!
//! A provider says who answers `malloc` (number 0) or `operator new` (1), as [`provider`](super::provider) describes.
//!
//! A stack and a module are each written once, when first met; [`stacks`](super::stacks) says how. A stack whose block is
//! missing is not known.

/// First bytes of a spool.
pub const MAGIC: [u8; 8] = *b"FBSPOOL\0";
/// First bytes of a block.
pub const BLOCK_MAGIC: [u8; 8] = *b"FBblock\n";
/// Newest version of the format, and the one written when the spool is swept: who does not know sweeps refuses it.
pub const VERSION: u32 = 3;
/// Version written with stacks.
pub const VERSION_WITH_STACKS: u32 = 2;
/// Version written without stacks.
pub const VERSION_WITHOUT_STACKS: u32 = 1;
/// Length of the file header in bytes.
pub const HEADER_LEN: usize = 160;
/// Where the second, rewritable part of the file header begins.
pub const STATUS_AT: usize = 80;
/// Length of a block's header in bytes.
pub const BLOCK_HEADER_LEN: usize = 64;
/// Longest payload of a block in bytes.
pub const BLOCK_MAX: usize = 1 << 20;
/// Blocks of this many bytes and more are freed with a count of the pages the program touched.
pub const RESIDENCY_MIN: u64 = 16 * 1024;

/// The quantum of time is `1 << QUANTUM_SHIFT` counter ticks: 64 ticks (about 25 ns) of the x86-64 time-stamp
/// counter, one tick of aarch64's generic timer, which runs at 25 MHz to 1 GHz.
pub const QUANTUM_SHIFT: u8 = if cfg!(target_arch = "aarch64") { 0 } else { 6 };
/// The file header's number for the architecture this was compiled for.
pub const ARCHITECTURE: u8 = if cfg!(target_arch = "aarch64") { 1 } else { 0 };

/// A form of fixed width: the bits of its tag, then of its fields.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// The tag's bits.
    pub tag: u64,
    /// Width of the tag; that of the base, `BASE_BITS`, follows.
    pub tag_bits: u32,
    /// Width of the time difference.
    pub time_bits: u32,
    /// Width of the size, 0 for none.
    pub size_bits: u32,
    /// Width of the address difference.
    pub diff_bits: u32,
}

impl Form {
    /// Bytes an event of this form takes.
    pub const fn bytes(&self) -> usize {
        (self.tag_bits + BASE_BITS + self.time_bits + self.size_bits + self.diff_bits) as usize / 8
    }
}

/// Width of the number of a base.
pub const BASE_BITS: u32 = 3;
/// Number of the base an address belongs to.
#[inline(always)]
pub const fn base_of(addr: u64) -> usize {
    (addr >> 26) as usize & ((1 << BASE_BITS) - 1)
}

/// The usual malloc.
pub const MALLOC: Form = Form { tag: 0b01, tag_bits: 2, time_bits: 11, size_bits: 12, diff_bits: 20 };
/// The usual free.
pub const FREE: Form = Form { tag: 0b10, tag_bits: 2, time_bits: 13, size_bits: 0, diff_bits: 22 };
/// A malloc further off.
pub const MALLOC_WIDE: Form = Form { tag: 0b011, tag_bits: 3, time_bits: 13, size_bits: 16, diff_bits: 29 };
/// A free further off: any address of 47 bits.
pub const FREE_WIDE: Form = Form { tag: 0b111, tag_bits: 3, time_bits: 14, size_bits: 0, diff_bits: 44 };

/// Kind numbers of the general form.
pub mod kind {
    #![allow(missing_docs)] // the table above
    pub const MALLOC: u8 = 0;
    pub const CALLOC: u8 = 1;
    pub const ALIGNED: u8 = 2;
    pub const REALLOC: u8 = 3;
    pub const REALLOC_RESIDENT: u8 = 4;
    pub const FREE: u8 = 5;
    pub const FREE_RESIDENT: u8 = 6;
    pub const THREAD_START: u8 = 7;
    pub const THREAD_EXIT: u8 = 8;
    pub const MMAP: u8 = 9;
    pub const MUNMAP: u8 = 10;
    pub const MREMAP: u8 = 11;
    pub const MADVISE: u8 = 12;
    pub const BRK: u8 = 13;
    pub const STACK: u8 = 14;
    pub const TRIM: u8 = 15;
    pub const MALLOPT: u8 = 16;
}

/// Why a spool ends where it does. `Running` in a spool that is no longer written to means that the program was
/// killed, or ended in a way that runs no exit handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Still being written, or never closed.
    Running = 0,
    /// The program exited (or was about to: late events may have followed).
    Exited = 1,
    /// The program replaced itself by `exec`.
    Exec = 2,
    /// The size limit was reached.
    SizeLimit = 3,
    /// The time limit was reached.
    TimeLimit = 4,
    /// A write failed; `errno` says why.
    WriteFailed = 5,
    /// The program was about to install a system call filter that would end it for what the recorder does.
    Filtered = 6,
    /// Who attached to the running program wanted no more.
    Detached = 7,
}

impl Status {
    /// The status a file header's number stands for.
    pub fn from_number(n: u32) -> Option<Self> {
        use Status::{Detached, Exec, Exited, Filtered, Running, SizeLimit, TimeLimit, WriteFailed};
        [Running, Exited, Exec, SizeLimit, TimeLimit, WriteFailed, Filtered, Detached]
            .into_iter()
            .find(|s| *s as u32 == n)
    }
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum BlockKind {
    /// Events of one thread.
    Events = 0,
    /// Recording was switched off at this moment, in all threads.
    Paused = 1,
    /// Recording was switched on at this moment.
    Resumed = 2,
    /// A call stack.
    Stack = 3,
    /// A loaded file that frames of stacks lie in.
    Module = 4,
    /// Who answers a function of the allocator's.
    Provider = 5,
    /// Events up to a quantum are all in front of it.
    Swept = 6,
}

/// The fixed part of the file header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether events may name stacks.
    pub stacks: bool,
    /// Whether there may be sweeps.
    pub swept: bool,
    /// Time is counted in `1 << quantum_shift` ticks.
    pub quantum_shift: u8,
    /// 0 x86-64, 1 aarch64.
    pub architecture: u8,
    /// Bytes a page.
    pub page_size: u32,
    /// Process recorded.
    pub pid: u32,
    /// Its parent.
    pub ppid: u32,
    /// Counter when recording was set up.
    pub start_tsc: u64,
    /// `CLOCK_MONOTONIC` at the same moment, ns.
    pub start_mono_ns: u64,
    /// `CLOCK_REALTIME` at the same moment, ns since 1970.
    pub start_real_ns: u64,
    /// Name of the program (`comm`), padded with zeros.
    pub comm: [u8; 16],
}

/// The rewritable part of the file header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// Why the spool ends here.
    pub status: Status,
    /// Error number of the write that failed, or 0.
    pub errno: u32,
    /// Counter when this was written.
    pub tsc: u64,
    /// `CLOCK_MONOTONIC` at the same moment, ns.
    pub mono_ns: u64,
    /// Events that could not be recorded (re-entrant ones beyond a small buffer, and those of a failed write).
    pub lost_events: u64,
    /// Calls made before recording could begin (during the dynamic loader's own start).
    pub early_calls: u64,
    /// Greatest number of bytes the recorder had mapped for itself at one time.
    pub own_bytes_peak: u64,
    /// Bytes of blocks written.
    pub bytes: u64,
    /// Calls that a preloaded allocator made to its own or our functions from within a call; not recorded.
    pub nested_calls: u64,
    /// Libraries loaded whose calls pass the recorder by (`RTLD_DEEPBIND`, `dlmopen`).
    pub passing_loads: u32,
}

/// A block's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// Bytes of payload that follow.
    pub len: u32,
    /// What it holds.
    pub kind: BlockKind,
    /// Number of the thread in this process, from 0 in order of first event; never reused.
    pub thread: u32,
    /// Number of the block in its thread.
    pub seq: u32,
    /// Quantum the first time difference starts from.
    pub first_quantum: u64,
    /// Counter when the block was written.
    pub tsc: u64,
    /// `CLOCK_MONOTONIC` at the same moment, ns.
    pub mono_ns: u64,
    /// Bytes the recorder had mapped for itself.
    pub own_bytes: u64,
    /// CRC-32 of the payload.
    pub payload_crc: u32,
}

fn put<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) {
    out[at..at + N].copy_from_slice(&bytes);
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&b[at..at + 4]);
    u32::from_le_bytes(raw)
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&b[at..at + 8]);
    u64::from_le_bytes(raw)
}

/// Why a file header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderFault {
    /// It does not begin with the magic bytes.
    Magic,
    /// It is of another version, which is given.
    Version(u32),
    /// Its checksum does not match.
    Checksum,
}

impl Header {
    /// The first `STATUS_AT` bytes of a spool.
    pub fn to_bytes(&self) -> [u8; STATUS_AT] {
        let mut b = [0; STATUS_AT];
        put(&mut b, 0, MAGIC);
        let version = match (self.swept, self.stacks) {
            (true, _) => VERSION,
            (false, true) => VERSION_WITH_STACKS,
            (false, false) => VERSION_WITHOUT_STACKS,
        };
        put(&mut b, 8, version.to_le_bytes());
        put(&mut b, 12, (HEADER_LEN as u32).to_le_bytes());
        b[16] = self.quantum_shift;
        b[17] = self.architecture;
        b[18] = (self.swept && self.stacks).into();
        put(&mut b, 20, self.page_size.to_le_bytes());
        put(&mut b, 24, self.pid.to_le_bytes());
        put(&mut b, 28, self.ppid.to_le_bytes());
        put(&mut b, 32, self.start_tsc.to_le_bytes());
        put(&mut b, 40, self.start_mono_ns.to_le_bytes());
        put(&mut b, 48, self.start_real_ns.to_le_bytes());
        put(&mut b, 56, self.comm);
        let crc = crc32fast::hash(&b[..76]);
        put(&mut b, 76, crc.to_le_bytes());
        b
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// # Errors
    /// A [`HeaderFault`] for anything else.
    pub fn from_bytes(b: &[u8; HEADER_LEN]) -> Result<Self, HeaderFault> {
        if b[..8] != MAGIC {
            return Err(HeaderFault::Magic);
        }
        let version = u32_at(b, 8);
        if !(VERSION_WITHOUT_STACKS..=VERSION).contains(&version) {
            return Err(HeaderFault::Version(version));
        }
        if crc32fast::hash(&b[..76]) != u32_at(b, 76) || b[16] > 32 {
            return Err(HeaderFault::Checksum);
        }
        let mut comm = [0; 16];
        comm.copy_from_slice(&b[56..72]);
        Ok(Self {
            stacks: version == VERSION_WITH_STACKS || version == VERSION && b[18] == 1,
            swept: version == VERSION,
            quantum_shift: b[16],
            architecture: b[17],
            page_size: u32_at(b, 20),
            pid: u32_at(b, 24),
            ppid: u32_at(b, 28),
            start_tsc: u64_at(b, 32),
            start_mono_ns: u64_at(b, 40),
            start_real_ns: u64_at(b, 48),
            comm,
        })
    }
}

impl Closing {
    /// The bytes from `STATUS_AT` to `HEADER_LEN`.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN - STATUS_AT] {
        let mut b = [0; HEADER_LEN - STATUS_AT];
        put(&mut b, 0, (self.status as u32).to_le_bytes());
        put(&mut b, 4, self.errno.to_le_bytes());
        let words = [
            self.tsc,
            self.mono_ns,
            self.lost_events,
            self.early_calls,
            self.own_bytes_peak,
            self.bytes,
            self.nested_calls,
        ];
        for (i, w) in words.into_iter().enumerate() {
            put(&mut b, 8 + 8 * i, w.to_le_bytes());
        }
        put(&mut b, 64, self.passing_loads.to_le_bytes());
        let crc = crc32fast::hash(&b[..76]);
        put(&mut b, 76, crc.to_le_bytes());
        b
    }

    /// Reads the second part of a file header; none when its checksum or status does not hold.
    pub fn from_bytes(header: &[u8; HEADER_LEN]) -> Option<Self> {
        let b = &header[STATUS_AT..];
        if crc32fast::hash(&b[..76]) != u32_at(b, 76) {
            return None;
        }
        Some(Self {
            status: Status::from_number(u32_at(b, 0))?,
            errno: u32_at(b, 4),
            tsc: u64_at(b, 8),
            mono_ns: u64_at(b, 16),
            lost_events: u64_at(b, 24),
            early_calls: u64_at(b, 32),
            own_bytes_peak: u64_at(b, 40),
            bytes: u64_at(b, 48),
            nested_calls: u64_at(b, 56),
            passing_loads: u32_at(b, 64),
        })
    }
}

impl BlockHeader {
    /// The block's first `BLOCK_HEADER_LEN` bytes.
    pub fn to_bytes(&self) -> [u8; BLOCK_HEADER_LEN] {
        let mut b = [0; BLOCK_HEADER_LEN];
        put(&mut b, 0, BLOCK_MAGIC);
        put(&mut b, 8, self.len.to_le_bytes());
        put(&mut b, 12, (self.kind as u32).to_le_bytes());
        put(&mut b, 16, self.thread.to_le_bytes());
        put(&mut b, 20, self.seq.to_le_bytes());
        put(&mut b, 24, self.first_quantum.to_le_bytes());
        put(&mut b, 32, self.tsc.to_le_bytes());
        put(&mut b, 40, self.mono_ns.to_le_bytes());
        put(&mut b, 48, self.own_bytes.to_le_bytes());
        put(&mut b, 56, self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&b[..60]);
        put(&mut b, 60, crc.to_le_bytes());
        b
    }

    /// Reads a block's header; none when it is not one.
    pub fn from_bytes(b: &[u8; BLOCK_HEADER_LEN]) -> Option<Self> {
        if b[..8] != BLOCK_MAGIC || crc32fast::hash(&b[..60]) != u32_at(b, 60) || u32_at(b, 8) as usize > BLOCK_MAX {
            return None;
        }
        use BlockKind::{Events, Module, Paused, Provider, Resumed, Stack, Swept};
        let kinds = [Events, Paused, Resumed, Stack, Module, Provider, Swept];
        let kind = kinds.into_iter().find(|k| *k as u32 == u32_at(b, 12))?;
        Some(Self {
            len: u32_at(b, 8),
            kind,
            thread: u32_at(b, 16),
            seq: u32_at(b, 20),
            first_quantum: u64_at(b, 24),
            tsc: u64_at(b, 32),
            mono_ns: u64_at(b, 40),
            own_bytes: u64_at(b, 48),
            payload_crc: u32_at(b, 56),
        })
    }
}
