//! jemalloc: built in as a preload library; settings are `MALLOC_CONF` or its single options.
//!
//! `--setting dirty_decay_ms=0` is the same as `--setting MALLOC_CONF=dirty_decay_ms:0`. For the built-in library
//! option names are checked (jemalloc itself only warns on stderr); for another jemalloc they are passed on.
//!
//! Source: jemalloc(3), "TUNING" and the `opt.*` part of "MALLCTL NAMESPACE", 5.3.1; `src/conf.c` for the names.

use std::collections::BTreeMap;

use fragbench_model::{AllocatorKind, Settings};

use crate::setting::{Interpreted, nearest};
use crate::{AllocatorError, Builtin};

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "jemalloc",
    kind: AllocatorKind::Jemalloc,
    library: Some("libfragbench_jemalloc.so"),
    manifest: None,
    summary: "jemalloc 5.3.1, with statistics",
    source: "crate tikv-jemalloc-sys",
};

/// The variable jemalloc reads.
pub(crate) const CONF: &str = "MALLOC_CONF";

/// Run-time options of 5.3.1, without those of profiling, which is not compiled in.
const OPTIONS: &[&str] = &[
    "abort",
    "abort_conf",
    "background_thread",
    "bin_shards",
    "cache_oblivious",
    "calloc_madvise_threshold",
    "confirm_conf",
    "debug_double_free_max_scan",
    "dirty_decay_ms",
    "disable_large_size_classes",
    "dss",
    "experimental_hpa_enforce_hugify",
    "experimental_hpa_max_purge_nhp",
    "experimental_hpa_start_huge_if_thp_always",
    "experimental_infallible_new",
    "experimental_tcache_gc",
    "hpa",
    "hpa_dirty_mult",
    "hpa_hugification_threshold",
    "hpa_hugification_threshold_ratio",
    "hpa_hugify_delay_ms",
    "hpa_hugify_style",
    "hpa_hugify_sync",
    "hpa_min_purge_delay_ms",
    "hpa_min_purge_interval_ms",
    "hpa_purge_threshold",
    "hpa_purge_threshold_ratio",
    "hpa_sec_batch_fill_extra",
    "hpa_sec_max_alloc",
    "hpa_sec_max_bytes",
    "hpa_sec_nshards",
    "hpa_slab_max_alloc",
    "huge_arena_pac_thp",
    "junk",
    "lg_extent_max_active_fit",
    "lg_san_uaf_align",
    "lg_tcache_flush_large_div",
    "lg_tcache_flush_small_div",
    "lg_tcache_max",
    "lg_tcache_nslots_mul",
    "max_background_threads",
    "metadata_thp",
    "mutex_max_spin",
    "muzzy_decay_ms",
    "narenas",
    "narenas_ratio",
    "oversize_threshold",
    "percpu_arena",
    "process_madvise_max_batch",
    "retain",
    "san_guard_large",
    "san_guard_small",
    "slab_sizes",
    "stats_interval",
    "stats_interval_opts",
    "stats_print",
    "stats_print_opts",
    "tcache",
    "tcache_gc_delay_bytes",
    "tcache_gc_incr_bytes",
    "tcache_max",
    "tcache_ncached_max",
    "tcache_nslots_large",
    "tcache_nslots_small_max",
    "tcache_nslots_small_min",
    "thp",
    "trust_madvise",
    "xmalloc",
    "zero",
    "zero_realloc",
];

pub(crate) fn accepts(key: &str) -> bool {
    key == CONF || OPTIONS.contains(&key)
}

pub(crate) fn interpret(settings: &Settings, ours: bool) -> Result<Interpreted, AllocatorError> {
    // Option → (value, the setting it came from). jemalloc itself lets the last of two win.
    let mut options: BTreeMap<String, (String, String)> = BTreeMap::new();
    for (key, value) in settings {
        let pairs: Vec<(&str, &str)> = if key == CONF {
            value.split(',').map(|pair| pair.split_once(':').ok_or_else(|| bad_pair(pair))).collect::<Result<_, _>>()?
        } else {
            vec![(key, value)]
        };
        for (option, value) in pairs {
            if (ours || key != CONF) && !OPTIONS.contains(&option) {
                return Err(unknown(option));
            }
            if value.is_empty() || value.contains([',', ':']) && option != "slab_sizes" && option != "bin_shards" {
                return Err(bad_pair(&format!("{option}:{value}")));
            }
            check_value(option, value)?;
            if let Some((_, first)) = options.insert(option.to_owned(), (value.to_owned(), key.clone())) {
                return Err(AllocatorError::SetTwice { first: format!("{first} ({option})"), second: key.clone() });
            }
        }
    }
    let mut result = Interpreted::default();
    if !options.is_empty() {
        let pairs: Vec<String> = options.iter().map(|(option, (value, _))| format!("{option}:{value}")).collect();
        result.environment.insert(CONF.to_owned(), pairs.join(","));
    }
    Ok(result)
}

/// What an environment asks of jemalloc, by the names `mallctl` has; `default` asks for no value.
pub(crate) fn asked(environment: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let pairs = environment.get(CONF).into_iter().flat_map(|conf| conf.split(','));
    pairs
        .filter_map(|pair| pair.split_once(':'))
        .filter(|(_, value)| *value != "default")
        .map(|(option, value)| (format!("opt.{option}"), value.to_owned()))
        .collect()
}

