//! Known bad cases of glibc malloc: one file a case, with the mechanism, where it was reported, the recipe, and what is
//! expected to be seen, by version of glibc and by remedy. `recipe` is what recipes are written with.
//!
//! Recipes are deterministic: a fresh process each, threads started one at a time, sizes inside the band the case is
//! about, blocks freed in a stated order. They look at no memory figure; the parent does, at the barrier of each phase.
//! One whose work depends on what the allocator answers (addresses, refusals) says so: `adaptive`.

mod arena_explosion;
mod arena_reuse_skew;
mod discontiguous_main;
mod discontiguous_main_blocked;
mod fastbin_hoard;
mod fastbin_hoard_threads;
mod first_fit_worst;
mod first_fit_worst_exact;
mod fork_cow;
mod heap_tail_remainder;
mod interleaved_pins;
mod interleaved_pins_page;
mod knob_hazards;
mod lazy_tcache_pin;
mod mallinfo_overflow;
mod memalign_churn;
mod memalign_large;
mod mmap_ratchet;
mod pinned_top;
mod producer_consumer;
mod ratcheted_top_threads;
mod realloc_ladder;
mod realloc_shrink;
mod recipe;
mod rlimit_as;
mod robson_adversary;
mod serial_peaks;
mod size_drift;
mod sys;
mod tcache_hoard;
mod tcache_pins_top;
mod thp_inflation;
mod thread_burst_pinned;
mod thread_heap_mprotect;
mod trim_cost;
mod trim_stall;
mod unsorted_scan;

use fragbench_engine::{Request, Workload};
use fragbench_model::{CaseFact, WorkerError, WorkloadFact};

pub use recipe::Recipe;

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What it is and what is expected.
    pub fact: fn() -> CaseFact,
    /// The recipe.
    pub run: fn(&mut Recipe<'_>),
}

/// One line a case; the file's name is the case's.
pub const CASES: &[Case] = &[
    arena_explosion::CASE,
    rlimit_as::CASE,
    arena_reuse_skew::CASE,
    serial_peaks::CASE,
    thread_burst_pinned::CASE,
    pinned_top::CASE,
    discontiguous_main::CASE,
    discontiguous_main_blocked::CASE,
    tcache_pins_top::CASE,
    lazy_tcache_pin::CASE,
    heap_tail_remainder::CASE,
    producer_consumer::CASE,
    fastbin_hoard::CASE,
    fastbin_hoard_threads::CASE,
    mmap_ratchet::CASE,
    ratcheted_top_threads::CASE,
    tcache_hoard::CASE,
    interleaved_pins::CASE,
    interleaved_pins_page::CASE,
    size_drift::CASE,
    first_fit_worst::CASE,
    first_fit_worst_exact::CASE,
    robson_adversary::CASE,
    memalign_large::CASE,
    memalign_churn::CASE,
    realloc_ladder::CASE,
    realloc_shrink::CASE,
    thread_heap_mprotect::CASE,
    trim_cost::CASE,
    trim_stall::CASE,
    unsorted_scan::CASE,
    thp_inflation::CASE,
    fork_cow::CASE,
    mallinfo_overflow::CASE,
    knob_hazards::CASE,
];

/// What every case says of itself, in the order of the table.
pub fn facts() -> Vec<CaseFact> {
    CASES.iter().map(|case| (case.fact)()).collect()
}

/// The cases as workloads, in the order of the table.
pub fn workloads() -> Vec<WorkloadFact> {
    facts().iter().map(recipe::workload_fact).collect()
}

/// Builds the case with this workload name; `None` when there is none.
pub fn build(name: &str, request: &Request) -> Option<Result<Box<dyn Workload>, WorkerError>> {
    let case = CASES.iter().find(|case| (case.fact)().workload() == name)?;
    Some(recipe::build(case, request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_case_file_is_in_the_table() {
        let files: BTreeSet<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().replace('_', "-"))
            .filter(|name| !["lib", "recipe", "sys"].contains(&name.as_str()))
            .collect();
        let table: BTreeSet<String> = facts().into_iter().map(|fact| fact.name).collect();
        assert_eq!(files, table);
        assert_eq!(table.len(), CASES.len(), "names are unique");
    }
}
