//! Properties of the spool: what is written is read back; whatever is done to the bytes, the reader does not panic and
//! keeps what is sound.

#![allow(clippy::unwrap_used)] // in a test it is an assertion

mod common;

use common::payload;
use fragbench_trace::spool::format::{
    ARCHITECTURE, BLOCK_HEADER_LEN, BlockHeader, BlockKind, Closing, HEADER_LEN, Header, QUANTUM_SHIFT, Status,
};
use fragbench_trace::spool::{DamageKind, Spool, SpoolError, SpoolEvent, SpoolKind};
use proptest::prelude::*;

const TICK: u64 = 1 << QUANTUM_SHIFT;

fn block(thread: u32, seq: u32, kind: BlockKind, first: u64, payload: &[u8]) -> Vec<u8> {
    let header = BlockHeader {
        len: payload.len() as u32,
        kind,
        thread,
        seq,
        first_quantum: first,
        tsc: 1000 + u64::from(seq),
        mono_ns: 500 + u64::from(seq),
        own_bytes: 4096,
        payload_crc: crc32fast::hash(payload),
    };
    let mut b = header.to_bytes().to_vec();
    b.extend_from_slice(payload);
    b
}

fn header() -> Header {
    Header {
        stacks: true,
        swept: false,
        quantum_shift: QUANTUM_SHIFT,
        architecture: ARCHITECTURE,
        page_size: 4096,
        pid: 7,
        ppid: 1,
        start_tsc: 100,
        start_mono_ns: 200,
        start_real_ns: 300,
        comm: *b"program\0\0\0\0\0\0\0\0\0",
    }
}

fn closing() -> Closing {
    Closing {
        status: Status::Exited,
        errno: 0,
        tsc: 9,
        mono_ns: 10,
        lost_events: 0,
        early_calls: 12,
        own_bytes_peak: 13,
        bytes: 14,
        nested_calls: 15,
        passing_loads: 0,
    }
}

fn file(blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut f = header().to_bytes().to_vec();
    f.extend_from_slice(&closing().to_bytes());
    assert_eq!(f.len(), HEADER_LEN);
    blocks.iter().for_each(|b| f.extend_from_slice(b));
    f
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0u64..1 << 20).prop_map(|x| 0x5555_0000_0000 + x * 16),
        4 => (0u64..1 << 22).prop_map(|x| 0x7fff_0800_0000 + x * 16),
        1 => any::<u64>(),
    ]
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..4096, 2 => 0u64..1 << 20, 1 => any::<u64>()]
}

fn kind() -> impl Strategy<Value = SpoolKind> {
    prop_oneof![
        6 => (address(), size()).prop_map(|(addr, size)| SpoolKind::Malloc { addr, size }),
        6 => address().prop_map(|addr| SpoolKind::Free { addr }),
        1 => (address(), size()).prop_map(|(addr, size)| SpoolKind::Calloc { addr, size }),
        1 => (address(), size(), size()).prop_map(|(addr, size, align)| SpoolKind::Aligned { addr, size, align }),
        2 => (address(), address(), size(), proptest::option::of(any::<u32>())).prop_map(
            |(old, new, size, resident_pages)| SpoolKind::Realloc { old, new, size, began: 0, resident_pages }
        ),
        1 => (address(), any::<u32>())
            .prop_map(|(addr, resident_pages)| SpoolKind::FreeResident { addr, resident_pages }),
        1 => Just(SpoolKind::ThreadStart),
        1 => Just(SpoolKind::ThreadExit),
        1 => (address(), size(), any::<u32>(), any::<u32>())
            .prop_map(|(addr, len, prot, flags)| SpoolKind::Mmap { addr, len, prot, flags }),
        1 => (address(), size()).prop_map(|(addr, len)| SpoolKind::Munmap { addr, len }),
        1 => (address(), size(), address(), size())
            .prop_map(|(old, old_len, new, new_len)| SpoolKind::Mremap { old, old_len, new, new_len }),
        1 => (address(), size(), any::<u32>()).prop_map(|(addr, len, advice)| SpoolKind::Madvise { addr, len, advice }),
        1 => address().prop_map(|addr| SpoolKind::Brk { addr }),
        1 => any::<u32>().prop_map(|id| SpoolKind::Stack { id }),
        1 => size().prop_map(|pad| SpoolKind::Trim { pad }),
        1 => any::<(i32, i32)>().prop_map(|(param, value)| SpoolKind::Mallopt { param, value }),
    ]
}

