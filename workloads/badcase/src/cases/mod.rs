//! The table of bad cases, one file each.

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
mod rlimit_as;
mod robson_adversary;
mod serial_peaks;
mod size_drift;
mod tcache_hoard;
mod tcache_pins_top;
mod thp_inflation;
mod thread_burst_pinned;
mod thread_heap_mprotect;
mod trim_cost;
mod trim_stall;
mod unsorted_scan;

use crate::Case;

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
