//! `memalign-churn`: small blocks, each aligned to a page. Most of what that costs no allocator can save.

use fragbench_engine::{ALL_PAGES, Block, Ledger, Random};
use fragbench_model::Effect::{Helps, Hurts, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::texts;
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

const SLOTS: usize = 20_000;
/// Times that each slot is replaced, on average.
const TURNS: usize = 20;
const ALIGN: usize = 4096;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::within("rss_churned_bytes", 2.0, 2.4, "resident is more than twice what is live")
            .of("live_churned_bytes"),
    ];
    CaseFact {
        name: "memalign-churn".into(),
        summary: "20000 blocks of 1 to 4096 bytes, each aligned to 4096, replaced at random: twice the live bytes"
            .into(),
        mechanism: texts([
            "_int_memalign: takes the size plus 4096 plus MINSIZE and frees what lies before the aligned address and \
             behind the block; both are below a page and stay.",
            "An aligned block touches a page of its own: with sizes up to a page, about twice the live bytes are \
             resident under any allocator that keeps to the alignment.",
            "What glibc adds are cuttings that no aligned request of a page can use; other requests would.",
        ]),
        sources: texts(["malloc/malloc.c: _int_memalign", "glibc bug 14581: memalign and fragmentation"]),
        memory_bytes: 120 << 20,
        judged: Judged::rss("churned"),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 mxfast-0"),
                (&[Nothing, Helps], "tcache-count-0"),
                (&[Nothing], "mmap-threshold trim-threshold top-pad malloc-trim"),
                (&[Nothing], "jemalloc jemalloc-purge jemalloc-decay-0"),
                (&[Hurts], "mimalloc mimalloc-collect mimalloc-delay-0"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResMultipleOfLive,
            told_by: "perf or a breakpoint on posix_memalign and aligned_alloc: small blocks with a large alignment; \
                      malloc_trim(0) gives little"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn aligned(ledger: &mut Ledger, random: &mut Random) -> Block {
    let id = ledger.next_id();
    ledger.aligned(id, ALIGN, random.between(1, 4096) as usize, ALL_PAGES)
}

fn run(recipe: &mut Recipe<'_>) {
    let slots = recipe.scaled(SLOTS);
    recipe.phase("churned", |recipe| {
        let mut random = recipe.random();
        let ledger = recipe.ledger();
        let mut live: Vec<Block> = (0..slots).map(|_| aligned(ledger, &mut random)).collect();
        for _ in 0..slots * TURNS {
            let slot = random.below(slots as u64) as usize;
            let block = std::mem::replace(&mut live[slot], aligned(ledger, &mut random));
            ledger.free(block);
        }
    });
}
