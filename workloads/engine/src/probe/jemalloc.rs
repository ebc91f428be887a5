//! jemalloc: everything goes through `mallctl`.
//!
//! Source: jemalloc(3) of 5.3, "MALLCTL NAMESPACE". Statistics are refreshed by writing `epoch`; a library built
//! without statistics leaves them missing.

use std::collections::BTreeMap;
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
/// `opt.*` by the type the manual gives them.
const FLAGS: [&str; 4] = ["background_thread", "retain", "tcache", "prof"];
const SIGNED: [&str; 2] = ["dirty_decay_ms", "muzzy_decay_ms"];
const SIZES: [&str; 3] = ["oversize_threshold", "tcache_max", "lg_tcache_max"];
const WORDS: [&str; 4] = ["thp", "metadata_thp", "percpu_arena", "dss"];

impl Jemalloc {
    fn size(&self, name: &str) -> Option<u64> {
        self.0.read(name).map(usize::from_ne_bytes).map(|value| value as u64)
    }

    fn unsigned(&self, name: &str) -> Option<u32> {
        self.0.read(name).map(u32::from_ne_bytes)
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
        let opt = |name: &str| format!("opt.{name}");
        let mut all = BTreeMap::new();
        all.extend(FLAGS.iter().filter_map(|n| Some((opt(n), self.flag(&opt(n))?.to_string()))));
        all.extend(
            SIGNED.iter().filter_map(|n| Some((opt(n), isize::from_ne_bytes(self.0.read(&opt(n))?).to_string()))),
        );
        all.extend(SIZES.iter().filter_map(|n| Some((opt(n), self.size(&opt(n))?.to_string()))));
        all.extend(WORDS.iter().filter_map(|n| Some((opt(n), self.0.read_text(&opt(n))?))));
        all.extend(self.unsigned("opt.narenas").map(|n| ("opt.narenas".to_owned(), n.to_string())));
        all
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
