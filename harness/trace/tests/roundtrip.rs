//! Any program comes back from its trace: the same operations on the same blocks, thread by thread.

mod common;

use common::{first_difference, history, options, packed, quantised, truth};
use fragbench_trace::spool::{SpoolEvent, SpoolKind};
use fragbench_trace::synth::{Program, Shape, producer_consumer, program};
use fragbench_trace::{EventKind, MemorySample, MemorySeries, PackOptions, Provider, RecordedOn, SystemCall, Trace};
use fragbench_trace_analysis::stat;
use proptest::prelude::*;

fn shapes() -> impl Strategy<Value = Shape> {
    let counts = (1usize..6, 0usize..4000, 0usize..400);
    let shares = (0u64..400, 0u64..200, 0u64..300, 0u64..20);
    let rest = (prop_oneof![Just(40u64), Just(100_000)], prop_oneof![Just(0usize), 5usize..200], any::<u64>());
    let size = prop_oneof![Just(100u64), Just(20_000)];
    (counts, shares, rest, size).prop_map(
        |((threads, events, live), (cross, realloc, special, large), rest, max_size)| {
            let (ticks, thread_life, seed) = rest;
            Shape {
                threads,
                events,
                live,
                max_size,
                cross,
                realloc,
                special,
                large,
                thread_life,
                ticks,
                quantum_shift: 0,
                seed,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(20_250_101), ..ProptestConfig::default() })]

    #[test]
    fn a_program_comes_back(shape in shapes(), shift in 0u8..17) {
        let p = program(&shape);
        let shift = shift.min(shape.ticks.ilog2() as u8);
        let (bytes, report) = packed(&quantised(&p, shift), &options());
        let trace = Trace::from_bytes(bytes).unwrap();
        prop_assert_eq!(trace.verify().unwrap(), vec![]);
        prop_assert_eq!(first_difference(&history(&trace), &truth(&p)), None);
        let t = report.totals;
        prop_assert_eq!(t.unresolved, 0);
        prop_assert_eq!(t.unseen_frees, 0);
        prop_assert_eq!(t.events, shape.events as u64);
        prop_assert_eq!(trace.totals(), Some(&t));
        let s = stat(&trace);
        prop_assert_eq!(s.events, t.events);
        prop_assert_eq!(s.live_end_bytes, t.live_end_bytes);
        prop_assert_eq!(s.threads_peak, u64::from(t.threads_peak));
        if shift == 0 && shape.ticks > 10_000 {
            // More than a microsecond apart, the order over threads is the program's own, and with it the peak.
            prop_assert_eq!(s.live_peak_bytes, t.peak_live_bytes);
        }
    }
}

#[test]
fn every_free_on_another_thread_comes_back_and_costs_little() {
    let p = producer_consumer(50_000, 200, 100);
    let (bytes, report) = packed(&p, &options());
    let trace = Trace::from_bytes(bytes).unwrap();
    assert_eq!(first_difference(&history(&trace), &truth(&p)), None);
    assert_eq!(stat(&trace).cross_thread_free_ratio, 1.0);
    assert!(report.bytes as f64 / report.totals.events as f64 <= 2.5, "{} bytes", report.bytes);
}

#[test]
fn random_sizes_and_lifetimes_cost_at_most_two_and_a_half_bytes_an_event() {
    // 16 to 1024 bytes over 10,000 live blocks a thread, 100 ns apart: what cannot be compressed.
    let shape = Shape { events: 400_000, live: 10_000, ticks: 100, ..Shape::default() };
    let (_, report) = packed(&program(&shape), &options());
    let per_event = report.bytes as f64 / report.totals.events as f64;
    assert!(per_event <= 2.5, "{per_event} bytes an event");
}

#[test]
fn threads_that_come_and_go_share_lanes() {
    let shape = Shape { threads: 4, events: 20_000, live: 20, thread_life: 50, cross: 100, ..Shape::default() };
    let (bytes, report) = packed(&program(&shape), &options());
    let trace = Trace::from_bytes(bytes).unwrap();
    assert!(report.totals.threads > 200);
    assert_eq!(trace.lane_slots().unwrap().len(), 4);
    let starts = trace.events_in_order().filter(|e| e.kind == EventKind::ThreadStart).count();
    let exits = trace.events_in_order().filter(|e| e.kind == EventKind::ThreadExit).count();
    // The first thread's start is no event, and four threads run to the end.
    assert_eq!((starts as u32, exits as u32), (report.totals.threads - 1, report.totals.threads - 4));
}

fn at(tsc: u64, kind: SpoolKind) -> SpoolEvent {
    SpoolEvent { tsc, kind }
}

