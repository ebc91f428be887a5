//! mimalloc: built in as a preload library; settings are its `MIMALLOC_*` variables.
//!
//! Option names differ between versions; for the built-in library they are checked, for another mimalloc any
//! `MIMALLOC_*` is passed on.
//!
//! Source: `src/options.c` of mimalloc 3.3 (`mi_options`, legacy names included).

use fragbench_model::{AllocatorKind, Settings};

use crate::setting::{Interpreted, is_variable, nearest};
use crate::{AllocatorError, Builtin};

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "mimalloc",
    kind: AllocatorKind::Mimalloc,
    library: Some("libfragbench_mimalloc.so"),
    summary: "mimalloc 3.3.2",
    source: "crate libmimalloc-sys",
};

const PREFIX: &str = "MIMALLOC_";

/// Options of 3.3, after `MIMALLOC_`; those it keeps only for compatibility and those of debug builds left out.
const OPTIONS: &[&str] = &[
    "SHOW_ERRORS",
    "SHOW_STATS",
    "VERBOSE",
    "ARENA_EAGER_COMMIT",
    "EAGER_REGION_COMMIT",
    "PURGE_DECOMMITS",
    "RESET_DECOMMITS",
    "ALLOW_LARGE_OS_PAGES",
    "LARGE_OS_PAGES",
    "RESERVE_HUGE_OS_PAGES",
    "RESERVE_HUGE_OS_PAGES_AT",
    "RESERVE_OS_MEMORY",
    "PURGE_DELAY",
    "RESET_DELAY",
    "USE_NUMA_NODES",
    "DISALLOW_OS_ALLOC",
    "LIMIT_OS_ALLOC",
    "MAX_ERRORS",
    "MAX_WARNINGS",
    "DESTROY_ON_EXIT",
    "ARENA_RESERVE",
    "ARENA_PURGE_MULT",
    "DISALLOW_ARENA_ALLOC",
    "VISIT_ABANDONED",
    "GENERIC_COLLECT",
    "PAGE_RECLAIM_ON_FREE",
    "ABANDONED_RECLAIM_ON_FREE",
    "PAGE_FULL_RETAIN",
    "PAGE_MAX_CANDIDATES",
    "MAX_VABITS",
    "PAGEMAP_COMMIT",
    "PAGE_COMMIT_ON_DEMAND",
    "PAGE_MAX_RECLAIM",
    "PAGE_CROSS_THREAD_MAX_RECLAIM",
    "ALLOW_THP",
    "MINIMAL_PURGE_SIZE",
    "ARENA_MAX_OBJECT_SIZE",
    "ARENA_IS_NUMA_LOCAL",
];

pub(crate) fn accepts(key: &str) -> bool {
    key.starts_with(PREFIX)
}

pub(crate) fn interpret(settings: &Settings, ours: bool) -> Result<Interpreted, AllocatorError> {
    for key in settings.keys() {
        let option = key.strip_prefix(PREFIX).filter(|_| is_variable(key));
        if !option.is_some_and(|option| !ours || OPTIONS.contains(&option)) {
            let names: Vec<String> = OPTIONS.iter().map(|option| format!("{PREFIX}{option}")).collect();
            return Err(AllocatorError::UnknownSetting {
                allocator: "mimalloc".to_owned(),
                key: key.clone(),
                nearest: nearest(key, names.iter().map(String::as_str)).map(str::to_owned),
                hint: "it takes the options of its src/options.c, for instance MIMALLOC_PURGE_DELAY".to_owned(),
            });
        }
    }
    Ok(Interpreted { environment: settings.clone(), notes: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_for_the_built_in_version_only() {
        let old = Settings::from([("MIMALLOC_DECOMMIT_DELAY".into(), "0".into())]);
        assert!(interpret(&old, false).is_ok());
        assert!(interpret(&old, true).is_err());
        let typo = Settings::from([("MIMALLOC_PURGE_DELY".into(), "0".into())]);
        assert!(interpret(&typo, true).unwrap_err().to_string().contains("did you mean MIMALLOC_PURGE_DELAY?"));
        let good = Settings::from([("MIMALLOC_PURGE_DELAY".into(), "0".into())]);
        assert_eq!(interpret(&good, true).unwrap().environment, good);
    }
}
