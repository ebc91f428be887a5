//! `pinned-top`: one small block at the end of the main heap keeps everything below it resident.

use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{block, fill, free_all, texts};
use crate::{Case, Recipe};

pub(crate) const CASE: Case = Case { fact, run };

fn fact() -> CaseFact {
    let bounds = vec![
        Bound::at_least("rss_freed_bytes", 0.98, "all stays resident after it was freed").of("rss_filled_bytes"),
        Bound::at_most("live_freed_bytes", 4096.0, "one block of 1100 bytes is live"),
        Bound::at_least("free_freed_bytes", 0.98, "malloc counts it as free").of("rss_filled_bytes"),
        Bound::at_most("rss_purged_bytes", 0.02, "malloc_trim gives it back").of("rss_filled_bytes"),
        Bound::at_least("vm_purged_bytes", 0.98, "but not as address space").of("vm_freed_bytes"),
    ];
    CaseFact {
        name: "pinned-top".into(),
        summary: "256 MiB freed below one live block of 1100 bytes: all of it stays resident".into(),
        mechanism: texts([
            "_int_free: a freed chunk is joined with free neighbours; only when the result borders on top, and top has \
             reached the trim threshold, systrim is called.",
            "systrim: lowers the break (sbrk) from the end of the heap. A chunk in use above the free space leaves \
             nothing to lower.",
            "Free chunks inside the heap are never given back by free(); malloc_trim (mtrim) walks the bins and calls \
             madvise(MADV_DONTNEED) on whole pages within each free chunk.",
        ]),
        sources: texts([
            "malloc/malloc.c: _int_free, systrim, mtrim",
            "malloc_trim(3): since 2.8 it examines all arenas and releases whole free pages",
        ]),
        memory_bytes: 257 << 20,
        judged: Judged::rss("freed"),
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[
                (&[Cures], "malloc-trim jemalloc-purge jemalloc-decay-0 mimalloc-collect mimalloc-delay-0"),
                (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 tcache-count-0 mxfast-0 mmap-threshold"),
                (&[Nothing], "trim-threshold top-pad"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResStaysFreeInBins,
            told_by: "gdb -p PID -batch -ex 'call (int)malloc_trim(0)': RES falls at once".into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let bytes = recipe.scaled(256 << 20);
    let blocks = recipe.phase("filled", |recipe| {
        let ledger = recipe.ledger();
        let blocks = fill(ledger, bytes, 1000);
        // Past every tcache bin, so that it comes from top.
        let _pin = block(ledger, 1100);
        blocks
    });
    recipe.phase("freed", |recipe| free_all(recipe.ledger(), blocks));
}
