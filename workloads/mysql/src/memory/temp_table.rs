//! MySQL's TempTable engine: an internal temporary table in blocks of 1, 2, 4, ... 512 MiB.
//!
//! Source: MySQL storage/temptable/include/temptable/allocator.h, `Exponential_policy`,
//! `Prefer_RAM_over_MMAP_policy_obeying_per_table_limit`, `AllocatorState` (commit 0df87ec); constants.h,
//! `ALLOCATOR_MAX_BLOCK_MB_EXP`, `STORAGE_PAGE_SIZE` (commit 4e2a32e); shared_block_pool.h: a connection's first block
//! is kept for its next table until it ends; memutils.h: blocks come from malloc, without the header of `my_malloc`.
//! MySQL 9.7.4 as Debian ships it is linked with libnuma and takes the blocks by `numa_alloc_local`, which maps them
//! (seen): they are not the heap's there. This is a build without libnuma, not measured. A table beyond `tmp_table_size` goes on in InnoDB, and blocks of all tables beyond `temptable_max_ram`
//! in mapped files: neither is the heap's.

use fragbench_engine::{Block, Ledger};

use crate::Sysvars;

const MIB: usize = 1 << 20;
/// `ALLOCATOR_MAX_BLOCK_MB_EXP`.
const LARGEST_EXP: usize = 9;
/// Rows come in pages of this size.
const STORAGE_PAGE: usize = 64 << 10;
/// A chunk's and a page's own bytes.
const PAGE_HEADER: usize = 16;

/// The tables of one connection, one at a time.
#[derive(Debug)]
pub struct TempTable {
    /// Most bytes of one table, and of a connection's share of all.
    limit: usize,
    /// The connection's block in the shared pool.
    shared: Option<Block>,
    blocks: Vec<Block>,
    /// Bytes left in the newest block, and in the newest page.
    block_left: usize,
    page_left: usize,
    row: usize,
    /// Goes on outside the heap.
    spilled: bool,
}

/// Size of a table's block number `number`, the shared one included.
fn block_bytes(number: usize) -> usize {
    MIB << number.min(LARGEST_EXP)
}

impl TempTable {
    /// No table yet; `connections` share `temptable_max_ram`.
    pub fn new(vars: &Sysvars, connections: usize) -> TempTable {
        let limit = vars.tmp_memory_table_size.min(vars.temptable_max_ram / connections.max(1));
        TempTable {
            limit,
            shared: None,
            blocks: Vec::with_capacity(8),
            block_left: 0,
            page_left: 0,
            row: 8,
            spilled: false,
        }
    }

    /// A table of rows of `reclength` bytes.
    pub fn create(&mut self, reclength: usize) {
        self.row = super::align8(reclength);
        self.block_left = self.shared.as_ref().map_or(0, Block::size);
    }

    /// Writes `rows` rows.
    pub fn insert(&mut self, ledger: &mut Ledger, rows: usize) {
        let mut left = rows;
        while left > 0 && !self.spilled {
            if self.page_left < self.row && !self.add_page(ledger) {
                self.spilled = true;
                return;
            }
            let now = left.min(self.page_left / self.row);
            if let Some(block) = self.blocks.last().or(self.shared.as_ref()) {
                let from = block.size() - self.block_left - self.page_left;
                ledger.write(block, from, from + now * self.row);
            }
            self.page_left -= now * self.row;
            left -= now;
        }
    }

    /// A page of rows, from a new block if need be; `false` when the table may not grow in memory.
    fn add_page(&mut self, ledger: &mut Ledger) -> bool {
        let page = STORAGE_PAGE + PAGE_HEADER;
        if self.block_left < page {
            let number = usize::from(self.shared.is_some()) + self.blocks.len();
            let bytes = block_bytes(number);
            if self.bytes() + bytes > self.limit {
                return false;
            }
            let id = ledger.next_id();
            let block = ledger.malloc_touching(id, bytes, 1);
            if number == 0 {
                self.shared = Some(block)
            } else {
                self.blocks.push(block)
            }
            self.block_left = bytes;
        }
        self.block_left -= page;
        self.page_left = STORAGE_PAGE;
        true
    }

    fn bytes(&self) -> usize {
        self.sizes().iter().sum()
    }

    /// The table is dropped; the connection's first block stays.
    pub fn free(&mut self, ledger: &mut Ledger) {
        while let Some(block) = self.blocks.pop() {
            ledger.free(block);
        }
        (self.block_left, self.page_left, self.spilled) = (0, 0, false);
    }

    /// The connection ends.
    pub fn end(&mut self, ledger: &mut Ledger) {
        self.free(ledger);
        if let Some(block) = self.shared.take() {
            ledger.free(block);
        }
    }

    /// Sizes asked for, the connection's block first.
    pub fn sizes(&self) -> Vec<usize> {
        self.shared.iter().chain(&self.blocks).map(Block::size).collect()
    }

    /// Whether the table has gone on outside the heap.
    pub fn spilled(&self) -> bool {
        self.spilled
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;
    use crate::Flavor;

    #[test]
    fn blocks_double_until_the_table_may_not_grow() {
        let mut ledger = test_ledger();
        let mut table = TempTable::new(&Sysvars::of(Flavor::Mysql), 1);
        table.create(1000);
        table.insert(&mut ledger, 900);
        assert_eq!(table.sizes(), [MIB]);
        table.insert(&mut ledger, 5000);
        assert_eq!(table.sizes(), [MIB, 2 * MIB, 4 * MIB]);
        assert!(!table.spilled());
        // 8 MiB more are 15; 16 more would be 31, beyond tmp_table_size.
        table.insert(&mut ledger, 20_000);
        assert_eq!(table.sizes(), [MIB, 2 * MIB, 4 * MIB, 8 * MIB]);
        assert!(table.spilled());
        table.free(&mut ledger);
        assert_eq!(table.sizes(), [MIB], "the connection's own");
        table.create(100);
        table.insert(&mut ledger, 100);
        assert_eq!(table.sizes(), [MIB], "and used again");
        table.end(&mut ledger);
        assert!(table.sizes().is_empty());
    }

    #[test]
    fn the_largest_block_has_512_mib() {
        assert_eq!((block_bytes(0), block_bytes(9), block_bytes(12)), (MIB, 512 * MIB, 512 * MIB));
    }
}
