//! Decodes the payload of a spool's block, event by event. Any bytes are safe to decode; what cannot be an event
//! ends the payload.

use super::event::SpoolKind;
use super::format::{ADDR_BITS, SIZE_BITS, TIME_BITS, kind};

/// State of decoding one block.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    quantum: u64,
    bases: [u64; 4],
    shift: u8,
}

/// Takes bit fields off the low end of a u128.
struct Bits {
    word: u128,
    used: u32,
}

impl Bits {
    fn take(&mut self, width: u32) -> u64 {
        let v = (self.word >> self.used) as u64 & ((1 << width) - 1);
        self.used += width;
        v
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

    fn addr(&mut self, bases: &mut [u64; 4]) -> Option<u64> {
        let b = self.byte()?;
        let base = &mut bases[usize::from(b & 3)];
        *base = moved(*base, self.int()?);
        Some(*base << 4 | u64::from(b >> 2 & 15))
    }
}

fn moved(base: u64, zigzag: u64) -> u64 {
    base.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg())
}

impl Decoder {
    pub(super) fn new(first_quantum: u64, shift: u8) -> Self {
        Self { quantum: first_quantum, bases: [0; 4], shift }
    }

    /// Quantum of the event decoded last.
    pub(super) fn quantum(&self) -> u64 {
        self.quantum
    }

    /// The event at `*at`, which is moved behind it; none if there is none to be had.
    pub(super) fn next(&mut self, payload: &[u8], at: &mut usize) -> Option<SpoolKind> {
        let rest = payload.get(*at..)?;
        let tag = *rest.first()?;
        if tag & 3 == 0 {
            let mut bytes = Bytes { b: rest, at: 1 };
            let event = self.general(tag >> 2, &mut bytes)?;
            *at += bytes.at;
            return Some(event);
        }
        let mut raw = [0; 16];
        let n = rest.len().min(16);
        raw[..n].copy_from_slice(&rest[..n]);
        let mut bits = Bits { word: u128::from_le_bytes(raw), used: 0 };
        let event = if tag & 1 == 1 { self.malloc(&mut bits) } else { self.free(&mut bits) };
        let len = bits.used.div_ceil(8) as usize;
        if len > rest.len() {
            return None;
        }
        *at += len;
        Some(event)
    }

    fn malloc(&mut self, bits: &mut Bits) -> SpoolKind {
        bits.take(1);
        let base = bits.take(2);
        let (t, s, a) = (bits.take(2), bits.take(2), bits.take(2));
        let dt = bits.take(TIME_BITS[t as usize]);
        let size = bits.take(SIZE_BITS[s as usize]);
        let addr = self.short_addr(base, bits.take(ADDR_BITS[a as usize]));
        self.quantum = self.quantum.wrapping_add(dt);
        SpoolKind::Malloc { addr, size }
    }

    fn free(&mut self, bits: &mut Bits) -> SpoolKind {
        bits.take(2);
        let base = bits.take(2);
        let (t, a) = (bits.take(2), bits.take(2));
        let dt = bits.take(TIME_BITS[t as usize]);
        let addr = self.short_addr(base, bits.take(ADDR_BITS[a as usize]));
        self.quantum = self.quantum.wrapping_add(dt);
        SpoolKind::Free { addr }
    }

    fn short_addr(&mut self, base: u64, zigzag: u64) -> u64 {
        let base = &mut self.bases[base as usize];
        *base = moved(*base, zigzag);
        *base << 4
    }

    fn general(&mut self, kind: u8, f: &mut Bytes<'_>) -> Option<SpoolKind> {
        self.quantum = self.quantum.wrapping_add(f.int()?);
        let bases = &mut self.bases;
        Some(match kind {
            kind::MALLOC => {
                let size = f.int()?;
                SpoolKind::Malloc { addr: f.addr(bases)?, size }
            }
            kind::CALLOC => {
                let size = f.int()?;
                SpoolKind::Calloc { addr: f.addr(bases)?, size }
            }
            kind::ALIGNED => {
                let (size, align) = (f.int()?, f.int()?);
                SpoolKind::Aligned { addr: f.addr(bases)?, size, align }
            }
            kind::REALLOC | kind::REALLOC_RESIDENT => {
                let (size, took) = (f.int()?, f.int()?);
                let resident_pages = if kind == kind::REALLOC { None } else { Some(f.int32()?) };
                let old = f.addr(bases)?;
                let new = f.addr(bases)?;
                let began = self.quantum.saturating_sub(took) << self.shift;
                SpoolKind::Realloc { old, new, size, began, resident_pages }
            }
            kind::FREE => SpoolKind::Free { addr: f.addr(bases)? },
            kind::FREE_RESIDENT => {
                let resident_pages = f.int32()?;
                SpoolKind::FreeResident { addr: f.addr(bases)?, resident_pages }
            }
            kind::THREAD_START => SpoolKind::ThreadStart,
            kind::THREAD_EXIT => SpoolKind::ThreadExit,
            kind::MMAP => {
                let (len, prot, flags) = (f.int()?, f.int32()?, f.int32()?);
                SpoolKind::Mmap { addr: f.addr(bases)?, len, prot, flags }
            }
            kind::MUNMAP => {
                let len = f.int()?;
                SpoolKind::Munmap { addr: f.addr(bases)?, len }
            }
            kind::MREMAP => {
                let (old_len, new_len) = (f.int()?, f.int()?);
                let old = f.addr(bases)?;
                SpoolKind::Mremap { old, old_len, new: f.addr(bases)?, new_len }
            }
            kind::MADVISE => {
                let (len, advice) = (f.int()?, f.int32()?);
                SpoolKind::Madvise { addr: f.addr(bases)?, len, advice }
            }
            kind::BRK => SpoolKind::Brk { addr: f.addr(bases)? },
            _ => return None,
        })
    }
}
