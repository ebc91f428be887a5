//! Which mallocs are in a process, told by what its files export: glibc's by its file's name and banner, others by
//! functions that only they have. Which of them `malloc` is the dynamic linker's order says ([`crate::linkmap`]), never
//! which is mapped: one that comes later serves only those who call it by a name of its own.
//!
//! Source: the public headers of jemalloc (`mallctl`), mimalloc (`mi_malloc`), gperftools and tcmalloc
//! (`MallocExtension`), LLVM's sanitizers (`__asan_init`); glibc csu/version.c for the banner; musl src/malloc/lite_malloc.c
//! (`__libc_malloc_impl`) and ldso/dynlink.c.

use std::path::{Path, PathBuf};

use fragbench_model::MallocFact;
use fragbench_proc::{Mapping, Source, Target};
use object::LittleEndian as LE;
use object::elf::{self as abi, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, Sym};

use crate::linkmap::lookup_order;
use crate::pages::Pages;
use crate::survey::InspectError;

/// Functions by which an allocator is known.
const SIGNS: [(&str, &[&str]); 9] = [
    ("jemalloc", &["mallctl", "je_mallctl", "_rjem_mallctl", "jemalloc_mallctl"]),
    ("mimalloc", &["mi_malloc"]),
    ("tcmalloc", &["tc_malloc", "MallocExtension_ReleaseFreeMemory", "TCMallocInternalMalloc"]),
    ("snmalloc", &["sn_malloc"]),
    ("musl", &["__libc_malloc_impl"]),
    ("Hoard", &["getCustomHeap"]),
    ("AddressSanitizer", &["__asan_init"]),
    ("Go", &["runtime.mallocgc"]),
    ("null", &["fragbench_null_probe"]),
];
/// Texts by which an allocator in a program without symbols is known: the start of its messages.
const MESSAGES: [(&str, &[u8]); 3] =
    [("jemalloc", b"<jemalloc>: "), ("mimalloc", b"mimalloc: error"), ("tcmalloc", b"tcmalloc: large alloc ")];

/// What musl's libc says when it is run as a program; where it is not its own loader's name, it is called as glibc's is.
const MUSL: &[u8] = b"musl libc (";

/// Libraries are read up to this size: those with a malloc are small.
const LIBRARY_MAX: usize = 32 << 20;
/// The program is read up to this size.
const PROGRAM_MAX: usize = 512 << 20;

/// A malloc in the process and the file it is in.
#[derive(Debug, Clone)]
pub struct Malloc {
    /// What is told of it.
    pub fact: MallocFact,
    /// Its file, as the process has it mapped.
    pub path: PathBuf,
}

/// What a process's files say.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Every malloc found; glibc's first.
    pub(crate) mallocs: Vec<Malloc>,
    /// Version of the glibc by its banner.
    pub(crate) glibc: Option<String>,
}

impl Objects {
    pub(crate) fn facts(&self) -> Vec<MallocFact> {
        self.mallocs.iter().map(|malloc| malloc.fact.clone()).collect()
    }
}

/// A mapped file as far as it matters to whose malloc it is.
struct Candidate {
    path: PathBuf,
    name: Option<&'static str>,
    malloc: bool,
    new: bool,
}

