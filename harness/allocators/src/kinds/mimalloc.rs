//! mimalloc: built in as a preload library; settings are its `MIMALLOC_*` variables.
//!
//! Option names differ between versions; for the built-in library they are checked, for another mimalloc any
//! `MIMALLOC_*` is passed on.
//!
//! Source: `src/options.c` of mimalloc 3.3 and `src/util/options.c` of 3.6 (`mi_options`, legacy names included).

use std::collections::BTreeMap;

use fragbench_model::{AllocatorKind, Settings};

use crate::setting::{Interpreted, is_variable, nearest};
use crate::{AllocatorError, Builtin};

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "mimalloc",
    kind: AllocatorKind::Mimalloc,
    library: Some("libfragbench_mimalloc.so"),
    manifest: None,
    summary: "mimalloc 3.3.2",
    source: "crate libmimalloc-sys",
};

/// Asks for huge pages by itself, and keeps more; tables tell it apart from 3.3 by its name.
pub(crate) const BUILTIN_3_6: Builtin = Builtin {
    name: "mimalloc-3.6",
    library: Some("libfragbench_mimalloc_3_6.so"),
    manifest: Some("harness/allocators/preload/mimalloc_3_6/Cargo.toml"),
    summary: "mimalloc 3.6.0, built with cmake",
    source: "crate libmimalloc-sys2",
    ..BUILTIN
};

const PREFIX: &str = "MIMALLOC_";

/// Options of 3.3 and, but for [`GONE_IN_3_6`], of 3.6, after `MIMALLOC_`; those it keeps only for compatibility and those of debug builds left out.
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

/// 3.6 has it as deprecated, without an effect.
const GONE_IN_3_6: &[&str] = &["VISIT_ABANDONED"];

/// Those that came between the two.
const SINCE_3_6: &[&str] =
    &["ARENA_PURGE_MIN_SIZE", "ARENA_PURGE_IMMEDIATE_SIZE", "STATS_MERGE_ON_COLLECT", "STATS_MERGE_THRESHOLD"];

/// The options that a bundled version takes.
fn options(of: &Builtin) -> Vec<&'static str> {
    let newer = of.name == BUILTIN_3_6.name;
    let kept = OPTIONS.iter().filter(|option| !newer || !GONE_IN_3_6.contains(option));
    kept.chain(SINCE_3_6.iter().filter(|_| newer)).copied().collect()
}

pub(crate) fn accepts(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// `bundled`: the version that comes with fragbench; of another mimalloc the options are not known.
pub(crate) fn interpret(settings: &Settings, bundled: Option<&Builtin>) -> Result<Interpreted, AllocatorError> {
    let known = bundled.map(options);
    for key in settings.keys() {
        let option = key.strip_prefix(PREFIX).filter(|_| is_variable(key));
        if !option.is_some_and(|option| known.as_ref().is_none_or(|known| known.contains(&option))) {
            let names: Vec<String> =
                known.unwrap_or(OPTIONS.to_vec()).iter().map(|option| format!("{PREFIX}{option}")).collect();
            return Err(AllocatorError::UnknownSetting {
                allocator: bundled.map_or("mimalloc", |b| b.name).to_owned(),
                key: key.clone(),
                nearest: nearest(key, names.iter().map(String::as_str)).map(str::to_owned),
                hint: "it takes the options of its src/options.c, for instance MIMALLOC_PURGE_DELAY".to_owned(),
            });
        }
    }
    for (key, value) in settings {
        check_value(key, value)?;
    }
    Ok(Interpreted { environment: settings.clone(), notes: Vec::new() })
}

/// Older names of options, with what they are called now (`mi_options`, `legacy_name`).
const LEGACY: [(&str, &str); 5] = [
    ("LARGE_OS_PAGES", "ALLOW_LARGE_OS_PAGES"),
    ("EAGER_REGION_COMMIT", "ARENA_EAGER_COMMIT"),
    ("RESET_DECOMMITS", "PURGE_DECOMMITS"),
    ("RESET_DELAY", "PURGE_DELAY"),
    ("LIMIT_OS_ALLOC", "DISALLOW_OS_ALLOC"),
];

/// What an environment asks of mimalloc, by option in lower case, as `mi_option_get` answers: words as 0 and 1, sizes in KiB.
pub(crate) fn asked(environment: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let variables = environment.iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value)));
    variables
        .map(|(name, value)| {
            let name = LEGACY.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new);
            let value = match value.to_ascii_lowercase().as_str() {
                "" | "true" | "yes" | "on" => "1".to_owned(),
                "false" | "no" | "off" => "0".to_owned(),
                _ if SIZES.contains(&name) => kib(value).map_or(value.clone(), |kib| kib.to_string()),
                _ => value.clone(),
            };
            (name.to_ascii_lowercase(), value)
        })
        .collect()
}

