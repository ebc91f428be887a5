//! `lazy-tcache-pin`: the thread cache itself is allocated at the first free, on top of all that came before.

use fragbench_engine::Crew;
use fragbench_model::Effect::Cures;
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{fill, free_all, settings, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

fn fact() -> CaseFact {
    let present = vec![
        Bound::at_most("live_freed_bytes", 0.0, "everything was freed"),
        Bound::at_least("rss_freed_bytes", 0.97, "all stays resident").of("rss_filled_bytes"),
        Bound::at_most("rss_purged_bytes", 0.05, "malloc_trim gives it back").of("rss_filled_bytes"),
    ];
    let absent = vec![Bound::at_most("rss_freed_bytes", 0.05, "the heap is given back").of("rss_filled_bytes")];
    CaseFact {
        name: "lazy-tcache-pin".into(),
        summary: "a thread that frees for the first time after it has filled its heap keeps all of it".into(),
        mechanism: texts([
            "tcache_init: up to 2.42 the thread's cache (a chunk of some 700 bytes) is made at its first malloc, at the \
             bottom of the heap.",
            "tcache_free_init: from 2.43 it is made lazily, also at the first free; a thread that has only allocated so \
             far gets it at the top of its heap.",
            "heap_trim and systrim find it in use at the end, for as long as the thread lives.",
        ]),
        sources: texts(["malloc/malloc.c: tcache_init, tcache_free_init (2.43)"]),
        settings: settings([("MALLOC_ARENA_MAX", "2")]),
        memory_bytes: 50 << 20,
        judged: Judged::rss("freed"),
        expectations: vec![
            Expectation::absent(GlibcRange::before(43), absent),
            Expectation::present(
                GlibcRange::since(43),
                present,
                &[(&[Cures], "malloc-trim jemalloc-purge jemalloc-decay-0 mimalloc-delay-0")],
            ),
        ],
        symptoms: vec![Symptom {
            sign: Sign::ResStaysFreeInBins,
            told_by: "glibc 2.43 or later, and one free(malloc(8)) at the start of the thread makes it go away".into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let bytes = recipe.scaled(48 << 20);
    let crew = recipe.phase("filled", |recipe| {
        let crew = Crew::start_cold(recipe.spawner(), [Vec::new()]);
        crew.all(move |_, blocks, ledger| *blocks = fill(ledger, bytes, 1000));
        crew
    });
    recipe.phase("freed", |_| crew.all(|_, blocks, ledger| free_all(ledger, std::mem::take(blocks))));
    recipe.keep(crew);
}