/// Options that are switched on or off.
const SWITCHES: &[&str] = &[
    "abort",
    "abort_conf",
    "background_thread",
    "cache_oblivious",
    "confirm_conf",
    "disable_large_size_classes",
    "hpa",
    "retain",
    "stats_print",
    "tcache",
    "trust_madvise",
    "xmalloc",
    "zero",
];
/// Options that take one of a few words, with the words.
const WORDS: &[(&str, &[&str])] = &[
    ("dss", &["disabled", "primary", "secondary"]),
    ("metadata_thp", &["disabled", "auto", "always"]),
    ("percpu_arena", &["percpu", "phycpu", "disabled"]),
    ("thp", &["default", "always", "never"]),
    ("zero_realloc", &["alloc", "free", "abort"]),
];
/// Options that take a number of at least 0.
const NUMBERS: &[&str] = &[
    "calloc_madvise_threshold",
    "lg_extent_max_active_fit",
    "lg_tcache_max",
    "max_background_threads",
    "oversize_threshold",
    "process_madvise_max_batch",
    "tcache_max",
    "tcache_nslots_large",
    "tcache_nslots_small_max",
    "tcache_nslots_small_min",
];

/// Refuses values that jemalloc would only complain of on stderr and go on without. Of options that are in no table here
/// nothing is known.
fn check_value(option: &str, value: &str) -> Result<(), AllocatorError> {
    let expected = |ok: bool, what: &str| if ok { Ok(()) } else { Err(format!("jemalloc takes {what}")) };
    let number = value.parse::<i64>().ok();
    let known = if SWITCHES.contains(&option) {
        expected(matches!(value, "true" | "false"), "true or false")
    } else if let Some((_, words)) = WORDS.iter().find(|(name, _)| *name == option) {
        expected(words.contains(&value), &words.join(", "))
    } else if option.ends_with("_decay_ms") {
        expected(number.is_some_and(|n| n >= -1), "milliseconds as a plain number, 0 for at once or -1 for never")
    } else if option == "narenas" {
        expected(value == "default" || number.is_some_and(|n| n >= 1), "a number from 1, or default")
    } else if NUMBERS.contains(&option) {
        expected(number.is_some_and(|n| n >= 0), "a plain number from 0, without a suffix")
    } else {
        Ok(())
    };
    known.map_err(|reason| AllocatorError::BadValue { key: option.to_owned(), value: value.to_owned(), reason })
}

fn bad_pair(pair: &str) -> AllocatorError {
    AllocatorError::BadValue {
        key: CONF.to_owned(),
        value: pair.to_owned(),
        reason: "expected option:value pairs separated by commas".to_owned(),
    }
}

fn unknown(key: &str) -> AllocatorError {
    let hint = if super::glibc::accepts(key) {
        "that is a setting of glibc (jemalloc's number of arenas is narenas)"
    } else {
        "it takes MALLOC_CONF or a run-time option of jemalloc(3) such as dirty_decay_ms, background_thread, narenas"
    };
    AllocatorError::UnknownSetting {
        allocator: "jemalloc".to_owned(),
        key: key.to_owned(),
        nearest: nearest(key, OPTIONS.iter().copied().chain([CONF])).map(str::to_owned),
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)], ours: bool) -> Result<Interpreted, AllocatorError> {
        interpret(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(), ours)
    }

    #[test]
    fn single_options_and_the_variable_are_joined() {
        let result = of(&[("MALLOC_CONF", "narenas:1,thp:never"), ("dirty_decay_ms", "0")], true).unwrap();
        assert_eq!(result.environment["MALLOC_CONF"], "dirty_decay_ms:0,narenas:1,thp:never");
        assert!(of(&[], true).unwrap().environment.is_empty());
    }

    #[test]
    fn values_that_jemalloc_would_ignore_are_refused() {
        for (option, value) in [
            ("narenas", "abc"),
            ("narenas", "0"),
            ("dirty_decay_ms", "10s"),
            ("muzzy_decay_ms", "-2"),
            ("thp", "whatever"),
            ("background_thread", "yes"),
            ("lg_tcache_max", "1K"),
        ] {
            let error = of(&[("MALLOC_CONF", &format!("{option}:{value}"))], false).unwrap_err().to_string();
            assert!(error.contains(option) && error.contains("jemalloc takes"), "{error}");
            assert!(of(&[(option, value)], true).is_err(), "{option}={value}");
        }
        for good in ["narenas:default", "dirty_decay_ms:-1", "thp:never", "background_thread:true", "lg_tcache_max:15"]
        {
            assert!(of(&[("MALLOC_CONF", good)], true).is_ok(), "{good}");
        }
        for switch in SWITCHES.iter().chain(NUMBERS).chain(WORDS.iter().map(|(name, _)| name)) {
            assert!(OPTIONS.contains(switch), "{switch}");
        }
    }

    #[test]
    fn misspelt_options_are_found_before_jemalloc_ignores_them() {
        let error = of(&[("MALLOC_CONF", "dirty_decay:0")], true).unwrap_err().to_string();
        assert!(error.contains("did you mean dirty_decay_ms?"), "{error}");
        // Another jemalloc may know options this one does not.
        assert!(of(&[("MALLOC_CONF", "prof:true")], false).is_ok());
        assert!(of(&[("MALLOC_CONF", "dirty_decay_ms=0")], false).is_err());
        assert!(of(&[("MALLOC_CONF", "narenas:1"), ("narenas", "2")], true).is_err());
    }
}
