//! `fastbin-hoard-threads`: the fastbins of threads that have ended, which `malloc_trim` joins and cannot give back.

use fragbench_engine::Crew;
use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{fill, free_all, kick, settings, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

const THREADS: usize = 8;

fn fact() -> CaseFact {
    let present = vec![
        Bound::within("arenas_filled_count", 9.0, 9.0, "an arena each, and the main thread's"),
        Bound::at_most("live_freed_bytes", 0.0, "everything was freed and the threads have ended"),
        Bound::at_least("rss_freed_bytes", 0.98, "all stays resident").of("rss_filled_bytes"),
        Bound::at_least("rss_purged_bytes", 0.98, "malloc_trim gives nothing back").of("rss_filled_bytes"),
    ];
    let absent = vec![Bound::at_most("rss_freed_bytes", 0.05, "there are no fastbins").of("rss_filled_bytes")];
    CaseFact {
        name: "fastbin-hoard-threads".into(),
        summary: "8 threads free 14 MiB of 56-byte blocks each and end: all stays resident, even after malloc_trim".into(),
        mechanism: texts([
            "_int_free puts the chunks into the fastbins of the thread's arena, where they stay when the thread ends; \
             tcache_thread_shutdown adds what the thread's cache held.",
            "malloc_trim: mtrim calls malloc_consolidate, which joins the chunks with each other and with the arena's \
             top. For arenas other than the main one mtrim gives back whole pages of binned chunks only: never top.",
            "heap_trim, which does shrink a thread heap, is only called from the free of a large chunk in that arena.",
        ]),
        sources: texts([
            "malloc/malloc.c: _int_free, malloc_consolidate, mtrim; malloc/arena.c: heap_trim",
            "glibc 2.43 has no fastbins (removed in December 2025)",
        ]),
        settings: settings([("MALLOC_ARENA_MAX", "9")]),
        memory_bytes: 130 << 20,
        actions: texts(["kick"]),
        judged: Judged::rss("freed"),
        expectations: vec![
            Expectation::present(
                GlibcRange::before(43),
                present,
                &[
                    (&[Cures], "mxfast-0 kick"),
                    (&[Cures], "jemalloc-purge jemalloc-decay-0 mimalloc-delay-0 mimalloc-collect"),
                    (&[Nothing], "malloc-trim tcache-count-0 mmap-threshold trim-threshold top-pad"),
                    (&[Nothing], "arena-max-1 arena-max-2 arena-max-4"),
                ],
            ),
            Expectation::absent(GlibcRange::since(43), absent),
        ],
        symptoms: vec![
            Symptom {
                sign: Sign::ResStaysInFastbins,
                told_by: "malloc_info: spread over many heaps; after malloc_trim(0) `fast` has become `rest`, RES is as before"
                    .into(),
            },
            Symptom {
                sign: Sign::TrimGivesNothing,
                told_by: "malloc_info before the trim: <total type=\"fast\"> of the threads' heaps was large".into(),
            },
        ],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let bytes = recipe.scaled(14 << 20);
    let crew = recipe.phase("filled", |recipe| {
        let crew = Crew::start(recipe.spawner(), (0..THREADS).map(|_| Vec::new()));
        crew.in_turn(move |_, blocks, ledger| *blocks = fill(ledger, bytes, 56));
        crew
    });
    recipe.phase("freed", |recipe| {
        crew.in_turn(|_, blocks, ledger| free_all(ledger, std::mem::take(blocks)));
        crew.dismiss();
        if recipe.asked_to("kick") {
            // New threads take the arenas from the free list: one each.
            Crew::start(recipe.spawner(), [(); THREADS]).in_turn(|_, (), _| kick());
        }
    });
}
