//! `first-fit-worst`: the worst order of sizes known for first fit, which needs no look at addresses: sizes double, and of
//! every size ever used each other block that is left is freed. With sizes as published; those that make glibc's chunks
//! powers of two are `first-fit-worst-exact`.

use fragbench_engine::Block;
use fragbench_model::Effect::{Cures, Helps, Hurts, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, FigureFact, GlibcRange, Judged, Quantity, Sign, Symptom};

use crate::recipe::{block, free_all, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

/// Bytes that each size takes.
pub(crate) const SPACE: usize = 16 << 20;
/// Sizes double from here. Below it glibc rounds up to `MINSIZE`.
const SMALLEST: usize = 32;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::within("rss_spread_bytes", 2.6, 4.8, "a multiple of what the program ever held; how much is luck")
            .of("held_bytes"),
        Bound::at_most("rss_purged_bytes", 0.5, "malloc_trim gives most of it back").of("rss_spread_bytes"),
    ];
    CaseFact {
        name: "first-fit-worst".into(),
        summary:
            "16 MiB of each size from 32 bytes to 16 MiB, halved with each further one: 3 to 4 times what is ever held"
                .into(),
        mechanism: texts([
            "free of every other block: each hole lies between two live blocks, and _int_free has nothing to join it with.",
            "The next size is twice as large and fits into no hole of the last; _int_malloc takes it from top. All sizes \
             together never hold more than twice the space of one, and the heap takes new space for each.",
            "The header of 8 bytes makes chunks of these sizes uneven: holes that meet (unlink_chunk in _int_free) are a \
             little larger than the chunks of a later size, and some sizes find room. That is luck of the sizes: \
             first-fit-worst-exact is the same without it.",
            "From 128 KiB on blocks are mapped one by one (sysmalloc), and leave no holes.",
        ]),
        sources: texts([
            "github.com/kuszmaul/malloc-benchmarks, ffworst: the recipe, and for 128 MiB a size RSS / most live: glibc 4.43, \
             Hoard 11.60, snmalloc 11.52",
            "Robson, Worst Case Fragmentation of First Fit and Best Fit Storage Allocation Strategies, The Computer \
             Journal 20(3), 1977",
        ]),
        memory_bytes: 160 << 20,
        figures: vec![held_fact()],
        judged: judged(),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Cures], "malloc-trim"),
                (&[Cures, Helps], "jemalloc-purge jemalloc-decay-0"),
                (&[Nothing], "arena-max-1 arena-max-2 arena-max-4"),
                (&[Hurts], "jemalloc mimalloc"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResMultipleOfLive,
            told_by:
                "malloc_info: `rest` is several times what is live, in chunks of all sizes; sizes only ever grow while \
                      blocks of all older sizes are left; malloc_trim(0) gives the pages back"
                    .into(),
        }],
        ..CaseFact::default()
    }
}

pub(crate) fn held_fact() -> FigureFact {
    FigureFact { name: "held_bytes".into(), meaning: "bytes asked for and not freed, at their most".into() }
}

pub(crate) fn judged() -> Judged {
    Judged { floor: Quantity::figure("held_bytes"), ..Judged::rss("spread") }
}

fn run(recipe: &mut Recipe<'_>) {
    let space = recipe.scaled(SPACE);
    spread(recipe, space, (space / SMALLEST).ilog2() + 1, 0);
}

/// Takes `space` bytes of each of `sizes` sizes in turn; before each, every other block that is left of each size before is
/// freed, the newest being kept. `header` is what of a block's share of the space is not asked for.
pub(crate) fn spread(recipe: &mut Recipe<'_>, space: usize, sizes: u32, header: usize) {
    let held = recipe.phase("spread", |recipe| {
        let ledger = recipe.ledger();
        // Of each size so far, newest first.
        let mut live: Vec<Vec<Block>> = Vec::new();
        let mut held = 0;
        for size in (0..sizes).map(|doubling| SMALLEST << doubling) {
            for blocks in &mut live {
                let (kept, freed): (Vec<_>, Vec<_>) =
                    std::mem::take(blocks).into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
                free_all(ledger, freed.into_iter().map(|(_, block)| block));
                *blocks = kept.into_iter().map(|(_, block)| block).collect();
            }
            let mut blocks: Vec<Block> = (0..space / size).map(|_| block(ledger, size - header)).collect();
            blocks.reverse();
            live.push(blocks);
            held = held.max(live.iter().flatten().map(Block::size).sum());
        }
        held
    });
    recipe.figure("held_bytes", held as f64);
}
