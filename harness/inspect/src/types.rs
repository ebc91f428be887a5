//! What a chunk holds, by its first word: the address of a C++ vtable names the type of the object. Contents are shown
//! only when they were asked for.
//!
//! Source: Itanium C++ ABI, "Virtual Table Layout" (an object's first word points two words into its class's `_ZTV`
//! symbol) and "Mangling".

use std::collections::HashMap;

use fragbench_proc::{Mapping, Source, Target};
use object::LittleEndian as LE;
use object::elf::{self as abi, FileHeader64};
use object::read::elf::{FileHeader, Sym};

use crate::image::Image;
use crate::layout::CHUNK_FD;
use crate::pages::Pages;

/// Bytes of a chunk shown.
const SHOWN: u64 = 32;
/// Files are searched for vtables up to this size.
const FILE_MAX: usize = 512 << 20;

/// Looks up types in a target.
pub(crate) struct Types<'p, 't> {
    pages: &'p mut Pages<'t>,
    mappings: &'p [Mapping],
    /// Vtables of the files looked into so far: address, end, type.
    files: HashMap<usize, Vec<(u64, u64, String)>>,
    with_contents: bool,
}

impl<'p, 't> Types<'p, 't> {
    pub(crate) fn new(pages: &'p mut Pages<'t>, mappings: &'p [Mapping], with_contents: bool) -> Self {
        Self { pages, mappings, files: HashMap::new(), with_contents }
    }

    /// Type of the object in a chunk.
    pub(crate) fn of(&mut self, chunk: u64) -> Option<String> {
        let word = self.pages.word(chunk + CHUNK_FD)?;
        let place = self.mappings.partition_point(|m| m.end <= word);
        let mapping = self.mappings.get(place).filter(|m| m.holds(word) && m.private && !m.writable)?;
        let Source::File(path) = &mapping.source else { return None };
        let first = self.mappings.iter().position(|m| m.source == mapping.source)?;
        if !self.files.contains_key(&first) {
            let vtables = vtables(self.pages.target(), &self.mappings[first], self.pages.page_bytes());
            self.files.insert(first, vtables);
        }
        let vtables = &self.files[&first];
        let place = vtables.partition_point(|(start, ..)| *start <= word).checked_sub(1)?;
        let (start, end, name) = &vtables[place];
        let file = path.file_name()?.to_string_lossy();
        (*start + 16 <= word && word < *end).then(|| format!("{name} ({file})"))
    }

    /// First bytes of the block in a chunk.
    pub(crate) fn contents(&mut self, chunk: u64, size: u64) -> Option<String> {
        let words = (SHOWN / 8).min((size - 8) / 8 - 1);
        let all: Option<Vec<u64>> =
            self.with_contents.then(|| (0..words).map(|i| self.pages.word(chunk + CHUNK_FD + 8 * i)).collect())?;
        Some(all?.into_iter().flat_map(u64::to_le_bytes).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The vtables of a mapped file by their addresses in the process, ascending.
fn vtables(target: &dyn Target, mapping: &Mapping, page: u64) -> Vec<(u64, u64, String)> {
    let Some(bytes) = target.file(mapping).filter(|bytes| bytes.len() <= FILE_MAX) else { return Vec::new() };
    let bias = Image::parse(&bytes).and_then(|image| image.bias(mapping.start, mapping.offset, page));
    let Some(bias) = bias else { return Vec::new() };
    let mut found: Vec<(u64, u64, String)> = Vec::new();
    let Ok(header) = FileHeader64::<LE>::parse(&*bytes) else { return found };
    let Ok(endian) = header.endian() else { return found };
    let Ok(sections) = header.sections(endian, &*bytes) else { return found };
    for kind in [abi::SHT_DYNSYM, abi::SHT_SYMTAB] {
        let Ok(symbols) = sections.symbols(endian, &*bytes, kind) else { continue };
        for symbol in symbols.iter().filter(|s| !s.is_undefined(endian) && s.st_size(endian) > 16) {
            let Ok(name) = symbol.name(endian, symbols.strings()) else { continue };
            if let Some(name) = std::str::from_utf8(name).ok().and_then(type_name) {
                let start = symbol.st_value(endian).wrapping_add(bias);
                found.push((start, start.saturating_add(symbol.st_size(endian)), name));
            }
        }
    }
    found.sort_unstable();
    found.dedup_by_key(|(start, ..)| *start);
    found
}

/// The type whose vtable a symbol is.
fn type_name(symbol: &str) -> Option<String> {
    let of = symbol.strip_prefix("_ZTV")?;
    // The name of the type alone is the mangled name without the prefix of special names.
    let name = cpp_demangle::Symbol::new(format!("_Z{of}")).ok()?;
    name.demangle().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vtable_s_symbol_names_its_type() {
        assert_eq!(type_name("_ZTV3Foo").as_deref(), Some("Foo"));
        assert_eq!(type_name("_ZTVN5mysql6ThreadE").as_deref(), Some("mysql::Thread"));
        assert_eq!(type_name("_ZN3Foo3barEv"), None);
    }
}
