//! What the replay's driver costs: one thread, no touching, no latencies, under the null allocator on pages made
//! present beforehand, against an empty loop that only decodes the same stream. The difference of the two, less the null
//! allocator's own cost (bench `raw_allocators`, `null-alone`), is what the driver adds to an operation.
//!
//! Times are processor time of the one thread, so that other work on the machine counts only by what it evicts.
//!
//! The process starts itself again with the null allocator preloaded. Refuses to run without that library
//! (`cargo build --release` makes it).

use std::hint::black_box;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use fragbench_engine::{OffHeap, Share, Spawner};
use fragbench_model::{Pace, Touch};
use fragbench_replay::Replay;
use fragbench_trace::decode::{Block, Fault, Op, Visitor};
use fragbench_trace::synth::{Shape, pairs, program};
use fragbench_trace::{PackOptions, Scratch, Totals, Trace, pack_source};

/// The bench's own memory is not the null allocator's, as in the worker.
#[global_allocator]
static HARNESS: OffHeap = OffHeap;

/// Set in the process that has the null allocator.
const INNER: &str = "FRAGBENCH_BENCH_INNER";
/// Half of them allocations, of at most 16 bytes: 32 MiB of the null allocator's first chunk of 64.
const EVENTS: usize = 2_000_000;
const PRESENT: usize = 48 << 20;

fn main() {
    if std::env::var_os(INNER).is_none() {
        let library = library();
        let error = std::env::current_exe().map(|exe| {
            Command::new(exe).args(std::env::args_os().skip(1)).env(INNER, "1").env("LD_PRELOAD", library).exec()
        });
        panic!("cannot start again: {error:?}");
    }
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    let mixed = Shape { threads: 1, events: EVENTS, live: 1_000, max_size: 16, ..Shape::default() };
    // Free and malloc in turns, and in random order, which no branch predictor knows.
    for (name, program) in [("pairs", pairs(EVENTS / 2, 1_000, 1, 16, 50)), ("random order", program(&mixed))] {
        let trace = std::env::temp_dir().join(format!("fragbench-bench-{}.fbt", std::process::id()));
        let packed = pack_source(&program, &trace, &PackOptions::default(), Totals::default());
        let events = packed.unwrap_or_else(|e| panic!("{}: {e}", trace.display())).totals.events;
        drop(program);
        let mut group = criterion.benchmark_group(format!("replay, {name}"));
        group.throughput(Throughput::Elements(events));
        group.bench_function("empty decode loop", |b| b.iter_custom(|n| (0..n).map(|_| decode(&trace)).sum()));
        group.bench_function("driver under null", |b| b.iter_custom(|n| (0..n).map(|_| drive(&trace)).sum()));
        group.finish();
        // Left behind if that fails, as temporary files are.
        let _ = std::fs::remove_file(&trace);
    }
    criterion.final_summary();
}

fn library() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let found = exe.ancestors().skip(1).take(2).map(|dir| dir.join("libfragbench_null.so")).find(|p| p.exists());
    found.unwrap_or_else(|| panic!("libfragbench_null.so is missing: run `cargo build --release` first"))
}

/// Processor time this thread has used.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Adds up what it is told.
#[derive(Default)]
struct Sum(u64);

impl Visitor for Sum {
    type Stop = Fault;

    #[inline(always)]
    fn at(&mut self, us: u64) -> Result<(), Fault> {
        self.0 ^= us;
        Ok(())
    }

    #[inline(always)]
    fn malloc(&mut self, slot: u32, size: u32) -> Result<(), Fault> {
        self.0 = self.0.wrapping_add(u64::from(slot ^ size));
        Ok(())
    }

    #[inline(always)]
    fn free(&mut self, slot: u32) -> Result<(), Fault> {
        self.0 = self.0.wrapping_add(u64::from(slot));
        Ok(())
    }

    fn other(&mut self, op: Op) -> Result<(), Fault> {
        black_box(op);
        Ok(())
    }
}

fn decode(path: &Path) -> Duration {
    let trace = Trace::open(path).unwrap_or_else(|e| panic!("{e}"));
    let (mut block, mut scratch, mut sum) = (Block::default(), Scratch::default(), Sum::default());
    let start = thread_time();
    for entry in trace.blocks(0) {
        trace.load(entry, &mut block, &mut scratch).unwrap_or_else(|e| panic!("{e}"));
        block.visit(&mut sum).unwrap_or_else(|e| panic!("{e}"));
    }
    black_box(sum.0);
    thread_time() - start
}

fn drive(path: &Path) -> Duration {
    let mut replay = Replay::open(path, Pace::Fast, 0, 1).unwrap_or_else(|e| panic!("{}", e.text));
    let spawner = Spawner::new(Share { touch: Touch::None, latency_every: 0 });
    let own = spawner.clone();
    // A thread of its own: its first allocation is the first of a fresh chunk.
    let thread = spawner.spawn(move |ledger| {
        // SAFETY: the pages behind the thread's first block are the null allocator's chunk, mapped and not yet handed
        // out; the advice only makes them present, or drops them once no block in them is used any more.
        let advise = |page: *mut libc::c_void, advice| unsafe { libc::madvise(page, PRESENT, advice) };
        // SAFETY: malloc takes any size; the block is kept for ever.
        let first = unsafe { libc::malloc(1) };
        let page = first.map_addr(|a| a.next_multiple_of(4096));
        assert_eq!(advise(page, libc::MADV_POPULATE_WRITE), 0, "the chunk's pages cannot be made present");
        let start = thread_time();
        replay.play(&own, ledger);
        let time = thread_time() - start;
        advise(page, libc::MADV_DONTNEED);
        time
    });
    thread.join()
}
