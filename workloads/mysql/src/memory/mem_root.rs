//! `MEM_ROOT`: the SQL layer's bump allocator, of blocks that grow linearly.
//!
//! Source: MariaDB mysys/my_alloc.c, `init_alloc_root`, `alloc_root`, `free_root` (commit 027dde7; later versions round
//! block sizes to powers of two, which 10.11 is not known to do). A block is `block_size − 40` times `block_num >> 2`,
//! where `block_num` starts at 4 and counts blocks; a larger request gets a block of its own size. Simplified: only the
//! newest block is tried.

use fragbench_engine::{Block, Ledger};

use super::{align8, my_malloc};

/// `sizeof(USED_MEM)`: next, left, size.
const USED_MEM: usize = 24;
/// `ALLOC_ROOT_MIN_BLOCK_SIZE`: `MALLOC_OVERHEAD` 8, `USED_MEM`, 8.
const MIN_BLOCK_SIZE: usize = 8 + USED_MEM + 8;

/// A root; empty until something is allocated from it, or pre-allocated.
#[derive(Debug)]
pub struct MemRoot {
    block_size: usize,
    block_num: usize,
    prealloc: Option<Block>,
    blocks: Vec<Block>,
    left: usize,
}

impl MemRoot {
    /// `init_alloc_root(block_size, 0)`.
    pub fn new(block_size: usize) -> MemRoot {
        let block_size = block_size.saturating_sub(MIN_BLOCK_SIZE) & !1;
        MemRoot { block_size, block_num: 4, prealloc: None, blocks: Vec::with_capacity(8), left: 0 }
    }

    /// `init_alloc_root(block_size, prealloc)`: the first block is there from the start.
    pub fn preallocated(ledger: &mut Ledger, block_size: usize, prealloc: usize) -> MemRoot {
        let mut root = MemRoot::new(block_size);
        if prealloc > 0 {
            root.prealloc = Some(my_malloc(ledger, prealloc + USED_MEM));
            root.left = prealloc;
        }
        root
    }

    /// `alloc_root(n)`.
    #[inline]
    pub fn alloc(&mut self, ledger: &mut Ledger, n: usize) {
        let n = align8(n);
        if self.left < n {
            let get = (n + USED_MEM).max(self.block_size * (self.block_num >> 2));
            self.blocks.push(my_malloc(ledger, get));
            self.block_num += 1;
            self.left = get - USED_MEM;
        }
        if let Some(block) = self.blocks.last().or(self.prealloc.as_ref()) {
            let from = block.size() - self.left;
            ledger.write(block, from, from + n);
        }
        self.left -= n;
    }

    /// `free_root(MY_KEEP_PREALLOC)`.
    #[inline]
    pub fn clear(&mut self, ledger: &mut Ledger) {
        while let Some(block) = self.blocks.pop() {
            ledger.free(block);
        }
        self.block_num = 4;
        self.left = self.prealloc.as_ref().map_or(0, |block| block.size() - super::request(USED_MEM));
    }

    /// `free_root(0)`: nothing is left.
    pub fn free(&mut self, ledger: &mut Ledger) {
        if let Some(block) = self.prealloc.take() {
            ledger.free(block);
        }
        self.clear(ledger);
    }

    /// Sizes asked for, oldest first.
    pub fn sizes(&self) -> Vec<usize> {
        self.prealloc.iter().chain(&self.blocks).map(Block::size).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;

    #[test]
    fn blocks_grow_by_one_part_every_fourth() {
        let mut ledger = test_ledger();
        let mut root = MemRoot::new(1024);
        for _ in 0..9 {
            root.left = 0;
            root.alloc(&mut ledger, 100);
        }
        assert_eq!(root.sizes(), [1008, 1008, 1008, 1008, 1992, 1992, 1992, 1992, 2976]);
        root.free(&mut ledger);
        root.alloc(&mut ledger, 5000);
        assert_eq!(root.sizes(), [5000 + 24 + 24]);
        root.free(&mut ledger);
    }

    #[test]
    fn the_preallocated_block_is_used_first_and_kept() {
        let mut ledger = test_ledger();
        let mut root = MemRoot::preallocated(&mut ledger, 32768, 32768);
        root.alloc(&mut ledger, 32768);
        assert_eq!(root.sizes(), [32768 + 24 + 24]);
        root.alloc(&mut ledger, 8);
        assert_eq!(root.sizes(), [32816, 32728 + 24]);
        root.clear(&mut ledger);
        assert_eq!((root.sizes(), root.left), (vec![32816], 32768));
        root.free(&mut ledger);
        assert!(root.sizes().is_empty());
    }
}
