//! `memalign-large`: freed aligned blocks are too small for the aligned blocks that follow them.

use fragbench_engine::ALL_PAGES;
use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{block, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

const ROUNDS: usize = 32;
/// Below 32 MiB, so that the first free puts such blocks into the heap (mmap-ratchet).
const SIZE: usize = 8 << 20;
/// Past what malloc aligns to by itself (`MALLOC_ALIGNMENT`, 16).
const ALIGN: usize = 32;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::at_most("live_leaked_bytes", 32.0 * 25.0, "25 bytes a round are live"),
        Bound::within("rss_leaked_bytes", 240e6, 310e6, "a block stays resident for each round but a few"),
        Bound::at_least("free_leaked_bytes", 0.98, "malloc counts it as free").of("rss_leaked_bytes"),
        Bound::at_most("rss_purged_bytes", 0.02, "malloc_trim gives it back").of("rss_leaked_bytes"),
    ];
    CaseFact {
        name: "memalign-large".into(),
        summary:
            "two aligned blocks of 8 MiB a round, freed again, and 25 bytes that stay: the heap grows by 8 MiB a round"
                .into(),
        mechanism: texts([
            "_int_memalign: asks _int_malloc for the size plus the alignment plus MINSIZE, cuts off what lies before the \
             aligned address and what is left behind, and frees both.",
            "The small block that stays lands in one of these cuttings. Once the aligned block is freed, its chunk is \
             exactly as large as before and joins nothing on that side.",
            "The next round asks for the size plus the surplus again: the chunk that was just freed is too small by a few \
             bytes, and sysmalloc extends the heap.",
            "2.38 searched the bins for chunks that hold an aligned block; 2.39 took that out again.",
        ]),
        sources: texts([
            "glibc bug 14581: memalign and fragmentation, with the demonstration that the recipe follows",
            "malloc/malloc.c: _int_memalign; commit 24cdd6c71d (2.38) and its removal in 2.39 (bug 30723)",
        ]),
        memory_bytes: 300 << 20,
        judged: Judged::rss("leaked"),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Cures], "malloc-trim mmap-threshold trim-threshold top-pad"),
                (&[Cures], "jemalloc-purge jemalloc-decay-0 mimalloc-collect mimalloc-delay-0"),
                (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 mxfast-0"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResStaysFreeInBins,
            told_by:
                "malloc_info: bins hold many chunks of one size of megabytes, each the size of a block the program \
                      aligns; MALLOC_MMAP_THRESHOLD_=131072 makes it go away"
                    .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let size = recipe.scaled(SIZE);
    recipe.phase("leaked", |recipe| {
        let ledger = recipe.ledger();
        for _ in 0..ROUNDS {
            let pair = [(); 2].map(|()| {
                let id = ledger.next_id();
                ledger.aligned(id, ALIGN, size, ALL_PAGES)
            });
            let _leaked = block(ledger, 25);
            pair.into_iter().for_each(|block| ledger.free(block));
        }
    });
}
