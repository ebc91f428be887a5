//! Whether settings are in force: what was asked of an allocator against what it answers when asked back. An allocator that
//! ignores a setting says so at best on standard error; a figure under the setting's name would then be its defaults'.

use std::collections::BTreeMap;

use fragbench_model::{Allocator, AllocatorKind};

use crate::kinds::{glibc, jemalloc, mimalloc};

/// A setting that was not found to be in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotInForce {
    /// Its name, as the allocator calls it.
    pub setting: String,
    /// Value that was asked for.
    pub asked: String,
    /// Value in force.
    pub found: String,
}

/// What is not in force of an allocator's environment. `effective` is what it answered, by its own names (`opt.narenas`,
/// `purge_delay`, `trim_threshold`); what it cannot be asked is passed over.
pub fn not_in_force(allocator: &Allocator, effective: &BTreeMap<String, String>) -> Vec<NotInForce> {
    let asked = match allocator.kind {
        AllocatorKind::Glibc => glibc::asked(&allocator.environment),
        AllocatorKind::Jemalloc => jemalloc::asked(&allocator.environment),
        AllocatorKind::Mimalloc => mimalloc::asked(&allocator.environment),
        AllocatorKind::Tcmalloc | AllocatorKind::Null | AllocatorKind::Other => Vec::new(),
    };
    asked
        .into_iter()
        .filter_map(|(setting, value)| {
            let found = effective.get(&setting)?;
            let same = match allocator.kind {
                AllocatorKind::Glibc => glibc::same(&setting, &value, found),
                _ => value == *found,
            };
            (!same).then(|| NotInForce { setting, asked: value, found: found.clone() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: AllocatorKind, environment: &[(&str, &str)], effective: &[(&str, &str)]) -> Vec<String> {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let allocator = Allocator {
            name: "x".into(),
            kind,
            library: None,
            libc: None,
            settings: BTreeMap::new(),
            environment: map(environment),
            notes: Vec::new(),
        };
        let not = not_in_force(&allocator, &map(effective));
        not.into_iter().map(|n| format!("{}={} {}", n.setting, n.asked, n.found)).collect()
    }

    #[test]
    fn what_jemalloc_ignored_is_found() {
        use AllocatorKind::Jemalloc;
        let answer = [("opt.narenas", "8"), ("opt.dirty_decay_ms", "10000"), ("opt.thp", "default")];
        let of = |conf: &str| found(Jemalloc, &[("MALLOC_CONF", conf)], &answer);
        assert_eq!(of("narenas:abc"), ["opt.narenas=abc 8"]);
        assert_eq!(of("dirty_decay_ms:10s,thp:whatever"), ["opt.dirty_decay_ms=10s 10000", "opt.thp=whatever default"]);
        assert!(of("narenas:8,dirty_decay_ms:10000").is_empty());
        assert!(of("narenas:default").is_empty(), "no value of its own");
        assert!(of("slab_sizes:1-4:2").is_empty(), "what cannot be asked");
    }

    #[test]
    fn what_mimalloc_ignored_is_found_in_its_own_units() {
        use AllocatorKind::Mimalloc;
        let answer = [("purge_delay", "10"), ("arena_reserve", "65536"), ("allow_thp", "0")];
        let of = |name: &str, value: &str| found(Mimalloc, &[(name, value)], &answer);
        assert_eq!(of("MIMALLOC_PURGE_DELAY", "1s"), ["purge_delay=1s 10"]);
        assert_eq!(of("MIMALLOC_RESET_DELAY", "0"), ["purge_delay=0 10"]);
        assert!(
            of("MIMALLOC_ARENA_RESERVE", "64MiB").is_empty() && of("MIMALLOC_ARENA_RESERVE", "67108864").is_empty()
        );
        assert!(of("MIMALLOC_ALLOW_THP", "off").is_empty() && of("MIMALLOC_ALLOW_THP", "FALSE").is_empty());
        assert!(of("MIMALLOC_UNHEARD_OF", "1").is_empty());
    }

    #[test]
    fn what_glibc_ignored_is_found_by_variable_and_by_tunable() {
        use AllocatorKind::Glibc;
        let answer = [
            ("trim_threshold", "131072"),
            ("mmap_threshold", "131072"),
            ("arena_max", "2"),
            ("tcache_count", "7"),
            ("tcache_max", "1040"),
        ];
        let of = |name: &str, value: &str| found(Glibc, &[(name, value)], &answer);
        assert_eq!(of("GLIBC_TUNABLES", "glibc.malloc.tcache_count=100000"), ["tcache_count=100000 7"]);
        assert_eq!(of("MALLOC_MMAP_THRESHOLD_", "99999999"), ["mmap_threshold=99999999 131072"]);
        assert!(
            of("MALLOC_ARENA_MAX", "2").is_empty() && of("GLIBC_TUNABLES", "glibc.malloc.arena_max=0x2").is_empty()
        );
        assert!(
            of("GLIBC_TUNABLES", "glibc.malloc.tcache_max=1032").is_empty(),
            "from 2.42 on it is kept as a chunk's size"
        );
        assert_eq!(of("GLIBC_TUNABLES", "glibc.malloc.tcache_max=512:glibc.malloc.mxfast=0"), ["tcache_max=512 1040"]);
    }
}
