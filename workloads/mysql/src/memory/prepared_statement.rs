//! A prepared statement: an arena of its own, kept until it is closed, and two objects beside it.
//!
//! Source: MariaDB sql/sql_prepare.cc, `Prepared_statement` (its `main_mem_root` takes `query_alloc_block_size` and
//! `query_prealloc_size`, so that at the defaults each statement holds 32 KiB, of which its parse tree uses a part).

use fragbench_engine::{Block, Ledger};

use super::{MemRoot, my_malloc};

/// `sizeof(Prepared_statement)` and its `LEX`.
const OBJECTS: [usize; 2] = [1000, 3900];

/// A statement of one connection.
#[derive(Debug)]
pub struct PreparedStatement {
    objects: [Block; 2],
    root: MemRoot,
}

impl PreparedStatement {
    /// COM_STMT_PREPARE of a statement whose parse tree takes `tree` bytes.
    pub fn prepare(ledger: &mut Ledger, block_size: usize, prealloc: usize, tree: usize) -> PreparedStatement {
        let objects = OBJECTS.map(|size| my_malloc(ledger, size));
        let mut root = MemRoot::preallocated(ledger, block_size, prealloc);
        root.alloc(ledger, tree);
        PreparedStatement { objects, root }
    }

    /// COM_STMT_CLOSE.
    pub fn close(mut self, ledger: &mut Ledger) {
        self.root.free(ledger);
        for block in self.objects {
            ledger.free(block);
        }
    }

    /// Sizes asked for.
    pub fn sizes(&self) -> Vec<usize> {
        self.objects.iter().map(Block::size).chain(self.root.sizes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;

    #[test]
    fn each_holds_an_arena_of_32_kib() {
        let mut ledger = test_ledger();
        let statement = PreparedStatement::prepare(&mut ledger, 32768, 32768, 9000);
        assert_eq!(statement.sizes(), [1024, 3928, 32816]);
        statement.close(&mut ledger);
    }
}
