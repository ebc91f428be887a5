//! The trace format's own speed: packing a recording, and reading a trace in thread order, in recorded order, and
//! whole for its statistics. Sizes and lifetimes are random, which nothing compresses.

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fragbench_trace::decode::Block;
use fragbench_trace::synth::{Program, Shape, program};
use fragbench_trace::{PackOptions, Scratch, Totals, Trace, pack_source};
use fragbench_trace_analysis::{leaks, stat};

const EVENTS: usize = 1_000_000;

fn recording() -> Program {
    program(&Shape { threads: 4, events: EVENTS, live: 5_000, cross: 20, realloc: 10, ..Shape::default() })
}

fn pack(program: &Program, path: &Path) {
    let report = pack_source(program, path, &PackOptions::default(), Totals::default());
    black_box(report.unwrap_or_else(|e| panic!("{}: {e}", path.display())));
}

fn benches(criterion: &mut Criterion) {
    let program = recording();
    let path = std::env::temp_dir().join(format!("fragbench-bench-{}.fbt", std::process::id()));
    let mut group = criterion.benchmark_group("trace");
    group.sample_size(10).throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("encode (pack)", |b| b.iter(|| pack(&program, &path)));
    pack(&program, &path);
    let open = || Trace::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let trace = open();
    group.bench_function("decode, by thread", |b| {
        let (mut block, mut scratch) = (Block::default(), Scratch::default());
        b.iter(|| {
            for entry in trace.threads().flat_map(|t| trace.blocks(t)) {
                trace.load(entry, &mut block, &mut scratch).unwrap_or_else(|e| panic!("{e}"));
                while let Some(op) = block.next_op().unwrap_or_else(|e| panic!("{e}")) {
                    black_box(op);
                }
            }
        });
    });
    group.bench_function("decode, in recorded order", |b| b.iter(|| black_box(trace.events_in_order().count())));
    group.bench_function("statistics", |b| b.iter_batched(open, |t| black_box(stat(&t)), BatchSize::PerIteration));
    group.bench_function("blocks never freed", |b| b.iter(|| black_box(leaks(&trace))));
    group.bench_function("profile", |b| b.iter(|| black_box(fragbench_trace_analysis::profile::distil(&trace))));
    group.finish();
    // Left behind if that fails, as temporary files are.
    let _ = std::fs::remove_file(&path);
}

criterion_group!(all, benches);
criterion_main!(all);
