//! `MEM_ROOT`: the SQL layer's bump allocator.
//!
//! Source: MariaDB mysys/my_alloc.c, `calculate_block_sizes`, `alloc_root`, `free_root`: a block is `block_size` times
//! `block_num >> 2`, where `block_num` starts at 4 and counts blocks; a larger request gets a block of its own size.
//! Older versions take `block_size` as it is; 10.11.19 rounds it up to a power of two and keeps each block short of a
//! multiple of it by `MALLOC_OVERHEAD`, as measured: a statement with three thousand constants asks for 4 × 32760,
//! 4 × 65528, 4 × 98296 and 131064. MySQL mysys/my_alloc.cc, `MEM_ROOT::AllocBlock`, `ClearForReuse` (commit 0657f4a):
//! each block is half as large again as the one before, and clearing keeps the newest; not measured.
//! Simplified: only the newest block is tried.

use fragbench_engine::{Block, Ledger};

use super::{align8, my_malloc, request};
use crate::Flavor;

/// How a root's blocks grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// MariaDB before sizes were rounded: `block_size` times 1, 1, 1, 1, 2, 2, 2, 2, 3, ...
    Linear,
    /// The same multiples of a power of two, each less `MALLOC_OVERHEAD`.
    PowerOfTwo,
    /// MySQL: each half as large again as the one before.
    Geometric,
}

impl From<Flavor> for Growth {
    fn from(flavor: Flavor) -> Growth {
        match flavor {
            Flavor::Mariadb => Growth::PowerOfTwo,
            Flavor::Mysql => Growth::Geometric,
        }
    }
}

/// MariaDB's `sizeof(USED_MEM)`: next, left, size.
const USED_MEM: usize = 24;
/// MySQL's `sizeof(MEM_ROOT::Block)`: previous, end.
const BLOCK: usize = 16;
/// MariaDB's `MALLOC_OVERHEAD`: malloc's own 8 and the header of `my_malloc`.
const MALLOC_OVERHEAD: usize = 8 + 24;

/// `kPreallocSz` of MySQL's sql/sql_parse.cc, `dispatch_command`: a statement's root that has not grown beyond it
/// keeps a block for the next.
const KEPT_BETWEEN_COMMANDS: usize = 40_960;

/// `calculate_block_sizes`.
fn power_of_two(size: usize) -> usize {
    size.saturating_sub(MALLOC_OVERHEAD).next_power_of_two().saturating_sub(MALLOC_OVERHEAD)
}

/// A root; empty until something is allocated from it, or pre-allocated.
#[derive(Debug)]
pub struct MemRoot {
    flavor: Flavor,
    growth: Growth,
    initial: usize,
    block_size: usize,
    block_num: usize,
    /// The first block stays when the root is cleared.
    preallocated: bool,
    blocks: Vec<Block>,
    left: usize,
}

impl MemRoot {
    /// `init_alloc_root(block_size, 0)`.
    pub fn new(flavor: Flavor, block_size: usize) -> MemRoot {
        MemRoot::growing(flavor, flavor.into(), block_size)
    }

    /// As [`Self::new`], by another rule than the flavor's newest.
    pub fn growing(flavor: Flavor, growth: Growth, block_size: usize) -> MemRoot {
        let block_size = if growth == Growth::PowerOfTwo { power_of_two(block_size) } else { block_size };
        let blocks = Vec::with_capacity(8);
        MemRoot { flavor, growth, initial: block_size, block_size, block_num: 4, preallocated: false, blocks, left: 0 }
    }

    /// `init_alloc_root(block_size, prealloc)`: the first block is there from the start. MySQL knows no such block and
    /// takes its first when it is needed.
    pub fn preallocated(ledger: &mut Ledger, flavor: Flavor, block_size: usize, prealloc: usize) -> MemRoot {
        let mut root = MemRoot::new(flavor, block_size);
        if flavor == Flavor::Mariadb && prealloc > 0 {
            let size = power_of_two(prealloc);
            root.blocks.push(my_malloc(ledger, flavor, size));
            root.left = size - USED_MEM;
            root.preallocated = true;
        }
        root
    }

    /// `alloc_root(n)`, `MEM_ROOT::Alloc(n)`.
    #[inline]
    pub fn alloc(&mut self, ledger: &mut Ledger, n: usize) {
        let n = align8(n);
        if self.left < n {
            self.add(ledger, n);
        }
        if let Some(block) = self.blocks.last() {
            let from = block.size() - self.left;
            ledger.write(block, from, from + n);
        }
        self.left -= n;
    }

    fn add(&mut self, ledger: &mut Ledger, n: usize) {
        let (get, header) = match self.growth {
            Growth::Geometric => {
                let room = align8(self.block_size).max(n);
                self.block_size += self.block_size / 2;
                (room + BLOCK, BLOCK)
            }
            Growth::Linear | Growth::PowerOfTwo => {
                let times = self.block_num >> 2;
                let grown = match self.growth {
                    Growth::PowerOfTwo => (self.block_size + MALLOC_OVERHEAD) * times - MALLOC_OVERHEAD,
                    _ => self.block_size * times,
                };
                self.block_num += 1;
                ((n + USED_MEM).max(grown), USED_MEM)
            }
        };
        self.blocks.push(my_malloc(ledger, self.flavor, get));
        self.left = get - header;
    }

