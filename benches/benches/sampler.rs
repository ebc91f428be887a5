//! What one sample costs the parent, the sleep between samples apart: a reading of `statm` through a descriptor that is
//! kept open, of a process with little and with much resident memory, and the sums over the counter page.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use criterion::{Criterion, criterion_group, criterion_main};
use fragbench_model::CounterPage;
use fragbench_proc::Process;

const LARGE: usize = 1 << 30;

fn statm(c: &mut Criterion) {
    let mut group = c.benchmark_group("sampler/statm");
    let reader = Process::live(std::process::id()).statm().expect("this process is there");
    group.bench_function("little resident", |b| b.iter(|| reader.read().expect("still there")));
    let mut block = vec![0u8; LARGE];
    block.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    assert!(reader.read().expect("still there").anon_bytes >= LARGE as u64);
    group.bench_function("1 GiB resident", |b| b.iter(|| reader.read().expect("still there")));
    black_box(block);
}

fn counters(c: &mut Criterion) {
    let mut group = c.benchmark_group("sampler/counters");
    // SAFETY: the page consists of atomics, for which zeros are valid.
    let page: Box<CounterPage> = unsafe { Box::new_zeroed().assume_init() };
    for threads in [64, 512] {
        page.used.store(threads, Ordering::Release);
        group.bench_function(format!("{threads} threads"), |b| b.iter(|| black_box(&page).sums()));
    }
}

criterion_group!(benches, statm, counters);
criterion_main!(benches);
