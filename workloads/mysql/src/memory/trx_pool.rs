//! The pool of `trx_t`: a block of 4 MiB whose first sixteen transactions are made ready at start-up, and all others by
//! the one connection that needs the seventeenth.
//!
//! Source: MariaDB storage/innobase/include/ut0pool.h, `Pool::get`, `Pool::init`; trx/trx0trx.cc, `TrxFactory::init`,
//! `MAX_TRX_BLOCK_SIZE`. Measured on 10.11.19: that connection calls calloc(536) and malloc(1152), vectors and lock
//! heap, 1473 times in one statement, while the pool's vector of free transactions doubles beside them from 152 bytes.
//! None of it is ever freed. MySQL has the same pool; its sizes are taken to be the same, not measured.

use fragbench_engine::{ALL_PAGES, Block, Ledger};

/// Transactions that are ready from the start.
const FIRST: usize = 16;
/// Those of a block of 4 MiB.
const IN_A_BLOCK: usize = 1489;
/// `trx_t`'s vectors, zeroed; its `lock_heap`.
const VECTORS: usize = 536;
const LOCK_HEAP: usize = 1152;
/// What `ut_allocator` adds to the vector of pointers.
const HEADER: usize = 24;

/// The pool. What it holds is pinned until the server ends.
#[derive(Debug, Default)]
pub struct TrxPool {
    ready: Vec<[Block; 2]>,
    free: Option<Block>,
    taken: usize,
}

impl TrxPool {
    /// The server starts.
    pub fn start(ledger: &mut Ledger) -> TrxPool {
        let mut pool = TrxPool { ready: Vec::with_capacity(IN_A_BLOCK), ..TrxPool::default() };
        pool.fill(ledger, FIRST);
        pool
    }

    /// A connection takes a transaction for its first statement and keeps it.
    pub fn take(&mut self, ledger: &mut Ledger) {
        self.taken += 1;
        if self.taken > self.ready.len() {
            let blocks = self.taken.div_ceil(IN_A_BLOCK);
            self.fill(ledger, blocks * IN_A_BLOCK);
        }
    }

    /// A connection ends and gives its transaction back.
    pub fn give_back(&mut self) {
        self.taken -= 1;
    }

    /// Makes transactions ready until there are `count`.
    fn fill(&mut self, ledger: &mut Ledger, count: usize) {
        while self.ready.len() < count {
            let (vectors, lock_heap) = (ledger.next_id(), ledger.next_id());
            self.ready.push([ledger.calloc(vectors, VECTORS, ALL_PAGES), ledger.malloc(lock_heap, LOCK_HEAP)]);
            self.grow_vector(ledger);
        }
    }

    /// `std::vector` doubles: the new array is there before the old one goes.
    fn grow_vector(&mut self, ledger: &mut Ledger) {
        let bytes = self.ready.len().max(FIRST).next_power_of_two() * size_of::<usize>() + HEADER;
        if self.free.as_ref().is_none_or(|block| block.size() < bytes) {
            let id = ledger.next_id();
            let old = self.free.replace(ledger.malloc(id, bytes));
            old.into_iter().for_each(|block| ledger.free(block));
        }
    }

    /// Transactions that are ready or taken.
    pub fn made(&self) -> usize {
        self.ready.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{calls_of, test_ledger};
    use super::*;
    use fragbench_engine::Call;

    #[test]
    fn the_seventeenth_makes_all_the_others() {
        let mut ledger = test_ledger();
        let mut pool = TrxPool::start(&mut ledger);
        assert_eq!(pool.made(), 16);
        calls_of(&mut ledger);
        (0..16).for_each(|_| pool.take(&mut ledger));
        assert!(calls_of(&mut ledger).is_empty());
        pool.take(&mut ledger);
        let calls = calls_of(&mut ledger);
        let count = |size: usize| calls.iter().filter(|call| **call == (Call::Malloc, size)).count();
        assert_eq!((count(VECTORS), count(LOCK_HEAP)), (1473 + 1, 1473), "one array has the vectors' size");
        let doublings: Vec<usize> = calls.iter().filter(|(call, _)| *call == Call::Free).map(|call| call.1).collect();
        assert_eq!(doublings, [152, 280, 536, 1048, 2072, 4120, 8216]);
        pool.give_back();
        pool.take(&mut ledger);
        assert!(calls_of(&mut ledger).is_empty());
    }
}
