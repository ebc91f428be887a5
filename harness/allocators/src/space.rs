//! Settings that are worth trying when an allocator is tuned for less memory: the thresholds and limits that decide what it
//! keeps, each with the values between which answers change. A table; the search joins what does well alone.
//!
//! Left out: what changes no memory (`perturb`, `check`), what adds some (`hugetlb`, `top_pad` above its default), and limits
//! above glibc's own default.
//!
//! Sources: mallopt(3) and the manual's "Memory Allocation Tunables" of glibc; jemalloc's TUNING.md (decay, background
//! threads, arenas); mimalloc's readme, "Environment Options" (purge delay).

use fragbench_model::{AllocatorKind, Settings};

use crate::kinds::glibc::{ARENA_MAX, TRIM_EVERY};

/// By what a setting makes an allocator hold less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// Thresholds that no longer rise.
    Threshold,
    /// Fewer arenas.
    ArenaLimit,
    /// `malloc_trim` at an interval.
    Trim,
    /// When free memory is given back.
    Purge,
    /// Anything else, and defaults.
    Other,
}

/// The mechanism of settings; of several the first in the order of [`Mechanism`].
pub fn mechanism(settings: &Settings) -> Mechanism {
    let sets = |names: &[&str]| settings.keys().any(|key| names.iter().any(|name| key.to_lowercase().contains(name)));
    if sets(&["mmap_threshold", "trim_threshold"]) {
        Mechanism::Threshold
    } else if sets(&["arena_max", "narenas"]) && !settings.contains_key(TRIM_EVERY) {
        Mechanism::ArenaLimit
    } else if settings.contains_key(TRIM_EVERY) {
        Mechanism::Trim
    } else if sets(&["decay_ms", "purge_delay"]) {
        Mechanism::Purge
    } else {
        Mechanism::Other
    }
}

/// One value of each of a few settings.
pub type Choice = &'static [(&'static str, &'static str)];

// Where the time does not suffice for all, the first are tried: each mechanism once before one of them twice.
const GLIBC: &[Choice] = &[
    // The thresholds stand first: where only a few can be tried they are among them.
    // glibc's own initial value; set, it no longer moves and neither does the mmap threshold.
    &[("MALLOC_TRIM_THRESHOLD_", "131072")],
    // Fixed at glibc's own initial value, it no longer rises.
    &[("MALLOC_MMAP_THRESHOLD_", "131072")],
    &[(ARENA_MAX, "2")],
    &[(TRIM_EVERY, "1000")],
    &[(ARENA_MAX, "1")],
    // A trim gives back what lies free in the arenas; fewer of them have less in parts of pages.
    &[(ARENA_MAX, "2"), (TRIM_EVERY, "1000")],
    &[("glibc.malloc.tcache_count", "0")],
    &[("glibc.malloc.mxfast", "0")],
    &[("MALLOC_TOP_PAD_", "0")],
    &[(ARENA_MAX, "4")],
    &[(ARENA_MAX, "8")],
    &[(TRIM_EVERY, "250")],
    // Fixed, but out of the way of buffers of some hundred KiB.
    &[("MALLOC_MMAP_THRESHOLD_", "1048576")],
    &[("glibc.malloc.tcache_count", "2")],
];

const JEMALLOC: &[Choice] = &[
    &[],
    &[("dirty_decay_ms", "0")],
    &[("dirty_decay_ms", "1000"), ("background_thread", "true")],
    &[("dirty_decay_ms", "500"), ("muzzy_decay_ms", "0"), ("background_thread", "true"), ("narenas", "2")],
    &[("dirty_decay_ms", "0"), ("narenas", "2")],
];

const MIMALLOC: &[Choice] = &[
    &[],
    &[("MIMALLOC_PURGE_DELAY", "0")],
    &[("MIMALLOC_PURGE_DELAY", "100")],
    &[("MIMALLOC_PURGE_DELAY", "0"), ("MIMALLOC_ARENA_EAGER_COMMIT", "0")],
];

/// glibc's default and the settings people choose among, for a first answer: arena limits, a trim threshold that no longer
/// rises, and trimming at an interval.
pub const USUAL: &[Choice] = &[
    &[],
    &[(ARENA_MAX, "1")],
    &[(ARENA_MAX, "2")],
    &[(ARENA_MAX, "4")],
    &[("MALLOC_TRIM_THRESHOLD_", "131072")],
    &[(TRIM_EVERY, "1000")],
];

