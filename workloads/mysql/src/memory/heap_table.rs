//! An internal temporary table in the HEAP engine: a share, a handler, and blocks of rows and of hash index.
//!
//! Source: MariaDB storage/heap/hp_create.c, `heap_create`, `hp_rows_in_memory`, `init_block` (commit 0292add): rows
//! per block = most rows / 16, the block with its 1024 bytes of `HP_PTRS` rounded up to a power of two less
//! `MALLOC_OVERHEAD`, at least 16 KiB. Measured on 10.11.19 with tables of 16 KiB to 1 GiB: blocks of 16376 to 67108856
//! bytes of rows and a quarter of that of index (1048568 and 262136 at the default of 16 MiB), and twice the block for
//! a table without an index. Newer versions make no block larger than 4 MiB; 10.11.19 does.
//! Simplified: a block of index comes with each block of rows.
//! MySQL storage/heap/hp_create.cc, `init_block` (commit 08f46b3): most rows / 10, at least 10, the block about
//! `read_buffer_size` at most; not measured.

use fragbench_engine::{Block, Ledger};

use super::{align8, my_malloc};
use crate::{Flavor, Sysvars};

/// How many rows a block has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// MariaDB 10.11: a sixteenth of the table, however large.
    Sixteenth,
    /// MariaDB since `heap_max_allocation_block`: no more than 4 MiB.
    SixteenthTo4MiB,
    /// MySQL: a tenth of the table, up to about this many bytes (`read_buffer_size`).
    Tenth(usize),
}

const LEAST_BLOCK: usize = 16 << 10;
const LARGEST_BLOCK: usize = 4 << 20;
/// `sizeof(HP_PTRS)`: 128 pointers; `HP_MAX_LEVELS` of them.
const POINTERS: usize = 1024;
const LEVELS: usize = 4;
const MALLOC_OVERHEAD: usize = 8 + 24;
/// `sizeof(HASH_INFO)`.
const HASH_ENTRY: usize = 24;
/// Index bytes a row: a hash entry and its slot.
const INDEX: usize = HASH_ENTRY + 8;
/// The root of the `TABLE`, `HP_SHARE`, its name and `HP_INFO` (assumed), less the header of `my_malloc`.
const FIXED: [usize; 4] = [32_760 - 24, 1504 - 24, 88 - 24, 1000 - 24];
/// What creating it takes for a moment.
const CREATE_INFO: usize = 936 - 24;

impl Blocks {
    /// The rule of a flavor.
    pub fn of(vars: &Sysvars) -> Blocks {
        match vars.flavor {
            Flavor::Mariadb => Blocks::Sixteenth,
            Flavor::Mysql => Blocks::Tenth(vars.read_buffer_size),
        }
    }

    /// Bytes of a block of entries of `entry` bytes, in a table of at most `most_rows` rows.
    fn bytes(self, most_rows: usize, entry: usize) -> usize {
        match self {
            Blocks::Sixteenth | Blocks::SixteenthTo4MiB => {
                let rows = (most_rows / 16).max(1);
                let bytes = (rows * entry + POINTERS + MALLOC_OVERHEAD).next_power_of_two().max(LEAST_BLOCK);
                let most = if self == Blocks::Sixteenth { usize::MAX } else { LARGEST_BLOCK };
                bytes.min(most) - MALLOC_OVERHEAD
            }
            Blocks::Tenth(buffer) => {
                let most = buffer.saturating_sub(POINTERS * LEVELS) / entry + 1;
                POINTERS + (most_rows / 10).max(10).min(most) * entry
            }
        }
    }
}

