//! `mmap-ratchet`: one freed mapping of 32 MiB teaches glibc to put large blocks into the heap, for good.

use fragbench_engine::heap;
use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{block, free_all, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

/// The largest request whose free raises the thresholds: its mapping must be below `DEFAULT_MMAP_THRESHOLD_MAX`
/// (32 MiB), and the size compared carries the flag `IS_MMAPPED` (malloc.c, `__libc_free`).
pub(crate) const RATCHET: usize = (32 << 20) - 8192;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::at_least("rss_freed_bytes", 0.98, "all stays resident after it was freed").of("rss_filled_bytes"),
        Bound::at_most("live_freed_bytes", 64.0 * 1100.0, "only the small blocks are live"),
        Bound::at_most("mmapped_filled_bytes", 0.0, "no block of 8 MiB was mapped by itself"),
        Bound::at_most("rss_purged_bytes", 0.02, "malloc_trim gives it back").of("rss_filled_bytes"),
    ];
    CaseFact {
        name: "mmap-ratchet".into(),
        summary: "after one 32 MiB block was freed, 8 MiB blocks lie in the heap between small ones and stay resident"
            .into(),
        mechanism: texts([
            "__libc_free: the free of a mapped block larger than the mmap threshold, up to 32 MiB, raises the threshold \
             to its size and the trim threshold to twice that.",
            "From then on _int_malloc takes blocks of up to 32 MiB from the heap; sysmalloc extends it.",
            "Small blocks allocated between them pin them: their free chunks cannot leave the heap's end (pinned-top).",
            "Setting any of M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD or M_MMAP_MAX ends the adjustment \
             (mp_.no_dyn_threshold), whatever the value.",
        ]),
        sources: texts([
            "malloc/malloc.c: __libc_free, sysmalloc; DEFAULT_MMAP_THRESHOLD_MAX",
            "mallopt(3): M_MMAP_THRESHOLD, note on the dynamic threshold",
        ]),
        memory_bytes: 257 << 20,
        judged: Judged::rss("freed"),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Cures], "malloc-trim mmap-threshold trim-threshold top-pad"),
                (&[Cures], "jemalloc jemalloc-purge jemalloc-decay-0 mimalloc-collect mimalloc-delay-0"),
                (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 tcache-count-0 mxfast-0"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResStaysFreeInBins,
            told_by: "malloc_info: bins hold few chunks of megabytes; MALLOC_MMAP_THRESHOLD_=131072 makes it go away"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let count = recipe.scaled(32);
    let large = recipe.phase("filled", |recipe| {
        heap::pair(RATCHET);
        let ledger = recipe.ledger();
        (0..count)
            .map(|_| {
                let large = block(ledger, 8 << 20);
                let _pin = block(ledger, 1100);
                large
            })
            .collect::<Vec<_>>()
    });
    recipe.phase("freed", |recipe| free_all(recipe.ledger(), large));
}
