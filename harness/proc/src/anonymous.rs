//! Anonymous resident memory of a glibc process split by use, from `smaps` alone: `[heap]`, thread arenas
//! (regions aligned to glibc's `HEAP_MAX_SIZE`, 64 MiB), thread stacks, and the rest.
//!
//! It refuses to guess inside the rest: chunks that malloc mapped one by one and the program's own mappings look
//! alike from outside. Whoever knows the program (a recording of its own `mmap` calls) tells them apart.

use fragbench_glibc::HEAP_MAX;
use procfs::process::{MMPermissions, MMapPath, MemoryMap, MemoryMaps};

/// Resident anonymous bytes by use.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AnonymousMemory {
    /// The main arena: `[heap]`.
    pub main_heap_bytes: u64,
    /// Heaps of the other arenas.
    pub arena_bytes: u64,
    /// Stacks of threads, the main thread's included.
    pub stack_bytes: u64,
    /// Written data of program and libraries (`.data`, `.bss`, copy-on-write pages of file mappings).
    pub data_bytes: u64,
    /// Everything else: chunks mapped one by one and the program's own mappings.
    pub other_bytes: u64,
    /// Of all these, in transparent huge pages.
    pub huge_bytes: u64,
    /// Of all these, what other processes hold too, by their share of it: what a fork left shared.
    pub elsewhere_bytes: u64,
    /// Beside all these: shared memory without a file on disk, this process's share.
    pub shared_bytes: u64,
    /// Pages of mapped files, this process's share.
    pub file_bytes: u64,
}

impl AnonymousMemory {
    /// Splits the mappings of `smaps`. `stack_pointers` are those of the threads that could be asked; each marks
    /// its mapping as a stack.
    pub fn classify(maps: &MemoryMaps, stack_pointers: &[u64]) -> Self {
        let mut sums = Self::default();
        let mut previous: Option<&MemoryMap> = None;
        for map in &maps.0 {
            let anonymous = map.extension.map.get("Anonymous").copied().unwrap_or(0);
            sums.huge_bytes += map.extension.map.get("AnonHugePages").copied().unwrap_or(0);
            let share = map.extension.map.get("Pss").copied();
            sums.elsewhere_bytes += share.map_or(0, |share| anonymous.saturating_sub(share));
            let not_anonymous = share.unwrap_or(0).saturating_sub(anonymous);
            if is_shared_memory(map) {
                sums.shared_bytes += not_anonymous;
            } else {
                sums.file_bytes += not_anonymous;
            }
            let (start, end) = map.address;
            let guard_below = previous.is_some_and(|p| {
                p.address.1 == start && p.perms.intersection(MMPermissions::READ | MMPermissions::WRITE).is_empty()
            });
            match &map.pathname {
                MMapPath::Heap => sums.main_heap_bytes += anonymous,
                MMapPath::Stack => sums.stack_bytes += anonymous,
                MMapPath::Anonymous if is_arena(start, end, maps) => sums.arena_bytes += anonymous,
                MMapPath::Anonymous if stack_pointers.iter().any(|sp| (start..end).contains(sp)) => {
                    sums.stack_bytes += anonymous;
                }
                // The .bss of a program or library continues its last file mapping.
                MMapPath::Anonymous if continues_file(previous, start) => sums.data_bytes += anonymous,
                // A stack whose thread was running: at the guard page glibc leaves below it.
                MMapPath::Anonymous if guard_below && !stack_pointers.is_empty() && looks_like_stack(end - start) => {
                    sums.stack_bytes += anonymous;
                }
                MMapPath::Anonymous => sums.other_bytes += anonymous,
                _ => sums.data_bytes += anonymous,
            }
            previous = Some(map);
        }
        sums
    }
}

/// Shared memory: System V's, a memfd, a file below `/dev/shm`, or shared anonymous memory, which the kernel shows as
/// `/dev/zero (deleted)`.
fn is_shared_memory(map: &MemoryMap) -> bool {
    match &map.pathname {
        MMapPath::Path(path) => {
            let path = path.to_string_lossy();
            ["/dev/shm/", "/memfd:", "/dev/zero"].iter().any(|start| path.starts_with(start))
        }
        MMapPath::Vsys(_) => true,
        _ => map.perms.contains(MMPermissions::SHARED),
    }
}

