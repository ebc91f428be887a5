//! `thread-heap-mprotect`: a thread's heap grows by a system call for every page, the main heap by one for 33.

use fragbench_engine::{Block, Ledger};
use fragbench_model::Effect::{Cures, Nothing};
use fragbench_model::{Bound, CaseFact, Expectation, FigureFact, GlibcRange, Judged, Quantity, Sign, Symptom};

use crate::recipe::{block, texts};
use crate::{Case, Recipe, sys};

pub(crate) const CASE: Case = Case { fact, run };

/// Less than a thread's first heap has room for.
const BYTES: usize = 48 << 20;
const SIZE: usize = 1000;

fn fact() -> CaseFact {
    // Chunks of 1008 bytes.
    let pages = (BYTES / SIZE * 1008) as f64 / 4096.0;
    let bounds = vec![
        Bound::within("thread_steps_count", 0.99 * pages, pages, "the thread's heap grows page by page"),
        // The padding of 128 KiB and the page that is needed.
        Bound::within(
            "main_steps_count",
            0.98 * pages / 33.0,
            1.02 * pages / 33.0,
            "the main heap by 132 KiB at a time",
        ),
    ];
    let count = |name: &str, meaning: &str| FigureFact { name: name.into(), meaning: meaning.into() };
    CaseFact {
        name: "thread-heap-mprotect".into(),
        summary: "a thread that allocates 48 MiB calls mprotect 12000 times where the main thread calls brk 370 times"
            .into(),
        mechanism: texts([
            "sysmalloc for the main arena: asks sbrk for what is missing plus top_pad, 128 KiB.",
            "sysmalloc for another arena: grow_heap by what is missing, MINSIZE + nb - old_size, rounded up to a page; \
             top_pad is left out. grow_heap calls mprotect to make the pages of the reserved heap usable. With \
             glibc.malloc.hugetlb=1 and a kernel that heeds it, 2.43 rounds up to huge pages; 2.36 and 2.41 do not.",
            "mprotect takes the mmap lock of the process for writing: page faults of all threads wait. A heap that was \
             shrunk grows again without it, up to where it has been (mprotect_size).",
        ]),
        sources: texts([
            "malloc/malloc.c: sysmalloc, the branch for av != &main_arena",
            "malloc/arena.c: grow_heap, heap_info.mprotect_size",
        ]),
        memory_bytes: 98 << 20,
        figures: vec![
            count("main_steps_count", "times the program break moved while the main thread allocated 48 MiB"),
            count("thread_steps_count", "times a heap's usable end moved while another thread allocated 48 MiB"),
        ],
        judged: Judged { floor: Quantity::figure("main_steps_count"), ..Judged::all_of("thread_steps_count") },
        expectations: vec![Expectation::present(
            GlibcRange::ALL,
            bounds,
            &[(&[Cures], "arena-max-1"), (&[Nothing], "tcache-count-0 mxfast-0 mmap-threshold trim-threshold top-pad")],
        )],
        symptoms: vec![Symptom {
            sign: Sign::SlowCalls,
            told_by:
                "strace -f -c -e trace=mprotect,brk -p PID: thousands of mprotect of 4096 bytes, while threads warm up"
                    .into(),
        }],
        ..CaseFact::default()
    }
}

/// Allocates, and counts the blocks for which the heap was made larger: each by one system call.
fn fill_counting(ledger: &mut Ledger, look: bool) -> (Vec<Block>, usize) {
    let mut blocks = Vec::with_capacity(BYTES / SIZE);
    let (mut steps, mut end) = (0, None);
    for _ in 0..BYTES / SIZE {
        let block = block(ledger, SIZE);
        if look {
            let now = sys::heap_end(&block);
            steps += usize::from(end.replace(now).is_some_and(|before| before != now));
        }
        blocks.push(block);
    }
    (blocks, steps)
}

fn run(recipe: &mut Recipe<'_>) {
    let look = recipe.on_glibc();
    let main = recipe.phase("main", |recipe| fill_counting(recipe.ledger(), look));
    let thread =
        recipe.phase("thread", |recipe| recipe.spawner().spawn(move |ledger| fill_counting(ledger, look)).join());
    if look {
        recipe.figure("main_steps_count", main.1 as f64);
        recipe.figure("thread_steps_count", thread.1 as f64);
    }
}
