//! Which settings ask for huge pages that a process without transparent huge pages never gets.
//!
//! Source: the manual's "Memory Allocation Tunables" of glibc (`glibc.malloc.hugetlb`: 1 is transparent huge pages, 2 and more
//! `MAP_HUGETLB`); jemalloc(3), `opt.thp`, `opt.metadata_thp`; mimalloc's readme, "Environment Options".

use fragbench_model::{Allocator, AllocatorKind};

/// The setting of `allocator` that has no effect where transparent huge pages are off for the process, `None` where there is
/// none.
pub fn asks_for_huge_pages(allocator: &Allocator) -> Option<String> {
    let environment = &allocator.environment;
    let of_list = |variable: &str, separator, entry: fn(&str) -> bool| {
        environment.get(variable)?.split(separator).find(|pair| entry(pair)).map(str::to_owned)
    };
    match allocator.kind {
        AllocatorKind::Glibc => of_list("GLIBC_TUNABLES", ':', |pair| pair == "glibc.malloc.hugetlb=1"),
        AllocatorKind::Jemalloc => of_list("MALLOC_CONF", ',', |pair| {
            matches!(
                pair,
                "thp:always" | "metadata_thp:always" | "metadata_thp:auto" | "hpa:true" | "huge_arena_pac_thp:true"
            )
        }),
        AllocatorKind::Mimalloc => {
            ["MIMALLOC_ALLOW_LARGE_OS_PAGES", "MIMALLOC_LARGE_OS_PAGES"].into_iter().find_map(|name| {
                environment.get(name).filter(|value| *value != "0").map(|value| format!("{name}={value}"))
            })
        }
        AllocatorKind::Tcmalloc | AllocatorKind::Null | AllocatorKind::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fragbench_model::Settings;

    use super::*;

    #[test]
    fn the_value_decides_not_the_name() {
        let glibc = |settings: &[(&str, &str)]| {
            let settings: Settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            asks_for_huge_pages(&crate::resolve("glibc", &settings, Path::new("/")).unwrap())
        };
        assert_eq!(glibc(&[("glibc.malloc.hugetlb", "1")]).as_deref(), Some("glibc.malloc.hugetlb=1"));
        assert_eq!(
            glibc(&[("GLIBC_TUNABLES", "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1")]).as_deref(),
            Some("glibc.malloc.hugetlb=1")
        );
        for none in
            [&[("glibc.malloc.hugetlb", "0")][..], &[("glibc.malloc.hugetlb", "2")], &[("MALLOC_ARENA_MAX", "1")]]
        {
            assert_eq!(glibc(none), None);
        }
        let other = |kind, name: &str, value: &str| {
            let mut allocator = crate::resolve("glibc", &Settings::new(), Path::new("/")).unwrap();
            allocator.kind = kind;
            allocator.environment.insert(name.to_owned(), value.to_owned());
            asks_for_huge_pages(&allocator)
        };
        assert_eq!(
            other(AllocatorKind::Jemalloc, "MALLOC_CONF", "narenas:1,thp:always").as_deref(),
            Some("thp:always")
        );
        assert_eq!(other(AllocatorKind::Jemalloc, "MALLOC_CONF", "thp:never"), None);
        assert!(other(AllocatorKind::Mimalloc, "MIMALLOC_ALLOW_LARGE_OS_PAGES", "1").is_some());
        assert_eq!(other(AllocatorKind::Mimalloc, "MIMALLOC_ALLOW_LARGE_OS_PAGES", "0"), None);
        // Its default; what a server without huge pages leaves void there changes no comparison.
        assert_eq!(other(AllocatorKind::Mimalloc, "MIMALLOC_ALLOW_THP", "2"), None);
    }
}
