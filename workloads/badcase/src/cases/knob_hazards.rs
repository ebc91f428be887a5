//! `knob-hazards`: three settings that are recommended against memory use or for speed, set wrongly; each has its price.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fragbench_engine::{Crew, clock};
use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, FigureFact, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{block, fill, free_all, settings, texts};
use crate::{Case, Recipe, sys};

pub(crate) const CASE: Case = Case { fact, run };

const MIB: f64 = 1048576.0;
/// Just past the mmap threshold that is set.
const MAPPED: usize = 4200;
/// Past every tcache bin: each call takes the arena's lock.
const LOCKED: usize = 2000;
/// In the tcache: no call takes a lock.
const CACHED: usize = 200;
/// Long enough for two threads to meet, on a machine that has other work too.
const PAIRS: usize = 500_000;
const ROUNDS: usize = 3;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::within("rss_mapped_bytes", 1.9, 2.0, "mmap threshold of 4 KiB: two pages for each 4200 bytes")
            .of("live_mapped_bytes"),
        Bound::within(
            "mmapped_mapped_bytes",
            1.9,
            2.0,
            "each block is a mapping, a system call to get and one to free",
        )
        .of("live_mapped_bytes"),
        Bound::within("rss_freed_bytes", 62.0 * MIB, 68.0 * MIB, "top_pad of 64 MiB: they stay when all is freed"),
        Bound::at_most("live_freed_bytes", 0.0, "everything was freed"),
        Bound::at_most("rss_purged_bytes", 4.0 * MIB, "malloc_trim gives them back, of the main arena"),
        Bound::at_least("locked_waits_count", 1.0, "one arena: threads sleep until another's malloc or free is done"),
        Bound::at_most("cached_waits_count", 0.5, "but not for what the tcache serves").of("locked_waits_count"),
        Bound::at_least("locked_together_ns", 1.4, "two threads are hardly faster than one, or slower")
            .of("locked_alone_ns"),
    ];
    let figure = |name: &str, meaning: String| FigureFact { name: name.into(), meaning };
    let [locked, cached] = [LOCKED, CACHED].map(|size| format!("{PAIRS} pairs of malloc({size}) and free each"));
    CaseFact {
        name: "knob-hazards".into(),
        summary: "mmap threshold 4 KiB, top_pad 64 MiB, one arena: twice the memory, 64 MiB kept, threads that wait"
            .into(),
        mechanism: texts([
            "MALLOC_MMAP_THRESHOLD_=4096: sysmalloc gives every larger request a mapping of whole pages and a header, until \
             n_mmaps_max (65536) of them exist; from then on the heap serves them, without a word.",
            "MALLOC_TOP_PAD_=67108864: systrim leaves top_pad bytes at the end of the heap; that much stays resident. (Set \
             by mallopt when its phase begins: as long as top has room it serves any size, and nothing is mapped.)",
            "MALLOC_ARENA_MAX=1: _int_malloc and _int_free of all threads take one lock (arena_get, __libc_lock_lock); only \
             what the tcache serves does without.",
            "Either of the first two also sets no_dyn_threshold: the mmap threshold no longer adapts.",
        ]),
        sources: texts([
            "malloc/malloc.c: sysmalloc, sysmalloc_mmap, systrim, _int_free; do_set_mmap_threshold, do_set_top_pad",
            "mallopt(3): M_MMAP_THRESHOLD, M_MMAP_MAX, M_TOP_PAD, M_ARENA_MAX",
        ]),
        settings: settings([("MALLOC_MMAP_THRESHOLD_", "4096"), ("MALLOC_ARENA_MAX", "1")]),
        memory_bytes: 132 << 20,
        figures: vec![
            figure("locked_waits_count", format!("times one of two threads slept during {ROUNDS} rounds of {locked}")),
            figure("cached_waits_count", format!("times one of two threads slept during {ROUNDS} rounds of {cached}")),
            figure("locked_alone_ns", format!("best time of one thread for {locked}")),
            figure("locked_together_ns", "usual time of two threads that do so at once".into()),
            figure("cached_alone_ns", format!("best time of one thread for {cached}")),
            figure("cached_together_ns", "usual time of two threads that do so at once".into()),
        ],
        judged: Judged { purged: None, ..Judged::rss("mapped") },
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[(&[Cures], "mmap-threshold"), (&[Nothing], "arena-max-4 tcache-count-0 mxfast-0 trim-threshold top-pad")],
        )],
        symptoms: vec![
            Symptom {
                sign: Sign::ResMultipleOfLive,
                told_by:
                    "tr '\\0' '\\n' < /proc/PID/environ | grep -i malloc; malloc_info: `mmap` counts tens of thousands"
                        .into(),
            },
            Symptom {
                sign: Sign::SlowCalls,
                told_by:
                    "perf top: __lll_lock_wait_private under malloc and free; MALLOC_ARENA_MAX=1 in the environment"
                        .into(),
            },
        ],
        ..CaseFact::default()
    }
}

