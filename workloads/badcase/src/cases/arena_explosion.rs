//! `arena-explosion`: many threads that each hold one small block make glibc reserve 64 MiB of address space a thread.

use fragbench_engine::Crew;
use fragbench_model::Effect::{Cures, Helps, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{block, settings, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

/// More threads than arenas, so that the limit is reached.
const THREADS: usize = 160;

fn fact() -> CaseFact {
    const MIB: f64 = 1048576.0;
    let bounds = || {
        vec![
            Bound::within(
                "arenas_started_count",
                128.0,
                128.0,
                "the limit of 16 cores up to glibc 2.43, of 128 cores from 2.44",
            ),
            Bound::within(
                "vm_started_bytes",
                7.9 * 1024.0 * MIB,
                8.1 * 1024.0 * MIB,
                "127 thread heaps of 64 MiB are reserved",
            ),
            Bound::at_most("rss_started_bytes", 8.0 * MIB, "next to nothing of it is resident"),
            Bound::within("vm_purged_bytes", 0.999, 1.001, "malloc_trim gives no address space back")
                .of("vm_started_bytes"),
        ]
    };
    CaseFact {
        name: "arena-explosion".into(),
        summary: "160 threads that hold 1 KiB each: 128 arenas and 8 GiB of address space".into(),
        mechanism: texts([
            "arena_get2: a thread without an arena takes one from the free list; when that is empty and fewer than the \
             limit exist, _int_new_arena makes another. The limit is arena_max; by default 8 x cores on 64-bit machines, \
             from 2.44 the number of cores and at least 8.",
            "new_heap (alloc_new_heap from 2.35): each arena's first heap reserves HEAP_MAX_SIZE, 64 MiB, PROT_NONE, \
             aligned to itself. grow_heap makes pages usable as they are needed.",
            "Arenas are never destroyed: arena_thread_freeres (__malloc_arena_thread_freeres) puts the arena of a \
             thread that ends on the free list, address space and all.",
        ]),
        sources: texts([
            "glibc bug 11261, malloc uses excessive memory for multi-threaded applications",
            "malloc/arena.c: arena_get2, new_heap; NARENAS_FROM_NCORES",
            "glibc commit 93e6135904ee (2.44): libc-alpha, June 2026",
            "mallopt(3): M_ARENA_MAX, M_ARENA_TEST",
        ]),
        settings: settings([("MALLOC_ARENA_MAX", "128")]),
        memory_bytes: 4 << 20,
        judged: Judged { purged: Some("vm_purged_bytes".into()), ..Judged::all_of("vm_started_bytes") },
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds(),
            &[
                (&[Cures], "arena-max-1 arena-max-2 arena-max-4 jemalloc tcmalloc"),
                // It reserves 1 GiB at its start, however many threads there are.
                (&[Helps], "mimalloc mimalloc-collect mimalloc-delay-0"),
                (&[Nothing], "malloc-trim tcache-count-0 mxfast-0 mmap-threshold trim-threshold top-pad"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::VirtFarAboveRes,
            told_by: "grep -c -- '---p' /proc/PID/maps: about as many as malloc_info shows heaps; RES is small. \
                      From glibc 2.44 on it takes more than 8 cores"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let crew = recipe.phase("started", |recipe| {
        let crew = Crew::start(recipe.spawner(), (0..THREADS).map(|_| None));
        crew.in_turn(|_, held, ledger| *held = Some(block(ledger, 1024)));
        crew
    });
    recipe.keep(crew);
}
