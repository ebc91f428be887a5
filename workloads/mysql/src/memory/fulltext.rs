//! A fulltext query's memory: small nodes for each document that matches, and a heap for the words of a phrase that
//! grows with every document and goes as a whole.
//!
//! Source: MariaDB storage/innobase/fts/fts0que.cc, `fts_query_phrase_search`, `fts_query_t::heap`; Percona PS-5312 and
//! MySQL bug 95065: 80 MB of such a heap were freed and did not go back to the system. Measured on 10.11.19, a phrase
//! that 3000 documents hold: for each document 2 × 95 and 2 × 79 bytes, 1250 bytes of a heap of blocks of 8128, and for
//! a moment 640 and 16512 while the document is read. MySQL has the same code, not measured.

use fragbench_engine::{Block, Ledger};

use super::MemHeap;

/// Nodes of the trees of documents and of rankings.
const NODES: [usize; 4] = [95, 79, 95, 79];
/// What the heap is made with.
const FIRST: usize = 520;
/// Reading a document: a query graph, and a heap of a page.
const READ: [usize; 2] = [640, 16_512];

/// A query under way.
#[derive(Debug)]
pub struct FulltextQuery {
    heap: MemHeap,
    nodes: Vec<Block>,
    /// Bytes of its heap, less blocks' own.
    taken: usize,
    limit: usize,
}

impl FulltextQuery {
    /// Heap of a document: words and their positions.
    pub const WORDS: usize = 1250;

    /// A query that may take `innodb_ft_result_cache_limit` bytes.
    pub fn new(ledger: &mut Ledger, vars: &crate::Sysvars) -> FulltextQuery {
        let mut heap = MemHeap::new();
        heap.create(ledger, FIRST);
        FulltextQuery { heap, nodes: Vec::new(), taken: 0, limit: vars.innodb_ft_result_cache_limit }
    }

    /// A document that holds the words; `false` when the query may not take more.
    pub fn document(&mut self, ledger: &mut Ledger) -> bool {
        if self.taken + Self::WORDS > self.limit {
            return false;
        }
        for bytes in NODES {
            let id = ledger.next_id();
            self.nodes.push(ledger.malloc(id, bytes));
        }
        let read = READ.map(|bytes| {
            let id = ledger.next_id();
            ledger.malloc_touching(id, bytes, 1)
        });
        for piece in [Self::WORDS / 5; 5] {
            self.heap.alloc(ledger, piece);
        }
        read.into_iter().rev().for_each(|block| ledger.free(block));
        self.taken += Self::WORDS;
        true
    }

    /// Bytes of its heap in use.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// The query has ended: the heap as a whole, then the trees.
    pub fn free(mut self, ledger: &mut Ledger) {
        self.heap.free(ledger);
        self.nodes.into_iter().for_each(|block| ledger.free(block));
    }

    /// Sizes of the heap's blocks.
    pub fn sizes(&self) -> Vec<usize> {
        self.heap.sizes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{calls_of, test_ledger};
    use super::*;
    use crate::Sysvars;
    use fragbench_engine::Call;

    #[test]
    fn three_thousand_documents_take_what_was_measured() {
        let mut ledger = test_ledger();
        let mut query = FulltextQuery::new(&mut ledger, &Sysvars::default());
        (0..3000).for_each(|_| assert!(query.document(&mut ledger)));
        assert_eq!(query.sizes()[..6], [648, 1376, 2832, 5744, 8128, 8128]);
        let calls = calls_of(&mut ledger);
        let count = |size: usize| calls.iter().filter(|call| **call == (Call::Malloc, size)).count();
        assert_eq!((count(95), count(79), count(640), count(16_512)), (6000, 6000, 3000, 3000));
        assert!((461usize.abs_diff(count(8128))) < 25, "{} blocks of 8128, 461 were measured", count(8128));
        query.free(&mut ledger);
        let freed = calls_of(&mut ledger).len();
        assert_eq!(freed, calls.iter().filter(|call| call.0 == Call::Malloc).count() - 6000);
    }

    #[test]
    fn a_query_stops_at_the_limit_of_its_variable() {
        let mut ledger = test_ledger();
        let vars = Sysvars { innodb_ft_result_cache_limit: 10_000, ..Sysvars::default() };
        let mut query = FulltextQuery::new(&mut ledger, &vars);
        let held = (0..100).filter(|_| query.document(&mut ledger)).count();
        assert_eq!((held, query.taken()), (8, 10_000));
        query.free(&mut ledger);
    }
}
