//! The image an ELF file gives to a process: loadable words, the words the dynamic linker relocates, symbols. Refuses
//! anything but 64-bit little-endian files; damage reads as absence.
//!
//! Source: System V ABI, "Object Files" and "Dynamic Linking" (DT_RELA, DT_RELR); elf(5).

use object::LittleEndian as LE;
use object::elf::{self as abi, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, Sym};

/// A segment: where it goes, and its bytes in the file.
struct Load<'a> {
    address: u64,
    offset: u64,
    bytes: &'a [u8],
    writable: bool,
}

/// An ELF file as it is loaded. Addresses are the file's own: add the load bias for the process's.
pub(crate) struct Image<'a> {
    loads: Vec<Load<'a>>,
    /// Words that become their value plus the load bias: address, value.
    relative: Vec<(u64, u64)>,
    /// Whether it is linked for a fixed address, so that its words are what they will be.
    fixed: bool,
    main_arena: Option<u64>,
    par: Option<u64>,
}

impl<'a> Image<'a> {
    /// `None` when the bytes are no such file.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = FileHeader64::<LE>::parse(bytes).ok()?;
        let endian = header.endian().ok()?;
        let (mut loads, mut dynamic): (Vec<Load>, _) = (Vec::new(), None);
        for segment in header.program_headers(endian, bytes).ok()? {
            if segment.p_type(endian) == abi::PT_LOAD {
                loads.push(Load {
                    address: segment.p_vaddr(endian),
                    offset: segment.p_offset(endian),
                    bytes: segment.data(endian, bytes).unwrap_or_default(),
                    writable: segment.p_flags(endian).0 & abi::PF_W.0 != 0,
                });
            }
            dynamic = dynamic.or(segment.dynamic(endian, bytes).ok().flatten());
        }
        let mut image = Image {
            loads,
            relative: Vec::new(),
            fixed: header.e_type(endian) == abi::ET_EXEC,
            main_arena: None,
            par: None,
        };
        let relative_type = match header.e_machine(endian) {
            abi::EM_AARCH64 => abi::R_AARCH64_RELATIVE.0,
            _ => abi::R_X86_64_RELATIVE.0,
        };
        let value = |tag| Some(dynamic?.iter().find(|d| d.tag(endian) == tag)?.val(endian));
        if let (Some(at), Some(len)) = (value(abi::DT_RELA), value(abi::DT_RELASZ)) {
            image.read_rela(at, len, u64::from(relative_type));
        }
        if let (Some(at), Some(len)) = (value(abi::DT_RELR), value(abi::DT_RELRSZ)) {
            image.read_relr(at, len);
        }
        if let Ok(symbols) =
            header.sections(endian, bytes).and_then(|sections| sections.symbols(endian, bytes, abi::SHT_SYMTAB))
        {
            for symbol in symbols.iter().filter(|s| s.st_size(endian) > 0) {
                match symbol.name(endian, symbols.strings()) {
                    Ok(b"main_arena") => image.main_arena = Some(symbol.st_value(endian)),
                    Ok(b"mp_") => image.par = Some(symbol.st_value(endian)),
                    _ => {}
                }
            }
        }
        Some(image)
    }

    /// `main_arena` by its symbol.
    pub(crate) fn main_arena(&self) -> Option<u64> {
        self.main_arena
    }

    /// `mp_` by its symbol.
    pub(crate) fn par(&self) -> Option<u64> {
        self.par
    }

    /// The word at an address, as the file has it.
    pub(crate) fn word(&self, address: u64) -> Option<u64> {
        self.loads.iter().find_map(|load| {
            let at = usize::try_from(address.checked_sub(load.address)?).ok()?;
            word_at(load.bytes, at)
        })
    }

    /// Address and value of every word that will hold an address within the image: those the dynamic linker relocates,
    /// or, in a file for a fixed address, all writable ones.
    pub(crate) fn pointers(&self) -> impl Iterator<Item = (u64, u64)> {
        let fixed = self.fixed;
        self.relative.iter().copied().chain(self.writable_words().filter(move |_| fixed))
    }

    /// Address and value of every word of the writable segments.
    pub(crate) fn writable_words(&self) -> impl Iterator<Item = (u64, u64)> {
        self.loads.iter().filter(|load| load.writable).flat_map(|load| {
            let skip = load.address.wrapping_neg() as usize % 8;
            let words = load.bytes.get(skip..).unwrap_or_default().as_chunks::<8>().0;
            let first = load.address.wrapping_add(skip as u64);
            words.iter().enumerate().map(move |(i, w)| (first + 8 * i as u64, u64::from_le_bytes(*w)))
        })
    }

    /// The load bias when a mapping of this file begins at `start` with file offset `offset`.
    pub(crate) fn bias(&self, start: u64, offset: u64, page: u64) -> Option<u64> {
        let first = self.loads.iter().find(|load| load.offset & !(page - 1) == offset)?;
        Some(start.wrapping_sub(first.address & !(page - 1)))
    }

    fn read_rela(&mut self, at: u64, len: u64, relative_type: u64) {
        for entry in (0..len / 24).map(|i| at.wrapping_add(24 * i)) {
            let words = [0, 8, 16].map(|field| self.word(entry.wrapping_add(field)));
            let [Some(offset), Some(info), Some(addend)] = words else { return };
            if info & 0xffff_ffff == relative_type {
                self.relative.push((offset, addend));
            }
        }
    }

    /// A list of addresses, each followed by bitmaps of which of the next 63 words are relocated too.
    fn read_relr(&mut self, at: u64, len: u64) {
        let mut next = 0u64;
        for i in 0..len / 8 {
            let Some(entry) = self.word(at.wrapping_add(8 * i)) else { return };
            let addresses: Vec<u64> = if entry & 1 == 0 {
                next = entry.wrapping_add(8);
                vec![entry]
            } else {
                let first = next;
                next = next.wrapping_add(63 * 8);
                (0..63).filter(|bit| entry >> (bit + 1) & 1 == 1).map(|bit| first.wrapping_add(8 * bit)).collect()
            };
            for address in addresses {
                if let Some(value) = self.word(address) {
                    self.relative.push((address, value));
                }
            }
        }
    }
}

fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
