//! What each change is known to do wrong, with where it is described. A table: one line a hazard, the rule that says for
//! which change it holds, and its source.

use fragbench_model::{Risk, Settings};

use crate::{AS_LINKED, BASELINE, NULL};

/// A change: an allocator with its settings.
struct Change<'a> {
    allocator: &'a str,
    settings: &'a Settings,
}

impl Change<'_> {
    /// Whether an environment variable or tunable of this name is set. glibc's variables are the tunables' names in upper
    /// case with an underscore.
    fn sets(&self, knob: &str) -> bool {
        self.settings.iter().any(|(key, value)| {
            let key = key.to_lowercase();
            key.contains(knob) || (key == "glibc_tunables" && value.contains(knob))
        })
    }

    /// Value of the option of this name, set by a variable or tunable of its own or as one of several in `MALLOC_CONF` or
    /// `GLIBC_TUNABLES`.
    fn value(&self, option: &str) -> Option<&str> {
        let named = |key: &str| key.trim_end_matches('_').to_lowercase().rsplit(['.', ' ']).next() == Some(option);
        let ends = |key: &str| named(key) || key.to_lowercase() == format!("mimalloc_{option}");
        self.settings.iter().find_map(|(key, value)| {
            let (pairs, equals) = match key.as_str() {
                "MALLOC_CONF" => (',', ':'),
                "GLIBC_TUNABLES" => (':', '='),
                key => return ends(key).then_some(value.as_str()),
            };
            value.split(pairs).filter_map(|pair| pair.split_once(equals)).find(|(key, _)| named(key)).map(|(_, v)| v)
        })
    }

    fn conf(&self, option: &str) -> bool {
        self.settings.values().any(|value| value.contains(option))
    }

    fn glibc(&self) -> bool {
        self.allocator == BASELINE
    }

    fn is(&self, family: &str) -> bool {
        self.allocator.starts_with(family)
    }

    fn preloaded(&self) -> bool {
        !self.glibc() && self.allocator != NULL && self.allocator != AS_LINKED
    }
}

struct Hazard {
    name: &'static str,
    holds: fn(&Change) -> bool,
    text: &'static str,
    source: &'static str,
}

const MALLOPT: &str = "mallopt(3)";
const TUNABLES: &str = "The GNU C Library manual, \"Memory Allocation Tunables\"";

const TRIM: &str = "glibc, malloc/malloc.c: __malloc_trim, mtrim, systrim";
/// Variable of the library that calls `malloc_trim` at an interval.
const TRIM_EVERY: &str = "fragbench_trim_every_ms";

