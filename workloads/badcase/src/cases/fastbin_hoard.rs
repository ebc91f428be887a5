//! `fastbin-hoard`: small chunks freed into fastbins are not joined, and nothing is given back.

use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{fill, free_all, kick, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

fn fact() -> CaseFact {
    let present = vec![
        Bound::at_most("live_freed_bytes", 0.0, "everything was freed"),
        Bound::at_least("rss_freed_bytes", 0.98, "all stays resident").of("rss_filled_bytes"),
        Bound::at_least("fast_freed_bytes", 0.98, "in fastbins").of("rss_filled_bytes"),
        Bound::at_most("rss_purged_bytes", 0.02, "malloc_trim gives it back").of("rss_filled_bytes"),
    ];
    let absent = vec![Bound::at_most("rss_freed_bytes", 0.02, "there are no fastbins").of("rss_filled_bytes")];
    CaseFact {
        name: "fastbin-hoard".into(),
        summary: "128 MiB of 56-byte blocks freed: nothing is live and all of it stays resident".into(),
        mechanism: texts([
            "_int_free: a chunk of up to 128 bytes (a request of up to 120) goes to a fastbin, still marked as in use, \
             and is joined with nothing.",
            "Trimming is only tried from the free of a chunk that, joined, has FASTBIN_CONSOLIDATION_THRESHOLD (64 KiB) \
             or more; frees of small chunks never get there.",
            "malloc_consolidate joins them: called by malloc_trim, by a request of large-bin size, and by such a free.",
        ]),
        sources: texts([
            "malloc/malloc.c: _int_free, malloc_consolidate; FASTBIN_CONSOLIDATION_THRESHOLD",
            "glibc bug 14827",
            "glibc 2.43 has no fastbins (removed in December 2025)",
        ]),
        memory_bytes: 147 << 20,
        actions: texts(["kick"]),
        judged: Judged::rss("freed"),
        expectations: vec![
            Expectation::present(
                GlibcRange::before(43),
                present,
                &[
                    (&[Cures], "malloc-trim mxfast-0 kick"),
                    (&[Cures], "jemalloc-purge jemalloc-decay-0 mimalloc-collect mimalloc-delay-0"),
                    (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 tcache-count-0"),
                    (&[Nothing], "mmap-threshold trim-threshold top-pad"),
                ],
            ),
            Expectation::absent(GlibcRange::since(43), absent),
        ],
        symptoms: vec![Symptom {
            sign: Sign::ResStaysInFastbins,
            told_by: "malloc_info: one heap has it all in <total type=\"fast\">; malloc_trim(0) gives it back".into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let bytes = recipe.scaled(112 << 20);
    let blocks = recipe.phase("filled", |recipe| fill(recipe.ledger(), bytes, 56));
    recipe.phase("freed", |recipe| {
        free_all(recipe.ledger(), blocks);
        if recipe.asked_to("kick") {
            kick();
        }
    });
}
