//! `tcache-hoard`: each thread's cache keeps chunks of every size, counted as in use, and no `malloc_trim` reaches it.

use fragbench_engine::{Block, Crew};
use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Settings, Sign, Symptom};

use crate::recipe::{block, free_all, settings, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

const THREADS: usize = 32;
/// More of each size than a bin holds in any version.
const OF_EACH: usize = 16;

fn fact() -> CaseFact {
    // Chunks of 32, 48, ..., 1040 bytes: 64 bins of which the smallest chunk serves no request of more than 24 bytes.
    let cached = |of_each: f64| of_each * THREADS as f64 * sizes().map(|size| size as f64 + 8.0).sum::<f64>();
    let bounds = |of_each: f64| {
        vec![
            Bound::at_most("live_freed_bytes", 0.0, "everything was freed"),
            Bound::within(
                "used_freed_bytes",
                cached(of_each),
                1.03 * cached(of_each),
                "malloc counts what is cached as in use",
            ),
            Bound::at_least("rss_purged_bytes", 0.98 * cached(of_each), "malloc_trim reaches no cache"),
        ]
    };
    let effects: &[(&[fragbench_model::Effect], &str)] = &[
        (&[Cures], "tcache-count-0 thread-exit"),
        (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 mxfast-0 mmap-threshold trim-threshold top-pad"),
    ];
    let base: Settings = settings([("MALLOC_ARENA_MAX", "33")]);
    CaseFact {
        name: "tcache-hoard".into(),
        summary: "32 idle threads that freed all they had: a quarter of a megabyte each stays, in use by malloc's count".into(),
        mechanism: texts([
            "tcache_put: up to seven chunks (sixteen from 2.43) of each of 64 sizes stay with the thread, in use as far as \
             arena, malloc_info and mallinfo know.",
            "malloc_trim walks arenas; no function but the end of the thread (tcache_thread_shutdown) empties its cache.",
            "glibc.malloc.tcache_count multiplies it: with 2000 a thread may keep 65 MiB.",
        ]),
        sources: texts([
            "malloc/malloc.c: tcache_put, tcache_thread_shutdown; TCACHE_FILL_COUNT",
            "glibc bug 22111: 2.26 lost the cache of each thread that ended",
        ]),
        settings: base,
        memory_bytes: 30 << 20,
        actions: texts(["thread-exit"]),
        judged: Judged { purged: None, ..Judged::all_of("used_freed_bytes") },
        expectations: vec![
            Expectation::absent(
                GlibcRange::before(26),
                vec![Bound::at_most("used_freed_bytes", 0.1 * cached(7.0), "there is no thread cache")],
            ),
            Expectation::present(GlibcRange::between(26, 43), bounds(7.0), effects),
            Expectation::present(GlibcRange::since(43), bounds(16.0), effects),
        ],
        symptoms: vec![Symptom {
            sign: Sign::ResStaysCountedInUse,
            told_by: "the gap grows with the number of threads, at most 250 KiB each (tcache_count 7); it goes when threads end"
                .into(),
        }],
        ..CaseFact::default()
    }
}

/// One request for each bin: the largest it serves.
fn sizes() -> impl Iterator<Item = usize> {
    (0..64).map(|bin| 24 + 16 * bin)
}

fn run(recipe: &mut Recipe<'_>) {
    let crew = recipe.phase("filled", |recipe| {
        let crew = Crew::start(recipe.spawner(), (0..THREADS).map(|_| Vec::<Block>::new()));
        crew.in_turn(|_, held, ledger| {
            for size in sizes() {
                held.extend((0..OF_EACH).map(|_| block(ledger, size)));
            }
        });
        crew
    });
    recipe.phase("freed", |recipe| {
        crew.in_turn(|_, held, ledger| free_all(ledger, std::mem::take(held)));
        if recipe.asked_to("thread-exit") {
            crew.dismiss();
        } else {
            recipe.keep(crew);
        }
    });
}