#[test]
fn what_was_never_seen_or_never_freed_is_counted() {
    let (a, size) = (4096, 100);
    let threads = vec![
        vec![
            at(1000, SpoolKind::Free { addr: 64 }),
            at(2000, SpoolKind::Realloc { old: 80, new: 80, size: 7, began: 1900, resident_pages: None }),
            at(3000, SpoolKind::Malloc { addr: a, size }),
            // The free in between was lost.
            at(4000, SpoolKind::Malloc { addr: a, size: 50 }),
            at(5000, SpoolKind::Free { addr: a }),
        ],
        vec![at(3500, SpoolKind::Malloc { addr: 2 * a, size: 1 }), at(100_000_000, SpoolKind::Free { addr: 2 * a })],
    ];
    let (bytes, report) = packed(&Program { threads }, &options());
    let t = report.totals;
    assert_eq!((t.unseen_frees, t.unresolved, t.live_end_bytes, t.live_end_blocks), (2, 1, 7, 1));
    let trace = Trace::from_bytes(bytes).unwrap();
    let s = stat(&trace);
    assert_eq!((s.unseen_frees, s.frees, s.reallocs, s.live_end_bytes), (2, 4, 1, 7));
}

#[test]
fn blocks_that_outlive_the_end_still_tell_their_pages() {
    let big = 1 << 20;
    let threads = vec![vec![
        at(1_000_000, SpoolKind::Malloc { addr: 1 << 30, size: big }),
        at(2_000_000, SpoolKind::Malloc { addr: 1 << 31, size: 8 }),
        at(9_000_000, SpoolKind::Malloc { addr: 1 << 32, size: 8 }),
        at(9_500_000, SpoolKind::FreeResident { addr: 1 << 30, resident_pages: 3 }),
    ]];
    let (bytes, report) = packed(&Program { threads }, &PackOptions { end_us: Some(5_000), ..options() });
    assert_eq!((report.totals.events, report.totals.live_end_bytes), (2, big + 8));
    assert_eq!(report.totals.duration_us, 5_000);
    let trace = Trace::from_bytes(bytes).unwrap();
    let first = trace.events_in_order().next().unwrap();
    assert_eq!((first.size, first.resident_pages), (big, Some(3)));
}

#[test]
fn pages_are_entered_into_blocks_already_written() {
    // The large block is freed long after the trace block that holds its allocation is full.
    let mut events = vec![at(0, SpoolKind::Malloc { addr: 1 << 40, size: 70_000 })];
    for i in 0..100_000 {
        events.push(at(10 * i + 10, SpoolKind::Malloc { addr: 16 * (i + 1), size: 16 + i % 1000 }));
    }
    events.push(at(2_000_000, SpoolKind::FreeResident { addr: 1 << 40, resident_pages: 2 }));
    let (bytes, _) = packed(&Program { threads: vec![events] }, &options());
    let trace = Trace::from_bytes(bytes).unwrap();
    assert!(trace.blocks(0).len() > 3);
    assert_eq!(trace.verify().unwrap(), []);
    assert_eq!(trace.events_in_order().next().unwrap().resident_pages, Some(2));
}

