//! Loaded objects as the loader left them: their dynamic symbols, looked up by hash without the loader's functions, which
//! may allocate and go by who calls them; and their relocations, each a place that holds a symbol's address.
//!
//! Refuses: tables of relocations without addends (`DT_REL`), which 64-bit objects do not have.
//!
//! Source: ELF gABI, "Dynamic Section", "Hash Table"; the GNU hash table as binutils' bfd/elflink.c writes it; x86-64 and
//! AArch64 psABI, relocations.

use core::ffi::{CStr, c_int, c_void};
use core::ops::Range;
use core::slice;

use crate::stacks;

const PT_DYNAMIC: u32 = 2;
const PT_GNU_RELRO: u32 = 0x6474_e552;
const DT_PLTRELSZ: i64 = 2;
const DT_HASH: i64 = 4;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_RELA: i64 = 7;
const DT_RELASZ: i64 = 8;
const DT_JMPREL: i64 = 23;
const DT_GNU_HASH: i64 = 0x6fff_fef5;
const DT_VERSYM: i64 = 0x6fff_fff0;
/// An older version of a symbol, that only programs linked against it get.
const HIDDEN: u16 = 0x8000;
const STT_FUNC: u8 = 2;

/// What a relocation puts at its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A function's address, or at first the way to find it (`JUMP_SLOT`).
    Jump,
    /// A symbol's address in the table (`GLOB_DAT`).
    Address,
    /// A symbol's address among the data (`64`, `ABS64`).
    Data,
}

#[cfg(target_arch = "x86_64")]
const KINDS: [(u32, Slot); 3] = [(7, Slot::Jump), (6, Slot::Address), (1, Slot::Data)];
#[cfg(target_arch = "aarch64")]
const KINDS: [(u32, Slot); 3] = [(1026, Slot::Jump), (1025, Slot::Address), (257, Slot::Data)];

/// A loaded object's tables.
pub(crate) struct Object {
    pub(crate) base: usize,
    /// From its first to past its last byte in memory.
    pub(crate) extent: Range<usize>,
    relro: Range<usize>,
    symbols: usize,
    strings: usize,
    versions: usize,
    gnu_hash: usize,
    hash: usize,
    tables: [(usize, usize); 2],
}

impl Object {
    /// Of what the loader shows; `None` without symbols.
    pub(crate) fn of(info: &libc::dl_phdr_info) -> Option<Self> {
        let segments = stacks::segments(info);
        let base = info.dlpi_addr as usize;
        let at = |s: &libc::Elf64_Phdr| base.wrapping_add(s.p_vaddr as usize);
        let dynamic = segments.iter().find(|s| s.p_type == PT_DYNAMIC)?;
        let loaded = || segments.iter().filter(|s| s.p_type == libc::PT_LOAD);
        let relro = segments.iter().find(|s| s.p_type == PT_GNU_RELRO);
        let mut object = Self {
            base,
            extent: loaded().map(at).min()?..loaded().map(|s| at(s) + s.p_memsz as usize).max()?,
            relro: relro.map_or(0..0, |s| at(s)..at(s) + s.p_memsz as usize),
            symbols: 0,
            strings: 0,
            versions: 0,
            gnu_hash: 0,
            hash: 0,
            tables: [(0, 0); 2],
        };
        // SAFETY: the object's own dynamic section, which ends with an entry of zero.
        unsafe {
            let mut entry = at(dynamic) as *const [i64; 2];
            while (*entry)[0] != 0 {
                let [tag, value] = *entry;
                // The loader has made addresses of them, but for objects that cannot be written to.
                let value = value as usize;
                let address = if value < base { base + value } else { value };
                match tag {
                    DT_SYMTAB => object.symbols = address,
                    DT_STRTAB => object.strings = address,
                    DT_VERSYM => object.versions = address,
                    DT_GNU_HASH => object.gnu_hash = address,
                    DT_HASH => object.hash = address,
                    DT_RELA => object.tables[0].0 = address,
                    DT_RELASZ => object.tables[0].1 = value,
                    DT_JMPREL => object.tables[1].0 = address,
                    DT_PLTRELSZ => object.tables[1].1 = value,
                    _ => {}
                }
                entry = entry.add(1);
            }
        }
        (object.symbols != 0 && object.strings != 0).then_some(object)
    }

    /// Whether an address lies in it.
    pub(crate) fn holds(&self, address: usize) -> bool {
        self.extent.contains(&address)
    }

    /// Whether the loader has made a place read-only once it was relocated.
    pub(crate) fn is_sealed(&self, place: usize) -> bool {
        self.relro.contains(&place)
    }

    fn symbol(&self, index: usize) -> &libc::Elf64_Sym {
        // SAFETY: an index of the object's own hash or relocations.
        unsafe { &*(self.symbols as *const libc::Elf64_Sym).add(index) }
    }

