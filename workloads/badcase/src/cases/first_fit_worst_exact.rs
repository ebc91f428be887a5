//! `first-fit-worst-exact`: `first-fit-worst` with sizes less the chunk's header, so that glibc's chunks are powers of two:
//! no hole ever serves again, and the heap is as large as all sizes together.

use fragbench_model::Effect::{Cures, Helps, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, FigureFact, GlibcRange, Sign, Symptom};

use super::first_fit_worst::{SPACE, held_fact, judged, spread};
use crate::recipe::texts;
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

/// From 32 bytes to 64 KiB, below the mmap threshold.
const SIZES: u32 = 12;
/// Of a chunk that is in use (malloc.c, "A chunk in use looks like this").
const HEADER: usize = 8;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::within("rss_spread_bytes", 0.98, 1.02, "every size takes its space anew").of("spaces_bytes"),
        Bound::at_most("held_bytes", 0.17, "what the program ever held is a sixth of it").of("rss_spread_bytes"),
        Bound::at_most("rss_purged_bytes", 0.35, "malloc_trim gives the pages of the holes back")
            .of("rss_spread_bytes"),
    ];
    CaseFact {
        name: "first-fit-worst-exact".into(),
        summary:
            "16 MiB of each size from 32 bytes to 64 KiB, headers included, halved with each further one: 6 times \
                  what is ever held"
                .into(),
        mechanism: texts([
            "free of every other block leaves holes of one size; where two of them meet later, _int_free joins them to a \
             chunk of exactly the size that was used before, never of the one that comes next.",
            "_int_malloc finds nothing that is large enough and splits top; sysmalloc extends the heap by the whole space \
             for every size.",
            "The first fit, the best fit and any other rule of placement come to the same here: there is no hole to choose.",
        ]),
        sources: texts([
            "github.com/kuszmaul/malloc-benchmarks, ffworst: the order of sizes and frees",
            "Robson, Worst Case Fragmentation of First Fit and Best Fit Storage Allocation Strategies, The Computer \
             Journal 20(3), 1977",
        ]),
        memory_bytes: 200 << 20,
        figures: vec![
            held_fact(),
            FigureFact { name: "spaces_bytes".into(), meaning: "what all sizes take one after the other".into() },
        ],
        judged: judged(),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Cures, Helps], "malloc-trim jemalloc-purge jemalloc-decay-0"),
                (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 tcache-count-0 mxfast-0"),
                (&[Nothing], "mmap-threshold trim-threshold top-pad"),
                (&[Nothing], "jemalloc mimalloc mimalloc-collect mimalloc-delay-0"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResMultipleOfLive,
            told_by: "as first-fit-worst; malloc_info: no chunk in the bins is as large as what is asked for now"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let space = recipe.scaled(SPACE);
    recipe.figure("spaces_bytes", space as f64 * f64::from(SIZES));
    spread(recipe, space, SIZES, HEADER);
}