#[test]
fn system_calls_are_kept_apart() {
    let threads = vec![vec![
        at(1_000, SpoolKind::Mmap { addr: 1 << 20, len: 1 << 21, prot: 3, flags: 0x22 }),
        at(2_000, SpoolKind::Malloc { addr: 64, size: 10 }),
        at(3_000, SpoolKind::Madvise { addr: 1 << 20, len: 4096, advice: 4 }),
        at(4_000, SpoolKind::Mremap { old: 1 << 20, old_len: 1 << 21, new: 1 << 30, new_len: 1 << 22 }),
        at(5_000, SpoolKind::Brk { addr: 1 << 35 }),
        at(6_000, SpoolKind::Munmap { addr: 1 << 30, len: 1 << 22 }),
    ]];
    let (bytes, report) = packed(&Program { threads }, &options());
    assert_eq!((report.totals.events, report.totals.system_calls), (1, 5));
    let trace = Trace::from_bytes(bytes).unwrap();
    let calls: Vec<_> = trace
        .events_in_order()
        .filter_map(|e| match e.kind {
            EventKind::System { call, detail } => Some((e.at_us, call, detail, e.size)),
            _ => None,
        })
        .collect();
    assert_eq!(
        calls,
        [
            (1, SystemCall::Mmap, 0x22, 1 << 21),
            (3, SystemCall::Madvise, 4, 4096),
            (4, SystemCall::Mremap, 1 << 21, 1 << 22),
            (5, SystemCall::Brk, 0, 0),
            (6, SystemCall::Munmap, 0, 1 << 22),
        ]
    );
    assert_eq!(trace.events_in_order().map(|e| e.at_us).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn the_curve_has_the_exact_peak_and_the_end() {
    let shape = Shape { threads: 3, events: 50_000, live: 300, ticks: 5_000, quantum_shift: 0, ..Shape::default() };
    let (bytes, report) = packed(&program(&shape), &options());
    let s = stat(&Trace::from_bytes(bytes).unwrap());
    assert!(s.live.at_us.len() <= 2_000 && s.live.at_us.len() > 1_500, "{}", s.live.at_us.len());
    assert!(s.live.at_us.is_sorted());
    assert_eq!(s.live.live_bytes.iter().max(), Some(&s.live_peak_bytes));
    assert_eq!(s.live_peak_bytes, report.totals.peak_live_bytes);
    assert_eq!(s.live.live_bytes.last(), Some(&report.totals.live_end_bytes));
    assert_eq!(s.sizes.iter().map(|b| b.count).sum::<u64>(), s.allocations + s.reallocs);
    assert_eq!(s.lifetimes.iter().map(|b| b.count).sum::<u64>(), s.frees);
}

#[test]
fn what_was_known_of_the_process_comes_back_up_to_the_traces_end() {
    let shape = Shape { threads: 1, events: 100, ..Shape::default() };
    let sample = |at_us, kib: u64| MemorySample {
        at_us,
        vm_bytes: Some(kib << 12),
        anon_bytes: Some(kib << 10),
        huge_bytes: Some(0),
        ..MemorySample::default()
    };
    let far = 1 << 40;
    let series = MemorySeries { samples: vec![sample(0, 5), sample(1, 9), sample(far, 7)], missed: 3 };
    let provider = Provider { name: "lib odd.so".into(), version: Some("5.3.0".into()), build_id: None };
    let recorded_on = RecordedOn {
        malloc: Some(provider),
        thp_disabled: Some(true),
        thp_enabled: Some("madvise".into()),
        cpu_us: Some(1_250_000),
        cpuset: Some("0-1,4".into()),
        ..RecordedOn::default()
    };
    let options = PackOptions { recorded_on: recorded_on.clone(), memory: Some(series), ..PackOptions::default() };
    let (bytes, report) = packed(&program(&shape), &options);
    assert!(report.totals.duration_us < far);
    let trace = Trace::from_bytes(bytes.clone()).unwrap();
    assert_eq!(trace.recorded_on(), &recorded_on);
    let read = trace.memory().unwrap().unwrap();
    assert_eq!((read.samples.as_slice(), read.missed), (&[sample(0, 5), sample(1, 9)][..], 3));
    assert_eq!(trace.info().memory.unwrap().anon_peak_bytes, Some(9 << 10));
    // Without its index the series is found as the blocks are.
    let cut = Trace::from_bytes(bytes[..bytes.len() - 8].to_vec()).unwrap();
    assert_eq!(cut.memory().unwrap().unwrap(), read);
    // A trace without one, as earlier versions write it, says so.
    let (bytes, _) = packed(&program(&shape), &PackOptions::default());
    let trace = Trace::from_bytes(bytes).unwrap();
    assert_eq!(trace.memory().unwrap(), None);
    assert_eq!((trace.info().memory, trace.recorded_on().thp_disabled), (None, None));
}

#[test]
fn what_a_program_does_to_its_allocator_comes_back_in_order_and_raises_the_version() {
    let at = |tsc, kind| SpoolEvent { tsc, kind };
    let program = Program {
        threads: vec![vec![
            at(10_000, SpoolKind::Mallopt { param: -3, value: 1 << 20 }),
            at(20_000, SpoolKind::Malloc { addr: 0x1000, size: 500 }),
            at(30_000, SpoolKind::Free { addr: 0x1000 }),
            at(40_000, SpoolKind::Trim { pad: 4096 }),
        ]],
    };
    let (bytes, report) = packed(&program, &PackOptions::default());
    let trace = Trace::from_bytes(bytes).unwrap();
    let kinds: Vec<_> = trace.events_in_order().map(|e| (e.kind, e.size)).collect();
    let system = |call, detail| EventKind::System { call, detail };
    let expected = [
        (system(SystemCall::Mallopt, (-3i32 as u32).into()), 1 << 20),
        (EventKind::Malloc, 500),
        (EventKind::Free, 500),
        (system(SystemCall::MallocTrim, 0), 4096),
    ];
    assert_eq!(kinds, expected);
    assert_eq!((report.totals.events, stat(&trace).events, trace.info().format), (2, 2, 2));
    assert_eq!(trace.verify().unwrap(), []);
    let (plain, _) = packed(&Program { threads: vec![Vec::new()] }, &PackOptions::default());
    assert_eq!(Trace::from_bytes(plain).unwrap().info().format, 1, "readable by earlier versions");
}
