//! The table cache: shares, open instances, and their eviction by whoever opens one too many.
//!
//! Source: MariaDB sql/table.cc, `alloc_table_share`, `open_table_from_share`; sql/table_cache.cc, `tc_add_table`,
//! `intern_close_table` (commit 0583546): the thread whose open overflows the cache closes the least recently used
//! instance, which another thread has opened. That is the server's main source of blocks freed by another thread than
//! the one that allocated them.
//!
//! Here each session closes what the session before it has opened, after as many transactions as the cache holds
//! instances a session: the same number of instances live and the same share of frees is foreign, but which block is
//! freed by whom does not depend on how threads happen to be scheduled.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use fragbench_engine::{Block, Ledger, clock};

use super::{MemHeap, MemRoot, my_malloc};
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

/// `sizeof(TABLE)`, `ha_innobase`, two blocks of the instance's root, two record buffers, `row_prebuilt_t`'s heap.
const INSTANCE: [usize; 7] = [2840, 980, 992, 992, 600, 600, 4200];

/// An open instance. Its list lies in itself, so that opening one takes nothing of the harness's heap.
#[derive(Debug)]
pub struct Table([Block; 7]);

impl Table {
    /// `open_table_from_share`.
    pub fn open(ledger: &mut Ledger, flavor: Flavor) -> Table {
        Table(INSTANCE.map(|size| my_malloc(ledger, flavor, size)))
    }

    /// `intern_close_table`, by any thread.
    pub fn close(self, ledger: &mut Ledger) {
        for block in self.0 {
            ledger.free(block);
        }
    }
}

/// Instances on their way from the session that opened them to the one that closes them.
#[derive(Debug)]
pub struct Handover {
    state: Mutex<State>,
    changed: Condvar,
    depth: usize,
}

#[derive(Debug)]
struct State {
    open: VecDeque<Table>,
    opened: u64,
}

/// Transactions that a session may be ahead of its successor beyond the cache's depth: bounds what is live at one time.
const SLACK: usize = 8;

impl Handover {
    /// Holds `depth` instances once it is full.
    pub fn new(depth: usize) -> Handover {
        let open = VecDeque::with_capacity(depth + SLACK + 1);
        Handover { state: Mutex::new(State { open, opened: 0 }), changed: Condvar::new(), depth }
    }

    /// The opener adds an instance, and waits when its successor lags too far behind.
    pub fn add(&self, ledger: &Ledger, table: Table) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.wait(ledger, state, |s| s.open.len() > self.depth + SLACK);
        state.open.push_back(table);
        state.opened += 1;
        self.changed.notify_all();
    }

    /// In its transaction number `turn` (from 1) the successor takes the instance opened `depth` transactions before
    /// that; `None` while the cache is not yet full.
    pub fn evict(&self, ledger: &Ledger, turn: u64) -> Option<Table> {
        let due = turn.checked_sub(self.depth as u64).filter(|due| *due > 0)?;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.wait(ledger, state, |s| s.opened < due);
        self.changed.notify_all();
        state.open.pop_front()
    }

    /// Takes what is left, when all sessions are quiet.
    pub fn drain(&self) -> Vec<Table> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).open.drain(..).collect()
    }

    fn wait<'a>(
        &self,
        ledger: &Ledger,
        state: std::sync::MutexGuard<'a, State>,
        mut blocked: impl FnMut(&State) -> bool,
    ) -> std::sync::MutexGuard<'a, State> {
        if !blocked(&state) {
            return state;
        }
        let start = clock::monotonic_ns();
        let state = self.changed.wait_while(state, |s| blocked(s)).unwrap_or_else(PoisonError::into_inner);
        ledger.waited(clock::monotonic_ns() - start);
        state
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
    fn an_instance_leaves_as_many_turns_later_as_the_cache_is_deep() {
        let mut ledger = test_ledger();
        let cache = Handover::new(2);
        for turn in 1..=5 {
            let table = Table::open(&mut ledger, Flavor::Mariadb);
            let first = table.0[0].id();
            cache.add(&ledger, table);
            let evicted = cache.evict(&ledger, turn);
            assert_eq!(evicted.as_ref().map(|t| t.0[0].id()), (turn > 2).then(|| first - 14), "turn {turn}");
            evicted.into_iter().for_each(|t| t.close(&mut ledger));
        }
        assert_eq!(cache.drain().into_iter().map(|t| t.close(&mut ledger)).count(), 2);
    }
}
