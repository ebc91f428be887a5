//! An internal temporary table in the HEAP engine: a share, a handler, and blocks of rows a sixteenth of the largest
//! table.
//!
//! Source: MariaDB storage/heap/hp_create.c, `heap_create`, `hp_rows_in_memory`, `init_block` (commit 0292add): rows
//! per block = most rows / 16, the block with its 1024 bytes of `HP_PTRS` rounded up to a power of two less
//! `MALLOC_OVERHEAD`, at least 16 KiB and at most 4 MiB. A recorded 10.11.19 asks for 1048568 bytes of rows and 262136
//! of hash index for a DISTINCT accordingly; the sizes of the small blocks are from the same recording.

use fragbench_engine::{Block, Ledger};

use super::{align8, my_malloc};
use crate::{Flavor, Sysvars};

const ALLOCATION_PARTS: usize = 16;
const LEAST_BLOCK: usize = 16 << 10;
const LARGEST_BLOCK: usize = 4 << 20;
/// `sizeof(HP_PTRS)`: 128 pointers.
const POINTERS: usize = 1024;
const MALLOC_OVERHEAD: usize = 8 + 24;
/// `sizeof(HASH_INFO)`.
const HASH_ENTRY: usize = 24;
/// Index bytes a row: a hash entry and its slot.
const INDEX: usize = HASH_ENTRY + 8;
/// The table's own root, `HP_SHARE`, `HP_INFO` and record buffers, less the header of `my_malloc`.
const FIXED: [usize; 4] = [1504 - 24, 1264 - 24, 1000 - 24, 936 - 24];

/// Rows of `reclength` bytes that a table of at most `limit` bytes has in a block.
fn rows_in_block(reclength: usize, limit: usize) -> usize {
    let most_rows = limit.saturating_sub(POINTERS) / (INDEX + align8(reclength + 1));
    (most_rows / ALLOCATION_PARTS).max(1)
}

/// Bytes of a block for at least `rows` entries of `entry` bytes.
fn block_bytes(rows: usize, entry: usize) -> usize {
    let bytes = (rows * entry + POINTERS + MALLOC_OVERHEAD).next_power_of_two();
    bytes.clamp(LEAST_BLOCK, LARGEST_BLOCK) - MALLOC_OVERHEAD
}

/// A temporary table.
#[derive(Debug)]
pub struct HeapTable {
    flavor: Flavor,
    /// Most bytes of rows and index.
    limit: usize,
    fixed: Vec<Block>,
    blocks: Vec<Block>,
    row: usize,
    block_bytes: usize,
    index_bytes: usize,
    rows_left: usize,
}

impl HeapTable {
    /// A table that is yet to be created.
    pub fn new(vars: &Sysvars) -> HeapTable {
        HeapTable {
            flavor: vars.flavor,
            limit: vars.tmp_memory_table_size.min(vars.max_heap_table_size),
            fixed: Vec::with_capacity(4),
            blocks: Vec::with_capacity(2 * ALLOCATION_PARTS),
            row: 8,
            block_bytes: 0,
            index_bytes: 0,
            rows_left: 0,
        }
    }

    /// `create_tmp_table` for rows of `reclength` bytes.
    pub fn create(&mut self, ledger: &mut Ledger, reclength: usize) {
        for bytes in FIXED {
            self.fixed.push(my_malloc(ledger, self.flavor, bytes));
        }
        let rows = rows_in_block(reclength, self.limit);
        self.row = align8(reclength + 1);
        self.block_bytes = block_bytes(rows, self.row);
        self.index_bytes = block_bytes(rows, HASH_ENTRY);
        self.rows_left = 0;
    }

    /// Writes `rows` rows.
    pub fn insert(&mut self, ledger: &mut Ledger, mut rows: usize) {
        let per_block = (self.block_bytes - POINTERS) / self.row;
        while rows > 0 {
            if self.rows_left == 0 {
                self.blocks.push(my_malloc(ledger, self.flavor, self.block_bytes));
                self.blocks.push(my_malloc(ledger, self.flavor, self.index_bytes));
                self.rows_left = per_block;
            }
            let now = rows.min(self.rows_left);
            if let [.., block, index] = &self.blocks[..] {
                let done = per_block - self.rows_left;
                ledger.write(block, POINTERS + done * self.row, POINTERS + (done + now) * self.row);
                ledger.write(index, POINTERS + done * HASH_ENTRY, POINTERS + (done + now) * HASH_ENTRY);
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
    }

    /// Sizes of the blocks of rows and of index asked for.
    pub fn sizes(&self) -> Vec<usize> {
        self.blocks.iter().map(Block::size).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;

    #[test]
    fn a_block_is_a_sixteenth_of_the_largest_table_as_a_power_of_two() {
        for (limit, block) in [(16 << 20, 1 << 20), (1024, 16 << 10), (1 << 30, 4 << 20)] {
            assert_eq!(block_bytes(rows_in_block(121, limit), 128), block - 32);
        }
    }

    #[test]
    fn rows_fill_block_after_block() {
        let mut ledger = test_ledger();
        let mut table = HeapTable::new(&Sysvars::default());
        table.create(&mut ledger, 121);
        table.insert(&mut ledger, 100);
        assert_eq!(table.sizes(), [1_048_568, 262_136]);
        table.insert(&mut ledger, 10_000);
        assert_eq!(table.sizes(), [1_048_568, 262_136, 1_048_568, 262_136]);
        table.free(&mut ledger);
        assert!(table.sizes().is_empty());
    }
}