/// Events with growing stamps; a realloc began some quanta before its stamp.
fn events() -> impl Strategy<Value = Vec<SpoolEvent>> {
    let step = prop_oneof![8 => 0u64..40, 2 => 0u64..5000, 1 => 0u64..1 << 40];
    proptest::collection::vec((step, kind(), 0u64..100), 0..200).prop_map(|raw| {
        let mut quantum = 1 << 30;
        raw.into_iter()
            .map(|(step, kind, took)| {
                quantum += step;
                let kind = match kind {
                    SpoolKind::Realloc { old, new, size, resident_pages, .. } => {
                        SpoolKind::Realloc { old, new, size, began: (quantum - took) * TICK, resident_pages }
                    }
                    k => k,
                };
                SpoolEvent { tsc: quantum * TICK, kind }
            })
            .collect()
    })
}

/// A file of two threads; the second thread's events are spread over two blocks.
fn two_threads(a: &[SpoolEvent], b: &[SpoolEvent]) -> Vec<u8> {
    let (b1, b2) = b.split_at(b.len() / 2);
    let middle = b1.last().map_or(1 << 30, |e| e.tsc / TICK);
    file(&[
        block(1, 0, BlockKind::Events, 1 << 30, &payload(1 << 30, b1)),
        block(0, 0, BlockKind::Events, 1 << 30, &payload(1 << 30, a)),
        block(1, 1, BlockKind::Events, middle, &payload(middle, b2)),
    ])
}

fn read(spool: &Spool, thread: u32) -> Vec<SpoolEvent> {
    spool.events(thread).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(20_250_101),
        ..ProptestConfig::with_cases(200)
    })]

    #[test]
    fn what_is_written_is_read(a in events(), b in events()) {
        let spool = Spool::from_bytes(two_threads(&a, &b)).unwrap();
        prop_assert_eq!(spool.header(), &header());
        prop_assert_eq!(spool.closing(), Some(&closing()));
        prop_assert!(spool.is_complete());
        prop_assert_eq!(spool.threads().collect::<Vec<_>>(), vec![0, 1]);
        prop_assert_eq!(read(&spool, 0), a);
        prop_assert_eq!(read(&spool, 1), b);
    }

    #[test]
    fn a_truncated_file_keeps_its_whole_blocks(a in events(), b in events(), cut in 0.0f64..1.0) {
        let whole = two_threads(&a, &b);
        let keep = (whole.len() as f64 * cut) as usize;
        match Spool::from_bytes(whole[..keep].to_vec()) {
            Err(e) => prop_assert!(keep < HEADER_LEN, "{}", e),
            Ok(spool) => {
                let (ra, rb) = (read(&spool, 0), read(&spool, 1));
                prop_assert!(ra.is_empty() || ra == a);
                prop_assert!(b.starts_with(&rb));
                prop_assert!(rb.is_empty() || rb.len() >= b.len() / 2);
            }
        }
    }

    #[test]
    fn flipped_bits_lose_only_the_blocks_they_hit(
        a in events(), b in events(), flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4)
    ) {
        let mut bytes = two_threads(&a, &b);
        for (at, bit) in flips {
            let i = at.index(bytes.len());
            bytes[i] ^= 1 << bit;
        }
        if let Ok(spool) = Spool::from_bytes(bytes) {
            // CRC-32 detects every error of up to three bits in blocks this short, so nothing false is ever read.
            let (ra, rb) = (read(&spool, 0), read(&spool, 1));
            prop_assert!(ra.is_empty() || ra == a);
            let half = b.len() / 2;
            prop_assert!(rb == b || rb == b[..half] || rb == b[half..] || rb.is_empty());
            prop_assert!(rb == b || !spool.damage().is_empty());
        }
    }

    #[test]
    fn any_payload_decodes_without_panic(junk in proptest::collection::vec(any::<u8>(), 0..400), first in any::<u64>()) {
        let spool = Spool::from_bytes(file(&[block(0, 0, BlockKind::Events, first, &junk)])).unwrap();
        let mut events = spool.events(0);
        let n = events.by_ref().count();
        prop_assert!(n <= junk.len());
    }

    #[test]
    fn any_bytes_after_a_header_are_survived(junk in proptest::collection::vec(any::<u8>(), 0..600)) {
        let spool = Spool::from_bytes(file(std::slice::from_ref(&junk))).unwrap();
        prop_assert_eq!(spool.threads().count(), 0);
        prop_assert_eq!(spool.damage().is_empty(), junk.is_empty());
    }
}

fn mallocs(n: u64) -> Vec<SpoolEvent> {
    let at = |i| SpoolEvent {
        tsc: ((1 << 30) + 2 * i) * TICK,
        kind: SpoolKind::Malloc { addr: 0x5555_0000_0000 + i * 48, size: 40 },
    };
    (0..n).map(at).collect()
}

#[test]
fn the_longer_of_two_blocks_of_one_number_counts() {
    let all = mallocs(100);
    let blocks: Vec<_> =
        [60, 100, 30].map(|n| block(0, 0, BlockKind::Events, 1 << 30, &payload(1 << 30, &all[..n]))).into();
    let spool = Spool::from_bytes(file(&blocks)).unwrap();
    assert_eq!(read(&spool, 0), all);
    assert!(spool.damage().is_empty());
}