const HAZARDS: &[Hazard] = &[
    Hazard {
        name: "trim stall",
        holds: |c| c.glibc() && c.sets(TRIM_EVERY),
        text: "malloc_trim holds an arena's lock while it walks all that is free there: a thread whose thread cache is empty \
               waits for the whole walk in a single call; that is rarer than one call in a hundred, so watch the longest \
               calls, not p99 (`fragbench badcase trim-stall`)",
        source: TRIM,
    },
    Hazard {
        name: "trim cost",
        holds: |c| c.glibc() && c.sets(TRIM_EVERY),
        text: "a call takes a system call for each free stretch of a page or more, again when its pages have gone already: the \
               cost grows with the heap and its holes, not with what there is to gain (`fragbench badcase trim-cost`); a \
               longer interval costs less",
        source: TRIM,
    },
    Hazard {
        name: "refaults",
        holds: |c| c.glibc() && c.sets(TRIM_EVERY),
        text: "what was given back and is used again is faulted in and cleared anew, page by page: a load that comes and goes \
               faster than the interval pays at every rise",
        source: "madvise(2), MADV_DONTNEED",
    },
    Hazard {
        name: "out of a trim's reach",
        holds: |c| c.glibc() && c.sets(TRIM_EVERY),
        text: "thread caches, holes below a page and the tops of all arenas but the main one stay: where a risen mmap threshold \
               lets those grow, trimming gives nothing back (`fragbench badcase ratcheted-top-threads`)",
        source: TRIM,
    },
    Hazard {
        name: "arena contention",
        holds: |c| c.glibc() && c.sets("arena_max"),
        text: "fewer arenas mean more waiting for their locks once blocks are larger than the thread cache keeps (about 1 KiB); \
               watch throughput and p99 with as many busy threads as the server has, on as many cores",
        source: MALLOPT,
    },
    Hazard {
        name: "frozen thresholds",
        holds: |c| c.glibc() && ["mmap_threshold", "trim_threshold", "top_pad", "mmap_max"].iter().any(|k| c.sets(k)),
        text: "setting any of these ends the dynamic adjustment of the mmap threshold: blocks between 128 KiB and 32 MiB \
               that were freed and asked for again now go to the kernel each time",
        source: MALLOPT,
    },
    Hazard {
        name: "mmap threshold",
        holds: |c| c.glibc() && c.sets("mmap_threshold"),
        text: "each block above it is a mapping of its own, rounded up to pages and faulted in anew; a low threshold can \
               double memory, and from 65,536 mappings on (M_MMAP_MAX) blocks silently go to the heap again",
        source: MALLOPT,
    },
    Hazard {
        name: "trim threshold",
        holds: |c| c.glibc() && c.sets("trim_threshold"),
        text: "a low one gives the top back at every dip and faults it in again at every rise; it acts on the top alone, \
               what is free below a live block stays",
        source: MALLOPT,
    },
    Hazard {
        name: "top pad",
        holds: |c| c.glibc() && c.sets("top_pad"),
        text: "the pad is asked for beyond need at each growth and kept when all is freed; it does not apply to the growth of \
               other arenas than the main one",
        source: MALLOPT,
    },
    Hazard {
        name: "thread cache",
        holds: |c| c.glibc() && (c.sets("tcache_count") || c.sets("tcache_max")),
        text: "a smaller thread cache sends small blocks through the arena's lock, a larger one keeps freed blocks in \
               every thread, where neither malloc_trim nor another thread gets at them",
        source: TUNABLES,
    },
    Hazard {
        name: "huge pages",
        holds: |c| {
            let on = |option| c.value(option).is_some_and(|value| value != "0");
            (c.glibc() && on("hugetlb"))
                || ["thp", "metadata_thp"].iter().any(|option| c.value(option) == Some("always"))
                || (c.is("mimalloc") && (on("allow_large_os_pages") || on("large_os_pages")))
        },
        text: "with transparent huge pages a block of which one byte is used may hold 2 MiB; MariaDB switches them off for \
               itself, other servers do not",
        source: "Linux, Documentation/admin-guide/mm/transhuge.rst",
    },
    Hazard {
        name: "decay when idle",
        holds: |c| c.is("jemalloc") && !c.conf("background_thread:true") && !c.conf("dirty_decay_ms:0"),
        text: "free pages are given back by threads that allocate: a server that falls idle after a peak keeps them, unless \
               MALLOC_CONF has background_thread:true",
        source: "jemalloc(3), opt.background_thread, opt.dirty_decay_ms",
    },
    Hazard {
        name: "purge when idle",
        holds: |c| c.is("mimalloc"),
        text: "free pages are given back by later calls of the thread that freed them: an idle thread keeps its own",
        source: "mimalloc, readme.md, \"Environment Options\" (MIMALLOC_PURGE_DELAY)",
    },
    Hazard {
        name: "huge pages by default",
        holds: |c| c.is("mimalloc") && c.value("allow_thp") != Some("0"),
        text: "mimalloc 3 asks for huge pages by itself, so it costs resident memory where \
               /sys/kernel/mm/transparent_hugepage/enabled says madvise as well as where it says always, unless the server \
               switches them off for itself, as MariaDB does and MySQL does not; MIMALLOC_ALLOW_THP=0 forbids it",
        source: "mimalloc, readme.md, \"Environment Options\"; github.com/microsoft/mimalloc/issues/1282",
    },
    Hazard {
        name: "fork and copy-on-write",
        holds: |c| c.is("mimalloc") || c.is("tcmalloc"),
        text: "free lists are kept inside freed blocks: a forked child that frees (a snapshot, a dump) writes to pages it \
               shares with its parent and copies them",
        source: "fork(2); Leijen, Zorn, de Moura: Mimalloc: Free List Sharding in Action (2019)",
    },
    Hazard {
        name: "release rate",
        holds: |c| c.is("tcmalloc"),
        text: "free memory goes back slowly (TCMALLOC_RELEASE_RATE, MallocExtension::ReleaseFreeMemory)",
        source: "gperftools, docs/tcmalloc.html",
    },
    Hazard {
        name: "preloading",
        holds: |c| c.preloaded(),
        text: "the library must be in every place where the server starts: setuid programs ignore LD_PRELOAD, service managers \
               clear it, malloc_trim and malloc_info answer for glibc's unused heap; check /proc/PID/maps after an upgrade",
        source: "ld.so(8)",
    },
];

