//! `size-drift`: blocks grow a little from round to round while every other one is freed. Here glibc beats allocators
//! that keep sizes apart: the catalogue shows that too.

use fragbench_engine::Block;
use fragbench_model::Effect::{Hurts, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Quantity, Sign, Symptom};

use crate::recipe::{block, free_all, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

const ROUNDS: usize = 12;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::within("rss_drifted_bytes", 1.8, 1.88, "resident is not quite twice what is live")
            .of("live_drifted_bytes"),
        Bound::at_most("rss_purged_bytes", 0.85, "malloc_trim gives a part back").of("rss_drifted_bytes"),
        Bound::at_least("rss_purged_bytes", 1.42, "the rest lies in holes smaller than a page")
            .of("live_drifted_bytes"),
    ];
    CaseFact {
        name: "size-drift".into(),
        summary: "sizes drift from 64 bytes to 1 KiB while every other block is freed: 1.8 times the live bytes".into(),
        mechanism: texts([
            "free leaves a checkerboard: no freed chunk borders on another free one, so _int_free joins nothing.",
            "The next round's blocks are a quarter larger and fit into no hole; sysmalloc extends the heap.",
            "As rounds go on, holes of older rounds meet and are joined (unlink_chunk in _int_free), and serve again: \
             an allocator with a page or run for each size class cannot do that until all of it is empty.",
        ]),
        sources: texts([
            "malloc/malloc.c: _int_free, _int_malloc, unlink_chunk",
            "Johnstone and Wilson, The Memory Fragmentation Problem: Solved?, ISMM 1998: coalescing and best fit",
        ]),
        memory_bytes: 128 << 20,
        judged: Judged { floor: Quantity::figure("live_drifted_bytes"), ..Judged::rss("drifted") },
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 tcache-count-0 mxfast-0"),
                (&[Nothing], "mmap-threshold trim-threshold top-pad"),
                (&[Hurts], "jemalloc jemalloc-purge jemalloc-decay-0 mimalloc mimalloc-collect mimalloc-delay-0"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResMultipleOfLive,
            told_by: "malloc_info: `rest` about as large as what is live, in chunks below a page; malloc_trim(0) gives little"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let budget = recipe.scaled(64 << 20);
    recipe.phase("drifted", |recipe| {
        let ledger = recipe.ledger();
        let mut live: Vec<Block> = Vec::new();
        let mut size = 64;
        for _ in 0..ROUNDS {
            let mut bytes: usize = live.iter().map(Block::size).sum();
            while bytes + size <= budget {
                live.push(block(ledger, size));
                bytes += size;
            }
            let (kept, freed): (Vec<_>, Vec<_>) = live.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
            free_all(ledger, freed.into_iter().map(|(_, block)| block));
            live = kept.into_iter().map(|(_, block)| block).collect();
            size += size / 4 + 16;
        }
        let mut bytes: usize = live.iter().map(Block::size).sum();
        while bytes + size <= budget {
            live.push(block(ledger, size));
            bytes += size;
        }
    });
}
