//! The recorder's half of the spool: turns events into bytes. It never allocates, does no I/O, and leaves storing the
//! bytes to its caller, so that a malloc or free costs a few nanoseconds and no call.

use super::event::SpoolKind;
use super::format::{ADDR_BITS, SIZE_BITS, TIME_BITS, kind};

/// Room a short event may need: it is stored as one u64, of which only [`Short::len`] bytes count.
pub const SHORT_MAX: usize = 8;
/// Room the longest general event may need: a tag and six varints, two of them addresses.
pub const GENERAL_MAX: usize = 80;

/// For the position of a value's highest bit the width that holds it and that width's code: `width | code << 6`.
const fn widths(bits: [u32; 4]) -> [u8; 32] {
    let mut table = [0; 32];
    let mut highest = 0;
    while highest < bits[3] as usize {
        let mut code = 0;
        while bits[code] <= highest as u32 {
            code += 1;
        }
        table[highest] = bits[code] as u8 | (code as u8) << 6;
        highest += 1;
    }
    table
}

// The largest short malloc fills a u64 exactly: 9 + TIME_BITS[3] + SIZE_BITS[3] + ADDR_BITS[3] bits.
const _: () = assert!(9 + TIME_BITS[3] + SIZE_BITS[3] + ADDR_BITS[3] == 64);

/// The table's entry for `v`, as a width and its code. The tables are constants, not statics, so that code inlined into
/// a shared library finds its copy without going through the global offset table.
#[inline(always)]
fn width_of(v: u64, table: &'static [u8; 32]) -> (u32, u64) {
    let entry = table[(63 - (v | 1).leading_zeros()) as usize & 31];
    (u32::from(entry & 63), u64::from(entry >> 6))
}
const TIME: [u8; 32] = widths(TIME_BITS);
const SIZE: [u8; 32] = widths(SIZE_BITS);
const ADDR: [u8; 32] = widths(ADDR_BITS);

/// A malloc or free in its short form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// The bytes, lowest first.
    pub bits: u64,
    /// How many of them count, 1 to 8.
    pub len: usize,
}

/// What the encoding of the next event depends on. Starts afresh with each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Coder {
    last_quantum: u64,
    bases: [u64; 4],
}

/// Which address base serves an address: blocks of one 64 MiB region (an arena's heap in glibc) share one.
#[inline(always)]
fn base_of(granule: u64) -> usize {
    ((granule >> 22).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 62) as usize
}

#[inline(always)]
fn zigzag(delta: u64) -> u64 {
    (delta << 1) ^ (((delta as i64) >> 63) as u64)
}

impl Coder {
    /// The state at the start of a block whose header says `first_quantum`.
    pub const fn new(first_quantum: u64) -> Self {
        Self { last_quantum: first_quantum, bases: [0; 4] }
    }

    /// Quantum of the last event.
    pub fn last_quantum(&self) -> u64 {
        self.last_quantum
    }

    /// A malloc of `size` bytes at `addr` in quantum `q`, if it has a short form: steady time and address, less than
    /// 64 KiB, address a multiple of 16. Otherwise nothing changes and [`Coder::general`] takes it.
    #[inline(always)]
    pub fn malloc(&mut self, q: u64, addr: u64, size: u64) -> Option<Short> {
        let granule = addr >> 4;
        let base = base_of(granule);
        let dt = q.wrapping_sub(self.last_quantum);
        let diff = zigzag(granule.wrapping_sub(self.bases[base]));
        if (dt >> TIME_BITS[3]) | (size >> SIZE_BITS[3]) | (diff >> ADDR_BITS[3]) | (addr & 15) != 0 {
            return None;
        }
        let ((tw, t), (sw, s), (aw, a)) = (width_of(dt, &TIME), width_of(size, &SIZE), width_of(diff, &ADDR));
        let head = 1 | (base as u64) << 1 | t << 3 | s << 5 | a << 7;
        let bits = head | (dt | (size | diff << sw) << tw) << 9;
        self.last_quantum = q;
        self.bases[base] = granule;
        Some(Short { bits, len: (9 + 7 + tw + sw + aw) as usize >> 3 })
    }

