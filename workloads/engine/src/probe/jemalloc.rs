//! jemalloc: everything goes through `mallctl`.
//!
//! Source: jemalloc(3) of 5.3, "MALLCTL NAMESPACE". Statistics are refreshed by writing `epoch`; a library built
//! without statistics leaves them missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fragbench_model::{AllocatorKind, AllocatorStats};

use super::Family;
use super::sys::{Mallctl, Object};

#[derive(Debug)]
struct Jemalloc(Mallctl);

pub(super) fn recognise(object: &Object) -> Option<Arc<dyn Family>> {
    Mallctl::of(object).map(|mallctl| Arc::new(Jemalloc(mallctl)) as Arc<dyn Family>)
}

/// `stats.*` that are kept under their own names.
const STATS: [&str; 6] = ["allocated", "active", "metadata", "resident", "mapped", "retained"];
/// `opt.*` that are told of every run.
const TOLD: [&str; 13] = [
    "background_thread",
    "dirty_decay_ms",
    "dss",
    "lg_tcache_max",
    "metadata_thp",
    "muzzy_decay_ms",
    "narenas",
    "oversize_threshold",
    "percpu_arena",
    "prof",
    "retain",
    "tcache",
    "tcache_max",
];
/// `opt.*` that are strings; the others tell their type by their size.
const WORDS: [&str; 11] = [
    "dss",
    "hpa_hugify_style",
    "junk",
    "malloc_conf",
    "metadata_thp",
    "percpu_arena",
    "prof_prefix",
    "stats_interval_opts",
    "stats_print_opts",
    "thp",
    "zero_realloc",
];
/// The variable it takes its options from.
const CONF: &str = "MALLOC_CONF";

impl Jemalloc {
    fn size(&self, name: &str) -> Option<u64> {
        self.0.read(name).map(usize::from_ne_bytes).map(|value| value as u64)
    }

    fn unsigned(&self, name: &str) -> Option<u32> {
        self.0.read(name).map(u32::from_ne_bytes)
    }

    /// An option in force; `None` where this jemalloc has none of that name, or does not tell.
    fn option(&self, name: &str) -> Option<String> {
        let opt = format!("opt.{name}");
        if WORDS.contains(&name) {
            return self.0.read_text(&opt);
        }
        let flag = || self.flag(&opt).map(|on| on.to_string());
        let unsigned = || self.unsigned(&opt).map(|n| n.to_string());
        // Of 8 bytes are sizes and the decay times, of which -1 is never.
        let long = || self.0.read(&opt).map(|bytes| isize::from_ne_bytes(bytes).to_string());
        flag().or_else(unsigned).or_else(long)
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.0.read::<1>(name).map(|[byte]| byte != 0)
    }
}

impl Family for Jemalloc {
    fn kind(&self) -> AllocatorKind {
        AllocatorKind::Jemalloc
    }

    fn version(&self) -> String {
        self.0.read_text("version").unwrap_or_default()
    }

    fn effective(&self) -> BTreeMap<String, String> {
        // What was asked of it is asked back, whatever it is.
        let conf = std::env::var(CONF).unwrap_or_default();
        let asked = conf.split(',').filter_map(|pair| Some(pair.split_once(':')?.0));
        let names: BTreeSet<&str> = TOLD.into_iter().chain(["thp"]).chain(asked).collect();
        names.into_iter().filter_map(|name| Some((format!("opt.{name}"), self.option(name)?))).collect()
    }

    fn stats(&self) -> AllocatorStats {
        self.0.write(c"epoch", 1);
        let own: BTreeMap<String, u64> = STATS
            .iter()
            .map(|name| format!("stats.{name}"))
            .filter_map(|name| self.size(&name).map(|value| (name, value)))
            .collect();
        let of = |name: &str| own.get(name).copied();
        let arena_count = self
            .unsigned("arenas.narenas")
            .map(|all| (0..all).filter(|i| self.flag(&format!("arena.{i}.initialized")) == Some(true)).count() as u64);
        AllocatorStats {
            arena_count,
            // Retained extents are address space that was not unmapped.
            system_bytes: of("stats.mapped").zip(of("stats.retained")).map(|(mapped, retained)| mapped + retained),
            free_bytes: of("stats.active").zip(of("stats.allocated")).map(|(active, used)| active.saturating_sub(used)),
            own,
            ..AllocatorStats::default()
        }
    }

    fn purge_call(&self) -> Option<&'static str> {
        Some("thread.tcache.flush, arena.4096.purge")
    }

    fn purge(&self) {
        self.0.act(c"thread.tcache.flush");
        // 4096 is MALLCTL_ARENAS_ALL: every arena.
        self.0.act(c"arena.4096.purge");
    }
}