/// A temporary table.
#[derive(Debug)]
pub struct HeapTable {
    flavor: Flavor,
    blocks_of: Blocks,
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
            blocks_of: Blocks::of(vars),
            limit: vars.tmp_memory_table_size.min(vars.max_heap_table_size),
            fixed: Vec::with_capacity(4),
            blocks: Vec::with_capacity(64),
            row: 8,
            block_bytes: 0,
            index_bytes: 0,
            rows_left: 0,
        }
    }

    /// `create_tmp_table` for rows of `reclength` bytes.
    pub fn create(&mut self, ledger: &mut Ledger, reclength: usize) {
        let info = my_malloc(ledger, self.flavor, CREATE_INFO);
        for bytes in FIXED {
            self.fixed.push(my_malloc(ledger, self.flavor, bytes));
        }
        ledger.free(info);
        self.row = align8(reclength + 1);
        let most_rows = self.limit.saturating_sub(POINTERS) / (INDEX + self.row);
        self.block_bytes = self.blocks_of.bytes(most_rows, self.row);
        self.index_bytes = self.blocks_of.bytes(most_rows, HASH_ENTRY);
        self.rows_left = 0;
    }

    /// Writes `rows` rows; those beyond the limit go to a table on disk, which is not the heap's.
    pub fn insert(&mut self, ledger: &mut Ledger, mut rows: usize) {
        let per_block = ((self.block_bytes - POINTERS) / self.row).max(1);
        while rows > 0 {
            if self.rows_left == 0 {
                let pair = self.block_bytes + self.index_bytes;
                if !self.blocks.is_empty() && (self.blocks.len() / 2 + 1) * pair > self.limit + pair / 2 {
                    return;
                }
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

    /// First blocks, of rows and of index, of a table of at most `limit` bytes.
    fn first(limit: usize, vars: Sysvars) -> [usize; 2] {
        let mut ledger = test_ledger();
        let vars = Sysvars { tmp_memory_table_size: limit, max_heap_table_size: limit, ..vars };
        let mut table = HeapTable::new(&vars);
        table.create(&mut ledger, 125);
        table.insert(&mut ledger, 1);
        let sizes = [table.sizes()[0], table.sizes()[1]];
        table.free(&mut ledger);
        sizes
    }

    /// `SELECT c, COUNT(*) ... GROUP BY c` over a CHAR(120), with `max_heap_table_size` and `tmp_memory_table_size` set
    /// to each limit.
    #[test]
    fn blocks_are_those_of_the_real_server() {
        for (limit, blocks) in [
            (16 << 10, [16_376, 16_376]),
            (256 << 10, [16_376, 16_376]),
            (1 << 20, [65_528, 16_376]),
            (4 << 20, [262_136, 65_528]),
            (16 << 20, [1_048_568, 262_136]),
            (64 << 20, [4_194_296, 1_048_568]),
            (256 << 20, [16_777_208, 4_194_296]),
            (1 << 30, [67_108_856, 16_777_208]),
        ] {
            assert_eq!(first(limit, Sysvars::default()), blocks, "limit {limit}");
        }
    }

    #[test]
    fn newer_versions_stop_at_4_mib_and_mysql_at_its_read_buffer() {
        assert_eq!(Blocks::SixteenthTo4MiB.bytes(6_000_000, 128), (4 << 20) - 32);
        assert_eq!(Blocks::SixteenthTo4MiB.bytes(100_000, 128), (1 << 20) - 32);
        // (131072 - 4096) / 128 + 1 rows, and with the header of MySQL's my_malloc.
        assert_eq!(first(16 << 20, Sysvars::of(Flavor::Mysql))[0], 1024 + 993 * 128 + 32);
        assert_eq!(Blocks::Tenth(131_072).bytes(50, 128), 1024 + 10 * 128);
    }

    #[test]
    fn rows_fill_block_after_block_up_to_the_limit() {
        let mut ledger = test_ledger();
        let mut table = HeapTable::new(&Sysvars::default());
        table.create(&mut ledger, 121);
        table.insert(&mut ledger, 100);
        assert_eq!(table.sizes(), [1_048_568, 262_136]);
        table.insert(&mut ledger, 10_000);
        assert_eq!(table.sizes(), [1_048_568, 262_136, 1_048_568, 262_136]);
        table.insert(&mut ledger, 1_000_000);
        let total: usize = table.sizes().iter().sum();
        assert!((14 << 20..18 << 20).contains(&total), "{total}");
        table.free(&mut ledger);
        assert!(table.sizes().is_empty());
    }
}
