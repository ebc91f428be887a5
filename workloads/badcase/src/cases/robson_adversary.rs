//! `robson-adversary`: a program that looks at the addresses it is given and drives any allocator that does not move
//! blocks to a bound that was proved. Its work differs between allocators by nature, and it says so.

use fragbench_engine::{Block, Ledger};
use fragbench_model::Effect::{Cures, Helps, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, FigureFact, GlibcRange, Judged, Quantity, Sign, Symptom};

use crate::recipe::{block, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

/// Live bytes at any time at the most, headers included.
const BUDGET: usize = 32 << 20;
/// The smallest block, as glibc lays it out: `MINSIZE`.
const UNIT: usize = 32;
/// The largest block holds 2^STEPS units: 64 KiB, below the mmap threshold.
const STEPS: u32 = 11;
/// Header of a chunk of glibc; with it a block takes exactly its units.
const HEADER: usize = 8;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::within("rss_driven_bytes", 0.98, 1.02, "resident is what Robson's bound says").of("bound_bytes"),
        Bound::at_most("budget_bytes", 1.0 / 6.0, "six times what the program ever held").of("rss_driven_bytes"),
        Bound::at_most("rss_purged_bytes", 0.3, "malloc_trim gives the pages of the holes back").of("rss_driven_bytes"),
        Bound::at_least("vm_purged_bytes", 0.98, "but not their addresses").of("bound_bytes"),
    ];
    let figures = [
        ("budget_bytes", "what the program holds at the most, headers included"),
        ("bound_bytes", "what Robson's lower bound says that every allocator can be driven to"),
    ];
    CaseFact {
        name: "robson-adversary".into(),
        summary: "sizes double from 32 bytes to 64 KiB and the addresses decide what is freed: 6.5 times what is held"
            .into(),
        mechanism: texts([
            "_int_malloc: places a block where a free chunk is large enough, and never moves it again.",
            "In each step the program keeps a block exactly when it covers an address of a chosen remainder modulo twice the \
             size, of the two remainders the one that leaves more unusable space, and frees all others.",
            "Every hole is then smaller than the blocks of the next step: _int_free joins neighbours, but not across a block \
             that stays, and sysmalloc extends the heap by the whole refill.",
            "With at most M bytes live and sizes of powers of two up to n units this ends at M(½ log2 n + 1) − n + 1 for \
             any rule of placement; glibc's comes out at the bound.",
        ]),
        sources: texts([
            "Robson, An Estimate of the Store Size Necessary for Dynamic Storage Allocation, JACM 18(3), 1971",
            "Robson, Bounds for Some Functions Concerning Dynamic Storage Allocation, JACM 21(3), 1974",
            "Knuth, The Art of Computer Programming 1, 2.5, exercises 36 to 43",
        ]),
        adaptive: true,
        memory_bytes: 225 << 20,
        figures: figures.map(|(name, meaning)| FigureFact { name: name.into(), meaning: meaning.into() }).into(),
        judged: Judged { floor: Quantity::figure("budget_bytes"), ..Judged::rss("driven") },
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 tcache-count-0 mxfast-0"),
                (&[Nothing], "mmap-threshold trim-threshold top-pad"),
                (&[Nothing], "jemalloc mimalloc mimalloc-collect mimalloc-delay-0"),
                (&[Cures, Helps], "malloc-trim jemalloc-purge jemalloc-decay-0"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResMultipleOfLive,
            told_by:
                "only a program made for it does this; a ratio above 6.5 with sizes up to 64 KiB has another cause"
                    .into(),
        }],
        ..CaseFact::default()
    }
}

/// A block and its size in units, both powers of two.
struct Kept {
    block: Block,
    units: usize,
}

impl Kept {
    /// Whether an address that leaves `offset` modulo `modulus` (both in bytes) lies within it.
    fn covers(&self, offset: usize, modulus: usize) -> bool {
        (offset + modulus - self.block.address() % modulus) % modulus < self.units * UNIT
    }
}

/// Of the two continuations of `offset`, the one whose covering blocks make most space unusable for blocks of `modulus`
/// bytes.
fn choose(live: &[Kept], offset: usize, modulus: usize) -> usize {
    let unusable = |offset: usize| -> usize {
        live.iter().filter(|kept| kept.covers(offset, modulus)).map(|kept| modulus - kept.units * UNIT).sum()
    };
    let other = offset + modulus / 2;
    if unusable(other) > unusable(offset) { other } else { offset }
}

/// Allocates blocks of `units` until the budget is used up.
fn refill(ledger: &mut Ledger, live: &mut Vec<Kept>, budget: usize, units: usize) {
    let held: usize = live.iter().map(|kept| kept.units * UNIT).sum();
    for _ in 0..budget.saturating_sub(held) / (units * UNIT) {
        live.push(Kept { block: block(ledger, units * UNIT - HEADER), units });
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let budget = recipe.scaled(BUDGET) / UNIT * UNIT;
    let largest = UNIT << STEPS;
    recipe.figure("budget_bytes", budget as f64);
    recipe.figure("bound_bytes", budget as f64 * (0.5 * f64::from(STEPS) + 1.0) - (largest - UNIT) as f64);
    recipe.phase("driven", |recipe| {
        let ledger = recipe.ledger();
        let mut live = Vec::new();
        refill(ledger, &mut live, budget, 1);
        let mut offset = 0;
        for step in 1..=STEPS {
            let modulus = UNIT << step;
            offset = choose(&live, offset, modulus);
            let (kept, freed): (Vec<_>, Vec<_>) = live.into_iter().partition(|kept| kept.covers(offset, modulus));
            freed.into_iter().for_each(|freed| ledger.free(freed.block));
            live = kept;
            refill(ledger, &mut live, budget, 1 << step);
        }
    });
}
