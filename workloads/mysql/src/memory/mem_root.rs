//! `MEM_ROOT`: the SQL layer's bump allocator, of blocks that grow linearly.
//!
//! Source: MariaDB mysys/my_alloc.c, `calculate_block_sizes`, `alloc_root`, `free_root`. Sizes are rounded up to a
//! power of two less `MALLOC_OVERHEAD`, and a recorded 10.11.19 asks for 4088 and 32760 accordingly. A block is
//! `block_size` times `block_num >> 2`, where `block_num` starts at 4 and counts blocks; a larger request gets a block
//! of its own size. Simplified: only the newest block is tried.

use fragbench_engine::{Block, Ledger};

use super::{align8, my_malloc};

/// `sizeof(USED_MEM)`: next, left, size.
const USED_MEM: usize = 24;
/// `MALLOC_OVERHEAD`: malloc's own 8 and the header of `my_malloc`.
const MALLOC_OVERHEAD: usize = 8 + 24;

/// `calculate_block_sizes`.
fn block_size(size: usize) -> usize {
    size.saturating_sub(MALLOC_OVERHEAD).next_power_of_two().saturating_sub(MALLOC_OVERHEAD)
}

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
        MemRoot {
            block_size: self::block_size(block_size),
            block_num: 4,
            prealloc: None,
            blocks: Vec::with_capacity(8),
            left: 0,
        }
    }

    /// `init_alloc_root(block_size, prealloc)`: the first block is there from the start.
    pub fn preallocated(ledger: &mut Ledger, block_size: usize, prealloc: usize) -> MemRoot {
        let mut root = MemRoot::new(block_size);
        if prealloc > 0 {
            let size = self::block_size(prealloc);
            root.prealloc = Some(my_malloc(ledger, size));
            root.left = size - USED_MEM;
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
        assert_eq!(root.sizes(), [1016, 1016, 1016, 1016, 2008, 2008, 2008, 2008, 3000]);
        root.free(&mut ledger);
        root.alloc(&mut ledger, 5000);
        assert_eq!(root.sizes(), [5000 + 24 + 24]);
        root.free(&mut ledger);
    }

    #[test]
    fn the_preallocated_block_is_used_first_and_kept() {
        let mut ledger = test_ledger();
        let mut root = MemRoot::preallocated(&mut ledger, 32768, 32768);
        root.alloc(&mut ledger, 32768 - 32 - 24);
        assert_eq!(root.sizes(), [32760]);
        root.alloc(&mut ledger, 8);
        assert_eq!(root.sizes(), [32760, 32760]);
        root.clear(&mut ledger);
        assert_eq!((root.sizes(), root.left), (vec![32760], 32768 - 32 - 24));
        root.free(&mut ledger);
        assert!(root.sizes().is_empty());
    }
}
