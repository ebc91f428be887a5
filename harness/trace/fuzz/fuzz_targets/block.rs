//! Any bytes as the payload of a block whose checksum holds: the first three choose how the sections are cut.
#![no_main]

use fragbench_trace::decode::Block;
use fragbench_trace::format::{BlockHeader, BlockKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [refill, time, lz4, payload @ ..] = bytes else { return };
    let refill_len = (payload.len() * usize::from(*refill) / 256) as u32;
    let time_len = (payload.len() as u32 - refill_len) * u32::from(*time) / 256;
    let header = BlockHeader {
        kind: BlockKind::Ops,
        lz4: lz4 & 1 == 1,
        thread: 0,
        seq: 0,
        lane: 0,
        first_us: 0,
        last_us: u64::MAX,
        events: 0,
        slots: 0,
        refill_len,
        time_len,
        units_len: (payload.len() as u32 - refill_len - time_len) & !1,
        stored_len: payload.len() as u32,
        residents: 0,
        payload_crc: 0,
    };
    let (mut block, mut scratch) = (Block::default(), Vec::new());
    let payload = if header.lz4 { payload } else { &payload[..header.decoded_len()] };
    if block.load(&header, payload, &[], &mut scratch).is_ok() {
        let mut last = 0;
        while let Ok(Some((us, _))) = block.next_op() {
            assert!(us >= last);
            last = us;
        }
    }
});