/// An arena's heap starts at a multiple of 64 MiB with a committed part, and the reservation ends at or before the
/// next multiple.
fn is_arena(start: u64, end: u64, maps: &MemoryMaps) -> bool {
    let base = start - start % HEAP_MAX;
    if end > base + HEAP_MAX {
        // Adjacent heaps that are fully committed merge into one mapping.
        return start == base && end.is_multiple_of(HEAP_MAX);
    }
    let region: Vec<&MemoryMap> =
        maps.0.iter().filter(|m| m.address.0 >= base && m.address.1 <= base + HEAP_MAX).collect();
    let begins = region.first().is_some_and(|m| m.address.0 == base);
    let covers = region.last().is_some_and(|m| m.address.1 == base + HEAP_MAX);
    let anonymous = region.iter().all(|m| m.pathname == MMapPath::Anonymous);
    let contiguous = region.windows(2).all(|w| w[0].address.1 == w[1].address.0);
    begins && covers && anonymous && contiguous
}

fn continues_file(previous: Option<&MemoryMap>, start: u64) -> bool {
    // Shared memory bears a file's name too, and whatever is mapped next lies beside it.
    previous.is_some_and(|p| p.address.1 == start && matches!(p.pathname, MMapPath::Path(_)) && !is_shared_memory(p))
}

/// Default stacks are 8 MiB, servers choose 128 KiB to 1 MiB.
fn looks_like_stack(size: u64) -> bool {
    (64 << 10..=8 << 20).contains(&size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use procfs::FromBufRead;

    fn smaps(text: &str) -> MemoryMaps {
        let mut full = String::new();
        for line in text.lines() {
            let (head, anonymous) = line.rsplit_once(" = ").unwrap();
            full.push_str(&format!("{head}\nAnonymous: {anonymous} kB\n"));
        }
        MemoryMaps::from_buf_read(full.as_bytes()).unwrap()
    }

    #[test]
    fn every_kind_is_told_apart() {
        let maps = smaps(
            "555500000000-555500001000 rw-p 00000000 fe:00 7                          /usr/sbin/server = 4\n\
             555500001000-555500009000 rw-p 00000000 00:00 0  = 8\n\
             555501000000-555502000000 rw-p 00000000 00:00 0                          [heap] = 9000\n\
             7f0000000000-7f0000400000 rw-p 00000000 00:00 0  = 700\n\
             7f0000400000-7f0004000000 ---p 00000000 00:00 0  = 0\n\
             7f0005000000-7f0005001000 ---p 00000000 00:00 0  = 0\n\
             7f0005001000-7f0005080000 rw-p 00000000 00:00 0  = 44\n\
             7f0005ff0000-7f0006000000 rw-s 00000000 00:01 9                          /dev/zero (deleted) = 0\n\
             7f0006000000-7f0007000000 rw-p 00000000 00:00 0  = 1000\n\
             7fff00000000-7fff00021000 rw-p 00000000 00:00 0                          [stack] = 16",
        );
        let sums = AnonymousMemory::classify(&maps, &[0x7f000507f000]);
        assert_eq!(sums.main_heap_bytes, 9000 << 10);
        assert_eq!(sums.arena_bytes, 700 << 10);
        assert_eq!(sums.stack_bytes, 60 << 10);
        assert_eq!(sums.data_bytes, 12 << 10);
        assert_eq!(sums.other_bytes, 1000 << 10);
    }

    #[test]
    fn what_others_hold_too_counts_by_share() {
        let text = "7f0006000000-7f0007000000 rw-p 00000000 00:00 0 \nPss: 600 kB\nAnonymous: 1000 kB\n\
                    7f0008000000-7f0009000000 rw-s 00000000 00:01 5                          /memfd:pool (deleted)\nPss: 300 kB\nAnonymous: 0 kB\n\
                    7f000a000000-7f000b000000 r-xp 00000000 fe:00 9                          /usr/lib/libc.so.6\nPss: 70 kB\nAnonymous: 0 kB\n";
        let sums = AnonymousMemory::classify(&MemoryMaps::from_buf_read(text.as_bytes()).unwrap(), &[]);
        assert_eq!((sums.other_bytes, sums.elsewhere_bytes), (1000 << 10, 400 << 10));
        assert_eq!((sums.shared_bytes, sums.file_bytes), (300 << 10, 70 << 10));
    }

    #[test]
    fn a_mapping_that_only_happens_to_be_aligned_is_no_arena() {
        let maps = smaps("7f0000000000-7f0000400000 rw-p 00000000 00:00 0  = 700");
        let sums = AnonymousMemory::classify(&maps, &[]);
        assert_eq!((sums.arena_bytes, sums.other_bytes), (0, 700 << 10));
    }
}
