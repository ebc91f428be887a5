//! What a mapping is for, told from the call that made it, from who called, and for later calls from the mapping they
//! work on.
//!
//! Source: glibc malloc/arena.c (`new_heap` reserves twice `HEAP_MAX_SIZE` without access and gives back what is not
//! aligned), malloc/malloc.c (`sysmalloc_mmap`), nptl/allocatestack.c (`MAP_STACK`); mmap(2).

use std::collections::{BTreeMap, HashMap};

use fragbench_glibc::HEAP_MAX;
use fragbench_proc::{Mapping, Source};
use serde::Serialize;

use crate::call::{Call, Frame, Name};

/// What memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// A heap of a thread's arena: a reservation of 64 MiB, aligned to 64 MiB, that `mprotect` opens as it grows.
    Arena,
    /// The main arena: the memory of `brk`.
    MainHeap,
    /// A chunk that malloc maps by itself, as large ones are.
    MmappedChunk,
    /// A thread's stack.
    ThreadStack,
    /// A file.
    File,
    /// Mapped by the program itself, not by malloc.
    Own,
    /// Without a file; no stack says whether malloc or the program asked for it.
    Anonymous,
    /// Works on a mapping that was not seen.
    Unknown,
}

impl Use {
    /// All of them.
    pub const ALL: [Use; 8] = [
        Use::Arena,
        Use::MainHeap,
        Use::MmappedChunk,
        Use::ThreadStack,
        Use::File,
        Use::Own,
        Use::Anonymous,
        Use::Unknown,
    ];

    /// In a few words.
    pub fn text(self) -> &'static str {
        match self {
            Use::Arena => "thread arena",
            Use::MainHeap => "main heap (brk)",
            Use::MmappedChunk => "mmapped chunk",
            Use::ThreadStack => "thread stack",
            Use::File => "file",
            Use::Own => "program's own",
            Use::Anonymous => "anonymous",
            Use::Unknown => "unknown",
        }
    }

    /// How it is recognised.
    pub fn sign(self) -> &'static str {
        match self {
            Use::Arena => "64 or 128 MiB without access, MAP_NORESERVE; one for every 64 MiB of a thread's arena",
            Use::MainHeap => "brk",
            Use::MmappedChunk => "anonymous, asked for from inside malloc: a block of at least mmap_threshold",
            Use::ThreadStack => "MAP_STACK",
            Use::File => "a file descriptor",
            Use::Own => "anonymous, and no function of malloc's on the stack",
            Use::Anonymous => "anonymous; --stacks tells malloc's from the program's own",
            Use::Unknown => "the mapping was made before or by a process that was not watched",
        }
    }
}

/// The mappings of all processes, as far as they were seen.
#[derive(Debug, Default)]
pub struct Regions {
    by_process: HashMap<u32, BTreeMap<u64, (u64, Use)>>,
    brk: HashMap<u32, u64>,
}

impl Regions {
    /// Those a process has already.
    pub fn of(pid: u32, mappings: &[Mapping]) -> Regions {
        let mut regions = Regions::default();
        let mut before: Option<&Mapping> = None;
        for mapping in mappings {
            let guarded = before.is_some_and(|b| b.end == mapping.start && !b.readable && b.end - b.start <= 64 << 10);
            let purpose = match &mapping.source {
                Source::Heap => Use::MainHeap,
                Source::Stack => Use::ThreadStack,
                Source::File(_) => Use::File,
                Source::Anonymous if within_arena(mapping, before, &regions, pid) => Use::Arena,
                Source::Anonymous if guarded => Use::ThreadStack,
                _ => Use::Anonymous,
            };
            if mapping.source == Source::Heap {
                regions.brk.insert(pid, mapping.end);
            }
            regions.insert(pid, mapping.start, mapping.end, purpose);
            before = Some(mapping);
        }
        regions
    }

    /// What a call is for, and how many bytes it concerns. Calls must come in order.
    pub fn classify(&mut self, call: &Call) -> (Use, u64) {
        match call.name {
            Name::Brk => {
                // Asking where the end is (0) moves nothing; every program does so at its start, so what was there before
                // an exec does not count.
                let end = call.result.unwrap_or(call.address);
                let before = if end == 0 { self.brk.remove(&call.pid) } else { self.brk.insert(call.pid, end) };
                let moved = if call.address == 0 { 0 } else { before.map_or(0, |before| before.abs_diff(end)) };
                (Use::MainHeap, moved)
            }
            Name::Mmap => {
                let purpose = of_new(call);
                if let Some(start) = call.result.filter(|_| !call.failed()) {
                    self.insert(call.pid, start, start.saturating_add(call.bytes), purpose);
                }
                (purpose, call.bytes)
            }
            Name::Mremap => {
                let purpose = self.at(call.pid, call.address);
                if let Some(start) = call.result.filter(|_| !call.failed()) {
                    self.insert(call.pid, start, start.saturating_add(call.bytes), purpose);
                }
                (purpose, call.bytes)
            }
            Name::Munmap | Name::Mprotect | Name::Madvise => (self.at(call.pid, call.address), call.bytes),
        }
    }