    fn name(&self, symbol: &libc::Elf64_Sym) -> &CStr {
        // SAFETY: the object's own string table, whose strings end with a zero.
        unsafe { CStr::from_ptr((self.strings + symbol.st_name as usize) as *const _) }
    }

    /// Its own function of that name; 0 for none.
    pub(crate) fn defines(&self, name: &CStr) -> usize {
        let is_it = |index: usize| {
            let symbol = self.symbol(index);
            // SAFETY: the object's own table, an entry a symbol.
            let hidden = self.versions != 0 && unsafe { *(self.versions as *const u16).add(index) } & HIDDEN != 0;
            let function = symbol.st_info & 15 == STT_FUNC && symbol.st_shndx != 0 && symbol.st_value != 0;
            (function && !hidden && self.name(symbol) == name).then(|| self.base + symbol.st_value as usize)
        };
        match (self.gnu_hash, self.hash) {
            (0, 0) => None,
            (0, hash) => each_of_hash(hash, is_it),
            (hash, _) => each_of_gnu_hash(hash, name, is_it),
        }
        .unwrap_or(0)
    }

    /// Shows each place that a named symbol's address belongs in.
    pub(crate) fn each_slot(&self, mut show: impl FnMut(Slot, &CStr, usize)) {
        for (table, bytes) in self.tables.into_iter().filter(|(table, _)| *table != 0) {
            // SAFETY: the object's relocations, as long as it says.
            let relocations = unsafe {
                slice::from_raw_parts(table as *const libc::Elf64_Rela, bytes / size_of::<libc::Elf64_Rela>())
            };
            for r in relocations {
                let kind = KINDS.iter().find(|(number, _)| *number == r.r_info as u32);
                let index = (r.r_info >> 32) as usize;
                if let Some((_, kind)) = kind
                    && index != 0
                    && r.r_addend == 0
                {
                    show(*kind, self.name(self.symbol(index)), self.base.wrapping_add(r.r_offset as usize));
                }
            }
        }
    }
}

/// The System V hash table: buckets and chains hold every symbol that is defined.
fn each_of_hash(table: usize, is_it: impl Fn(usize) -> Option<usize>) -> Option<usize> {
    // SAFETY: the object's own table; its second word is the number of symbols.
    let symbols = unsafe { *(table as *const u32).add(1) };
    (1..symbols as usize).find_map(is_it)
}

fn each_of_gnu_hash(table: usize, name: &CStr, is_it: impl Fn(usize) -> Option<usize>) -> Option<usize> {
    let hash = name.to_bytes().iter().fold(5381u32, |h, b| h.wrapping_mul(33).wrapping_add(u32::from(*b)));
    // SAFETY: the object's own table: four words, the filter's words of 64 bits, the buckets, and a word for each symbol
    // from the first hashed one on.
    unsafe {
        let head = table as *const u32;
        let (buckets, first, filter, shift) = (*head, *head.add(1), *head.add(2), *head.add(3));
        if buckets == 0 || filter == 0 {
            return None;
        }
        let words = head.add(4).cast::<u64>();
        let word = words.add((hash / 64 % filter) as usize).read_unaligned();
        let wanted = 1u64 << (hash % 64) | 1u64 << ((hash >> (shift % 32)) % 64);
        if word & wanted != wanted {
            return None;
        }
        let bucket = words.add(filter as usize).cast::<u32>();
        let chain = bucket.add(buckets as usize);
        let mut index = *bucket.add((hash % buckets) as usize);
        if index < first {
            return None;
        }
        loop {
            let link = *chain.add((index - first) as usize);
            if (link ^ hash) | 1 == 1
                && let Some(found) = is_it(index as usize)
            {
                return Some(found);
            }
            if link & 1 == 1 {
                return None;
            }
            index += 1;
        }
    }
}

/// Shows the loaded objects, the program first, until told that it is enough. The loader's list cannot change meanwhile.
pub(crate) fn each_object(show: &mut dyn FnMut(&libc::dl_phdr_info) -> bool) {
    unsafe extern "C" fn object(info: *mut libc::dl_phdr_info, _: usize, arg: *mut c_void) -> c_int {
        // SAFETY: the loader's description of a file, for the time of this call, and what is passed below.
        unsafe { c_int::from((*arg.cast::<&mut dyn FnMut(&libc::dl_phdr_info) -> bool>())(&*info)) }
    }
    let mut show = show;
    // SAFETY: the callback is of the type asked for and gets what it expects; it does not outlive the call.
    unsafe { libc::dl_iterate_phdr(Some(object), (&raw mut show).cast()) };
}

/// The object that an address lies in.
pub(crate) fn object_at(address: usize) -> Option<Object> {
    let mut found = None;
    each_object(&mut |info| {
        found = Object::of(info).filter(|object| object.holds(address));
        found.is_some()
    });
    found
}
