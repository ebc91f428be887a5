//! `mem_heap_t`: InnoDB's bump allocator, of blocks that double up to 8000 bytes.
//!
//! Source: MariaDB storage/innobase/mem/mem0mem.cc, `mem_heap_create_block_func`, `mem_heap_add_block`, and
//! include/mem0mem.h, `MEM_BLOCK_STANDARD_SIZE` (commit 00fd9e1). Blocks come from `ut_malloc`, without the SQL layer's
//! header.

use fragbench_engine::{Block, Ledger};

use super::align8;

/// `MEM_BLOCK_HEADER_SIZE` of a release build on 64 bits, and what `MEM_SPACE_NEEDED` adds: a recorded 10.11.19 asks for
/// 1152 bytes where 1024 are wanted, and for 8128 where 8000 are.
const HEADER: usize = 128;
/// What of a block does not count when the next is made twice as large, as the same recording shows: 648, 1376, 2832,
/// 5744, 8128.
const UNCOUNTED: usize = 24;
const STANDARD_SIZE: usize = 8000;

/// A heap: a chain of blocks, freed as a whole.
#[derive(Debug, Default)]
pub struct MemHeap {
    blocks: Vec<Block>,
    left: usize,
}

impl MemHeap {
    /// A heap without blocks; room for its list is made here, not in the inner loop.
    pub fn new() -> MemHeap {
        MemHeap { blocks: Vec::with_capacity(8), left: 0 }
    }

    /// `mem_heap_create(n)`.
    #[inline]
    pub fn create(&mut self, ledger: &mut Ledger, n: usize) {
        debug_assert!(self.blocks.is_empty(), "a heap is created once");
        self.add(ledger, n);
    }

    /// `mem_heap_alloc(n)`.
    #[inline]
    pub fn alloc(&mut self, ledger: &mut Ledger, n: usize) {
        let n = align8(n);
        if self.left < n {
            let doubled = self.blocks.last().map_or(0, |last| 2 * (last.size() - UNCOUNTED)).min(STANDARD_SIZE);
            self.add(ledger, doubled.max(n));
        }
        if let Some(block) = self.blocks.last() {
            let from = block.size() - self.left;
            ledger.write(block, from, from + n);
        }
        self.left -= n;
    }

    fn add(&mut self, ledger: &mut Ledger, n: usize) {
        let id = ledger.next_id();
        self.blocks.push(ledger.malloc_touching(id, HEADER + align8(n), 1));
        self.left = align8(n);
    }

    /// `mem_heap_free`: the newest block first.
    #[inline]
    pub fn free(&mut self, ledger: &mut Ledger) {
        while let Some(block) = self.blocks.pop() {
            ledger.free(block);
        }
        self.left = 0;
    }

    /// Sizes asked for, oldest first.
    pub fn sizes(&self) -> Vec<usize> {
        self.blocks.iter().map(Block::size).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;

    #[test]
    fn blocks_double_to_the_standard_size_and_a_large_request_is_met_exactly() {
        let mut ledger = test_ledger();
        let mut heap = MemHeap::new();
        heap.create(&mut ledger, 520);
        for _ in 0..5 {
            heap.left = 0;
            heap.alloc(&mut ledger, 100);
        }
        heap.alloc(&mut ledger, 20_000);
        assert_eq!(heap.sizes(), [648, 1376, 2832, 5744, 8128, 8128, 20_128]);
        heap.free(&mut ledger);
        assert!(heap.sizes().is_empty());
    }
}
