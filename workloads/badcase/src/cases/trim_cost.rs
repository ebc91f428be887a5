//! `trim-cost`: what a call of malloc_trim costs goes by the number of holes, and is paid again when there is nothing to
//! give back. Times are compared within one run.

use fragbench_engine::Block;
use fragbench_model::Effect::Cures;
use fragbench_model::{Bound, CaseFact, Expectation, FigureFact, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{free_all, holed, median, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

/// Of the heap; half of it becomes holes.
const BYTES: usize = 128 << 20;
/// Calls with nothing left to give back, of which the median counts.
const AGAIN: usize = 5;

/// A stretch: the name in its phases and figures, and the size of a block with its header.
const STRETCHES: [(&str, usize); 3] = [("wide", 64 << 10), ("narrow", 8 << 10), ("tiny", 2 << 10)];

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::at_least("narrow_again_ns", 3.0, "eight times the holes, the same bytes: the second call costs more")
            .of("wide_again_ns"),
        Bound::at_least("narrow_again_ns", 0.05, "what gives nothing back costs a share of what gave 32 MiB back")
            .of("narrow_first_ns"),
        Bound::at_least("narrow_again_ns", 20.0, "and many times what it costs without holes").of("empty_ns"),
        Bound::within(
            "rss_narrow_trimmed_bytes",
            0.7,
            0.8,
            "of each hole of 8 KiB the one page that lies whole within",
        )
        .of("rss_narrow_holed_bytes"),
        Bound::at_least("rss_tiny_trimmed_bytes", 0.98, "holes of 2 KiB give nothing").of("rss_tiny_holed_bytes"),
    ];
    let figures = [
        ("empty_ns", "malloc_trim of a heap without holes, median"),
        ("wide_first_ns", "the first malloc_trim with 1024 holes of 64 KiB"),
        ("wide_again_ns", "the ones after it, which give nothing back, median"),
        ("narrow_first_ns", "the first malloc_trim with 8192 holes of 8 KiB"),
        ("narrow_again_ns", "the ones after it, median"),
        ("tiny_first_ns", "the first malloc_trim with 32768 holes of 2 KiB"),
        ("tiny_again_ns", "the ones after it, median"),
    ];
    CaseFact {
        name: "trim-cost".into(),
        summary: "8192 holes of 8 KiB: a malloc_trim that gives nothing back takes a good part of the time of one that does"
            .into(),
        mechanism: texts([
            "mtrim: walks the unsorted list and every bin from a page on, chunk by chunk, and calls madvise(MADV_DONTNEED) \
             on the whole pages within each.",
            "Nothing in a free chunk says that its pages have gone: the next call makes the same system calls again, one a \
             hole.",
            "A chunk below a page and some bytes is passed by: holes of 2 KiB cost the walk and give nothing.",
        ]),
        sources: texts([
            "malloc/malloc.c: mtrim",
            "openjdk/jdk pull request 10085: up to a second for a trim of a large process",
        ]),
        memory_bytes: 130 << 20,
        figures: figures.map(|(name, meaning)| FigureFact { name: name.into(), meaning: meaning.into() }).into(),
        judged: Judged::all_of("narrow_again_ns"),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[(&[Cures], "jemalloc jemalloc-decay-0 mimalloc mimalloc-delay-0")],
        )],
        symptoms: vec![Symptom {
            sign: Sign::SlowCalls,
            told_by: "strace -c -p PID: as many madvise calls as there are holes at each malloc_trim; malloc_info counts the \
                      chunks of `rest`"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let bytes = recipe.scaled(BYTES);
    recipe.phase("empty", |recipe| again(recipe, "empty_ns"));
    let mut kept: Vec<Block> = Vec::new();
    for (name, size) in STRETCHES {
        let stay = std::mem::take(&mut kept);
        kept = recipe.phase(&format!("{name}_holed"), |recipe| {
            free_all(recipe.ledger(), stay);
            holed(recipe.ledger(), bytes, size - 8)
        });
        recipe.phase(&format!("{name}_trimmed"), |recipe| {
            let first = recipe.purge(false);
            if first.supported {
                recipe.figure(&format!("{name}_first_ns"), first.duration_ns as f64);
            }
            again(recipe, &format!("{name}_again_ns"));
        });
    }
}

/// Purges again and again; the median of the times is the figure. No figure of an allocator that cannot be asked.
fn again(recipe: &mut Recipe<'_>, figure: &str) {
    let purges = [(); AGAIN].map(|()| recipe.purge(false));
    if purges[0].supported {
        recipe.figure(figure, median(purges.map(|purge| purge.duration_ns)) as f64);
    }
}
