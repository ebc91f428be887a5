//! `arena-reuse-skew`: at the arena limit threads are dealt out in a circle, whatever they hold: one arena gets it all.

use fragbench_engine::{Block, Crew};
use fragbench_model::Effect::{Hurts, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Quantity, Sign, Symptom};

use crate::recipe::{fill, settings, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

const THREADS: usize = 16;
const HELD: usize = 16 << 20;

fn fact() -> CaseFact {
    let held = HELD as f64;
    let bounds = vec![
        Bound::within("arenas_loaded_count", 4.0, 4.0, "the limit"),
        Bound::within("live_loaded_bytes", 3.99 * held, 4.0 * held, "four of the sixteen threads hold 16 MiB each"),
        Bound::within("arena_most_loaded_bytes", 3.0 * held, 3.06 * held, "three of the four share one arena"),
        Bound::at_most("arena_least_loaded_bytes", 0.05 * held, "while another has next to nothing"),
    ];
    CaseFact {
        name: "arena-reuse-skew".into(),
        summary: "every fourth of 16 threads holds 16 MiB under a limit of 4 arenas: one arena has 48 MiB and its lock".into(),
        mechanism: texts([
            "reused_arena: a thread that comes when the limit is reached gets the next arena of a circle whose lock is \
             free; neither memory nor threads of an arena count.",
            "arena_get: a thread stays with its arena until an allocation fails there.",
            "get_free_list: arenas of threads that have ended are reused last in, first out: after a burst one of them \
             serves all later single threads, and the others keep what they have.",
        ]),
        sources: texts([
            "malloc/arena.c: reused_arena, get_free_list",
            "glibc bugs 19048 and 19243: the free list up to 2.22",
        ]),
        settings: settings([("MALLOC_ARENA_MAX", "4")]),
        memory_bytes: 66 << 20,
        judged: Judged { floor: Quantity::constant(held), ..Judged::all_of("arena_most_loaded_bytes") },
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Nothing], "tcache-count-0 mxfast-0 mmap-threshold trim-threshold top-pad"),
                (&[Hurts], "arena-max-1 arena-max-2"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::SlowCalls,
            told_by: "malloc_info: one heap has several times the `system` of the others; perf shows __lll_lock_wait below malloc"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let crew = recipe.phase("loaded", |recipe| {
        let crew = Crew::start(recipe.spawner(), (0..THREADS).map(|_| Vec::<Block>::new()));
        crew.in_turn(|index, held, ledger| {
            if index % 4 == 0 {
                *held = fill(ledger, HELD, 1000);
            }
        });
        crew
    });
    recipe.keep(crew);
}
