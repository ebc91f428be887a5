//! What people do against a bloated heap, as one table: a setting of glibc, a call, another allocator. Each bad case
//! says what it expects of each; the figures say what it did.
//!
//! A remedy is an environment (allocator and settings), an action that the recipe itself carries out, or a look at the
//! heap after the allocator was asked to give back what it can.

/// One remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remedy {
    /// Name on the command line and in tables.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Allocator it runs under: `glibc`, or another that takes glibc's place.
    pub allocator: &'static str,
    /// Settings of the allocator; those of the case that have the same name give way.
    pub settings: &'static [(&'static str, &'static str)],
    /// What the recipe is asked to do itself; only where the case knows how.
    pub action: Option<&'static str>,
    /// Judged after the purge (`malloc_trim(0)` and its counterparts) instead of before.
    pub after_purge: bool,
    /// Whether the run allows transparent huge pages even though the case does not ask for them.
    pub thp: bool,
}

const NONE: Remedy = Remedy {
    name: "none",
    summary: "glibc with the settings of the case, nothing done about it",
    allocator: "glibc",
    settings: &[],
    action: None,
    after_purge: false,
    thp: false,
};

const fn setting(
    name: &'static str,
    settings: &'static [(&'static str, &'static str)],
    summary: &'static str,
) -> Remedy {
    Remedy { name, summary, settings, ..NONE }
}

const fn action(name: &'static str, summary: &'static str) -> Remedy {
    Remedy { name, summary, action: Some(name), ..NONE }
}

const fn switch(
    name: &'static str,
    allocator: &'static str,
    settings: &'static [(&'static str, &'static str)],
    summary: &'static str,
) -> Remedy {
    Remedy { name, summary, allocator, settings, ..NONE }
}

const fn purged(name: &'static str, allocator: &'static str, summary: &'static str) -> Remedy {
    Remedy { name, summary, allocator, after_purge: true, ..NONE }
}

const JEMALLOC_PROMPT: &[(&str, &str)] = &[("dirty_decay_ms", "0"), ("muzzy_decay_ms", "0")];

/// All remedies, in the order of the tables. Names are words of the command line: they stay.
pub const REMEDIES: &[Remedy] = &[
    purged("malloc-trim", "glibc", "malloc_trim(0) is called"),
    setting("arena-max-1", &[("MALLOC_ARENA_MAX", "1")], "one arena for all threads"),
    setting("arena-max-2", &[("MALLOC_ARENA_MAX", "2")], "two arenas"),
    setting("arena-max-4", &[("MALLOC_ARENA_MAX", "4")], "four arenas"),
    setting("tcache-count-0", &[("glibc.malloc.tcache_count", "0")], "no thread cache"),
    setting("mxfast-0", &[("glibc.malloc.mxfast", "0")], "no fastbins"),
    setting("mmap-threshold", &[("MALLOC_MMAP_THRESHOLD_", "131072")], "mmap threshold fixed at its initial 128 KiB"),
    setting("trim-threshold", &[("MALLOC_TRIM_THRESHOLD_", "131072")], "trim threshold fixed at its initial 128 KiB"),
    setting("top-pad", &[("MALLOC_TOP_PAD_", "1048576")], "heaps grow and shrink with 1 MiB to spare"),
    Remedy {
        thp: true,
        ..setting(
            "hugetlb-1",
            &[("glibc.malloc.hugetlb", "1")],
            "transparent huge pages asked for (glibc 2.35 and later)",
        )
    },
    action("thread-exit", "the threads end"),
    action("kick", "each arena is made to serve and free one block of 70000 bytes"),
    switch("jemalloc", "jemalloc", &[], "jemalloc, its decay of 10 s not waited for"),
    purged("jemalloc-purge", "jemalloc", "jemalloc, told to purge"),
    switch("jemalloc-decay-0", "jemalloc", JEMALLOC_PROMPT, "jemalloc that returns pages at once"),
    switch("mimalloc", "mimalloc", &[], "mimalloc, its purge delay not waited for"),
    purged("mimalloc-collect", "mimalloc", "mimalloc, told to collect"),
    switch("mimalloc-delay-0", "mimalloc", &[("MIMALLOC_PURGE_DELAY", "0")], "mimalloc that returns pages at once"),
    switch("tcmalloc", "tcmalloc", &[], "gperftools' tcmalloc, where it is installed"),
];

/// Looks a remedy up by name.
pub fn remedy(name: &str) -> Option<&'static Remedy> {
    REMEDIES.iter().find(|remedy| remedy.name == name)
}

impl Remedy {
    /// The environment no remedy is applied in.
    pub const NONE: Remedy = NONE;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<&str> = REMEDIES.iter().map(|remedy| remedy.name).collect();
        assert_eq!(names.len(), REMEDIES.len());
        assert!(!names.contains(NONE.name), "the baseline is no remedy");
    }
}
