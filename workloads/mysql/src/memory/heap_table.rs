//! An internal temporary table in the HEAP engine: a share, a handler, and blocks of rows a sixteenth of the largest
//! table.
//!
//! Source: MariaDB storage/heap/hp_create.c, `heap_create`, `hp_rows_in_memory`, `init_block` (commit 0292add): rows
//! per block = most rows / 16, the block rounded up to a power of two with its 1024 bytes of `HP_PTRS`, at least 16 KiB
//! and at most 4 MiB. Whether 10.11 has the cap is not known; it does not matter below 64 MiB. Not modelled: the blocks
//! of hash indexes.

use fragbench_engine::{Block, Ledger};

use super::{MemRoot, align8, my_malloc};

const ALLOCATION_PARTS: usize = 16;
const LEAST_BLOCK: usize = 16 << 10;
const LARGEST_BLOCK: usize = 4 << 20;
/// `sizeof(HP_PTRS)`: 128 pointers.
const POINTERS: usize = 1024;
const MALLOC_OVERHEAD: usize = 8;
/// Index bytes a row: a hash entry and its slot.
const INDEX: usize = 32;
/// `sizeof(HP_SHARE)` with one key, `sizeof(HP_INFO)`, a temporary name.
const SHARE: usize = 640;
const INFO: usize = 344;
const NAME: usize = 40;
/// `TABLE_ALLOC_BLOCK_SIZE` (sql/sql_const.h), and what `create_tmp_table` takes from it for one result column.
const TABLE_ROOT: usize = 1024;
const TABLE_FIELDS: [usize; 5] = [900, 900, 700, 600, 1200];

/// Bytes of a block of rows of `reclength` bytes when a table may take `limit` bytes.
fn block_bytes(reclength: usize, limit: usize) -> usize {
    let row = align8(reclength + 1);
    let most_rows = limit.saturating_sub(POINTERS) / (INDEX + row);
    let rows = (most_rows / ALLOCATION_PARTS).max(1);
    let extra = POINTERS + MALLOC_OVERHEAD;
    let block = (rows * row + extra).next_power_of_two().clamp(LEAST_BLOCK, LARGEST_BLOCK);
    POINTERS + (block - extra) / row * row
}

/// A temporary table.
#[derive(Debug)]
pub struct HeapTable {
    root: MemRoot,
    fixed: Vec<Block>,
    blocks: Vec<Block>,
    row: usize,
    block_bytes: usize,
    rows_left: usize,
}

impl Default for HeapTable {
    fn default() -> Self {
        let (fixed, blocks) = (Vec::with_capacity(4), Vec::with_capacity(ALLOCATION_PARTS));
        HeapTable { root: MemRoot::new(TABLE_ROOT), fixed, blocks, row: 8, block_bytes: 0, rows_left: 0 }
    }
}

impl HeapTable {
    /// `create_tmp_table` for rows of `reclength` bytes; `limit` is the lesser of `tmp_memory_table_size` and
    /// `max_heap_table_size`.
    pub fn create(&mut self, ledger: &mut Ledger, reclength: usize, limit: usize) {
        for bytes in TABLE_FIELDS {
            self.root.alloc(ledger, bytes);
        }
        for bytes in [SHARE, NAME, INFO] {
            self.fixed.push(my_malloc(ledger, bytes));
        }
        self.row = align8(reclength + 1);
        self.block_bytes = block_bytes(reclength, limit);
        self.rows_left = 0;
    }

    /// Writes `rows` rows.
    pub fn insert(&mut self, ledger: &mut Ledger, mut rows: usize) {
        let per_block = (self.block_bytes - POINTERS) / self.row;
        while rows > 0 {
            if self.rows_left == 0 {
                self.blocks.push(my_malloc(ledger, self.block_bytes));
                self.rows_left = per_block;
            }
            let now = rows.min(self.rows_left);
            if let Some(block) = self.blocks.last() {
                let from = POINTERS + (per_block - self.rows_left) * self.row;
                ledger.write(block, from, from + now * self.row);
            }
            self.rows_left -= now;
            rows -= now;
        }
    }

    /// `free_tmp_table`.
    pub fn free(&mut self, ledger: &mut Ledger) {
        for block in self.blocks.drain(..).chain(self.fixed.drain(..)) {
            ledger.free(block);
        }
        self.rows_left = 0;
        self.root.free(ledger);
    }

    /// Sizes of the blocks of rows asked for.
    pub fn sizes(&self) -> Vec<usize> {
        self.blocks.iter().map(Block::size).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;

    #[test]
    fn a_block_is_a_sixteenth_of_the_largest_table() {
        let mib = block_bytes(121, 16 << 20);
        assert_eq!(mib, 1024 + (1_048_576 - 1032) / 128 * 128);
        assert_eq!(block_bytes(121, 1024), 1024 + (16_384 - 1032) / 128 * 128);
        assert_eq!(block_bytes(121, 1 << 30), 1024 + (4_194_304 - 1032) / 128 * 128);
    }

    #[test]
    fn rows_fill_block_after_block() {
        let mut ledger = test_ledger();
        let mut table = HeapTable::default();
        table.create(&mut ledger, 121, 16 << 20);
        assert_eq!(table.root.sizes(), [1008, 1008, 1008, 1008, 1992]);
        let block = super::super::request(block_bytes(121, 16 << 20));
        table.insert(&mut ledger, 100);
        assert_eq!(table.sizes(), [block]);
        table.insert(&mut ledger, 10_000);
        assert_eq!(table.sizes(), [block, block]);
        table.free(&mut ledger);
        assert!(table.sizes().is_empty());
    }
}
