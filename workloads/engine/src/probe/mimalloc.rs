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

/// Options that keep their place in the list of all versions from 2.1 on.
const OPTIONS: [(i32, &str); 4] =
    [(4, "arena_eager_commit"), (5, "purge_decommits"), (6, "allow_large_os_pages"), (15, "purge_delay")];

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
        OPTIONS.iter().filter_map(|(i, name)| Some(((*name).to_owned(), self.0.option(*i)?.to_string()))).collect()
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
