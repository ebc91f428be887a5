//! `heap-tail-remainder`: a thread's heaps stay mapped and resident after all in them was freed, held by a chunk of a
//! few hundred bytes at the end of each.

use fragbench_engine::Crew;
use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{fill, free_all, settings, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

fn fact() -> CaseFact {
    let present = vec![
        Bound::within("segments_filled_count", 6.0, 6.0, "five heaps of 64 MiB, and the main one"),
        Bound::at_most("live_freed_bytes", 0.0, "everything was freed"),
        Bound::at_least("rss_freed_bytes", 0.98, "all stays resident").of("rss_filled_bytes"),
        Bound::at_most("rss_purged_bytes", 0.02, "malloc_trim gives it back").of("rss_filled_bytes"),
    ];
    let absent = || vec![Bound::at_most("rss_freed_bytes", 0.02, "the heaps are unmapped").of("rss_filled_bytes")];
    CaseFact {
        name: "heap-tail-remainder".into(),
        summary: "an idle thread that freed all of its 256 MiB, first to last: all of it stays resident".into(),
        mechanism: texts([
            "sysmalloc: when a thread's heap of 64 MiB is full, what is left at its end is freed with _int_free, and a new \
             heap is begun.",
            "_int_free: a remainder of up to 1032 bytes goes to the thread's tcache, where it counts as in use.",
            "heap_trim: a heap can be unmapped only when its last chunk before the fencepost is free and reaches back to \
             its start; the cached remainder breaks that, and the heaps below it are not looked at.",
        ]),
        sources: texts([
            "malloc/malloc.c: sysmalloc, _int_free; malloc/arena.c: heap_trim",
            "glibc commit cd33535002 (2.42) frees the remainder past the tcache",
        ]),
        settings: settings([("MALLOC_ARENA_MAX", "2")]),
        memory_bytes: 258 << 20,
        actions: texts(["thread-exit"]),
        judged: Judged::rss("freed"),
        expectations: vec![
            Expectation::absent(GlibcRange::before(26), absent()),
            Expectation::present(
                GlibcRange::between(26, 42),
                present,
                &[
                    (&[Cures], "malloc-trim arena-max-1 tcache-count-0 thread-exit"),
                    (&[Cures], "jemalloc-purge jemalloc-decay-0 mimalloc-collect mimalloc-delay-0"),
                    (&[Nothing], "mxfast-0 mmap-threshold trim-threshold"),
                ],
            ),
            Expectation::absent(GlibcRange::since(42), absent()),
        ],
        symptoms: vec![Symptom {
            sign: Sign::ResStaysFreeInBins,
            told_by:
                "malloc_info: <aspace type=\"subheaps\"> of a thread's heap is above 1 and `rest` is nearly all of its \
                      `system`; RES falls when the thread ends"
                    .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let bytes = recipe.scaled(256 << 20);
    let crew = recipe.phase("filled", |recipe| {
        let crew = Crew::start(recipe.spawner(), [Vec::new()]);
        crew.all(move |_, blocks, ledger| *blocks = fill(ledger, bytes, 1000));
        crew
    });
    recipe.phase("freed", |recipe| {
        crew.all(|_, blocks, ledger| free_all(ledger, std::mem::take(blocks)));
        if recipe.asked_to("thread-exit") {
            crew.dismiss();
        } else {
            recipe.keep(crew);
        }
    });
}
