//! Decodes the payload of a spool's block, event by event. Any bytes are safe to decode; what cannot be an event
//! ends the payload.

use super::event::{SpoolEvent, SpoolKind};
use super::format::{BASE_BITS, FREE, FREE_WIDE, Form, MALLOC, MALLOC_WIDE, base_of, kind};

/// Events decoded at once, at most.
const BATCH: usize = 64;

/// State of decoding one block.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    quantum: u64,
    shift: u8,
    last_general: u64,
    bases: [u64; 1 << BASE_BITS],
}

/// The fields of an event of fixed width.
struct Fixed {
    base: usize,
    dt: u64,
    size: u64,
    /// In bytes.
    diff: u64,
}

#[inline(always)]
fn fixed(form: Form, word: u64) -> Fixed {
    let field = |at: u32, bits: u32| (word >> at) & ((1 << bits) - 1);
    let time_at = form.tag_bits + BASE_BITS;
    let size_at = time_at + form.time_bits;
    let biased = field(size_at + form.size_bits, form.diff_bits);
    Fixed {
        base: field(form.tag_bits, BASE_BITS) as usize,
        dt: field(time_at, form.time_bits),
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
}

impl Decoder {
    pub(super) fn new(first_quantum: u64, shift: u8) -> Self {
        Self { quantum: first_quantum, shift, last_general: 0, bases: [0; 1 << BASE_BITS] }
    }

    /// The event at `*at`, which is moved behind it; none if there is none to be had.
    fn next(&mut self, payload: &[u8], at: &mut usize) -> Option<SpoolKind> {
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
        raw[..form.bytes()].copy_from_slice(rest.get(..form.bytes())?);
        *at += form.bytes();
        Some(self.short(form, u64::from_le_bytes(raw)))
    }

    /// Adds the events from `*at` on to `out`, of which [`BATCH`] may come at once: those that begin before `sure`. False
    /// when what stands at `*at` is none.
    pub(super) fn run(&mut self, payload: &[u8], at: &mut usize, sure: usize, out: &mut Vec<SpoolEvent>) -> bool {
        let mut here = *at;
        for _ in 0..BATCH {
            if here > sure {
                break;
            }
            let Some(word) = payload.get(here..).and_then(|rest| rest.first_chunk::<8>()) else {
                // The last bytes of a block.
                if here >= payload.len() {
                    break;
                }
                *at = here;
                let Some(kind) = self.next(payload, at) else { return false };
                here = *at;
                out.push(SpoolEvent { tsc: self.quantum << self.shift, kind });
                continue;
            };
            let word = u64::from_le_bytes(*word);
            let form = match word & 7 {
                0b001 | 0b101 => MALLOC,
                0b010 | 0b110 => FREE,
                0b011 => MALLOC_WIDE,
                0b111 => FREE_WIDE,
                _ => {
                    *at = here;
                    let Some(kind) = self.next(payload, at) else { return false };
                    here = *at;
                    out.push(SpoolEvent { tsc: self.quantum << self.shift, kind });
                    continue;
                }
            };
            here += form.bytes();
            let kind = self.short(form, word);
            out.push(SpoolEvent { tsc: self.quantum << self.shift, kind });
        }
        *at = here;
        true
    }

    #[inline(always)]
    fn short(&mut self, form: Form, word: u64) -> SpoolKind {
        let f = fixed(form, word);
        self.quantum = self.quantum.wrapping_add(f.dt);
        let addr = self.bases[f.base].wrapping_add(f.diff);
        self.bases[base_of(addr)] = addr;
        if form.size_bits > 0 { SpoolKind::Malloc { addr, size: f.size } } else { SpoolKind::Free { addr } }
    }

    fn addr(&mut self, f: &mut Bytes<'_>) -> Option<u64> {
        let zigzag = f.int()?;
        let addr = self.last_general.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg());
        self.last_general = addr;
        self.bases[base_of(addr)] = addr;
        Some(addr)
    }

    fn general(&mut self, kind: u8, f: &mut Bytes<'_>) -> Option<SpoolKind> {
        self.quantum = self.quantum.wrapping_add(f.int()?);
        Some(match kind {
            kind::MALLOC => {
                let size = f.int()?;
                SpoolKind::Malloc { addr: self.addr(f)?, size }
            }
            kind::CALLOC => {
                let size = f.int()?;
                SpoolKind::Calloc { addr: self.addr(f)?, size }
            }
            kind::ALIGNED => {
                let (size, align) = (f.int()?, f.int()?);
                SpoolKind::Aligned { addr: self.addr(f)?, size, align }
            }
            kind::REALLOC | kind::REALLOC_RESIDENT => {
                let (size, took) = (f.int()?, f.int()?);
                let (old, new) = (self.addr(f)?, self.addr(f)?);
                let resident_pages = if kind == kind::REALLOC { None } else { Some(f.int32()?) };
                let began = self.quantum.saturating_sub(took) << self.shift;
                SpoolKind::Realloc { old, new, size, began, resident_pages }
            }
            kind::FREE => SpoolKind::Free { addr: self.addr(f)? },
            kind::FREE_RESIDENT => SpoolKind::FreeResident { addr: self.addr(f)?, resident_pages: f.int32()? },
            kind::THREAD_START => SpoolKind::ThreadStart,
            kind::THREAD_EXIT => SpoolKind::ThreadExit,
            kind::MMAP => SpoolKind::Mmap { addr: self.addr(f)?, len: f.int()?, prot: f.int32()?, flags: f.int32()? },
            kind::MUNMAP => SpoolKind::Munmap { addr: self.addr(f)?, len: f.int()? },
            kind::MREMAP => {
                let (old, old_len) = (self.addr(f)?, f.int()?);
                SpoolKind::Mremap { old, old_len, new: self.addr(f)?, new_len: f.int()? }
            }
            kind::MADVISE => SpoolKind::Madvise { addr: self.addr(f)?, len: f.int()?, advice: f.int32()? },
            kind::BRK => SpoolKind::Brk { addr: self.addr(f)? },
            kind::STACK => SpoolKind::Stack { id: f.int32()? },
            kind::TRIM => SpoolKind::Trim { pad: f.int()? },
            kind::MALLOPT => SpoolKind::Mallopt { param: f.int32()? as i32, value: f.int32()? as i32 },
            _ => return None,
        })
    }
}
