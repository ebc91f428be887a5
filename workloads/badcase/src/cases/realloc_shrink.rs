//! `realloc-shrink`: glibc 2.37 hands a block back unchanged when it is asked to make it smaller.

use fragbench_engine::{Block, heap};
use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use super::mmap_ratchet::RATCHET;
use crate::recipe::{block, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

const COUNT: usize = 128;

fn fact() -> CaseFact {
    let present = vec![
        Bound::at_most("live_shrunk_bytes", 128.0 * 100.0, "100 bytes of each block are live"),
        Bound::at_least("rss_shrunk_bytes", 0.98, "all stays resident").of("rss_filled_bytes"),
        Bound::at_least("rss_purged_bytes", 0.98, "malloc_trim gives nothing back").of("rss_filled_bytes"),
    ];
    let absent = || {
        vec![
            Bound::at_most("used_shrunk_bytes", 0.02, "malloc counts what was cut off as free").of("rss_filled_bytes"),
            Bound::at_most("rss_purged_bytes", 0.02, "malloc_trim gives it back").of("rss_filled_bytes"),
        ]
    };
    CaseFact {
        name: "realloc-shrink".into(),
        summary: "128 blocks of 1 MiB made smaller, to 100 bytes: glibc 2.37 keeps every byte of them".into(),
        mechanism: texts([
            "__libc_realloc (2.37): a block whose usable size is above the new one by no more than the trim threshold is \
             returned as it is. That is up to 128 KiB, and 64 MiB once the thresholds have been raised (mmap-ratchet).",
            "In other versions _int_realloc splits the chunk, and the remainder is free.",
        ]),
        sources: texts(["glibc bug 30579; fixed in 2.38 by commit 2fb12bbd09"]),
        memory_bytes: 129 << 20,
        judged: Judged::rss("shrunk"),
        expectations: vec![
            Expectation::absent(GlibcRange::before(37), absent()),
            Expectation::present(
                GlibcRange::between(37, 38),
                present,
                &[
                    (&[Nothing], "malloc-trim arena-max-1 tcache-count-0 mxfast-0"),
                    (&[Cures], "jemalloc-purge jemalloc-decay-0"),
                ],
            ),
            Expectation::absent(GlibcRange::since(38), absent()),
        ],
        symptoms: vec![Symptom {
            sign: Sign::ResStaysCountedInUse,
            told_by: "glibc 2.37 exactly; malloc_usable_size of a block that was made smaller is what it was before"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let size = recipe.scaled(1 << 20);
    let blocks = recipe.phase("filled", |recipe| {
        heap::pair(RATCHET);
        let ledger = recipe.ledger();
        (0..COUNT).map(|_| block(ledger, size)).collect::<Vec<_>>()
    });
    recipe.phase("shrunk", |recipe| {
        let ledger = recipe.ledger();
        let _kept: Vec<Block> = blocks.into_iter().map(|block| ledger.realloc(block, 100, 0)).collect();
    });
}
