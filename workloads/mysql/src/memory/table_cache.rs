//! The table cache: shares, open instances, and their eviction by whoever opens one too many.
//!
//! Source: MariaDB sql/table.cc, `alloc_table_share`, `open_table_from_share`; sql/table_cache.cc, `tc_add_table`,
//! `intern_close_table` (commit 0583546): the thread whose open overflows the cache closes the least recently used
//! instance, which another thread has opened. That is the server's main source of blocks freed by another thread than
//! the one that allocated them.

use fragbench_engine::{Block, Ledger};

use super::{MemHeap, MemRoot};
use crate::Flavor;

/// `TABLE_ALLOC_BLOCK_SIZE` (sql/sql_const.h).
const TABLE_ROOT: usize = 1024;

/// A `TABLE_SHARE`: pins of a kind, since shares go only by DDL or FLUSH.
#[derive(Debug)]
pub struct TableShare {
    root: MemRoot,
    dictionary: MemHeap,
}

impl TableShare {
    /// Opens the share of a table of `fields` columns.
    pub fn open(ledger: &mut Ledger, flavor: Flavor, fields: usize) -> TableShare {
        let mut root = MemRoot::new(flavor, TABLE_ROOT);
        root.alloc(ledger, 900);
        // A Field, its name and its comment, for each column.
        for _ in 0..fields {
            root.alloc(ledger, 280);
        }
        let mut dictionary = MemHeap::new();
        dictionary.create(ledger, 256);
        for _ in 0..fields {
            dictionary.alloc(ledger, 120);
        }
        TableShare { root, dictionary }
    }

    /// Drops the share.
    pub fn close(mut self, ledger: &mut Ledger) {
        self.dictionary.free(ledger);
        self.root.free(ledger);
    }

    /// Sizes asked for, of the root and of InnoDB's dictionary heap.
    pub fn sizes(&self) -> (Vec<usize>, Vec<usize>) {
        (self.root.sizes(), self.dictionary.sizes())
    }
}

/// What an open instance holds, by its number of columns: two blocks of its root, more for many columns, `row_prebuilt_t`,
/// its name; as recorded for tables of 3 to 40 columns.
fn instance(columns: usize) -> impl Iterator<Item = usize> {
    let more_root = (columns / 13).min(2);
    [1016, 8184].into_iter().chain(std::iter::repeat_n(4088, more_root)).chain([3880 + 116 * columns, 32])
}

/// What its first read adds: the template of columns, the reference of a row, a row's buffers.
fn first_read(columns: usize) -> [usize; 3] {
    [600 + 144 * columns, 33 + columns / 6, (1008 + 210 * columns).min(8080)]
}

/// What its first change adds: the graphs of an update and an insert, and their rows.
const FIRST_CHANGE: [usize; 5] = [320, 256, 272, 592, 7984];

/// How far an instance has been used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Opened, by a statement that reads nothing from it.
    Opened,
    /// Read.
    Read,
    /// Read and changed.
    Changed,
}

/// An open instance.
#[derive(Debug)]
pub struct Table(Vec<Block>);

impl Table {
    /// `open_table_from_share` for a table of `columns` columns, and its first uses.
    pub fn open(ledger: &mut Ledger, columns: usize, used: Use) -> Table {
        let mut blocks = Vec::with_capacity(16);
        let mut take = |size| {
            let id = ledger.next_id();
            blocks.push(ledger.malloc(id, size));
        };
        instance(columns).for_each(&mut take);
        if used >= Use::Read {
            first_read(columns).into_iter().for_each(&mut take);
        }
        if used == Use::Changed {
            FIRST_CHANGE.into_iter().for_each(&mut take);
        }
        Table(blocks)
    }

    /// `intern_close_table`, by any thread: the newest block first.
    pub fn close(self, ledger: &mut Ledger) {
        for block in self.0.into_iter().rev() {
            ledger.free(block);
        }
    }

    /// Sizes asked for.
    pub fn sizes(&self) -> Vec<usize> {
        self.0.iter().map(Block::size).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;

    #[test]
    fn a_share_is_a_root_of_1_kib_blocks_and_a_dictionary_heap() {
        let mut ledger = test_ledger();
        let share = TableShare::open(&mut ledger, Flavor::Mariadb, 4);
        assert_eq!(share.sizes(), (vec![1016, 1016, 1016], vec![384, 848]));
        share.close(&mut ledger);
    }

    #[test]
    fn an_instance_grows_with_its_columns_and_its_use() {
        let mut ledger = test_ledger();
        let table = Table::open(&mut ledger, 0, Use::Opened);
        assert_eq!(table.sizes(), [1016, 8184, 3880, 32]);
        table.close(&mut ledger);
        let table = Table::open(&mut ledger, 35, Use::Changed);
        let recorded = [1016, 8184, 4088, 4088, 7940, 32, 5640, 38, 8080];
        assert_eq!(table.sizes(), [&recorded[..], &FIRST_CHANGE].concat());
        table.close(&mut ledger);
    }
}
