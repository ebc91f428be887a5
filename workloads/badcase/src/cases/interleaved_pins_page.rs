//! `interleaved-pins-page`: long-lived small blocks a page apart: nothing is free that is a whole page.

use fragbench_model::Effect::{Cures, Helps, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use super::interleaved_pins::interleave;
use crate::recipe::texts;
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::at_least("rss_freed_bytes", 0.98, "all stays resident after the large blocks were freed")
            .of("rss_filled_bytes"),
        Bound::within("rss_freed_bytes", 3.7, 3.78, "a page for each block of 1100 bytes").of("live_freed_bytes"),
        Bound::at_least("rss_purged_bytes", 0.98, "malloc_trim gives nothing back").of("rss_freed_bytes"),
        Bound::at_least("free_freed_bytes", 0.72, "though malloc counts most of it as free").of("rss_freed_bytes"),
    ];
    CaseFact {
        name: "interleaved-pins-page".into(),
        summary:
            "blocks of 1100 bytes that stay, a page apart: 3.7 times what is live, and malloc_trim gives nothing back"
                .into(),
        mechanism: texts([
            "As interleaved-pins, but the free chunks are just below 3 KiB.",
            "mtrim: a free chunk that holds no whole page is passed over. Nothing but ending the live blocks, or another \
             allocator that keeps sizes apart, frees these pages.",
        ]),
        sources: texts(["malloc/malloc.c: mtrim"]),
        memory_bytes: 257 << 20,
        judged: Judged::rss("freed"),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                // About 92 % is gone: not far above where a cure begins.
                (&[Cures, Helps], "jemalloc-purge jemalloc-decay-0 mimalloc-collect mimalloc-delay-0"),
                (&[Nothing], "malloc-trim arena-max-1 arena-max-2 arena-max-4 tcache-count-0 mxfast-0"),
                (&[Nothing], "mmap-threshold trim-threshold top-pad"),
            ],
        )],
        symptoms: vec![
            Symptom {
                sign: Sign::TrimGivesNothing,
                told_by: "malloc_info: `rest` is large, in chunks (<size from= to=>) below 4096 bytes".into(),
            },
            Symptom {
                sign: Sign::ResMultipleOfLive,
                told_by: "malloc_info: `rest` is large, in chunks below 4096 bytes; malloc_trim(0) gives nothing"
                    .into(),
            },
        ],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    interleave(recipe, 4096);
}
