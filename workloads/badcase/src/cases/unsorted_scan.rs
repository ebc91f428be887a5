//! `unsorted-scan`: the first calls after many frees sort what was freed, ten thousand chunks a call. Times are compared
//! within one run.

use fragbench_engine::{Block, clock};
use fragbench_model::Effect::Cures;
use fragbench_model::{Bound, CaseFact, Expectation, FigureFact, GlibcRange, Judged, Quantity, Sign, Symptom};

use crate::recipe::{block, free_all, median, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

/// Every other one is freed: 100 000 chunks on the unsorted list.
const BLOCKS: usize = 200_000;
/// Calls that sort: `MAX_ITERS` (malloc.c, `_int_malloc`) is 10 000 chunks a call.
const SCANS: usize = 10;
/// Calls after them, of which the median is the usual time.
const LATER: usize = 1001;
/// Larger than every hole, and not in a small bin.
const ASKED: usize = 5000;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::at_least("scan_ns", 100.0, "the first ten calls take a hundred times as long as the later ones")
            .of("usual_ns"),
        // Calls that were interrupted may come on top.
        Bound::within("slow_count", SCANS as f64 - 1.0, SCANS as f64 + 10.0, "ten calls are slow: 10000 chunks a call"),
    ];
    let figures = [
        ("scan_ns", "malloc(5000) right after the frees, median of the first 10"),
        ("usual_ns", "median of the 1001 calls after them"),
        ("slow_count", "calls, of all of them, that take a quarter of scan_ns or more"),
    ];
    CaseFact {
        name: "unsorted-scan".into(),
        summary: "100000 blocks of 1.1 to 2.1 KB freed: each of the next 10 calls of malloc(5000) takes a millisecond"
            .into(),
        mechanism: texts([
            "_int_free: puts a freed chunk on the unsorted list, whatever its size, and leaves sorting to a later malloc.",
            "_int_malloc: before it looks for a chunk that fits, it takes chunks off the unsorted list and puts each into its \
             bin, MAX_ITERS (10 000) a call at the most, touching memory that has long left the caches.",
            "The calling thread pays, under the arena's lock, for what others have freed.",
            "From 2.41 _int_free puts chunks of small bins into them at once; these are larger.",
        ]),
        sources: texts([
            "malloc/malloc.c: _int_malloc (MAX_ITERS), _int_free",
            "glibc commit e2436d6f5a (2.41): small chunks go to their bins when they are freed",
        ]),
        memory_bytes: 330 << 20,
        figures: figures.map(|(name, meaning)| FigureFact { name: name.into(), meaning: meaning.into() }).into(),
        judged: Judged { floor: Quantity::figure("usual_ns"), ..Judged::all_of("scan_ns") },
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[(&[Cures], "jemalloc jemalloc-decay-0 mimalloc mimalloc-delay-0")],
        )],
        symptoms: vec![Symptom {
            sign: Sign::SlowCalls,
            told_by: "perf record -g: nearly all of the time within _int_malloc itself, right after much was freed"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let count = recipe.scaled(BLOCKS);
    let mut random = recipe.random();
    let blocks: Vec<Block> = recipe.phase("filled", |recipe| {
        let ledger = recipe.ledger();
        (0..count).map(|_| block(ledger, random.between(1100, 2100) as usize)).collect()
    });
    recipe.phase("freed", |recipe| {
        let freed = blocks.into_iter().enumerate().filter(|(i, _)| i % 2 == 0).map(|(_, block)| block);
        free_all(recipe.ledger(), freed);
    });
    let times: Vec<u64> = recipe.phase("asked", |recipe| {
        let ledger = recipe.ledger();
        let mut timed = || {
            let start = clock::monotonic_ns();
            let _kept = block(ledger, ASKED);
            clock::monotonic_ns() - start
        };
        (0..SCANS + LATER).map(|_| timed()).collect()
    });
    let (first, later) = times.split_at(SCANS);
    let scan = median(first.iter().copied());
    recipe.figure("scan_ns", scan as f64);
    recipe.figure("usual_ns", median(later.iter().copied()) as f64);
    recipe.figure("slow_count", times.iter().filter(|ns| **ns >= scan / 4).count() as f64);
}
