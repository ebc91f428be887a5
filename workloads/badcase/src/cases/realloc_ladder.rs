//! `realloc-ladder`: buffers that grow by half again and again, in turn. Mostly benign under glibc, which moves large
//! ones by remapping; the catalogue shows that too.

use fragbench_engine::{ALL_PAGES, Block};
use fragbench_model::Effect::Nothing;
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{block, free_all, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

const BUFFERS: usize = 64;
const FIRST: usize = 64;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::at_most("rss_grown_bytes", 1.02, "hardly more than what is live").of("live_grown_bytes"),
        Bound::at_least("rss_grown_bytes", 1.0, "which was all touched").of("live_grown_bytes"),
        Bound::at_most("rss_freed_bytes", 0.02, "and all is given back").of("rss_grown_bytes"),
    ];
    CaseFact {
        name: "realloc-ladder".into(),
        summary: "64 buffers grow to 2 MiB in steps of a half, in turn: glibc holds hardly more than they do".into(),
        mechanism: texts([
            "_int_realloc: a chunk grows in place into top or a free chunk behind it; otherwise it is copied, and its old \
             place is free for the others.",
            "__libc_realloc: a block above the mmap threshold grows by mremap (mremap_chunk): no copy, no hole.",
        ]),
        sources: texts(["malloc/malloc.c: _int_realloc, mremap_chunk"]),
        memory_bytes: 150 << 20,
        // All of it is judged: the excess over what is live is next to nothing, and its shares would be noise.
        judged: Judged::all_of("rss_grown_bytes"),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[(
                &[Nothing],
                "arena-max-1 arena-max-2 arena-max-4 tcache-count-0 mxfast-0 mmap-threshold trim-threshold top-pad",
            )],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResMultipleOfLive,
            told_by: "not under glibc: growing buffers cost at most what one step takes; see jemalloc's column".into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let last = recipe.scaled(2 << 20);
    let buffers = recipe.phase("grown", |recipe| {
        let ledger = recipe.ledger();
        let mut buffers: Vec<Block> = (0..BUFFERS).map(|_| block(ledger, FIRST)).collect();
        let mut size = FIRST;
        while size < last {
            size = (size * 3 / 2).min(last);
            buffers = buffers.into_iter().map(|buffer| ledger.realloc(buffer, size, ALL_PAGES)).collect();
        }
        buffers
    });
    recipe.phase("freed", |recipe| free_all(recipe.ledger(), buffers));
}
