//! The files of a process in the order in which the dynamic linker looks symbols up: the program, what was preloaded,
//! what they need; behind them what was opened later, which takes nothing from those before it.
//!
//! Source: System V ABI, "Dynamic Linking" (`DT_DEBUG`); glibc elf/link.h and musl src/ldso/dynlink.c (`struct r_debug`,
//! `struct link_map`: address added, name, dynamic section, next).

use std::path::{Path, PathBuf};

use fragbench_proc::{Mapping, Source, Target};
use object::LittleEndian as LE;
use object::elf::{self as abi, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::image::Image;
use crate::pages::Pages;
use crate::survey::InspectError;

/// Files followed at most: a list that is damaged may not end.
const FILES: usize = 1 << 14;

/// The files of a process in that order, the program first; `None` where the list cannot be read.
///
/// # Errors
/// [`InspectError::Proc`] when the process may not be read or has ended.
pub fn lookup(target: &dyn Target) -> Result<Option<Vec<PathBuf>>, InspectError> {
    let mappings = target.mappings()?;
    let mut pages = Pages::new(target);
    let order = lookup_order(&mut pages, &mappings);
    match pages.failure() {
        Some(error) => Err(error.into()),
        None => Ok(order),
    }
}

/// Mapped files in that order, the program first; `None` when the list cannot be read.
pub(crate) fn lookup_order(pages: &mut Pages, mappings: &[Mapping]) -> Option<Vec<PathBuf>> {
    mappings.iter().filter(|m| m.private && m.offset == 0).find_map(|first| {
        let Source::File(path) = &first.source else { return None };
        let bytes = pages.target().file(first)?;
        let dynamic = dynamic_section(&bytes)?;
        let image = Image::parse(&bytes)?;
        let at = dynamic.wrapping_add(image.bias(first.start, 0, pages.page_bytes())?);
        let debug = debug_structure(pages, at)?;
        let list = pages.word(debug + 8)?;
        let order = follow(pages, mappings, list, path)?;
        (!order.is_empty()).then_some(order)
    })
}

/// Where a program's dynamic section is to be; `None` for what is no program.
fn dynamic_section(bytes: &[u8]) -> Option<u64> {
    let header = FileHeader64::<LE>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, bytes).ok()?;
    segments.iter().find(|s| s.p_type(endian) == abi::PT_INTERP)?;
    Some(segments.iter().find(|s| s.p_type(endian) == abi::PT_DYNAMIC)?.p_vaddr(endian))
}

/// The value of `DT_DEBUG`, which the dynamic linker has written.
fn debug_structure(pages: &mut Pages, dynamic: u64) -> Option<u64> {
    for entry in 0..256 {
        let at = dynamic + 16 * entry;
        match pages.word(at)?.cast_signed() {
            0 => return None,
            tag if tag == abi::DT_DEBUG.0 => return pages.word(at + 8).filter(|debug| *debug > 0),
            _ => {}
        }
    }
    None
}

fn follow(pages: &mut Pages, mappings: &[Mapping], first: u64, program: &Path) -> Option<Vec<PathBuf>> {
    let mut order: Vec<PathBuf> = vec![program.to_owned()];
    let mut entry = first;
    for _ in 0..FILES {
        if entry == 0 {
            return Some(order);
        }
        // The file is named by where its dynamic section lies: the name in the list may be relative, or a link's.
        let section = pages.word(entry + 16)?;
        let place = mappings.partition_point(|m| m.end <= section);
        let file = mappings[..(place + 1).min(mappings.len())].iter().rfind(|m| m.start <= section).map(|m| &m.source);
        if let Some(Source::File(path)) = file
            && !order.contains(path)
        {
            order.push(path.clone());
        }
        entry = pages.word(entry + 24)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_first_and_its_libc_among_those_behind_it() {
        let me = fragbench_proc::LiveTarget::open(std::process::id()).unwrap();
        let order = lookup(&me).unwrap().unwrap();
        assert_eq!(order[0], std::env::current_exe().unwrap());
        assert!(order[1..].iter().any(|path| crate::objects::is_libc(path)), "{order:?}");
    }
}
