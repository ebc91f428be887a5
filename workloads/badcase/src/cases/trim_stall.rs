//! `trim-stall`: while malloc_trim works on an arena, no thread can allocate from it. Times are compared within one run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use fragbench_engine::{Crew, clock, heap};
use fragbench_model::Effect::Cures;
use fragbench_model::{Bound, CaseFact, Expectation, FigureFact, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{fill, free_all, holed, settings, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

/// Of the main heap; half of it becomes holes.
const BYTES: usize = 128 << 20;
/// Of a block with its header.
const PITCH: usize = 8 << 10;
const HEADER: usize = 8;
/// Trims of each kind.
const TRIALS: usize = 4;
/// Past every tcache bin, so that each pair takes the arena's lock.
const PAIR: usize = 2000;

/// One trim and the longest malloc and free beside it, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Trial {
    trim: u64,
    stall: u64,
}

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::at_least("same_stall_ns", 0.5, "a thread of the same arena waits for most of the trim")
            .of("same_trim_ns"),
        Bound::at_most("other_stall_ns", 0.4, "one of another arena does not").of("other_trim_ns"),
    ];
    let figures = [
        ("same_trim_ns", "malloc_trim while a thread allocates from the arena with the holes"),
        ("same_stall_ns", "that thread's longest malloc and free; of four trims the one with the largest share"),
        ("same_least_ns", "the shortest of the four trims' longest malloc and free"),
        ("other_trim_ns", "malloc_trim while a thread allocates from another arena"),
        ("other_stall_ns", "that thread's longest malloc and free; of four trims the one with the least share"),
        ("other_least_ns", "the shortest of the four"),
    ];
    CaseFact {
        name: "trim-stall".into(),
        summary: "a thread whose arena is trimmed of 8192 holes waits for the whole trim in a single malloc".into(),
        mechanism: texts([
            "__malloc_trim: takes an arena's lock (__libc_lock_lock) and keeps it for all of mtrim, a system call for each \
             hole; then the next arena's.",
            "_int_malloc and _int_free of a thread of that arena wait for the lock, unless the thread's tcache serves them.",
            "A thread of another arena goes on; but as long as any thread runs, every madvise has to flush its TLB too, and \
             the trim takes longer.",
        ]),
        sources: texts([
            "malloc/malloc.c: __malloc_trim, mtrim",
            "openjdk/jdk pull request 10085: trims while threads run",
        ]),
        settings: settings([("MALLOC_ARENA_MAX", "2")]),
        memory_bytes: 130 << 20,
        figures: figures.map(|(name, meaning)| FigureFact { name: name.into(), meaning: meaning.into() }).into(),
        judged: Judged::all_of("same_least_ns"),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[(&[Cures], "jemalloc-decay-0 mimalloc mimalloc-delay-0")],
        )],
        symptoms: vec![Symptom {
            sign: Sign::SlowCalls,
            told_by: "gdb -p PID -batch -ex 'thread apply all bt': threads wait in __lll_lock_wait_private below malloc while \
                      one is in mtrim"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let bytes = recipe.scaled(BYTES);
    let crew = Crew::start(recipe.spawner(), [()]);
    let _kept = recipe.phase("holed", |recipe| holed(recipe.ledger(), bytes, PITCH - HEADER));
    let same: Vec<Trial> = recipe.phase("same", |recipe| trials(recipe, bytes, same_arena));
    let other: Vec<Trial> = recipe.phase("other", |recipe| trials(recipe, bytes, |recipe| other_arena(recipe, &crew)));
    for (name, mut trials) in [("same", same), ("other", other)] {
        let Some(least) = trials.iter().map(|trial| trial.stall).min() else { continue };
        let share = |trial: &Trial| trial.stall as f64 / trial.trim as f64;
        trials.sort_by(|a, b| share(a).total_cmp(&share(b)));
        // Other programs prolong a trim before it has the lock, and any wait: the trial that tells most is the one with the
        // longest share of the trim in the same arena, and the one with the shortest in another.
        let Trial { trim, stall } = trials[if name == "same" { trials.len() - 1 } else { 0 }];
        recipe.figure(&format!("{name}_trim_ns"), trim as f64);
        recipe.figure(&format!("{name}_stall_ns"), stall as f64);
        recipe.figure(&format!("{name}_least_ns"), least as f64);
    }
    recipe.keep(crew);
}

/// Fills the holes with fresh pages before each trial: the blocks fit them exactly.
fn trials(recipe: &mut Recipe<'_>, bytes: usize, trial: impl Fn(&Recipe<'_>) -> Option<Trial>) -> Vec<Trial> {
    let refilled = |recipe: &mut Recipe<'_>| {
        let blocks = fill(recipe.ledger(), bytes / 2, PITCH - HEADER);
        free_all(recipe.ledger(), blocks);
        trial(recipe)
    };
    (0..TRIALS).filter_map(|_| refilled(recipe)).collect()
}

/// Another thread trims while this one, of the main arena, works.
fn same_arena(recipe: &Recipe<'_>) -> Option<Trial> {
    let purge = recipe.purge(true);
    Some(Trial { trim: purge.duration_ns, stall: purge.stall_max_ns? })
}

/// This thread trims while the crew's, of another arena, works.
fn other_arena(recipe: &Recipe<'_>, crew: &Crew<()>) -> Option<Trial> {
    const BEGINS: u32 = 0;
    const WORKS: u32 = 1;
    const ENDS: u32 = 2;
    let (state, longest) = (Arc::new(AtomicU32::new(BEGINS)), Arc::new(AtomicU64::new(0)));
    let (told, record) = (state.clone(), longest.clone());
    let turn = crew.begin(move |_, (), _| {
        heap::pair(PAIR);
        told.store(WORKS, Ordering::Release);
        while told.load(Ordering::Acquire) != ENDS {
            let start = clock::monotonic_ns();
            heap::pair(PAIR);
            record.fetch_max(clock::monotonic_ns() - start, Ordering::Relaxed);
        }
    });
    while state.load(Ordering::Acquire) == BEGINS {
        std::hint::spin_loop();
    }
    let purge = recipe.purge(false);
    state.store(ENDS, Ordering::Release);
    turn.wait();
    purge.supported.then(|| Trial { trim: purge.duration_ns, stall: longest.load(Ordering::Relaxed) })
}
