//! `serial-peaks`: threads that are busy one after the other; every arena keeps its own peak.

use fragbench_engine::Crew;
use fragbench_model::Effect::{Cures, Helps, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{block, fill, free_all, settings, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

const THREADS: usize = 16;
const PEAK: usize = 16 << 20;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::within("arenas_peaked_count", 17.0, 17.0, "an arena each, and the main thread's"),
        Bound::within("rss_peaked_bytes", 15.9 * PEAK as f64, 16.4 * PEAK as f64, "sixteen peaks are resident at once"),
        Bound::at_most("live_peaked_bytes", 16.0 * 2000.0, "one block of 2000 bytes a thread is live"),
        Bound::at_most("rss_purged_bytes", 0.02, "malloc_trim gives it back").of("rss_peaked_bytes"),
    ];
    CaseFact {
        name: "serial-peaks".into(),
        summary: "16 threads hold 16 MiB one after the other, never together: 256 MiB stay resident".into(),
        mechanism: texts([
            "arena_get: a thread stays with its arena; free space of one arena never serves another.",
            "Each thread leaves one small block behind, above what it freed: heap_trim and systrim find nothing at the \
             end of the heap (pinned-top), in each arena anew.",
            "With one arena the next thread's peak fills the hole that the last one left.",
        ]),
        sources: texts([
            "malloc/arena.c: arena_get, reused_arena, heap_trim",
            "mallopt(3): M_ARENA_MAX",
        ]),
        settings: settings([("MALLOC_ARENA_MAX", "17")]),
        memory_bytes: 258 << 20,
        actions: texts(["thread-exit"]),
        judged: Judged { floor: fragbench_model::Quantity::constant(PEAK as f64), ..Judged::rss("peaked") },
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Cures], "malloc-trim arena-max-1"),
                (&[Cures, Helps], "arena-max-2"),
                (&[Helps], "arena-max-4"),
                (&[Cures], "jemalloc-purge jemalloc-decay-0 mimalloc mimalloc-collect mimalloc-delay-0"),
                (&[Nothing], "thread-exit tcache-count-0 mxfast-0 mmap-threshold trim-threshold top-pad"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResGrowsWithThreads,
            told_by: "malloc_info: `rest` of each heap is about one thread's peak, in binned chunks; MALLOC_ARENA_MAX=2 divides it"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let crew = recipe.phase("peaked", |recipe| {
        let crew = Crew::start(recipe.spawner(), [(); THREADS]);
        crew.in_turn(move |_, (), ledger| {
            let blocks = fill(ledger, PEAK, 4096);
            let _pin = block(ledger, 2000);
            free_all(ledger, blocks);
        });
        if recipe.asked_to("thread-exit") { None } else { Some(crew) }
    });
    recipe.keep(crew);
}
