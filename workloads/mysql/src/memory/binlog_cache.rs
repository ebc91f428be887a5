//! A connection's binary log caches: two `IO_CACHE`s, made with the first statement that writes, kept for the
//! connection. Measured on 10.11.19: a SELECT takes none, the first UPDATE 1184 and 2 × 32792 bytes, the second none.
//!
//! Source: MariaDB sql/log.cc, `binlog_cache_mngr`, `THD::binlog_setup_trx_data`; sizes `binlog_cache_size` and
//! `binlog_stmt_cache_size`. What outgrows them goes to a file, not to the heap.

use fragbench_engine::{Block, Ledger};

use super::my_malloc;
use crate::{Flavor, Sysvars};

/// `sizeof(binlog_cache_mngr)`.
const MANAGER: usize = 1160;

/// Both caches of a connection; empty until it writes.
#[derive(Debug)]
pub struct BinlogCache {
    flavor: Flavor,
    /// Bytes of the object and of both caches.
    sizes: [usize; 3],
    blocks: Option<[Block; 3]>,
    used: usize,
}

impl BinlogCache {
    /// Of a connection that has not written yet.
    pub fn new(vars: &Sysvars) -> BinlogCache {
        let sizes = [MANAGER, vars.binlog_stmt_cache_size, vars.binlog_cache_size];
        BinlogCache { flavor: vars.flavor, sizes, blocks: None, used: 0 }
    }

    /// Adds an event of `bytes`; the caches come into being with the first.
    pub fn write(&mut self, ledger: &mut Ledger, bytes: usize) {
        let (flavor, sizes) = (self.flavor, self.sizes);
        let blocks = self.blocks.get_or_insert_with(|| sizes.map(|size| my_malloc(ledger, flavor, size)));
        let from = self.used.min(blocks[2].size());
        ledger.write(&blocks[2], from, from + bytes);
        self.used += bytes;
    }

    /// The transaction has ended; the caches stay.
    pub fn reset(&mut self) {
        self.used = 0;
    }

    /// The connection has ended.
    pub fn free(&mut self, ledger: &mut Ledger) {
        for block in self.blocks.take().into_iter().flatten() {
            ledger.free(block);
        }
    }

    /// Sizes asked for.
    pub fn sizes(&self) -> Vec<usize> {
        self.blocks.iter().flatten().map(Block::size).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;

    #[test]
    fn it_is_made_at_the_first_event_and_kept() {
        let mut ledger = test_ledger();
        let mut cache = BinlogCache::new(&Sysvars::default());
        assert!(cache.sizes().is_empty());
        for _ in 0..2 {
            cache.write(&mut ledger, 500);
            cache.reset();
        }
        assert_eq!(cache.sizes(), [1184, 32792, 32792]);
        cache.free(&mut ledger);
        assert!(cache.sizes().is_empty());
    }
}