#[test]
fn a_hole_between_blocks_is_reported_and_skipped() {
    let all = mallocs(10);
    let body = payload(1 << 30, &all);
    let hole = vec![0; 3000];
    let spool = Spool::from_bytes(file(&[hole, block(0, 0, BlockKind::Events, 1 << 30, &body)])).unwrap();
    assert_eq!(read(&spool, 0), all);
    assert_eq!(spool.damage().len(), 1);
    let d = spool.damage()[0];
    assert_eq!((d.offset, d.len, d.kind), (HEADER_LEN as u64, 3000, DamageKind::NoBlock));
}

#[test]
fn a_block_cut_short_does_not_hide_the_next() {
    let all = mallocs(200);
    let first = block(0, 0, BlockKind::Events, 1 << 30, &payload(1 << 30, &all[..100]));
    let second = block(1, 0, BlockKind::Events, 1 << 30, &payload(1 << 30, &all[100..]));
    let cut = first[..first.len() - 50].to_vec();
    let spool = Spool::from_bytes(file(&[cut.clone(), second])).unwrap();
    assert_eq!(read(&spool, 1), all[100..]);
    assert_eq!(read(&spool, 0), []);
    let d = spool.damage()[0];
    assert_eq!((d.offset, d.len, d.kind), (HEADER_LEN as u64, cut.len() as u64, DamageKind::Checksum(0)));
}

#[test]
fn an_absent_block_is_reported() {
    let body = payload(1 << 30, &mallocs(3));
    let blocks = [0, 3].map(|seq| block(5, seq, BlockKind::Events, 1 << 30, &body));
    let spool = Spool::from_bytes(file(&blocks)).unwrap();
    assert_eq!(spool.damage()[0].kind, DamageKind::Missing { thread: 5, missing: 2 });
    assert!(!spool.is_complete());
    assert_eq!(read(&spool, 5).len(), 6);
}

#[test]
fn pauses_become_gaps() {
    let mark = |seq, kind| block(0, seq, kind, 0, &[]);
    let spool = Spool::from_bytes(file(&[
        mark(1, BlockKind::Resumed),
        mark(2, BlockKind::Paused),
        mark(5, BlockKind::Resumed),
        mark(9, BlockKind::Paused),
    ]))
    .unwrap();
    let gaps: Vec<_> = spool.gaps().iter().map(|g| (g.from_tsc, g.to_tsc)).collect();
    assert_eq!(gaps, [(None, Some(1001)), (Some(1002), Some(1005)), (Some(1009), None)]);
}

#[test]
fn what_is_no_spool_is_refused() {
    let open = |b: &[u8]| Spool::from_bytes(b.to_vec()).unwrap_err().to_string();
    assert!(matches!(Spool::from_bytes(vec![]), Err(SpoolError::TooShort(0))));
    assert!(matches!(Spool::from_bytes(b"#!/bin/sh\n".to_vec()), Err(SpoolError::Foreign)));
    let good = file(&[]);
    assert_eq!(open(&good[..100]), "no spool: 100 bytes, shorter than a spool's header");
    let mut newer = good.clone();
    newer[8] = 9;
    assert_eq!(open(&newer), "a spool of version 9; this program reads versions 1 to 3");
    let mut bad = good.clone();
    bad[30] ^= 1;
    assert!(matches!(Spool::from_bytes(bad), Err(SpoolError::Header)));
    let mut no_status = good;
    no_status[90] ^= 1;
    let spool = Spool::from_bytes(no_status).unwrap();
    assert!(spool.closing().is_none() && !spool.is_complete());
}

#[test]
fn a_missing_file_is_an_error() {
    let e = Spool::open(std::path::Path::new("/nonexistent/x.spool")).unwrap_err();
    assert!(matches!(e, SpoolError::Io(_)), "{e}");
}

#[test]
fn random_pairs_take_six_bytes_an_event() {
    // Five and a half, by the stated bound of six: sizes of 16 to 1024 bytes, 10,000 slots scattered over a heap of 5 MiB, 2 quanta an event.
    let mut state = 1u64;
    let mut random = move |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    let events: Vec<_> = (0..20_000u64)
        .map(|i| {
            let addr = 0x5555_0000_0000 + 16 * random(5 << 16);
            let kind =
                if i % 2 == 0 { SpoolKind::Malloc { addr, size: 16 + random(1009) } } else { SpoolKind::Free { addr } };
            SpoolEvent { tsc: ((1 << 30) + 2 * i) * TICK, kind }
        })
        .collect();
    let bytes = payload(1 << 30, &events).len() + BLOCK_HEADER_LEN;
    assert!(bytes * 2 <= 11 * events.len() + 200, "{} bytes an event", bytes as f64 / events.len() as f64);
}
