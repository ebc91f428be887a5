//! `tcache-pins-top`: everything is freed, and the last seven chunks freed keep it all resident.

use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{fill, free_all, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::at_most("live_freed_bytes", 0.0, "everything was freed"),
        Bound::at_least("rss_freed_bytes", 0.98, "all stays resident").of("rss_filled_bytes"),
        Bound::at_most("rss_purged_bytes", 0.02, "malloc_trim gives it back").of("rss_filled_bytes"),
    ];
    CaseFact {
        name: "tcache-pins-top".into(),
        summary: "256 MiB freed from the last block to the first: nothing is live and all of it stays resident".into(),
        mechanism: texts([
            "tcache_put: the first seven chunks freed of a size (sixteen from 2.43) go to the thread's cache, where they \
             count as in use; nothing joins them with their neighbours.",
            "Freed in descending order, those seven are the topmost chunks of the heap: systrim finds top small and \
             below it a chunk in use.",
            "Freed in ascending order the seven lie at the bottom, and the break is lowered.",
        ]),
        sources: texts(["malloc/malloc.c: tcache_put, _int_free, systrim; TCACHE_FILL_COUNT"]),
        memory_bytes: 257 << 20,
        judged: Judged::rss("freed"),
        expectations: vec![
            Expectation::present(
                GlibcRange::since(26),
                bounds,
                &[
                    (&[Cures], "malloc-trim tcache-count-0"),
                    (&[Cures], "jemalloc-purge jemalloc-decay-0 mimalloc-collect mimalloc-delay-0"),
                    (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 mxfast-0 mmap-threshold trim-threshold top-pad"),
                ],
            ),
            Expectation::absent(
                GlibcRange::before(26),
                vec![
                    Bound::at_most("rss_freed_bytes", 0.02, "without a thread cache the break is lowered")
                        .of("rss_filled_bytes"),
                ],
            ),
        ],
        symptoms: vec![Symptom {
            sign: Sign::ResStaysFreeInBins,
            told_by: "GLIBC_TUNABLES=glibc.malloc.tcache_count=0 for a run of the service: RES falls by itself".into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let bytes = recipe.scaled(256 << 20);
    let blocks = recipe.phase("filled", |recipe| fill(recipe.ledger(), bytes, 1000));
    recipe.phase("freed", |recipe| free_all(recipe.ledger(), blocks.into_iter().rev()));
}