    /// A free of `addr` in quantum `q`, if it has a short form; see [`Coder::malloc`].
    #[inline(always)]
    pub fn free(&mut self, q: u64, addr: u64) -> Option<Short> {
        let granule = addr >> 4;
        let base = base_of(granule);
        let dt = q.wrapping_sub(self.last_quantum);
        let diff = zigzag(granule.wrapping_sub(self.bases[base]));
        if (dt >> TIME_BITS[3]) | (diff >> ADDR_BITS[3]) | (addr & 15) != 0 {
            return None;
        }
        let ((tw, t), (aw, a)) = (width_of(dt, &TIME), width_of(diff, &ADDR));
        let head = 2 | (base as u64) << 2 | t << 4 | a << 6;
        let bits = head | (dt | diff << tw) << 8;
        self.last_quantum = q;
        self.bases[base] = granule;
        Some(Short { bits, len: (8 + 7 + tw + aw) as usize >> 3 })
    }

    /// Any event in its general form; returns how many bytes of `out` it took. A quantum before the last event's
    /// counts as the last event's. `began` of a realloc is in quanta, like `q`.
    pub fn general(&mut self, q: u64, event: &SpoolKind, out: &mut [u8; GENERAL_MAX]) -> usize {
        let q = q.max(self.last_quantum);
        let dt = q - self.last_quantum;
        self.last_quantum = q;
        let mut w = Fields { coder: self, out, at: 1 };
        w.int(dt);
        let tag = match *event {
            SpoolKind::Malloc { addr, size } => w.int(size).addr(addr).tag(kind::MALLOC),
            SpoolKind::Calloc { addr, size } => w.int(size).addr(addr).tag(kind::CALLOC),
            SpoolKind::Aligned { addr, size, align } => w.int(size).int(align).addr(addr).tag(kind::ALIGNED),
            SpoolKind::Realloc { old, new, size, began, resident_pages: None } => {
                w.int(size).int(q.saturating_sub(began)).addr(old).addr(new).tag(kind::REALLOC)
            }
            SpoolKind::Realloc { old, new, size, began, resident_pages: Some(pages) } => w
                .int(size)
                .int(q.saturating_sub(began))
                .int(pages.into())
                .addr(old)
                .addr(new)
                .tag(kind::REALLOC_RESIDENT),
            SpoolKind::Free { addr } => w.addr(addr).tag(kind::FREE),
            SpoolKind::FreeResident { addr, resident_pages } => {
                w.int(resident_pages.into()).addr(addr).tag(kind::FREE_RESIDENT)
            }
            SpoolKind::ThreadStart => kind::THREAD_START,
            SpoolKind::ThreadExit => kind::THREAD_EXIT,
            SpoolKind::Mmap { addr, len, prot, flags } => {
                w.int(len).int(prot.into()).int(flags.into()).addr(addr).tag(kind::MMAP)
            }
            SpoolKind::Munmap { addr, len } => w.int(len).addr(addr).tag(kind::MUNMAP),
            SpoolKind::Mremap { old, old_len, new, new_len } => {
                w.int(old_len).int(new_len).addr(old).addr(new).tag(kind::MREMAP)
            }
            SpoolKind::Madvise { addr, len, advice } => w.int(len).int(advice.into()).addr(addr).tag(kind::MADVISE),
            SpoolKind::Brk { addr } => w.addr(addr).tag(kind::BRK),
        };
        let len = w.at;
        out[0] = tag << 2;
        len
    }
}

/// Writes the fields of a general event one after the other.
struct Fields<'a> {
    coder: &'a mut Coder,
    out: &'a mut [u8; GENERAL_MAX],
    at: usize,
}

impl Fields<'_> {
    fn int(&mut self, mut v: u64) -> &mut Self {
        while v >= 0x80 {
            self.out[self.at] = v as u8 | 0x80;
            self.at += 1;
            v >>= 7;
        }
        self.out[self.at] = v as u8;
        self.at += 1;
        self
    }

    fn addr(&mut self, addr: u64) -> &mut Self {
        let granule = addr >> 4;
        let base = base_of(granule);
        let diff = zigzag(granule.wrapping_sub(self.coder.bases[base]));
        self.coder.bases[base] = granule;
        self.out[self.at] = base as u8 | ((addr & 15) as u8) << 2;
        self.at += 1;
        self.int(diff)
    }

    fn tag(&mut self, kind: u8) -> u8 {
        kind
    }
}
