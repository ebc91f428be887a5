//! What glibc's settings have become in a process: those of the cell, and what the program has set itself.
//!
//! Source: glibc malloc/malloc.c (`mp_`, `do_set_*`; `free` of a mapped chunk moves the two thresholds together, the one for
//! trimming to twice the other).

use std::collections::BTreeMap;

use fragbench_allocators::not_in_force;
use fragbench_model::Allocator;

/// Parameters and what they are where nothing sets them.
const USUAL: [(&str, u64); 4] = [("arena_max", 0), ("arena_test", 8), ("mmap_max", 65536), ("top_pad", 128 << 10)];
/// Thresholds where nothing sets them, before they move.
const THRESHOLD: u64 = 128 << 10;

/// What was found in a process, against what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// All parameters, as read.
    pub(super) effective: BTreeMap<String, String>,
    /// A setting of the cell that is not in force.
    pub(super) ignored: Option<String>,
    /// What is set although the cell asks for none of malloc's settings: the program sets it itself.
    pub(super) own: Vec<String>,
}

/// Sets what was read of malloc's parameters, by tunable, against a cell.
pub(super) fn compare(allocator: &Allocator, read: &BTreeMap<String, u64>) -> Answer {
    let effective = read.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
    let ignored = not_in_force(allocator, &effective)
        .first()
        .map(|n| format!("{}={} was asked for, {} is in force", n.setting, n.asked, n.found));
    let of = |name: &str| read.get(name).copied();
    let mut own = Vec::new();
    // A setting may move others along: huge pages, for one, both thresholds.
    if allocator.environment.is_empty() {
        own.extend(USUAL.into_iter().filter_map(|(name, usual)| {
            let found = of(name)?;
            (found != usual).then(|| format!("{name}={found}"))
        }));
        if let (Some(mmap), Some(trim)) = (of("mmap_threshold"), of("trim_threshold"))
            && (mmap, trim) != (THRESHOLD, THRESHOLD)
            && trim != 2 * mmap
        {
            own.extend([format!("mmap_threshold={mmap}"), format!("trim_threshold={trim}")]);
        }
    }
    Answer { effective, ignored, own }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(environment: &[(&str, &str)], read: &[(&str, u64)]) -> Answer {
        let mut glibc = fragbench_allocators::resolve("glibc", &BTreeMap::new(), std::path::Path::new("/")).unwrap();
        glibc.environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let usual = USUAL.into_iter().chain([("mmap_threshold", THRESHOLD), ("trim_threshold", THRESHOLD)]);
        let read = usual.chain(read.iter().copied()).map(|(name, value)| (name.to_owned(), value)).collect();
        compare(&glibc, &read)
    }

    #[test]
    fn what_was_asked_for_is_found_or_named() {
        let both = [("MALLOC_ARENA_MAX", "2"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=0x100000")];
        let answer = of(&both, &[("arena_max", 2), ("mmap_threshold", 1 << 20)]);
        assert_eq!((answer.ignored, answer.own.len()), (None, 0));
        assert_eq!(answer.effective["mmap_threshold"], "1048576");
        let other = of(&[("MALLOC_ARENA_MAX", "4")], &[("arena_max", 2)]).ignored.unwrap();
        assert_eq!(other, "arena_max=4 was asked for, 2 is in force");
    }

    #[test]
    fn what_a_program_sets_itself_is_named() {
        assert!(of(&[], &[]).own.is_empty());
        assert_eq!(of(&[], &[("arena_max", 1)]).own, ["arena_max=1"]);
        assert_eq!(of(&[], &[("trim_threshold", 4096)]).own, ["mmap_threshold=131072", "trim_threshold=4096"]);
        let risen = [("mmap_threshold", 4 << 20), ("trim_threshold", 8 << 20)];
        assert!(of(&[], &risen).own.is_empty(), "the thresholds have moved by themselves");
        assert!(of(&[("MALLOC_TRIM_THRESHOLD_", "4096")], &[("trim_threshold", 4096)]).own.is_empty());
    }
}
