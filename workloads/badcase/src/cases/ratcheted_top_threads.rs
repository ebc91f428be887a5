//! `ratcheted-top-threads`: up to 64 MiB of free top in each thread's arena, which no `malloc_trim` gives back.

use fragbench_engine::{Crew, heap};
use fragbench_model::Effect::{Cures, Helps, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use super::mmap_ratchet::RATCHET;
use crate::recipe::{fill, free_all, settings, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

const THREADS: usize = 16;
/// What keeps the trim threshold where it was, has one arena, or is another allocator that is told to return memory.
const CURES: &str = "mmap-threshold trim-threshold top-pad arena-max-1 \
                     jemalloc-purge jemalloc-decay-0 mimalloc-collect mimalloc-delay-0";

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::within("arenas_filled_count", 17.0, 17.0, "an arena each, and the main thread's"),
        Bound::at_most("live_freed_bytes", 0.0, "everything was freed"),
        Bound::at_least("rss_freed_bytes", 0.98, "all stays resident").of("rss_filled_bytes"),
        Bound::at_least("rss_purged_bytes", 0.98, "malloc_trim gives nothing back").of("rss_filled_bytes"),
        Bound::at_least("free_freed_bytes", 0.98, "malloc counts it as free").of("rss_filled_bytes"),
    ];
    CaseFact {
        name: "ratcheted-top-threads".into(),
        summary: "16 threads free all they had, 32 MiB each: 512 MiB stay resident and malloc_trim gives none back".into(),
        mechanism: texts([
            "__libc_free: the free of a mapped block of nearly 32 MiB has raised the trim threshold to 64 MiB, for the \
             whole process (mmap-ratchet).",
            "heap_trim: a thread heap is shrunk only when its top has reached the trim threshold; a heap is 64 MiB, so \
             the top of an arena with one heap never does.",
            "mtrim: malloc_trim gives back whole pages of chunks in bins, and calls systrim for the main arena's top. \
             The tops of thread arenas are neither.",
        ]),
        sources: texts([
            "malloc/arena.c: heap_trim; malloc/malloc.c: __libc_free, mtrim",
            "glibc bug 17195: the trim threshold is applied to thread heaps since 2.22",
        ]),
        settings: settings([("MALLOC_ARENA_MAX", "17")]),
        memory_bytes: 514 << 20,
        actions: texts(["thread-exit"]),
        judged: Judged::rss("freed"),
        expectations: vec![
            Expectation::present(
                GlibcRange::between(22, 42),
                bounds.clone(),
                &[
                    (&[Cures], CURES),
                    (&[Helps], "arena-max-2 arena-max-4"),
                    (&[Nothing], "malloc-trim thread-exit tcache-count-0 mxfast-0"),
                ],
            ),
            // A shared arena has several heaps; since those go once they are empty (heap-tail-remainder) little is left.
            Expectation::present(
                GlibcRange::since(42),
                bounds,
                &[
                    (&[Cures], CURES),
                    (&[Helps, Cures], "arena-max-2 arena-max-4"),
                    (&[Nothing], "malloc-trim thread-exit tcache-count-0 mxfast-0"),
                ],
            ),
            Expectation::absent(
                GlibcRange::before(22),
                vec![Bound::at_most("rss_freed_bytes", 0.05, "thread heaps are shrunk whatever the threshold").of("rss_filled_bytes")],
            ),
        ],
        symptoms: vec![
            Symptom {
                sign: Sign::TrimGivesNothing,
                told_by: "malloc_info: `rest` of each heap is one chunk (count=\"1\"), its top; MALLOC_TRIM_THRESHOLD_=131072 makes it go away"
                    .into(),
            },
            Symptom {
                sign: Sign::ResGrowsWithThreads,
                told_by: "malloc_info: `rest` of each heap is one chunk of up to 64 MiB, its top".into(),
            },
        ],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let bytes = recipe.scaled(32 << 20);
    let crew = recipe.phase("filled", |recipe| {
        heap::pair(RATCHET);
        let crew = Crew::start(recipe.spawner(), (0..THREADS).map(|_| Vec::new()));
        crew.in_turn(move |_, blocks, ledger| *blocks = fill(ledger, bytes, 8192));
        crew
    });
    recipe.phase("freed", |recipe| {
        crew.in_turn(|_, blocks, ledger| free_all(ledger, std::mem::take(blocks)));
        if recipe.asked_to("thread-exit") {
            crew.dismiss();
        } else {
            recipe.keep(crew);
        }
    });
}
