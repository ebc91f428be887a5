//! Decodes the payload of a spool's block, event by event. Any bytes are safe to decode; what cannot be an event
//! ends the payload.

use super::event::SpoolKind;
use super::format::{FREE, FREE_WIDE, Form, MALLOC, MALLOC_WIDE, kind};

/// State of decoding one block.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    quantum: u64,
    shift: u8,
    allocated: u64,
    freed: u64,
    mapped: u64,
}

/// The fields of an event of fixed width.
struct Fixed {
    dt: u64,
    size: u64,
    /// In bytes.
    diff: u64,
}

fn fixed(form: Form, word: u64) -> Fixed {
    let field = |at: u32, bits: u32| (word >> at) & ((1 << bits) - 1);
    let size_at = form.tag_bits + form.time_bits;
    let biased = field(size_at + form.size_bits, form.diff_bits);
    Fixed {
        dt: field(form.tag_bits, form.time_bits),
        size: field(size_at, form.size_bits),
        diff: biased.wrapping_sub(1 << (form.diff_bits - 1)) << 4,
    }
}

struct Bytes<'a> {
    b: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let b = *self.b.get(self.at)?;
        self.at += 1;
        Some(b)
    }

    fn int(&mut self) -> Option<u64> {
        let mut v = 0;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            v |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                return Some(v);
            }
        }
        None
    }

    fn int32(&mut self) -> Option<u32> {
        u32::try_from(self.int()?).ok()
    }

    fn addr(&mut self, base: &mut u64) -> Option<u64> {
        let zigzag = self.int()?;
        *base = base.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg());
        Some(*base)
    }
}

impl Decoder {
    pub(super) fn new(first_quantum: u64, shift: u8) -> Self {
        Self { quantum: first_quantum, shift, allocated: 0, freed: 0, mapped: 0 }
    }

    /// Quantum of the event decoded last.
    pub(super) fn quantum(&self) -> u64 {
        self.quantum
    }

    /// The event at `*at`, which is moved behind it; none if there is none to be had.
    pub(super) fn next(&mut self, payload: &[u8], at: &mut usize) -> Option<SpoolKind> {
        let rest = payload.get(*at..)?;
        let tag = *rest.first()?;
        let form = match tag & 7 {
            0b001 | 0b101 => MALLOC,
            0b010 | 0b110 => FREE,
            0b011 => MALLOC_WIDE,
            0b111 => FREE_WIDE,
            _ => {
                let mut bytes = Bytes { b: rest, at: 1 };
                let event = self.general(tag >> 2, &mut bytes)?;
                *at += bytes.at;
                return Some(event);
            }
        };
        let mut raw = [0; 8];
        raw[..form.len()].copy_from_slice(rest.get(..form.len())?);
        *at += form.len();
        let f = fixed(form, u64::from_le_bytes(raw));
        self.quantum = self.quantum.wrapping_add(f.dt);
        Some(if form.size_bits > 0 {
            self.allocated = self.allocated.wrapping_add(f.diff);
            SpoolKind::Malloc { addr: self.allocated, size: f.size }
        } else {
            self.freed = self.freed.wrapping_add(f.diff);
            SpoolKind::Free { addr: self.freed }
        })
    }

    fn general(&mut self, kind: u8, f: &mut Bytes<'_>) -> Option<SpoolKind> {
        self.quantum = self.quantum.wrapping_add(f.int()?);
        let Self { allocated, freed, mapped, .. } = self;
        Some(match kind {
            kind::MALLOC => {
                let size = f.int()?;
                SpoolKind::Malloc { addr: f.addr(allocated)?, size }
            }
            kind::CALLOC => {
                let size = f.int()?;
                SpoolKind::Calloc { addr: f.addr(allocated)?, size }
            }
            kind::ALIGNED => {
                let (size, align) = (f.int()?, f.int()?);
                SpoolKind::Aligned { addr: f.addr(allocated)?, size, align }
            }
            kind::REALLOC | kind::REALLOC_RESIDENT => {
                let (size, took) = (f.int()?, f.int()?);
                let (old, new) = (f.addr(freed)?, f.addr(allocated)?);
                let resident_pages = if kind == kind::REALLOC { None } else { Some(f.int32()?) };
                let began = self.quantum.saturating_sub(took) << self.shift;
                SpoolKind::Realloc { old, new, size, began, resident_pages }
            }
            kind::FREE => SpoolKind::Free { addr: f.addr(freed)? },
            kind::FREE_RESIDENT => SpoolKind::FreeResident { addr: f.addr(freed)?, resident_pages: f.int32()? },
            kind::THREAD_START => SpoolKind::ThreadStart,
            kind::THREAD_EXIT => SpoolKind::ThreadExit,
            kind::MMAP => SpoolKind::Mmap { addr: f.addr(mapped)?, len: f.int()?, prot: f.int32()?, flags: f.int32()? },
            kind::MUNMAP => SpoolKind::Munmap { addr: f.addr(mapped)?, len: f.int()? },
            kind::MREMAP => {
                let (old, old_len) = (f.addr(mapped)?, f.int()?);
                SpoolKind::Mremap { old, old_len, new: f.addr(mapped)?, new_len: f.int()? }
            }
            kind::MADVISE => SpoolKind::Madvise { addr: f.addr(mapped)?, len: f.int()?, advice: f.int32()? },
            kind::BRK => SpoolKind::Brk { addr: f.addr(mapped)? },
            _ => return None,
        })
    }
}
