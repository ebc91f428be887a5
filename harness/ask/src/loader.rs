//! The dynamic loader of a process: where its code is, and its locks, by which it is told whether somebody is loading,
//! unloading or walking through the loaded objects.
//!
//! The locks are the recursive mutexes in `_rtld_global`, the loader's data that libc shares (`_dl_load_lock`,
//! `_dl_load_write_lock`, since 2.35 `_dl_load_tls_lock`, one behind the other); where in it they are differs by release, but
//! nothing else in it looks like a recursive mutex.
//!
//! Source: glibc sysdeps/generic/ldsodefs.h (`struct rtld_global`), sysdeps/nptl/bits/struct_mutex.h
//! (`PTHREAD_MUTEX_RECURSIVE_NP` is 1).

use std::ops::Range;
use std::path::Path;

use fragbench_proc::{Mapping, Part, Source, Target};
use object::LittleEndian;
use object::elf::FileHeader64;
use object::read::elf::ElfFile;
use object::{Object, ObjectSegment, ObjectSymbol};

/// Bytes of a mutex.
const MUTEX: usize = 40;
/// Where its kind is.
const KIND: usize = 16;
/// No process has a thread of a greater number (`PID_MAX_LIMIT` of linux/threads.h).
const THREAD_MAX: u32 = 1 << 22;

/// The loader of a process.
#[derive(Debug, Default)]
pub(crate) struct Loader {
    pub(crate) code: Vec<Range<u64>>,
    /// The locks, `_dl_load_lock` first.
    pub(crate) locks: Vec<u64>,
}

impl Loader {
    /// Of a process; `None` where there is none, as in a static program.
    pub(crate) fn find(target: &dyn Target, mappings: &[Mapping]) -> Option<Loader> {
        let is_loader = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("ld-linux") || name.starts_with("ld-2.") || name.starts_with("ld64.so")
        };
        let mapping = mappings.iter().find(|m| matches!(&m.source, Source::File(path) if is_loader(path)))?;
        let locks = global(target, mapping).map_or_else(Vec::new, |range| locks(target, range));
        Some(Loader { code: code(mappings, &mapping.source), locks })
    }
}

/// What of a file is mapped and not written to.
pub(crate) fn code(mappings: &[Mapping], file: &Source) -> Vec<Range<u64>> {
    let own = mappings.iter().filter(|m| !m.writable && m.source == *file);
    own.map(|m| m.start..m.end).collect()
}

/// Address and end of a symbol of a file's dynamic table, the file's bytes and its first mapping given.
pub(crate) fn symbol(bytes: &[u8], mapping: &Mapping, page: u64, name: &str) -> Option<Range<u64>> {
    let file = ElfFile::<FileHeader64<LittleEndian>>::parse(bytes).ok()?;
    let lowest = file.segments().map(|segment| segment.address()).min()?;
    let bias = mapping.start.wrapping_sub(lowest & !(page - 1));
    let symbol = file.dynamic_symbols().find(|symbol| symbol.is_definition() && symbol.name() == Ok(name))?;
    let start = symbol.address().wrapping_add(bias);
    Some(start..start + symbol.size())
}

fn global(target: &dyn Target, mapping: &Mapping) -> Option<Range<u64>> {
    symbol(&target.file(mapping)?, mapping, target.page_bytes(), "_rtld_global")
}

fn locks(target: &dyn Target, global: Range<u64>) -> Vec<u64> {
    let mut bytes = vec![0; (global.end - global.start) as usize];
    if target.read(&mut [Part::new(global.start, &mut bytes)]).is_err() {
        return Vec::new();
    }
    let is_lock = |at: usize| bytes.get(at..at + MUTEX).is_some_and(is_recursive_mutex);
    // Two in a row at least: one alone may be chance.
    let first = (0..bytes.len()).step_by(8).find(|at| is_lock(*at) && is_lock(at + MUTEX));
    let Some(first) = first else { return Vec::new() };
    (first..).step_by(MUTEX).take_while(|at| is_lock(*at)).map(|at| global.start + at as u64).collect()
}

fn is_recursive_mutex(bytes: &[u8]) -> bool {
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (lock, count, owner, users) = (word(0), word(4), word(8), word(12));
    let free = lock == 0 && count == 0 && owner == 0 && users == 0;
    let held = (1..=2).contains(&lock) && (1..THREAD_MAX).contains(&owner) && users == 1;
    word(KIND) == 1 && (free || held) && bytes[KIND + 4..].iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_proc::LiveTarget;

    #[test]
    fn the_loader_of_this_process_has_locks_that_are_free_and_held_while_its_objects_are_shown() {
        let me = LiveTarget::open(std::process::id()).unwrap();
        let loader = Loader::find(&me, &me.mappings().unwrap()).unwrap();
        assert!((2..=3).contains(&loader.locks.len()), "{loader:x?}");
        struct Seen<'a>(&'a LiveTarget, &'a [u64], Vec<Option<u32>>);
        unsafe extern "C" fn look(_: *mut libc::dl_phdr_info, _: usize, seen: *mut libc::c_void) -> libc::c_int {
            // SAFETY: what is passed below.
            let seen = unsafe { &mut *seen.cast::<Seen<'_>>() };
            seen.2 = seen.1.iter().map(|lock| crate::busy::owner(seen.0, *lock)).collect();
            1
        }
        let mut seen = Seen(&me, &loader.locks, Vec::new());
        // SAFETY: the callback gets what it expects.
        unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut seen).cast()) };
        // SAFETY: no arguments.
        let own = unsafe { libc::gettid() }.cast_unsigned();
        assert_eq!(seen.2[1], Some(own), "the second guards the list");
    }
}
