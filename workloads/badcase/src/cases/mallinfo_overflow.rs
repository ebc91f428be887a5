//! `mallinfo-overflow`: past 2 and 4 GiB `mallinfo` and `malloc_stats` say something else than what malloc holds.

use fragbench_engine::Block;
use fragbench_model::Effect::Nothing;
use fragbench_model::{Bound, CaseFact, Expectation, FigureFact, GlibcRange, Judged, Sign, Symptom};

use crate::recipe::{settings, texts};
use crate::{Case, Recipe, sys};

pub(crate) const CASE: Case = Case { fact, run };

/// Below the greatest mmap threshold, so that blocks lie on the heap; of each only its first page is touched.
const SIZE: usize = 16 << 20;

fn fact() -> CaseFact {
    const WRAP: f64 = 4294967296.0;
    let bounds = || {
        vec![
            Bound::within("live_past2_bytes", 2.5 / 4.0 * WRAP, 2.5 / 4.0 * WRAP, "2.5 GiB are held"),
            Bound::within("mallinfo_past2_missing_bytes", 0.999 * WRAP, 1.001 * WRAP, "mallinfo is 4 GiB short of it"),
            Bound::within("stats_past2_bytes", 1.0, 1.001, "malloc_stats is right").of("live_past2_bytes"),
            Bound::within("live_past4_bytes", 4.5 / 4.0 * WRAP, 4.5 / 4.0 * WRAP, "4.5 GiB are held"),
            Bound::within("mallinfo_past4_missing_bytes", 0.999 * WRAP, 1.001 * WRAP, "mallinfo is 4 GiB short of it"),
            Bound::within("stats_past4_missing_bytes", 0.999 * WRAP, 1.001 * WRAP, "and so is malloc_stats"),
            Bound::within("system_past4_bytes", 1.0, 1.001, "malloc_info is right").of("live_past4_bytes"),
            Bound::at_most("rss_past4_bytes", 8388608.0, "next to nothing of it is resident"),
        ]
    };
    let right = Bound::within("mallinfo2_past4_bytes", 1.0, 1.001, "mallinfo2 is right").of("live_past4_bytes");
    let effects: &[(&[fragbench_model::Effect], &str)] = &[
        (&[Nothing], "arena-max-1 arena-max-2 arena-max-4 tcache-count-0 mxfast-0"),
        (&[Nothing], "mmap-threshold trim-threshold top-pad"),
    ];
    let bytes = |name: &str, meaning: &str| FigureFact { name: name.into(), meaning: meaning.into() };
    CaseFact {
        name: "mallinfo-overflow".into(),
        summary: "4.5 GiB held: mallinfo and malloc_stats say 0.5 GiB, and at 2.5 GiB mallinfo says minus 1.5".into(),
        mechanism: texts([
            "mallinfo: fills a structure of ints, as SVID has it; sums of size_t are cut to 32 bits and read as signed: \
             negative from 2 GiB, too small by 4 GiB from 4 GiB.",
            "malloc_stats: adds up in unsigned int and prints %10u, in every version so far: too small by 4 GiB from 4 GiB.",
            "malloc_info prints size_t in full; mallinfo2 (2.33) has fields of size_t.",
        ]),
        sources: texts([
            "malloc/malloc.c: __libc_mallinfo, __malloc_stats, __malloc_info",
            "mallinfo(3), BUGS; glibc 2.33 NEWS: mallinfo2",
        ]),
        settings: settings([("MALLOC_MMAP_THRESHOLD_", "33554432")]),
        memory_bytes: 8 << 20,
        figures: vec![
            bytes("mallinfo_past2_missing_bytes", "what is held less what mallinfo says (arena and hblkhd)"),
            bytes("mallinfo_past4_missing_bytes", "what is held less what mallinfo says (arena and hblkhd)"),
            bytes("stats_past2_bytes", "the last `system bytes` of malloc_stats"),
            bytes("stats_past4_missing_bytes", "what is held less the last `system bytes` of malloc_stats"),
            bytes("mallinfo2_past4_bytes", "what mallinfo2 says (arena and hblkhd)"),
        ],
        judged: Judged::all_of("mallinfo_past4_missing_bytes"),
        expectations: vec![
            Expectation::present(GlibcRange::before(33), bounds(), effects),
            Expectation::present(GlibcRange::since(33), bounds().into_iter().chain([right]).collect(), effects),
        ],
        symptoms: vec![Symptom {
            sign: Sign::StatisticsLie,
            told_by: "malloc_info(0, stdout) agrees with RES and VIRT; mallinfo or malloc_stats are negative or off by a multiple of 4 GiB"
                .into(),
        }],
        ..CaseFact::default()
    }
}

/// The last `system bytes` of what `malloc_stats` prints: of all arenas and mappings.
fn system_bytes(text: &str) -> Option<f64> {
    let line = text.lines().rfind(|line| line.starts_with("system bytes"))?;
    line.rsplit('=').next()?.trim().parse().ok()
}

/// Blocks of which the first page is touched. Not scaled: the case is about these amounts.
fn fill(recipe: &mut Recipe<'_>, blocks: usize) -> Vec<Block> {
    let ledger = recipe.ledger();
    (0..blocks)
        .map(|_| {
            let id = ledger.next_id();
            ledger.malloc_touching(id, SIZE, 1)
        })
        .collect()
}

fn run(recipe: &mut Recipe<'_>) {
    // Beside another allocator the functions would tell of glibc's idle heap.
    let glibc = recipe.on_glibc();
    let mut held = recipe.phase("past2", |recipe| fill(recipe, 160));
    if glibc {
        let live = (held.len() * SIZE) as f64;
        recipe.figure("mallinfo_past2_missing_bytes", live - sys::mallinfo_system() as f64);
        if let Some(bytes) = sys::malloc_stats().as_deref().and_then(system_bytes) {
            recipe.figure("stats_past2_bytes", bytes);
        }
    }
    held.extend(recipe.phase("past4", |recipe| fill(recipe, 128)));
    if glibc {
        let live = (held.len() * SIZE) as f64;
        recipe.figure("mallinfo_past4_missing_bytes", live - sys::mallinfo_system() as f64);
        if let Some(bytes) = sys::malloc_stats().as_deref().and_then(system_bytes) {
            recipe.figure("stats_past4_missing_bytes", live - bytes);
        }
        if let Some(bytes) = sys::mallinfo2_system() {
            recipe.figure("mallinfo2_past4_bytes", bytes as f64);
        }
    }
}
