//! `fork-cow`: a forked child frees one object in 64, and every page of the heap is copied.

use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{fill, texts};
use crate::{Case, Recipe, sys};

pub(crate) const CASE: Case = Case { fact, run };

/// One chunk of 64 bytes in 64: one in every page.
const EVERY: usize = 64;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::within("children_private_forked_bytes", 0.97, 1.05, "the child has a copy of every page")
            .of("rss_filled_bytes"),
        Bound::within("live_forked_bytes", 1.0, 1.0, "of 64 objects it freed one; the parent freed none")
            .of("live_filled_bytes"),
    ];
    CaseFact {
        name: "fork-cow".into(),
        summary: "a child frees every 64th of the objects it inherited, 2 MiB: it gets a copy of every page, 146 MiB".into(),
        mechanism: texts([
            "fork: parent and child share all pages until one of them writes.",
            "_int_free keeps its lists inside the chunks: tcache_put and the fastbins write a pointer into the freed chunk, \
             unlink_chunk and set_foot write into its neighbours. The write copies the page.",
            "Nothing joins the copies again; free() in one process is memory in use in two.",
        ]),
        sources: texts([
            "malloc/malloc.c: tcache_put, _int_free, set_foot: boundary tags and lists within chunks",
            "fork(2), copy on write; Instagram Engineering, Dismissing Python Garbage Collection at Instagram, 2017, is the \
             same by another writer",
        ]),
        memory_bytes: 290 << 20,
        judged: Judged::all_of("children_private_forked_bytes"),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Cures], "jemalloc jemalloc-decay-0"),
                // It keeps its lists within blocks as well.
                (&[Nothing], "mimalloc mimalloc-delay-0"),
                (&[Nothing], "arena-max-1 tcache-count-0 mxfast-0 mmap-threshold trim-threshold top-pad"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResGrowsAfterFork,
            told_by: "grep Private_Dirty /proc/CHILD/smaps_rollup: grows towards RES while the child frees; under jemalloc it does not"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let bytes = recipe.scaled(128 << 20);
    let blocks = recipe.phase("filled", |recipe| fill(recipe.ledger(), bytes, 56));
    // It lives until the parent has seen it.
    drop(recipe.phase("forked", |_| sys::fork_and_free(&blocks, EVERY)));
}
