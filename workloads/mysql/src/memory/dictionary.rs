//! InnoDB's dictionary cache: a table's definition and those of its indexes, each in a heap of its own.
//!
//! Source: MariaDB storage/innobase/dict/dict0mem.cc, `dict_table_t::create`, `dict_mem_index_create`, `DICT_HEAP_SIZE`;
//! dict0dict.cc, `dict_sys_t::evict_table_LRU`: the master thread drops the definitions used longest ago beyond
//! `table_definition_cache`. Measured on 10.11.19: the heaps of a table that is opened ask for 232, 544 and 1168 bytes,
//! which is 100 bytes wanted and the rule of `mem_heap_t`. MySQL has the same heaps and evicts in the same way, not
//! measured.

use std::collections::VecDeque;

use fragbench_engine::{Block, Ledger};

use super::MemHeap;
use crate::Sysvars;

/// `DICT_HEAP_SIZE`.
const HEAP: usize = 100;
/// `dict_table_t`, `dict_index_t`: from the server's heap, beside the heaps of what they name (712 measured).
const TABLE: usize = 712;
const INDEX: usize = 592;
/// A column's or a field's share of the heap.
const COLUMN: usize = 56;

/// A table's definition.
#[derive(Debug)]
pub struct Definition {
    objects: Vec<Block>,
    heaps: Vec<MemHeap>,
}

impl Definition {
    /// `dict_load_table` for `columns` columns and `indexes` indexes.
    pub fn load(ledger: &mut Ledger, columns: usize, indexes: usize) -> Definition {
        let mut definition = Definition { objects: Vec::new(), heaps: Vec::new() };
        definition.add(ledger, TABLE, columns);
        for _ in 0..indexes {
            definition.add(ledger, INDEX, columns.min(4));
        }
        definition
    }

    fn add(&mut self, ledger: &mut Ledger, object: usize, columns: usize) {
        let mut heap = MemHeap::new();
        heap.create(ledger, HEAP);
        let id = ledger.next_id();
        self.objects.push(ledger.malloc(id, object));
        (0..columns).for_each(|_| heap.alloc(ledger, COLUMN));
        self.heaps.push(heap);
    }

    /// `dict_sys_t::remove`, by any thread.
    pub fn free(self, ledger: &mut Ledger) {
        for mut heap in self.heaps {
            heap.free(ledger);
        }
        self.objects.into_iter().for_each(|block| ledger.free(block));
    }

    /// Sizes of the heaps' blocks, one list a heap.
    pub fn sizes(&self) -> Vec<Vec<usize>> {
        self.heaps.iter().map(MemHeap::sizes).collect()
    }
}

/// The cache: definitions by table number, used longest ago first.
#[derive(Debug)]
pub struct DictionaryCache {
    tables: VecDeque<(u64, Definition)>,
    most: usize,
}

impl DictionaryCache {
    /// Holds `table_definition_cache` definitions.
    pub fn new(vars: &Sysvars) -> DictionaryCache {
        DictionaryCache { tables: VecDeque::new(), most: vars.table_definition_cache }
    }

    /// A table is used: loaded if it is not there. What has to go for it is left to the master thread, which is
    /// whoever frees what this returns.
    pub fn open(&mut self, ledger: &mut Ledger, table: u64, columns: usize, indexes: usize) -> Option<Definition> {
        let found = self.tables.iter().rposition(|(number, _)| *number == table);
        let entry = match found.and_then(|at| self.tables.remove(at)) {
            Some(entry) => entry,
            None => (table, Definition::load(ledger, columns, indexes)),
        };
        self.tables.push_back(entry);
        if self.tables.len() > self.most { self.tables.pop_front().map(|(_, oldest)| oldest) } else { None }
    }

    /// Definitions held.
    pub fn len(&self) -> usize {
        self.tables.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// FLUSH TABLES, or the server's end: all go.
    pub fn drain(&mut self) -> impl Iterator<Item = Definition> + '_ {
        self.tables.drain(..).map(|(_, definition)| definition)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{calls_of, test_ledger};
    use super::*;

    #[test]
    fn a_definition_is_a_heap_for_the_table_and_one_for_each_index() {
        let mut ledger = test_ledger();
        let definition = Definition::load(&mut ledger, 20, 2);
        assert_eq!(definition.sizes(), [vec![232, 544, 1168], vec![232, 544], vec![232, 544]]);
        definition.free(&mut ledger);
    }

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let mut ledger = test_ledger();
        let vars = Sysvars { table_definition_cache: 3, ..Sysvars::default() };
        let mut cache = DictionaryCache::new(&vars);
        for table in 0..3 {
            assert!(cache.open(&mut ledger, table, 4, 1).is_none());
        }
        calls_of(&mut ledger);
        assert!(cache.open(&mut ledger, 0, 4, 1).is_none());
        assert!(calls_of(&mut ledger).is_empty(), "it was there");
        let evicted = cache.open(&mut ledger, 3, 4, 1);
        assert_eq!(cache.tables.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 0, 3]);
        evicted.into_iter().for_each(|definition| definition.free(&mut ledger));
        cache.drain().collect::<Vec<_>>().into_iter().for_each(|definition| definition.free(&mut ledger));
        assert!(cache.is_empty());
    }
}
