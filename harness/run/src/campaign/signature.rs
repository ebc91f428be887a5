//! What a run of the baseline says of the mechanism that holds its memory, and so of the settings to try first.
//!
//! Source: glibc malloc/malloc.c, `__libc_free`: freeing a mapped block raises the mmap threshold to its size and the trim
//! threshold to twice that.

use fragbench_allocators::Mechanism;
use fragbench_model::{AllocatorKind, RunRecord};

/// glibc's initial mmap threshold (`DEFAULT_MMAP_THRESHOLD_MIN`).
const THRESHOLD: u64 = 128 << 10;
/// Share of what glibc holds that lies free beside the main arena from which on the arenas are suspected.
const FREE_IN_ARENAS: f64 = 0.2;
/// Name of the figure, bytes, among an allocator's own.
pub(crate) const MMAP_THRESHOLD: &str = "mmap_threshold_bytes";

/// Mechanisms that the run's end points to, the surest first: a risen mmap threshold, much free memory in many arenas, an
/// allocator that gives memory back after a while.
pub(crate) fn suggested(record: &RunRecord) -> Vec<Mechanism> {
    let mut found = Vec::new();
    if let Some(stats) = record.phases.iter().filter_map(|phase| phase.stats.as_ref()).next_back() {
        if stats.own.get(MMAP_THRESHOLD).is_some_and(|threshold| *threshold > THRESHOLD) {
            found.push(Mechanism::Threshold);
        }
        let free: u64 = stats.arena_free_bytes.iter().skip(1).sum();
        if stats.system_bytes.is_some_and(|held| free as f64 > FREE_IN_ARENAS * held as f64) {
            found.extend([Mechanism::ArenaLimit, Mechanism::Trim]);
        }
    }
    let decays = [AllocatorKind::Jemalloc, AllocatorKind::Mimalloc];
    if record.proof.as_ref().is_some_and(|proof| decays.contains(&proof.kind)) {
        found.push(Mechanism::Purge);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_model::{Allocator, AllocatorAnswer, AllocatorStats};

    fn ended(kind: AllocatorKind, threshold: u64, free: &[u64]) -> Vec<Mechanism> {
        let allocator = Allocator {
            name: "x".into(),
            kind,
            library: None,
            libc: None,
            settings: Default::default(),
            environment: Default::default(),
            notes: vec![],
        };
        let mut record = RunRecord::begin("w".into(), &allocator, 0);
        record.proof = Some(AllocatorAnswer {
            kind,
            version: String::new(),
            malloc_object: String::new(),
            effective: Default::default(),
        });
        let stats = AllocatorStats {
            system_bytes: Some(100 << 20),
            arena_free_bytes: free.iter().map(|mib| mib << 20).collect(),
            own: [(MMAP_THRESHOLD.to_owned(), threshold)].into(),
            ..AllocatorStats::default()
        };
        let phase = serde_json::json!({
            "name": "work", "start_ns": 0, "end_ns": 1, "stats": stats, "purge": null,
            "snapshot": { "name": "work", "at_ns": 1, "vm_bytes": 0, "rss_bytes": 0, "heap_rss_bytes": 0,
                "anon_huge_bytes": null, "swap_bytes": 0, "live_bytes": 0, "live_blocks": 0, "ops": 0, "minor_faults": 0,
                "major_faults": 0, "cpu_ns": 0, "mappings": 0, "children_private_bytes": null }
        });
        record.phases.push(serde_json::from_value(phase).unwrap());
        suggested(&record)
    }

    #[test]
    fn what_the_end_of_a_run_shows_names_what_to_try() {
        use AllocatorKind::{Glibc, Jemalloc};
        assert_eq!(ended(Glibc, THRESHOLD, &[90, 1, 2]), [], "free in the main arena alone, and nothing has risen");
        assert_eq!(ended(Glibc, 8 << 20, &[90]), [Mechanism::Threshold]);
        assert_eq!(ended(Glibc, THRESHOLD, &[1, 20, 30]), [Mechanism::ArenaLimit, Mechanism::Trim]);
        assert_eq!(ended(Glibc, 8 << 20, &[1, 20, 30]), [Mechanism::Threshold, Mechanism::ArenaLimit, Mechanism::Trim]);
        assert_eq!(ended(Jemalloc, 0, &[]), [Mechanism::Purge]);
    }
}
