//! `thp-inflation`: a page touched here and there in a heap that huge pages were asked for: each becomes two megabytes.

use fragbench_engine::{fail, refuse};
use fragbench_model::Effect::Nothing;
use fragbench_model::WorkerErrorKind;
use fragbench_model::{Bound, CaseFact, Expectation, GlibcRange, Judged, Quantity, Sign, Symptom};

use crate::recipe::{settings, texts};
use crate::{Case, Recipe, sys};

pub(crate) const CASE: Case = Case { fact, run };

const BLOCKS: usize = 16;
const SIZE: usize = 16 << 20;
/// A page in each of these is touched.
const STRIDE: usize = 1 << 20;
/// What says whether the kernel heeds glibc's advice (Documentation/admin-guide/mm/transhuge.rst).
const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

fn fact() -> CaseFact {
    let held = (BLOCKS * SIZE) as f64;
    // Headers and the heap's first pages besides.
    let touched = 2.0 * held / STRIDE as f64 * 4096.0;
    CaseFact {
        name: "thp-inflation".into(),
        summary: "huge pages asked for, one page in use of each MiB of 256: nearly all 256 MiB are resident, not 1"
            .into(),
        mechanism: texts([
            "glibc.malloc.hugetlb=1 (2.35): sysmalloc extends the heap by multiples of the huge page size and calls \
             madvise_thp, madvise(MADV_HUGEPAGE), on what is new. On a kernel set to `always` nobody need ask.",
            "The first write to any page of such a range has the kernel fill all 2 MiB of it, where it finds a huge page.",
            "Nothing tells the kernel that the rest is not used: RSS is what was asked for, no longer what was touched.",
            "The recipe advises in sysmalloc's place: 2.36 takes the setting or not by chance, because __malloc_thp_mode \
             compares a string that it has not ended; 2.41 and 2.43 always take it.",
        ]),
        sources: texts([
            "malloc/malloc.c: sysmalloc, madvise_thp; glibc 2.35 NEWS: glibc.malloc.hugetlb",
            "sysdeps/unix/sysv/linux/malloc-hugepages.c: __malloc_thp_mode",
            "Linux Documentation/admin-guide/mm/transhuge.rst",
            "Kwon et al., Coordinated and Efficient Huge Page Management with Ingens, OSDI 2016: memory bloat",
        ]),
        settings: settings([("MALLOC_MMAP_THRESHOLD_", "33554432")]),
        thp: true,
        memory_bytes: 262 << 20,
        judged: Judged { floor: Quantity::constant(touched), ..Judged::rss("touched") },
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            vec![
                // Huge pages may run out on a machine whose memory is in use.
                Bound::within("rss_touched_bytes", 0.5 * held, 1.03 * held, "most of what is held is resident"),
                Bound::at_least("huge_touched_bytes", 0.9, "in huge pages").of("rss_touched_bytes"),
                Bound::at_least("rss_purged_bytes", 0.98, "nothing is free: malloc_trim gives nothing")
                    .of("rss_touched_bytes"),
            ],
            &[
                (&[Nothing], "malloc-trim arena-max-1 tcache-count-0 mxfast-0"),
                // Mappings of their own are advised like the heap (sysmalloc_mmap).
                (&[Nothing], "mmap-threshold trim-threshold top-pad hugetlb-1"),
            ],
        )],
        symptoms: vec![Symptom {
            sign: Sign::ResMultipleOfLive,
            told_by: "grep AnonHugePages /proc/PID/smaps_rollup: about as much as RES".into(),
        }],
        ..CaseFact::default()
    }
}

fn run(recipe: &mut Recipe<'_>) {
    let choice = std::fs::read_to_string(THP).unwrap_or_default();
    if !["[madvise]", "[always]"].iter().any(|mode| choice.contains(mode)) {
        let choice = choice.trim();
        let text = format!("{THP} says `{choice}`, and the case is about huge pages: echo madvise > {THP}, as root");
        fail(refuse(WorkerErrorKind::Unsupported, text));
    }
    // Other allocators are left to ask for themselves.
    let advise = recipe.on_glibc();
    recipe.phase("touched", |recipe| {
        let ledger = recipe.ledger();
        for _ in 0..BLOCKS {
            let id = ledger.next_id();
            let block = ledger.malloc_touching(id, SIZE, 1);
            if advise {
                sys::advise_huge_pages(&block);
            }
            for at in (0..SIZE).step_by(STRIDE) {
                ledger.write(&block, at, at + 64);
            }
        }
    });
}
