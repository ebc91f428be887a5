//! Buffers that a statement takes in one piece: of a join without an index, of a multi-range read, of rows read back in
//! sorted order, of a sequential scan.
//!
//! Source: MariaDB sql/sql_join_cache.cc, `JOIN_CACHE::alloc_buffer`: what the rows expected need, at most
//! `join_buffer_size`. sql/multi_range_read.cc, `DsMrr_impl::dsmrr_init`: `mrr_buffer_size` behind a `HANDLER_BUFFER`;
//! 10.11.19 asks for 262192 bytes, as measured. sql/records.cc, `init_rr_cache`: as many rows as `read_rnd_buffer_size`
//! holds, each with its position. mysys/mf_iocache.c, `init_io_cache`: `read_buffer_size`.
//! MySQL sql/iterators/hash_join_buffer.cc, `HashJoinRowBuffer`: rows in a `MEM_ROOT` of 16 KiB blocks that grow by
//! half, until `join_buffer_size`; its multi-range read takes `read_rnd_buffer_size`; not measured.

use fragbench_engine::{Block, Ledger};

use super::{MemRoot, my_malloc};
use crate::{Flavor, Sysvars};

/// `sizeof(HANDLER_BUFFER)`: begin, end, end of what is used.
const HANDLER_BUFFER: usize = 24;
/// Bytes of a row's position in a buffer of rows: its number and its reference.
const POSITION: usize = 3 + 8;
/// First block of a hash table's rows.
const HASH_BLOCK: usize = 16 << 10;

/// A join's buffer.
#[derive(Debug)]
pub struct JoinBuffer(Shape);

#[derive(Debug)]
enum Shape {
    Whole(Block),
    HashTable(MemRoot),
}

impl JoinBuffer {
    /// Holds `rows` rows of `row` bytes, or as many of them as it has room for.
    pub fn fill(ledger: &mut Ledger, vars: &Sysvars, rows: usize, row: usize) -> JoinBuffer {
        let bytes = (rows * row).min(vars.join_buffer_size).max(1);
        JoinBuffer(match vars.flavor {
            Flavor::Mariadb => {
                let block = my_malloc(ledger, vars.flavor, bytes);
                ledger.write(&block, 0, bytes);
                Shape::Whole(block)
            }
            Flavor::Mysql => {
                let mut root = MemRoot::new(vars.flavor, HASH_BLOCK);
                (0..bytes / row).for_each(|_| root.alloc(ledger, row));
                Shape::HashTable(root)
            }
        })
    }

    /// The join has ended.
    pub fn free(self, ledger: &mut Ledger) {
        match self.0 {
            Shape::Whole(block) => ledger.free(block),
            Shape::HashTable(mut root) => root.free(ledger),
        }
    }

    /// Sizes asked for.
    pub fn sizes(&self) -> Vec<usize> {
        match &self.0 {
            Shape::Whole(block) => vec![block.size()],
            Shape::HashTable(root) => root.sizes(),
        }
    }
}

/// The buffer of a multi-range read.
pub fn mrr_buffer(ledger: &mut Ledger, vars: &Sysvars) -> Block {
    let bytes = match vars.flavor {
        Flavor::Mariadb => vars.mrr_buffer_size,
        Flavor::Mysql => vars.read_rnd_buffer_size,
    };
    my_malloc(ledger, vars.flavor, HANDLER_BUFFER + bytes)
}

/// The buffer of rows of `row` bytes that are read back in sorted order.
pub fn read_rnd_buffer(ledger: &mut Ledger, vars: &Sysvars, row: usize) -> Block {
    let each = row + POSITION;
    my_malloc(ledger, vars.flavor, (vars.read_rnd_buffer_size / each).max(1) * each)
}

/// The buffer of a sequential scan.
pub fn read_buffer(ledger: &mut Ledger, vars: &Sysvars) -> Block {
    my_malloc(ledger, vars.flavor, vars.read_buffer_size)
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;

    #[test]
    fn a_join_takes_what_it_needs_and_no_more_than_the_variable() {
        let mut ledger = test_ledger();
        let vars = Sysvars::default();
        for (rows, size) in [(10, 2000 + 24), (1_000_000, 262_144 + 24)] {
            let buffer = JoinBuffer::fill(&mut ledger, &vars, rows, 200);
            assert_eq!(buffer.sizes(), [size]);
            buffer.free(&mut ledger);
        }
    }

    #[test]
    fn mysql_keeps_a_hash_table_in_blocks_that_grow_by_half() {
        let mut ledger = test_ledger();
        let buffer = JoinBuffer::fill(&mut ledger, &Sysvars::of(Flavor::Mysql), 1_000_000, 200);
        // 16, 24, 36, 54, 81 and 121.5 KiB hold the 256 of the variable.
        assert_eq!(buffer.sizes(), [16_384, 24_576, 36_864, 55_296, 82_944, 124_416].map(|room| room + 16 + 32));
        buffer.free(&mut ledger);
    }

    #[test]
    fn other_buffers_have_the_size_of_their_variables() {
        let mut ledger = test_ledger();
        let (mariadb, mysql) = (Sysvars::default(), Sysvars::of(Flavor::Mysql));
        let mut size = |block: Block| {
            let size = block.size();
            ledger.free(block);
            size
        };
        let mut other = test_ledger();
        assert_eq!(size(mrr_buffer(&mut other, &mariadb)), 262_192);
        assert_eq!(size(mrr_buffer(&mut other, &mysql)), 262_144 + 24 + 32);
        assert_eq!(size(read_buffer(&mut other, &mariadb)), 131_096);
        assert_eq!(size(read_rnd_buffer(&mut other, &mariadb, 89)), 262_100 + 4 + 24);
    }
}