/// The same for a program that runs for seconds, where each cell costs its time.
pub const USUAL_OF_A_COMMAND: &[Choice] =
    &[&[], &[(ARENA_MAX, "2")], &[("MALLOC_TRIM_THRESHOLD_", "131072")], &[(TRIM_EVERY, "1000")]];

const GLIBC_HUGE: &[Choice] = &[&[("glibc.malloc.hugetlb", "1")]];
const JEMALLOC_HUGE: &[Choice] = &[&[("thp", "always")], &[("thp", "never")]];
const MIMALLOC_HUGE: &[Choice] = &[&[("MIMALLOC_ALLOW_THP", "0")]];

/// Settings of transparent huge pages to try where the process may have them.
pub fn huge_page_candidates(kind: AllocatorKind) -> Vec<Settings> {
    owned(match kind {
        AllocatorKind::Glibc => GLIBC_HUGE,
        AllocatorKind::Jemalloc => JEMALLOC_HUGE,
        AllocatorKind::Mimalloc => MIMALLOC_HUGE,
        AllocatorKind::Tcmalloc | AllocatorKind::Null | AllocatorKind::Other => &[],
    })
}

/// Settings to try; the allocator's defaults are among them unless they are the baseline. Of other families none.
pub fn candidates(kind: AllocatorKind) -> Vec<Settings> {
    owned(match kind {
        AllocatorKind::Glibc => GLIBC,
        AllocatorKind::Jemalloc => JEMALLOC,
        AllocatorKind::Mimalloc => MIMALLOC,
        AllocatorKind::Tcmalloc | AllocatorKind::Null | AllocatorKind::Other => &[],
    })
}

fn owned(choices: &[Choice]) -> Vec<Settings> {
    choices.iter().map(|choice| settings(choice)).collect()
}

/// A choice as settings.
pub fn settings(choice: Choice) -> Settings {
    choice.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{glibc, jemalloc, mimalloc};

    #[test]
    fn the_mechanism_of_settings() {
        let of = |choice: Choice| mechanism(&settings(choice));
        assert_eq!(of(&[("MALLOC_TRIM_THRESHOLD_", "1")]), Mechanism::Threshold);
        assert_eq!(of(&[("glibc.malloc.mmap_threshold", "1"), (ARENA_MAX, "2")]), Mechanism::Threshold);
        assert_eq!(of(&[(ARENA_MAX, "2")]), Mechanism::ArenaLimit);
        assert_eq!(of(&[(ARENA_MAX, "2"), (TRIM_EVERY, "1000")]), Mechanism::Trim);
        assert_eq!(of(&[("dirty_decay_ms", "0")]), Mechanism::Purge);
        assert_eq!(of(&[("MIMALLOC_PURGE_DELAY", "0")]), Mechanism::Purge);
        assert_eq!(of(&[]), Mechanism::Other);
    }

    #[test]
    fn every_candidate_is_one_its_allocator_takes_and_none_stands_twice() {
        for kind in [AllocatorKind::Glibc, AllocatorKind::Jemalloc, AllocatorKind::Mimalloc] {
            let mut all = candidates(kind);
            all.extend(huge_page_candidates(kind));
            assert!(all.len() >= 4);
            for (i, settings) in all.iter().enumerate() {
                match kind {
                    AllocatorKind::Glibc => glibc::interpret(settings, None),
                    AllocatorKind::Jemalloc => jemalloc::interpret(settings, true),
                    _ => mimalloc::interpret(settings, Some(&mimalloc::BUILTIN)),
                }
                .unwrap();
                assert!(!all[..i].contains(settings), "{settings:?}");
                assert!(!settings.is_empty() || kind != AllocatorKind::Glibc, "that is the baseline");
            }
        }
        assert!(candidates(AllocatorKind::Null).is_empty());
        for choice in USUAL.iter().chain(USUAL_OF_A_COMMAND) {
            glibc::interpret(&settings(choice), None).unwrap();
        }
        for holds in ["MALLOC_TRIM_THRESHOLD_", TRIM_EVERY] {
            for usual in [USUAL, USUAL_OF_A_COMMAND] {
                assert!(usual.iter().any(|choice| choice.iter().any(|(key, _)| *key == holds)), "{holds}");
            }
        }
    }
}
