//! `discontiguous-main`: somebody else moves the program break once, and what malloc had below it can never be trimmed.

use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{fill, free_all, texts};
use crate::{Case, Recipe, sys};

pub(crate) const CASE: Case = Case { fact, run };

/// Held on either side of what the other took.
const SIDE: usize = 128 << 20;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::within("rss_freed_bytes", 0.48, 0.52, "what lies below the foreign page stays, what lies above it goes")
            .of("rss_filled_bytes"),
        Bound::at_most("live_freed_bytes", 0.0, "everything was freed"),
        Bound::at_least("free_freed_bytes", 0.95, "malloc counts it as free").of("rss_freed_bytes"),
        Bound::at_most("rss_purged_bytes", 0.02, "malloc_trim gives it back").of("rss_filled_bytes"),
    ];
    CaseFact {
        name: "discontiguous-main".into(),
        summary: "one page taken with sbrk by somebody else: the 128 MiB below it stay when all is freed".into(),
        mechanism: texts([
            "sysmalloc: the break lies above the end of top, so somebody else has moved it. The old top is closed with \
             fenceposts and freed, and a new top begins above.",
            "systrim lowers the break from the end of the top there is now. The fenceposts never join with anything; what \
             lies below them can only wait in bins.",
            "malloc_trim (mtrim) walks the bins and releases the pages of the lower part; the address space stays.",
        ]),
        sources: texts([
            "glibc bug 15321, malloc/free can't give the memory back to kernel when main_arena is discontinuous",
            "malloc/malloc.c: sysmalloc (\"Someone else killed our space\" and \"foreign sbrk\"), systrim, mtrim",
        ]),
        memory_bytes: 257 << 20,
        judged: Judged::rss("freed"),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Cures], "malloc-trim jemalloc-purge jemalloc-decay-0 mimalloc-collect mimalloc-delay-0"),
                (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 tcache-count-0 mxfast-0 mmap-threshold"),
                (&[Nothing], "trim-threshold top-pad"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResStaysFreeInBins,
            told_by: "ltrace or gdb on sbrk and brk: somebody besides malloc calls them; malloc_trim(0) gives it back"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let bytes = recipe.scaled(SIDE);
    let (below, above) = recipe.phase("filled", |recipe| {
        let below = fill(recipe.ledger(), bytes, 1000);
        sys::take_data_segment(4096);
        (below, fill(recipe.ledger(), bytes, 1000))
    });
    recipe.phase("freed", |recipe| free_all(recipe.ledger(), below.into_iter().chain(above)));
}