/// Looks through the files of a process; `libc` is the one in which `main_arena` was found.
pub(crate) fn objects(pages: &mut Pages, mappings: &[Mapping], libc: Option<&Path>) -> Objects {
    let mut seen: Vec<Candidate> = Vec::new();
    let mut glibc = None;
    for mapping in mappings.iter().filter(|m| m.private && m.readable && m.offset == 0) {
        let Source::File(path) = &mapping.source else { continue };
        if !seen.iter().any(|file| file.path == *path) {
            let (candidate, version) = candidate(pages.target(), mapping, path, seen.is_empty(), libc);
            seen.push(candidate);
            glibc = glibc.or(version);
        }
    }
    let order = lookup_order(pages, mappings);
    // Where the order is not known: what is not libc comes before it.
    let order: Vec<PathBuf> = order.unwrap_or_else(|| {
        let (libcs, others): (Vec<_>, Vec<_>) = seen.iter().partition(|file| file.name == Some("glibc"));
        others.into_iter().chain(libcs).map(|file| file.path.clone()).collect()
    });
    let in_order = || order.iter().filter_map(|path| seen.iter().find(|file| file.path == *path));
    let owner = in_order().find(|file| file.malloc).map(|file| file.path.clone());
    // libstdc++'s calls malloc, and so do nearly all of programs' own.
    let new = in_order().find(|file| file.new).filter(|file| file.malloc || file.name.is_some());
    let new = new.map(|file| file.path.clone());
    let mut mallocs: Vec<Malloc> = Vec::new();
    for file in seen {
        let takes_malloc = owner.as_ref() == Some(&file.path);
        // One that is not known is told only where calls go to it.
        let Some(name) = file.name.or(takes_malloc.then_some("unknown")) else { continue };
        let takes_new = new.as_ref() == Some(&file.path);
        let object = file.path.display().to_string();
        let fact = MallocFact { name: name.into(), object, takes_malloc, takes_new, holds_at_most_bytes: None };
        let place = if fact.is_glibc() { 0 } else { mallocs.len() };
        mallocs.insert(place, Malloc { fact, path: file.path });
    }
    Objects { mallocs, glibc }
}

/// The mallocs of a process, glibc's first, and which of them `malloc` is.
///
/// # Errors
/// [`InspectError::Proc`] when the process may not be read or has ended.
pub fn mallocs(target: &dyn Target) -> Result<Vec<Malloc>, InspectError> {
    let mappings = target.mappings()?;
    let mut pages = Pages::new(target);
    let found = objects(&mut pages, &mappings, None);
    match pages.failure() {
        Some(error) => Err(error.into()),
        None => Ok(found.mallocs),
    }
}

/// What one mapped file is, and the version of the glibc if it is that.
fn candidate(
    target: &dyn Target,
    mapping: &Mapping,
    path: &Path,
    program: bool,
    libc: Option<&Path>,
) -> (Candidate, Option<String>) {
    let holds_libc = libc == Some(path) || is_libc(path);
    let small = std::fs::metadata(path)
        .map_or(true, |m| m.len() as usize <= if program || holds_libc { PROGRAM_MAX } else { LIBRARY_MAX });
    let Some(bytes) = small.then(|| target.file(mapping)).flatten() else {
        let name = by_name(path);
        return (Candidate { path: path.into(), name, malloc: name.is_some(), new: false }, None);
    };
    let musl = is_libc(path) && contains(&bytes, MUSL).is_some();
    let file = read(&bytes);
    if holds_libc && !musl {
        let version = if libc.is_none_or(|libc| libc == path) { banner(&bytes) } else { None };
        // A static program with another malloc in it has glibc's as well, unused.
        let name = file.sign.filter(|_| libc != Some(path)).unwrap_or("glibc");
        return (Candidate { path: path.into(), name: Some(name), malloc: file.malloc, new: file.new }, version);
    }
    let by_text = || {
        let texts = MESSAGES.iter().filter(|_| program && file.without_interpreter);
        texts.into_iter().find(|(_, text)| contains(&bytes, text).is_some()).map(|(name, _)| *name)
    };
    let name = file.sign.or(musl.then_some("musl")).or_else(|| by_name(path).filter(|name| *name != "glibc"));
    (Candidate { path: path.into(), name: name.or_else(by_text), malloc: file.malloc, new: file.new }, None)
}

/// Whether a file is named as glibc's libc is.
pub(crate) fn is_libc(path: &Path) -> bool {
    path.file_name().is_some_and(|n| {
        let name = n.to_string_lossy();
        name.starts_with("libc.so") || name.starts_with("libc-2.")
    })
}