    fn at(&self, pid: u32, address: u64) -> Use {
        let regions = self.by_process.get(&pid);
        let below = regions.and_then(|regions| regions.range(..=address).next_back());
        below.filter(|(_, (end, _))| address < *end).map_or(Use::Unknown, |(_, (_, purpose))| *purpose)
    }

    /// What is mapped over something goes before it.
    fn insert(&mut self, pid: u32, start: u64, end: u64, purpose: Use) {
        let regions = self.by_process.entry(pid).or_default();
        let touched: Vec<(u64, (u64, Use))> = regions
            .range(..end)
            .rev()
            .take_while(|(_, (its_end, _))| *its_end > start)
            .map(|(start, region)| (*start, *region))
            .collect();
        for (old, (old_end, old_purpose)) in touched {
            regions.remove(&old);
            if old < start {
                regions.insert(old, (start, old_purpose));
            }
            if old_end > end {
                regions.insert(end, (old_end, old_purpose));
            }
        }
        regions.insert(start, (end, purpose));
    }
}

/// A heap begins at a multiple of 64 MiB; what is not yet opened follows without access up to the next multiple.
fn within_arena(mapping: &Mapping, before: Option<&Mapping>, regions: &Regions, pid: u32) -> bool {
    let begins = mapping.start.is_multiple_of(HEAP_MAX) && mapping.writable && mapping.end - mapping.start <= HEAP_MAX;
    let goes_on = before.is_some_and(|b| b.end == mapping.start && regions.at(pid, b.start) == Use::Arena)
        && !mapping.start.is_multiple_of(HEAP_MAX)
        && mapping.end <= mapping.start.next_multiple_of(HEAP_MAX);
    begins || goes_on
}

fn of_new(call: &Call) -> Use {
    let has = |flag: i32| call.flags & flag.cast_unsigned() as u64 != 0;
    if has(libc::MAP_STACK) {
        return Use::ThreadStack;
    }
    if !has(libc::MAP_ANONYMOUS) {
        return Use::File;
    }
    let reserves = call.access == 0 && has(libc::MAP_NORESERVE);
    if reserves && (call.bytes == HEAP_MAX || call.bytes == 2 * HEAP_MAX) {
        return Use::Arena;
    }
    match call.stack.is_empty() {
        true => Use::Anonymous,
        false if call.stack.iter().any(is_malloc) => Use::MmappedChunk,
        false => Use::Own,
    }
}