/// A size in KiB as mimalloc reads it: bytes are rounded up.
fn kib(value: &str) -> Option<u64> {
    let digits = value.len() - value.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = value[..digits].parse().ok()?;
    match value[digits..].chars().next().map(|c| c.to_ascii_uppercase()) {
        None => Some(number.div_ceil(1024)),
        Some('K') => Some(number),
        Some('M') => number.checked_mul(1 << 10),
        Some('G') => number.checked_mul(1 << 20),
        Some('T') => number.checked_mul(1 << 30),
        Some(_) => None,
    }
}

/// Options that are sizes (`mi_option_has_size_in_kib`), which alone may carry a suffix.
const SIZES: [&str; 4] = ["RESERVE_OS_MEMORY", "ARENA_RESERVE", "MINIMAL_PURGE_SIZE", "ARENA_MAX_OBJECT_SIZE"];

/// Refuses values that mimalloc would only warn of, where warnings are shown at all, and go on without (`mi_option_init` of
/// src/options.c: a word for on or off, or a number; of sizes one with a suffix).
fn check_value(key: &str, value: &str) -> Result<(), AllocatorError> {
    let word = ["1", "0", "true", "false", "yes", "no", "on", "off"].contains(&value.to_ascii_lowercase().as_str());
    let size = SIZES.iter().any(|name| key.strip_prefix(PREFIX) == Some(name));
    let digits = match value.find(|c: char| !c.is_ascii_digit() && c != '-') {
        Some(at) if size => {
            let suffix = value[at..].to_ascii_uppercase();
            if ["K", "KB", "KIB", "M", "MB", "MIB", "G", "GB", "GIB", "T", "TB", "TIB"].contains(&suffix.as_str()) {
                &value[..at]
            } else {
                ""
            }
        }
        Some(_) => "",
        None => value,
    };
    if word || digits.parse::<i64>().is_ok() {
        return Ok(());
    }
    let reason = if size {
        "mimalloc takes a number of bytes, or one with K, M, G or T"
    } else {
        "mimalloc takes a plain number, or on or off"
    };
    Err(AllocatorError::BadValue { key: key.to_owned(), value: value.to_owned(), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_mimalloc_would_ignore_are_refused() {
        let of =
            |key: &str, value: &str| interpret(&Settings::from([(key.to_owned(), value.to_owned())]), Some(&BUILTIN));
        let error = of("MIMALLOC_PURGE_DELAY", "1s").unwrap_err().to_string();
        assert!(error.contains("MIMALLOC_PURGE_DELAY") && error.contains("plain number"), "{error}");
        for (key, value) in
            [("MIMALLOC_PURGE_DELAY", ""), ("MIMALLOC_ALLOW_THP", "maybe"), ("MIMALLOC_ARENA_RESERVE", "1X")]
        {
            assert!(of(key, value).is_err(), "{key}={value}");
        }
        for (key, value) in [
            ("MIMALLOC_PURGE_DELAY", "-1"),
            ("MIMALLOC_PURGE_DELAY", "1000"),
            ("MIMALLOC_ALLOW_THP", "off"),
            ("MIMALLOC_ARENA_RESERVE", "64MiB"),
        ] {
            assert!(of(key, value).is_ok(), "{key}={value}");
        }
    }

    #[test]
    fn names_are_checked_for_the_built_in_version_only() {
        let old = Settings::from([("MIMALLOC_DECOMMIT_DELAY".into(), "0".into())]);
        assert!(interpret(&old, None).is_ok());
        assert!(interpret(&old, Some(&BUILTIN)).is_err());
        let typo = Settings::from([("MIMALLOC_PURGE_DELY".into(), "0".into())]);
        assert!(
            interpret(&typo, Some(&BUILTIN)).unwrap_err().to_string().contains("did you mean MIMALLOC_PURGE_DELAY?")
        );
        let good = Settings::from([("MIMALLOC_PURGE_DELAY".into(), "0".into())]);
        assert_eq!(interpret(&good, Some(&BUILTIN)).unwrap().environment, good);
        for (name, older, newer) in [("VISIT_ABANDONED", true, false), ("ARENA_PURGE_MIN_SIZE", false, true)] {
            let settings = Settings::from([(format!("{PREFIX}{name}"), "1".to_owned())]);
            assert_eq!(interpret(&settings, Some(&BUILTIN)).is_ok(), older, "{name}");
            assert_eq!(interpret(&settings, Some(&BUILTIN_3_6)).is_ok(), newer, "{name}");
        }
    }
}
