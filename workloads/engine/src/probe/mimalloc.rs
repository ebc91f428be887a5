//! mimalloc: `mi_version`, `mi_process_info`, `mi_stats_get_json` where there is one, `mi_collect(true)`.
//!
//! Source: mimalloc.h and mimalloc-stats.h of 2.0 to 3.3. `mi_collect` works on the calling thread's pages and on
//! abandoned ones: what other living threads hold stays with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use fragbench_model::{AllocatorKind, AllocatorStats};
use serde_json::Value;

use super::Family;
use super::sys::{Mi, Object};

#[derive(Debug)]
struct Mimalloc(Mi);

pub(super) fn recognise(object: &Object) -> Option<Arc<dyn Family>> {
    Mi::of(object).map(|mi| Arc::new(Mimalloc(mi)) as Arc<dyn Family>)
}

/// Options that keep their place in the list of all versions from 2.1 on (`mi_option_e` of mimalloc.h).
const OPTIONS: [(i32, &str); 17] = [
    (0, "show_errors"),
    (1, "show_stats"),
    (2, "verbose"),
    (4, "arena_eager_commit"),
    (5, "purge_decommits"),
    (6, "allow_large_os_pages"),
    (7, "reserve_huge_os_pages"),
    (8, "reserve_huge_os_pages_at"),
    (9, "reserve_os_memory"),
    (15, "purge_delay"),
    (16, "use_numa_nodes"),
    (17, "disallow_os_alloc"),
    (19, "max_errors"),
    (20, "max_warnings"),
    (22, "destroy_on_exit"),
    (23, "arena_reserve"),
    (24, "arena_purge_mult"),
];
/// Those that have theirs from 3.3 on.
const OPTIONS_3_3: [(i32, &str); 13] = [
    (26, "disallow_arena_alloc"),
    (34, "generic_collect"),
    (35, "page_reclaim_on_free"),
    (36, "page_full_retain"),
    (37, "page_max_candidates"),
    (38, "max_vabits"),
    (39, "pagemap_commit"),
    (40, "page_commit_on_demand"),
    (41, "page_max_reclaim"),
    (42, "page_cross_thread_max_reclaim"),
    (43, "allow_thp"),
    (45, "arena_max_object_size"),
    (46, "arena_is_numa_local"),
];
/// Told of every run, asked for or not.
const TOLD: [&str; 4] = ["arena_eager_commit", "purge_decommits", "allow_large_os_pages", "purge_delay"];

/// Version as text: 209 is 2.0.9, and since 2.3 and 3.2 two digits a part, 30302 is 3.3.2.
fn version(number: i32) -> String {
    let base = if number < 10_000 { 10 } else { 100 };
    format!("{}.{}.{}", number / (base * base), number / base % base, number % base)
}

impl Family for Mimalloc {
    fn kind(&self) -> AllocatorKind {
        AllocatorKind::Mimalloc
    }

    fn version(&self) -> String {
        version(self.0.version())
    }

    fn effective(&self) -> BTreeMap<String, String> {
        if self.0.version() < 210 {
            return BTreeMap::new();
        }
        let newer = self.0.version() >= 30_300;
        let known = OPTIONS.iter().chain(OPTIONS_3_3.iter().filter(|_| newer));
        // Whether one was asked for under an older name is not looked at: all are told then.
        let legacy = ["RESET_DELAY", "RESET_DECOMMITS", "LARGE_OS_PAGES", "EAGER_REGION_COMMIT", "LIMIT_OS_ALLOC"];
        let set = |name: &str| std::env::var_os(format!("MIMALLOC_{}", name.to_uppercase())).is_some();
        let all = legacy.iter().any(|name| set(name));
        known
            .filter(|(_, name)| all || TOLD.contains(name) || set(name))
            .filter_map(|(i, name)| Some(((*name).to_owned(), self.0.option(*i)?.to_string())))
            .collect()
    }

    fn stats(&self) -> AllocatorStats {
        let mut stats = self.0.stats_json().map(|json| parse(&json)).unwrap_or_default();
        if let Some(committed) = self.0.committed() {
            stats.own.insert("commit.current".to_owned(), committed.current as u64);
            stats.own.insert("commit.peak".to_owned(), committed.peak as u64);
            stats.system_bytes = Some(committed.current as u64);
        }
        stats
    }

    fn purge_call(&self) -> Option<&'static str> {
        Some("mi_collect(true)")
    }

    fn purge(&self) {
        self.0.collect();
    }
}

/// Figures of `mi_stats_get_json`: counts stand as they are, gauges by their current value.
fn parse(json: &[u8]) -> AllocatorStats {
    let Ok(Value::Object(all)) = serde_json::from_slice(json) else { return AllocatorStats::default() };
    let mut stats =
        AllocatorStats { arena_count: all.get("arena_count").and_then(Value::as_u64), ..Default::default() };
    for name in ["reserved", "committed", "page_committed", "pages", "pages_abandoned", "threads", "heaps", "purged"] {
        let value = all.get(name).and_then(|v| v.as_u64().or_else(|| v.get("current")?.as_u64()));
        stats.own.extend(value.map(|value| (name.to_owned(), value)));
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_both_ways_of_counting() {
        assert_eq!(version(209), "2.0.9");
        assert_eq!(version(315), "3.1.5");
        assert_eq!(version(30302), "3.3.2");
    }

    #[test]
    fn gauges_give_their_current_value_and_nonsense_gives_nothing() {
        let json = br#"{"arena_count": 3, "purged": 7, "threads": {"total": 9, "peak": 4, "current": 2}}"#;
        let stats = parse(json);
        assert_eq!(stats.arena_count, Some(3));
        assert_eq!(stats.own, BTreeMap::from([("purged".into(), 7), ("threads".into(), 2)]));
        assert_eq!(parse(b"{"), AllocatorStats::default());
    }
}
