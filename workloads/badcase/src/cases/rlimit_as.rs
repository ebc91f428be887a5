//! `rlimit-as`: a limit on address space that lets only some threads have an arena; the others get a page for each block,
//! then nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fragbench_engine::{Block, Crew};
use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, FigureFact, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{settings, texts};
use crate::{Case, Recipe, sys};

pub(crate) const CASE: Case = Case { fact, run };

const THREADS: usize = 32;
/// Blocks that each thread asks for.
const OF_EACH: usize = 2000;
const SIZE: usize = 100;
/// Ten thread heaps; the rest is for stacks and for blocks mapped one by one.
const ROOM: u64 = 10 * (64 << 20) + (48 << 20);

fn fact() -> CaseFact {
    const MIB: f64 = 1048576.0;
    let bounds = vec![
        // A heap more or less by where the kernel puts the first.
        Bound::within("arenas_filled_count", 9.0, 12.0, "ten threads of 32 get an arena"),
        Bound::within("mmapped_filled_bytes", 16.0 * MIB, 64.0 * MIB, "others get a page for each block of 100 bytes"),
        Bound::at_least("rss_filled_bytes", 8.0, "so that many times what is live is resident").of("live_filled_bytes"),
        Bound::within(
            "refused_count",
            0.3 * (THREADS * OF_EACH) as f64,
            0.7 * (THREADS * OF_EACH) as f64,
            "then malloc gives NULL",
        ),
        Bound::at_least("refused_threads_count", 12.0, "in every thread without an arena"),
    ];
    CaseFact {
        name: "rlimit-as".into(),
        summary: "RLIMIT_AS leaves room for 10 arenas, 32 threads run: 22 get a page for each 100 bytes, then NULL"
            .into(),
        mechanism: texts([
            "arena_get2: as long as the arena limit is not reached, a thread without an arena makes one (_int_new_arena, \
             new_heap); it does not share when that fails, which reused_arena would do at the limit.",
            "new_heap (alloc_new_heap from 2.35): reserves 64 MiB, for a moment 128 MiB to align them. PROT_NONE memory \
             counts against RLIMIT_AS like any other.",
            "__libc_malloc calls _int_malloc without an arena, and sysmalloc without an arena gives every request, however \
             small, a mapping of its own, a page at least. When that fails too, malloc gives NULL.",
        ]),
        sources: texts([
            "malloc/arena.c: arena_get2, _int_new_arena, new_heap",
            "malloc/malloc.c: sysmalloc, the branch for av == NULL",
            "setrlimit(2): RLIMIT_AS; `ulimit -v`, as batch systems set it",
        ]),
        settings: settings([("MALLOC_ARENA_MAX", "128")]),
        adaptive: true,
        memory_bytes: 64 << 20,
        figures: vec![
            FigureFact { name: "refused_count".into(), meaning: "calls of malloc that gave NULL, of 64000".into() },
            FigureFact { name: "refused_threads_count".into(), meaning: "threads that were given NULL, of 32".into() },
        ],
        judged: Judged::all_of("refused_count"),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Cures], "arena-max-1 arena-max-2 arena-max-4 jemalloc jemalloc-decay-0"),
                (&[Nothing], "tcache-count-0 mxfast-0 mmap-threshold trim-threshold top-pad"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::AllocationFails,
            told_by:
                "grep 'address space' /proc/PID/limits: VIRT is near it, RES far below; MALLOC_ARENA_MAX=2 ends it"
                    .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let refused = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    // With room from the start: under the limit the harness gets no more either.
    let states: Vec<Vec<Block>> = (0..THREADS).map(|_| Vec::with_capacity(OF_EACH)).collect();
    let count = refused.clone();
    let crew = recipe.phase("filled", move |recipe| {
        let limit = sys::AddressSpaceLimit::with_room(ROOM);
        let crew = Crew::start(recipe.spawner(), states);
        crew.in_turn(move |_, held, ledger| {
            for _ in 0..OF_EACH {
                let id = ledger.next_id();
                held.extend(ledger.try_malloc(id, SIZE));
            }
            let missing = OF_EACH - held.len();
            count.0.fetch_add(missing, Relaxed);
            count.1.fetch_add(usize::from(missing > 0), Relaxed);
        });
        drop(limit);
        crew
    });
    recipe.keep(crew);
    recipe.figure("refused_count", refused.0.load(Relaxed) as f64);
    recipe.figure("refused_threads_count", refused.1.load(Relaxed) as f64);
}
