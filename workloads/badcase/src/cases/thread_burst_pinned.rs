//! `thread-burst-pinned`: a burst of threads leaves one small block each behind, and with it all its heaps.

use fragbench_engine::Crew;
use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{block, fill, free_all, settings, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

const THREADS: usize = 16;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::within("arenas_filled_count", 17.0, 17.0, "an arena each, and the main thread's"),
        Bound::at_most("live_exited_bytes", 16.0 * 1100.0, "one block of 1100 bytes a thread is live"),
        Bound::at_least("rss_exited_bytes", 0.98, "all stays resident after the threads have ended")
            .of("rss_filled_bytes"),
        Bound::within("arenas_exited_count", 17.0, 17.0, "and so do the arenas"),
        Bound::at_most("rss_purged_bytes", 0.02, "malloc_trim gives it back").of("rss_filled_bytes"),
    ];
    CaseFact {
        name: "thread-burst-pinned".into(),
        summary: "16 threads free 16 MiB each but for one block of 1100 bytes and end: 256 MiB stay resident".into(),
        mechanism: texts([
            "arena_thread_freeres (__malloc_arena_thread_freeres): the arena of a thread that ends goes to the free list \
             with everything in it; arenas are never destroyed.",
            "heap_trim: the block allocated last lies at the end of the arena's last heap; what is below it, in this heap \
             and in the heaps before it, stays.",
            "A lower arena limit changes nothing: the blocks lie in fewer arenas, each pinned at its end.",
        ]),
        sources: texts([
            "malloc/arena.c: __malloc_arena_thread_freeres, heap_trim",
            "codearcana.com 2016, Arena leak in glibc: a server that accounted for 2 to 3 GB and held 15",
        ]),
        settings: settings([("MALLOC_ARENA_MAX", "17")]),
        memory_bytes: 258 << 20,
        judged: Judged::rss("exited"),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Cures], "malloc-trim jemalloc-purge jemalloc-decay-0 mimalloc-collect mimalloc-delay-0"),
                (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 tcache-count-0 mxfast-0"),
                (&[Nothing], "mmap-threshold trim-threshold top-pad"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResGrowsWithThreads,
            told_by:
                "malloc_info: `rest` of most heaps is nearly all of their `system`, though their threads have ended; \
                      MALLOC_ARENA_MAX=2 does not help"
                    .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let bytes = recipe.scaled(16 << 20);
    let crew = recipe.phase("filled", |recipe| {
        let crew = Crew::start(recipe.spawner(), (0..THREADS).map(|_| Vec::new()));
        crew.in_turn(move |_, blocks, ledger| *blocks = fill(ledger, bytes, 1000));
        crew
    });
    recipe.phase("exited", |_| {
        // All pins first: with few arenas the next thread's pin would otherwise fill the last one's hole.
        crew.in_turn(|_, _, ledger| {
            let _pin = block(ledger, 1100);
        });
        crew.in_turn(|_, blocks, ledger| free_all(ledger, std::mem::take(blocks)));
        crew.dismiss();
    });
}
