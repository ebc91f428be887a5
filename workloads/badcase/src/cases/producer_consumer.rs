//! `producer-consumer`: one thread allocates, another frees; the memory goes back to the producer's arena, which stays
//! as it is until the producer is there again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fragbench_engine::{Block, Crew, clock};
use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, FigureFact, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{fill, free_all, settings, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

fn fact() -> CaseFact {
    let present = vec![
        Bound::at_most("live_freed_bytes", 0.0, "everything was freed"),
        Bound::at_least("rss_freed_bytes", 0.98, "all stays resident").of("rss_filled_bytes"),
        Bound::at_most("rss_purged_bytes", 0.02, "malloc_trim gives it back").of("rss_filled_bytes"),
    ];
    let absent = || vec![Bound::at_most("rss_freed_bytes", 0.02, "the heaps are unmapped").of("rss_filled_bytes")];
    CaseFact {
        name: "producer-consumer".into(),
        summary: "256 MiB allocated by one thread and freed by another: all of it stays resident".into(),
        mechanism: texts([
            "_int_free: a chunk goes back to the arena it came from (arena_for_chunk), under that arena's lock, whichever \
             thread frees it; so memory cannot pile up with the consumer beyond its tcache.",
            "sysmalloc has put the remainder of each full heap into the producer's tcache (heap-tail-remainder). The \
             consumer's frees cannot reach it, and heap_trim stops there.",
        ]),
        sources: texts([
            "malloc/malloc.c: _int_free, arena_for_chunk, sysmalloc; malloc/arena.c: heap_trim",
            "Berger et al., Hoard: A Scalable Memory Allocator for Multithreaded Applications, ASPLOS 2000: the blow-up \
             that returning to the owner avoids",
            "glibc commit cd33535002 (2.42) frees the remainder past the tcache",
        ]),
        settings: settings([("MALLOC_ARENA_MAX", "3")]),
        memory_bytes: 258 << 20,
        figures: vec![FigureFact {
            name: "remote_free_ns".into(),
            meaning: "mean time of a free by the consumer, giving pages back included".into(),
        }],
        judged: Judged::rss("freed"),
        expectations: vec![
            Expectation::absent(GlibcRange::before(26), absent()),
            Expectation::present(
                GlibcRange::between(26, 42),
                present,
                &[
                    (&[Cures], "malloc-trim arena-max-1 tcache-count-0"),
                    (&[Cures], "jemalloc-purge jemalloc-decay-0 mimalloc-collect mimalloc-delay-0"),
                    (&[Nothing], "mxfast-0 mmap-threshold trim-threshold"),
                ],
            ),
            Expectation::absent(GlibcRange::since(42), absent()),
        ],
        symptoms: vec![Symptom {
            sign: Sign::ResStaysFreeInBins,
            told_by: "malloc_info: `rest` lies in the heap of a thread that only allocates; glibc.malloc.tcache_count=0 makes \
                      it go away"
                .into(),
        }],
        ..CaseFact::default()
    }
}

/// What passes from the one thread to the other, and how long a free took.
#[derive(Default)]
struct Belt {
    blocks: Vec<Block>,
    free_ns: f64,
}

fn lock(belt: &Mutex<Belt>) -> MutexGuard<'_, Belt> {
    belt.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(recipe: &mut Recipe<'_>) {
    let bytes = recipe.scaled(256 << 20);
    let belt: Arc<Mutex<Belt>> = Arc::default();
    let (producer, consumer) = recipe.phase("filled", |recipe| {
        let producer = Crew::start(recipe.spawner(), [()]);
        let consumer = Crew::start(recipe.spawner(), [()]);
        let belt = belt.clone();
        producer.all(move |_, (), ledger| lock(&belt).blocks = fill(ledger, bytes, 1000));
        (producer, consumer)
    });
    recipe.phase("freed", |_| {
        let belt = belt.clone();
        consumer.all(move |_, (), ledger| {
            let blocks = std::mem::take(&mut lock(&belt).blocks);
            let count = blocks.len() as f64;
            let start = clock::monotonic_ns();
            free_all(ledger, blocks);
            lock(&belt).free_ns = (clock::monotonic_ns() - start) as f64 / count;
        });
    });
    recipe.figure("remote_free_ns", lock(&belt).free_ns);
    recipe.keep((producer, consumer));
}
