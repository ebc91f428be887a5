//! The recorder's half of the spool: turns events into bytes. It never allocates, does no I/O, and leaves storing the
//! bytes to its caller, so that a malloc or free costs a few nanoseconds and no call.

use super::event::SpoolKind;
use super::format::{BASE_BITS, FREE, FREE_WIDE, Form, MALLOC, MALLOC_WIDE, base_of, kind};

/// Room a short event may need: it is stored as one u64, of which only [`Short::len`] bytes count.
pub const SHORT_MAX: usize = 8;
/// Room the longest general event may need: a tag and six varints.
pub const GENERAL_MAX: usize = 64;

/// A malloc or free in a form of fixed width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// The bytes, lowest first.
    pub bits: u64,
    /// How many of them count.
    pub len: usize,
}

/// What the encoding of the next event depends on. Starts afresh with each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Coder {
    last_quantum: u64,
    last_general: u64,
    bases: [u64; 1 << BASE_BITS],
}

#[inline(always)]
fn short(form: Form, base: usize, dt: u64, size: u64, diff: u64) -> Option<Short> {
    // The difference in bytes, plus half its range: valid if it has no bits but those of whole granules within range.
    let range = 16u64 << form.diff_bits;
    let biased = diff.wrapping_add(range / 2);
    let too_long = dt >> form.time_bits | size >> form.size_bits;
    if too_long | (biased & !(range - 16)) != 0 {
        return None;
    }
    let time_at = form.tag_bits + BASE_BITS;
    let size_at = time_at + form.time_bits;
    let diff_at = size_at + form.size_bits;
    let head = form.tag | (base as u64) << form.tag_bits;
    // `biased` counts bytes: its lowest four bits are zero and are shifted out of the way.
    Some(Short { bits: head | dt << time_at | size << size_at | biased << (diff_at - 4), len: form.bytes() })
}

impl Coder {
    /// The state at the start of a block whose header says `first_quantum`.
    pub const fn new(first_quantum: u64) -> Self {
        Self { last_quantum: first_quantum, last_general: 0, bases: [0; 1 << BASE_BITS] }
    }

    /// Quantum of the last event.
    pub fn last_quantum(&self) -> u64 {
        self.last_quantum
    }

    /// A malloc of `size` bytes at `addr` in quantum `q`, if it has a short form. Otherwise nothing changes and
    /// [`Coder::general`] takes it.
    #[inline(always)]
    pub fn malloc(&mut self, q: u64, addr: u64, size: u64) -> Option<Short> {
        let base = base_of(addr);
        let dt = q.wrapping_sub(self.last_quantum);
        let diff = addr.wrapping_sub(self.bases[base]);
        let short = match short(MALLOC, base, dt, size, diff) {
            Some(s) => s,
            None => short(MALLOC_WIDE, base, dt, size, diff)?,
        };
        self.last_quantum = q;
        self.bases[base] = addr;
        Some(short)
    }

    /// A free of `addr` in quantum `q`, if it has a short form; see [`Coder::malloc`].
    #[inline(always)]
    pub fn free(&mut self, q: u64, addr: u64) -> Option<Short> {
        let base = base_of(addr);
        let dt = q.wrapping_sub(self.last_quantum);
        let diff = addr.wrapping_sub(self.bases[base]);
        let short = match short(FREE, base, dt, 0, diff) {
            Some(s) => s,
            None => short(FREE_WIDE, base, dt, 0, diff)?,
        };
        self.last_quantum = q;
        self.bases[base] = addr;
        Some(short)
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
            SpoolKind::Realloc { old, new, size, began, resident_pages } => {
                w.int(size).int(q.saturating_sub(began)).addr(old).addr(new);
                match resident_pages {
                    None => kind::REALLOC,
                    Some(pages) => w.int(pages.into()).tag(kind::REALLOC_RESIDENT),
                }
            }
            SpoolKind::Free { addr } => w.addr(addr).tag(kind::FREE),
            SpoolKind::FreeResident { addr, resident_pages } => {
                w.addr(addr).int(resident_pages.into()).tag(kind::FREE_RESIDENT)
            }
            SpoolKind::ThreadStart => kind::THREAD_START,
            SpoolKind::ThreadExit => kind::THREAD_EXIT,
            SpoolKind::Mmap { addr, len, prot, flags } => {
                w.addr(addr).int(len).int(prot.into()).int(flags.into()).tag(kind::MMAP)
            }
            SpoolKind::Munmap { addr, len } => w.addr(addr).int(len).tag(kind::MUNMAP),
            SpoolKind::Mremap { old, old_len, new, new_len } => {
                w.addr(old).int(old_len).addr(new).int(new_len).tag(kind::MREMAP)
            }
            SpoolKind::Madvise { addr, len, advice } => w.addr(addr).int(len).int(advice.into()).tag(kind::MADVISE),
            SpoolKind::Brk { addr } => w.addr(addr).tag(kind::BRK),
            SpoolKind::Stack { id } => w.int(id.into()).tag(kind::STACK),
            SpoolKind::Trim { pad } => w.int(pad).tag(kind::TRIM),
            SpoolKind::Mallopt { param, value } => {
                w.int(u64::from(param as u32)).int(u64::from(value as u32)).tag(kind::MALLOPT)
            }
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
        let diff = addr.wrapping_sub(self.coder.last_general);
        self.coder.last_general = addr;
        self.coder.bases[base_of(addr)] = addr;
        self.int((diff << 1) ^ ((diff as i64) >> 63) as u64)
    }

    fn tag(&mut self, kind: u8) -> u8 {
        kind
    }
}