/// A function of malloc's, under the names that a C library's symbols or debug information give it. The dynamic
/// linker's own small malloc is none.
fn is_malloc(frame: &Frame) -> bool {
    !frame.object.starts_with("ld-") && fragbench_glibc::allocates(frame.plain_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: Name, address: u64, bytes: u64, flags: i32, result: u64) -> Call {
        Call {
            at_s: 0.0,
            pid: 1,
            thread: 1,
            thread_name: String::new(),
            name,
            address,
            bytes,
            access: 3,
            flags: flags.cast_unsigned() as u64,
            result: Some(result),
            stack: Vec::new(),
        }
    }

    fn frames(functions: &[(&str, &str)]) -> Vec<Frame> {
        let frame = |(f, o): &(&str, &str)| Frame { function: (*f).to_owned(), object: (*o).to_owned() };
        functions.iter().map(frame).collect()
    }

    const PLAIN: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

    #[test]
    fn an_arena_is_one_through_its_life() {
        let mut regions = Regions::default();
        let mut reserve = call(Name::Mmap, 0, 128 << 20, PLAIN | libc::MAP_NORESERVE, 0x7f00_0123_0000);
        reserve.access = 0;
        assert_eq!(regions.classify(&reserve), (Use::Arena, 128 << 20));
        for later in [Name::Munmap, Name::Mprotect, Name::Madvise] {
            assert_eq!(regions.classify(&call(later, 0x7f00_0400_0000, 4096, 0, 0)).0, Use::Arena, "{later:?}");
        }
        assert_eq!(regions.classify(&call(Name::Munmap, 0x6000_0000, 4096, 0, 0)).0, Use::Unknown);
        // The same reservation by a program that opens it at once is none.
        let own = call(Name::Mmap, 0, 128 << 20, PLAIN, 0x7e00_0000_0000);
        assert_eq!(regions.classify(&own).0, Use::Anonymous);
    }

    #[test]
    fn stacks_files_and_what_is_mapped_over_them() {
        let mut regions = Regions::default();
        let at = 0x7f00_0000_0000;
        assert_eq!(regions.classify(&call(Name::Mmap, 0, 8 << 20, PLAIN | libc::MAP_STACK, at)).0, Use::ThreadStack);
        assert_eq!(regions.classify(&call(Name::Mmap, at + 4096, 4096, libc::MAP_PRIVATE, at + 4096)).0, Use::File);
        let what = |regions: &mut Regions, at| regions.classify(&call(Name::Madvise, at, 1, 0, 0)).0;
        assert_eq!(what(&mut regions, at), Use::ThreadStack);
        assert_eq!(what(&mut regions, at + 4096), Use::File);
        assert_eq!(what(&mut regions, at + 8192), Use::ThreadStack);
    }

    #[test]
    fn a_stack_tells_mallocs_mapping_from_the_programs_own() {
        let mut regions = Regions::default();
        let mut chunk = call(Name::Mmap, 0, 304_000, PLAIN, 0x7f00_0000_0000);
        chunk.stack = frames(&[("__GI___mmap64", "inlined"), ("sysmalloc", "libc.so.6"), ("main", "server")]);
        assert_eq!(regions.classify(&chunk).0, Use::MmappedChunk);
        chunk.stack = frames(&[("mmap", "libc.so.6"), ("buf_pool_init", "server")]);
        assert_eq!(regions.classify(&chunk).0, Use::Own);
        chunk.stack = frames(&[("__minimal_malloc", "ld-linux-x86-64.so.2"), ("malloc", "ld-linux-x86-64.so.2")]);
        assert_eq!(regions.classify(&chunk).0, Use::Own);
        chunk.stack.clear();
        assert_eq!(regions.classify(&chunk).0, Use::Anonymous);
    }

    #[test]
    fn brk_counts_what_it_moves() {
        let mut regions = Regions::default();
        let moved = |regions: &mut Regions, to, end| regions.classify(&call(Name::Brk, to, 0, 0, end)).1;
        assert_eq!(moved(&mut regions, 0, 0x1000_0000), 0);
        assert_eq!(moved(&mut regions, 0x1002_1000, 0x1002_1000), 0x21000);
        assert_eq!(moved(&mut regions, 0x9000_0000, 0x1002_1000), 0, "refused: the end is where it was");
        assert_eq!(moved(&mut regions, 0x1000_0000, 0x1000_0000), 0x21000);
        assert_eq!(moved(&mut regions, 0, 0x5555_0000_0000), 0, "another program");
        assert_eq!(moved(&mut regions, 0x5555_0002_1000, 0x5555_0002_1000), 0x21000);
    }

    #[test]
    fn mappings_a_process_has_already_are_told_apart() {
        let mapping = |start: u64, end: u64, access: bool, source: Source| Mapping {
            start,
            end,
            readable: access,
            writable: access,
            private: true,
            offset: 0,
            source,
        };
        let base = 0x7f00_0000_0000;
        let mappings = [
            mapping(0x5000_0000, 0x5100_0000, true, Source::Heap),
            mapping(base, base + 0x2_1000, true, Source::Anonymous),
            mapping(base + 0x2_1000, base + HEAP_MAX, false, Source::Anonymous),
            mapping(base + HEAP_MAX + 0x10_0000, base + HEAP_MAX + 0x10_1000, false, Source::Anonymous),
            mapping(base + HEAP_MAX + 0x10_1000, base + HEAP_MAX + 0x20_0000, true, Source::Anonymous),
            mapping(base + HEAP_MAX + 0x30_0000, base + HEAP_MAX + 0x40_0000, true, Source::Anonymous),
        ];
        let regions = Regions::of(7, &mappings);
        let at = |i: usize| regions.at(7, mappings[i].start);
        assert_eq!([at(0), at(1), at(2)], [Use::MainHeap, Use::Arena, Use::Arena]);
        assert_eq!([at(4), at(5)], [Use::ThreadStack, Use::Anonymous]);
        assert_eq!(regions.at(8, base), Use::Unknown);
    }
}