    /// End of a statement. MariaDB: `free_root(MY_KEEP_PREALLOC)`, all blocks but the first pre-allocated one go. MySQL:
    /// a root of less than 40960 bytes keeps its newest block (`ClearForReuse`), a larger one nothing (`Clear`).
    #[inline]
    pub fn clear(&mut self, ledger: &mut Ledger) {
        match self.growth {
            Growth::Geometric if self.room() < KEPT_BETWEEN_COMMANDS => self.clear_for_reuse(ledger),
            Growth::Geometric => self.free(ledger),
            Growth::Linear | Growth::PowerOfTwo => {
                self.free_from(ledger, usize::from(self.preallocated));
                self.block_num = 4;
                self.left = self.blocks.first().map_or(0, |block| block.size() - request(self.flavor, USED_MEM));
            }
        }
    }

    /// MySQL's `ClearForReuse`: the newest block stays, and the next will be larger still.
    fn clear_for_reuse(&mut self, ledger: &mut Ledger) {
        if let Some(last) = self.blocks.pop() {
            self.free_from(ledger, 0);
            self.left = last.size() - request(self.flavor, BLOCK);
            self.blocks.push(last);
        }
    }

    /// `m_allocated_size`: what all blocks hold, headers apart.
    fn room(&self) -> usize {
        self.blocks.iter().map(|block| block.size() - request(self.flavor, BLOCK)).sum()
    }

    /// `free_root(0)`, `MEM_ROOT::Clear`: nothing is left.
    pub fn free(&mut self, ledger: &mut Ledger) {
        self.free_from(ledger, 0);
        (self.block_num, self.block_size, self.left, self.preallocated) = (4, self.initial, 0, false);
    }

    /// Frees the blocks from number `first` on, the newest first.
    fn free_from(&mut self, ledger: &mut Ledger, first: usize) {
        while self.blocks.len() > first
            && let Some(block) = self.blocks.pop()
        {
            ledger.free(block);
        }
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

    /// Sizes of `count` blocks of a root of 1024.
    fn blocks(flavor: Flavor, growth: Growth, count: usize) -> Vec<usize> {
        let mut ledger = test_ledger();
        let mut root = MemRoot::growing(flavor, growth, 1024);
        for _ in 0..count {
            root.left = 0;
            root.alloc(&mut ledger, 100);
        }
        let sizes = root.sizes();
        root.free(&mut ledger);
        assert!(root.sizes().is_empty());
        root.alloc(&mut ledger, 5000);
        assert_eq!(root.sizes().len(), 1);
        root.free(&mut ledger);
        sizes
    }

    #[test]
    fn blocks_grow_by_the_rule_of_the_server() {
        let linear: Vec<usize> = [1, 1, 1, 1, 2, 2, 2, 2, 3].map(|times| times * 1024 + 24).to_vec();
        assert_eq!(blocks(Flavor::Mariadb, Growth::Linear, 9), linear);
        let rounded: Vec<usize> = [1, 1, 1, 1, 2, 2, 2, 2, 3].map(|times| times * 1024 - 32 + 24).to_vec();
        assert_eq!(blocks(Flavor::Mariadb, Growth::PowerOfTwo, 9), rounded);
        // 1024, 1536, 2304, 3456, 5184, each with the headers of block and my_malloc.
        let geometric: Vec<usize> = [1024, 1536, 2304, 3456, 5184].map(|room| room + 16 + 32).to_vec();
        assert_eq!(blocks(Flavor::Mysql, Growth::Geometric, 5), geometric);
    }

    #[test]
    fn a_large_request_has_a_block_of_its_size() {
        for (flavor, size) in [(Flavor::Mariadb, 5000 + 24 + 24), (Flavor::Mysql, 5000 + 16 + 32)] {
            let mut ledger = test_ledger();
            let mut root = MemRoot::new(flavor, 1024);
            root.alloc(&mut ledger, 5000);
            assert_eq!(root.sizes(), [size]);
            root.free(&mut ledger);
        }
    }

    #[test]
    fn mariadb_uses_the_preallocated_block_first_and_keeps_it() {
        let mut ledger = test_ledger();
        let mut root = MemRoot::preallocated(&mut ledger, Flavor::Mariadb, 32768, 32768);
        root.alloc(&mut ledger, 32768 - 32 - 24);
        assert_eq!(root.sizes(), [32760]);
        root.alloc(&mut ledger, 8);
        assert_eq!(root.sizes(), [32760, 32760]);
        root.clear(&mut ledger);
        assert_eq!((root.sizes(), root.left), (vec![32760], 32768 - 32 - 24));
        root.free(&mut ledger);
        assert!(root.sizes().is_empty());
    }

    #[test]
    fn mysql_keeps_the_newest_block_between_commands_unless_the_root_has_grown_too_large() {
        let mut ledger = test_ledger();
        let mut root = MemRoot::preallocated(&mut ledger, Flavor::Mysql, 8192, 8192);
        assert!(root.sizes().is_empty(), "nothing is pre-allocated");
        root.alloc(&mut ledger, 8000);
        root.alloc(&mut ledger, 8000);
        assert_eq!(root.sizes(), [8192 + 48, 12_288 + 48]);
        root.clear(&mut ledger);
        assert_eq!(root.sizes(), [12_288 + 48]);
        // Growth goes on from there: 12288 and 18432 stay below 40960, and 27648 more do not.
        root.alloc(&mut ledger, 12_288);
        root.alloc(&mut ledger, 18_432);
        root.alloc(&mut ledger, 8);
        assert_eq!(root.sizes(), [12_336, 18_480, 27_696]);
        root.clear(&mut ledger);
        assert!(root.sizes().is_empty());
        root.alloc(&mut ledger, 8);
        assert_eq!(root.sizes(), [8192 + 48]);
        root.free(&mut ledger);
    }
}
