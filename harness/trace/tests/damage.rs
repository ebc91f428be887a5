//! A trace in any state: a clear error, or the sound blocks and the offsets of the others. Never a panic.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{options, packed};
use fragbench_trace::decode::Block;
use fragbench_trace::format::{BlockHeader, BlockKind};
use fragbench_trace::synth::{Shape, program};
use fragbench_trace::{Trace, TraceError};
use fragbench_trace_analysis::stat;
use proptest::prelude::*;
use std::sync::LazyLock;

static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let shape = Shape {
        threads: 4,
        events: 60_000,
        live: 200,
        cross: 100,
        realloc: 50,
        special: 100,
        large: 5,
        thread_life: 3_000,
        ..Shape::default()
    };
    packed(&program(&shape), &options()).0
});

/// Reads everything there is to read; events and stretches of damage found.
fn exercise(bytes: Vec<u8>) -> Result<(u64, usize), TraceError> {
    let trace = Trace::from_bytes(bytes)?;
    let s = stat(&trace);
    let mut events = trace.events_in_order();
    let n = events.by_ref().count() as u64;
    assert!(n >= s.events);
    let _ = trace.lane_slots();
    let found = events.damage().len().max(trace.verify()?.len());
    assert!(!trace.info().complete || trace.damage().is_empty());
    Ok((s.events, found))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(20_250_101), ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_are_found_and_cost_no_more_than_their_block(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = SAMPLE.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        match exercise(bytes) {
            Ok((events, found)) => {
                prop_assert!(found > 0, "a flipped bit at {} was not seen", at);
                // A block holds at most 16 Ki operations.
                prop_assert!(events >= 60_000 - (16 << 10), "{} events left after a flip at {}", events, at);
            }
            Err(e) => prop_assert!(at < 24, "{}", e),
        }
    }

    #[test]
    fn a_truncated_trace_keeps_what_is_whole(at in any::<prop::sample::Index>()) {
        let at = at.index(SAMPLE.len());
        match exercise(SAMPLE[..at].to_vec()) {
            Ok((_, found)) => prop_assert!(found > 0),
            Err(TraceError::Empty) => prop_assert_eq!(at, 0),
            Err(TraceError::TooShort { bytes }) => prop_assert_eq!(bytes, at as u64),
            Err(e) => prop_assert!(at < 24, "{}", e),
        }
    }

    #[test]
    fn a_block_of_noise_decodes_or_is_at_fault(
        payload in prop::collection::vec(any::<u8>(), 0..4000),
        cuts in any::<(u8, u8)>(),
        lz4 in any::<bool>(),
    ) {
        let len = payload.len() as u32;
        let refill_len = len * u32::from(cuts.0) / 256;
        let time_len = (len - refill_len) * u32::from(cuts.1) / 256;
        let header = BlockHeader {
            kind: BlockKind::Ops,
            lz4,
            thread: 0,
            seq: 0,
            lane: 0,
            first_us: 0,
            last_us: u64::MAX,
            events: 0,
            slots: 0,
            refill_len,
            time_len,
            units_len: (len - refill_len - time_len) & !1,
            stored_len: len,
            residents: 0,
            payload_crc: 0,
        };
        // A payload has the length its sections add up to; the odd byte is cut off.
        let payload = &payload[..if lz4 { payload.len() } else { header.decoded_len() }];
        let mut block = Block::default();
        if block.load(&header, payload, &[], &mut Vec::new()).is_ok() {
            let mut last = 0;
            while let Ok(Some((us, _))) = block.next_op() {
                prop_assert!(us >= last);
                last = us;
            }
        }
    }

    #[test]
    fn noise_is_never_a_panic(from in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 1..400)) {
        let mut bytes = SAMPLE.clone();
        let from = from.index(bytes.len());
        for (to, b) in bytes[from..].iter_mut().zip(noise) {
            *to = b;
        }
        let _ = exercise(bytes);
    }
}

fn refusal(bytes: &[u8]) -> String {
    Trace::from_bytes(bytes.to_vec()).unwrap_err().to_string()
}

#[test]
fn what_is_no_trace_is_refused_in_plain_words() {
    assert!(refusal(b"").contains("empty"));
    assert!(refusal(b"thread,at_us\n1,2\n").contains("FBTRACE"));
    assert!(refusal(b"FBSPOOL\0 and so on").contains("spool"));
    assert!(refusal(&SAMPLE[..10]).contains("10 bytes"));
    let mut newer = SAMPLE.clone();
    newer[8] = 3;
    assert!(refusal(&newer).contains("version 3"));
    let mut header = SAMPLE.clone();
    header[17] = 1;
    assert!(refusal(&header).contains("offset 0"));
}

#[test]
fn without_its_index_a_trace_is_searched_and_loses_nothing_but_totals() {
    let whole = Trace::from_bytes(SAMPLE.clone()).unwrap();
    let cut = Trace::from_bytes(SAMPLE[..SAMPLE.len() - 1].to_vec()).unwrap();
    assert_eq!(cut.info().events, whole.info().events);
    assert_eq!((cut.info().peak_live_bytes, cut.info().complete), (None, false));
    assert!(cut.info().damage[0].contains("offset"));
    assert_eq!(cut.threads().collect::<Vec<_>>(), whole.threads().collect::<Vec<_>>());
    let (a, b) = (stat(&cut), stat(&whole));
    assert_eq!((a.events, a.live_peak_bytes, a.sizes), (b.events, b.live_peak_bytes, b.sizes));
}
