//! `interleaved-pins`: long-lived small blocks between short-lived large ones, 64 KiB apart. With pins 4 KiB apart it
//! is `interleaved-pins-page`.

use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{block, free_all, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

const PITCH: usize = 64 << 10;
/// Past every tcache bin.
const PIN: usize = 1100;

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::at_least("rss_freed_bytes", 0.98, "all stays resident after the large blocks were freed")
            .of("rss_filled_bytes"),
        Bound::at_least("rss_freed_bytes", 59.0, "sixty times what is live").of("live_freed_bytes"),
        Bound::within("rss_purged_bytes", 4.7, 4.9, "after malloc_trim each small block holds a page or two")
            .of("live_freed_bytes"),
    ];
    CaseFact {
        name: "interleaved-pins".into(),
        summary: "blocks of 1100 bytes that stay, 64 KiB apart in 256 MiB that are freed: 60 times what is live".into(),
        mechanism: texts([
            "_int_malloc: blocks asked for one after the other lie one after the other, however long they will live.",
            "_int_free: the freed chunk between two live ones is joined with nothing and goes to a bin. Nothing inside \
             the heap is given back by free().",
            "mtrim: malloc_trim gives back the whole pages within each free chunk; pages that a live block shares stay.",
        ]),
        sources: texts([
            "malloc/malloc.c: _int_malloc, _int_free, mtrim",
            "joyfulbikeshedding.com 2019, What causes Ruby memory bloat?: free pages inside the heap, not arenas",
        ]),
        memory_bytes: 257 << 20,
        judged: Judged::rss("freed"),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Cures], "malloc-trim jemalloc-purge jemalloc-decay-0 mimalloc-collect mimalloc-delay-0"),
                (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 tcache-count-0 mxfast-0"),
                (&[Nothing], "mmap-threshold trim-threshold top-pad"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResMultipleOfLive,
            told_by: "malloc_info: `rest` is nearly all of `system`, in many chunks of one size of many pages; malloc_trim(0) gives most"
                .into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    interleave(recipe, PITCH);
}

/// Fills 256 MiB with junk and a pin in turn, `pitch` bytes apart, then frees the junk.
pub(crate) fn interleave(recipe: &mut Recipe<'_>, pitch: usize) {
    let count = recipe.scaled(256 << 20) / pitch;
    let junk = recipe.phase("filled", |recipe| {
        let ledger = recipe.ledger();
        (0..count)
            .map(|_| {
                // Both chunks together, 8 bytes of header each, are one pitch.
                let junk = block(ledger, pitch - PIN - 20);
                let _pin = block(ledger, PIN);
                junk
            })
            .collect::<Vec<_>>()
    });
    recipe.phase("freed", |recipe| free_all(recipe.ledger(), junk));
}