/// What two threads have to pay for having one arena, round by round.
#[derive(Debug, Default)]
struct Price {
    /// Nanoseconds of one thread alone.
    alone: [u64; ROUNDS],
    /// Nanoseconds of two, each with as much to do.
    together: [u64; ROUNDS],
    /// Times one of two slept.
    waits: u64,
}

impl Price {
    /// The best time of one, which what else the machine does only makes longer, and the usual time of two; nanoseconds.
    fn times(mut self) -> (u64, u64) {
        self.alone.sort_unstable();
        self.together.sort_unstable();
        (self.alone[0], self.together[ROUNDS / 2])
    }
}

/// The first `busy` threads do their pairs: nanoseconds it takes, and times one of them slept.
fn turn(crew: &Crew<()>, busy: usize, size: usize) -> (u64, u64) {
    let slept = Arc::new(AtomicU64::new(0));
    let sum = slept.clone();
    let start = clock::monotonic_ns();
    crew.all(move |index, (), ledger| {
        if index < busy {
            let before = sys::times_slept();
            for _ in 0..PAIRS {
                let block = block(ledger, size);
                ledger.free(block);
            }
            sum.fetch_add(sys::times_slept() - before, Relaxed);
        }
    });
    (clock::monotonic_ns() - start, slept.load(Relaxed))
}

/// Sizes take turns within a round, so that what else the machine does meets both.
fn prices(crew: &Crew<()>, sizes: [usize; 2]) -> [Price; 2] {
    let mut prices = [Price::default(), Price::default()];
    for round in 0..ROUNDS {
        for (price, size) in prices.iter_mut().zip(sizes) {
            price.alone[round] = turn(crew, 1, size).0;
            let (together, slept) = turn(crew, 2, size);
            price.together[round] = together;
            price.waits += slept;
        }
    }
    prices
}

fn run(recipe: &mut Recipe<'_>) {
    let mapped = recipe.phase("mapped", |recipe| fill(recipe.ledger(), 64 << 20, MAPPED));
    let blocks = recipe.phase("filled", |recipe| {
        free_all(recipe.ledger(), mapped);
        sys::set_top_pad(64 << 20);
        fill(recipe.ledger(), 128 << 20, 1000)
    });
    recipe.phase("freed", |recipe| free_all(recipe.ledger(), blocks));
    let prices = recipe.phase("contended", |recipe| {
        let crew = Crew::start(recipe.spawner(), [(), ()]);
        prices(&crew, [LOCKED, CACHED])
    });
    for (name, price) in ["locked", "cached"].into_iter().zip(prices) {
        recipe.figure(&format!("{name}_waits_count"), price.waits as f64);
        let (alone, together) = price.times();
        recipe.figure(&format!("{name}_alone_ns"), alone as f64);
        recipe.figure(&format!("{name}_together_ns"), together as f64);
    }
}