/// Known risks of running `allocator` with `settings` instead of glibc's defaults, the most specific first.
pub fn risks(allocator: &str, settings: &Settings) -> Vec<Risk> {
    let change = Change { allocator, settings };
    HAZARDS
        .iter()
        .filter(|hazard| (hazard.holds)(&change))
        .map(|h| Risk { name: h.name.to_owned(), text: h.text.to_owned(), source: h.source.to_owned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(allocator: &str, settings: &[(&str, &str)]) -> Vec<String> {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        risks(allocator, &settings).into_iter().map(|r| r.name).collect()
    }

    #[test]
    fn each_change_has_its_own_risks() {
        assert_eq!(names("glibc", &[("MALLOC_ARENA_MAX", "1")]), ["arena contention"]);
        assert_eq!(names("glibc", &[("glibc.malloc.arena_max", "2")]), ["arena contention"]);
        assert_eq!(
            names("glibc", &[("GLIBC_TUNABLES", "glibc.malloc.top_pad=1048576")]),
            ["frozen thresholds", "top pad"]
        );
        assert_eq!(names("glibc", &[("MALLOC_MMAP_THRESHOLD_", "65536")]), ["frozen thresholds", "mmap threshold"]);
        assert_eq!(names("glibc", &[("glibc.malloc.hugetlb", "1")]), ["huge pages"]);
        assert_eq!(names("jemalloc", &[]), ["decay when idle", "preloading"]);
        assert_eq!(names("jemalloc", &[("MALLOC_CONF", "background_thread:true,dirty_decay_ms:500")]), ["preloading"]);
        assert_eq!(names("jemalloc", &[("MALLOC_CONF", "dirty_decay_ms:0,thp:always")]), ["huge pages", "preloading"]);
        assert_eq!(names("jemalloc", &[("thp", "always"), ("background_thread", "true")])[0], "huge pages");
        for (allocator, setting) in [
            ("glibc", ("glibc.malloc.hugetlb", "0")),
            ("jemalloc", ("MALLOC_CONF", "thp:never")),
            ("mimalloc", ("MIMALLOC_ALLOW_THP", "1")),
            ("mimalloc", ("MIMALLOC_ALLOW_LARGE_OS_PAGES", "0")),
        ] {
            assert!(!names(allocator, &[setting]).contains(&"huge pages".to_owned()), "{setting:?}");
        }
        assert!(names("mimalloc", &[("MIMALLOC_ALLOW_THP", "1")]).contains(&"huge pages by default".to_owned()));
        assert!(names("mimalloc", &[]).contains(&"huge pages by default".to_owned()));
        assert!(!names("mimalloc", &[("MIMALLOC_ALLOW_THP", "0")]).contains(&"huge pages by default".to_owned()));
        assert!(names("tcmalloc", &[]).contains(&"release rate".to_owned()));
        assert_eq!(
            names("glibc", &[("FRAGBENCH_TRIM_EVERY_MS", "1000"), ("MALLOC_ARENA_MAX", "1")]),
            ["trim stall", "trim cost", "refaults", "out of a trim's reach", "arena contention"]
        );
        assert!(names("glibc", &[]).is_empty());
    }

    #[test]
    fn every_hazard_holds_for_something_and_names_its_source() {
        let changes: [(&str, &[(&str, &str)]); 9] = [
            ("glibc", &[("FRAGBENCH_TRIM_EVERY_MS", "1000")]),
            ("glibc", &[("MALLOC_ARENA_MAX", "1")]),
            ("glibc", &[("MALLOC_MMAP_THRESHOLD_", "1"), ("MALLOC_TRIM_THRESHOLD_", "1")]),
            ("glibc", &[("MALLOC_TOP_PAD_", "1"), ("glibc.malloc.tcache_count", "0")]),
            ("glibc", &[("glibc.malloc.hugetlb", "1")]),
            ("jemalloc", &[]),
            ("mimalloc", &[]),
            ("tcmalloc", &[]),
            ("own", &[]),
        ];
        let seen: Vec<String> = changes.iter().flat_map(|(a, s)| names(a, s)).collect();
        for hazard in HAZARDS {
            assert!(seen.contains(&hazard.name.to_owned()), "{} never holds", hazard.name);
            assert!(!hazard.source.is_empty() && hazard.text.len() > 40);
        }
    }
}
