//! `discontiguous-main-blocked`: something is mapped just above the program break; the main heap grows elsewhere, and
//! never shrinks again.

use fragbench_model::Effect::{Cures, Helps, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{fill, free_all, texts};
use crate::{Case, Recipe, sys};

pub(crate) const CASE: Case = Case { fact, run };

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::at_least("rss_freed_bytes", 0.98, "all stays resident after it was freed").of("rss_filled_bytes"),
        Bound::at_most("live_freed_bytes", 0.0, "everything was freed"),
        Bound::at_least("free_freed_bytes", 0.97, "malloc counts it as free").of("rss_filled_bytes"),
        Bound::at_most("mmapped_filled_bytes", 0.0, "no block is a mapping of its own"),
        Bound::at_most("rss_purged_bytes", 0.15, "malloc_trim gives most of it back").of("rss_filled_bytes"),
    ];
    CaseFact {
        name: "discontiguous-main-blocked".into(),
        summary: "one page mapped above the program break: 256 MiB freed in full stay resident".into(),
        mechanism: texts([
            "sysmalloc: sbrk fails, so the main arena grows by mappings (sysmalloc_mmap_fallback in newer versions) of \
             MMAP_AS_MORECORE_SIZE, 1 MiB, at the least, in 2.36 of 132 KiB, and set_noncontiguous marks the arena for good.",
            "Each mapping that does not follow the one before it begins a new top; the old one is closed with fenceposts.",
            "systrim gives back only when the break is the end of top (MORECORE(0) == top + size): never again in this \
             process. munmap is not tried on such pieces.",
        ]),
        sources: texts([
            "glibc bug 15321, malloc/free can't give the memory back to kernel when main_arena is discontinuous",
            "malloc/malloc.c: sysmalloc, MMAP_AS_MORECORE_SIZE, set_noncontiguous, systrim",
        ]),
        memory_bytes: 257 << 20,
        judged: Judged::rss("freed"),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                // What stays is the edges of each mapping: in 2.36 there are eight times as many.
                (&[Cures, Helps], "malloc-trim"),
                (&[Cures], "jemalloc-purge jemalloc-decay-0 mimalloc-collect mimalloc-delay-0"),
                (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 tcache-count-0 mxfast-0 mmap-threshold"),
                (&[Nothing], "trim-threshold top-pad"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResStaysFreeInBins,
            told_by: "/proc/PID/maps: [heap] is small and ends where another mapping begins, although malloc_info shows a large heap 0"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let bytes = recipe.scaled(256 << 20);
    let blocks = recipe.phase("filled", |recipe| {
        sys::block_data_segment();
        fill(recipe.ledger(), bytes, 1000)
    });
    recipe.phase("freed", |recipe| free_all(recipe.ledger(), blocks));
}
