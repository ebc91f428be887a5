//! Quiet with somebody watching: what a monitor's query a second does to a heap that nobody else calls. Allocators that give
//! memory back when they are called do so then.

use std::time::Duration;

use crate::{Block, Ledger, Spawner, timeline};

/// Sizes of a query's blocks, in turn: small objects, a memory root's and a network buffer's.
const SIZES: &[usize] = &[48, 200, 1_024, 16_416, 96, 8_208, 512, 64];
/// One query in this long.
const EVERY: Duration = Duration::from_secs(1);

/// Lets `quiet` pass while a thread of its own makes `calls` allocations once a second, and frees them.
pub(crate) fn watch(spawner: &Spawner, quiet: Duration, calls: u32) {
    spawner
        .spawn(move |ledger| {
            let mut left = quiet;
            while !left.is_zero() {
                let step = left.min(EVERY);
                timeline().pass_or_sleep(step.as_nanos() as u64);
                query(ledger, calls);
                left -= step;
            }
        })
        .join();
}

fn query(ledger: &mut Ledger, calls: u32) {
    let blocks: Vec<Block> = (0..calls as usize)
        .map(|i| {
            let id = ledger.next_id();
            ledger.malloc(id, SIZES[i % SIZES.len()])
        })
        .collect();
    blocks.into_iter().for_each(|block| ledger.free(block));
}