/// What a file's name says when the file cannot be had, and of libraries that export nothing telling.
fn by_name(path: &Path) -> Option<&'static str> {
    const NAMES: [(&str, &str); 6] = [
        ("ld-musl", "musl"),
        ("libc.musl", "musl"),
        ("libjemalloc", "jemalloc"),
        ("libmimalloc", "mimalloc"),
        ("libtcmalloc", "tcmalloc"),
        ("libsnmalloc", "snmalloc"),
    ];
    let name = path.file_name()?.to_string_lossy();
    let known = NAMES.iter().find(|(start, _)| name.starts_with(start)).map(|(_, name)| *name);
    known.or_else(|| is_libc(path).then_some("glibc"))
}

#[derive(Default)]
struct File {
    sign: Option<&'static str>,
    /// Gives `malloc` to others; of a static program: has it.
    malloc: bool,
    /// So for C++'s `operator new(size_t)`.
    new: bool,
    without_interpreter: bool,
}

fn read(bytes: &[u8]) -> File {
    let mut file = File::default();
    let Ok(header) = FileHeader64::<LE>::parse(bytes) else { return file };
    let Ok(endian) = header.endian() else { return file };
    let segments = header.program_headers(endian, bytes).unwrap_or_default();
    let library = header.e_type(endian) == abi::ET_DYN;
    file.without_interpreter = !segments.iter().any(|s| s.p_type(endian) == abi::PT_INTERP);
    let Ok(sections) = header.sections(endian, bytes) else { return file };
    for kind in [abi::SHT_DYNSYM, abi::SHT_SYMTAB] {
        // Only the dynamic symbols of a file are seen by others; of a program without an interpreter all count.
        let counts = kind == abi::SHT_DYNSYM || file.without_interpreter && !library;
        let Ok(symbols) = sections.symbols(endian, bytes, kind) else { continue };
        for symbol in symbols.iter().filter(|s| !s.is_undefined(endian)) {
            let Ok(name) = symbol.name(endian, symbols.strings()) else { continue };
            file.malloc |= counts && name == b"malloc";
            file.new |= counts && name == b"_Znwm";
            let sign = || SIGNS.iter().find(|(_, signs)| signs.iter().any(|sign| sign.as_bytes() == name));
            if file.sign.is_none()
                && let Some((sign, _)) = sign()
            {
                file.sign = Some(sign);
            }
        }
    }
    file
}

/// The version in "GNU C Library (…) stable release version 2.36."
fn banner(bytes: &[u8]) -> Option<String> {
    const MARK: &[u8] = b" release version ";
    let start = contains(bytes, b"GNU C Library (")?;
    let line = bytes.get(start..bytes.len().min(start + 200))?;
    let at = contains(line, MARK)? + MARK.len();
    let version: Vec<u8> = line[at..].iter().copied().take_while(|b| b.is_ascii_digit() || *b == b'.').collect();
    let version = String::from_utf8(version).ok()?.trim_end_matches('.').to_owned();
    (!version.is_empty()).then_some(version)
}

fn contains(bytes: &[u8], text: &[u8]) -> Option<usize> {
    let (first, rest) = text.split_first()?;
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|b| b == first)?;
        if bytes.get(at + 1..)?.starts_with(rest) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banner_is_read_and_texts_are_found() {
        let text = b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u14) stable release version 2.36.\nCopyright";
        assert_eq!(banner(text).as_deref(), Some("2.36"));
        assert_eq!(banner(b"GNU C Library (x) development release version 2.43.9000.\n").as_deref(), Some("2.43.9000"));
        assert_eq!(banner(b"another library"), None);
        assert_eq!(contains(b"aaab", b"ab"), Some(2));
        assert_eq!(contains(b"aaa", b"ab"), None);
    }

    #[test]
    fn the_libc_of_this_process_is_found_with_its_version() {
        let me = fragbench_proc::LiveTarget::open(std::process::id()).unwrap();
        let found = objects(&mut Pages::new(&me), &me.mappings().unwrap(), None);
        assert_eq!(found.mallocs[0].fact.name, "glibc");
        assert!(found.mallocs[0].fact.takes_malloc && !found.mallocs[0].fact.takes_new);
        assert!(found.glibc.unwrap().starts_with("2."));
    }
}
