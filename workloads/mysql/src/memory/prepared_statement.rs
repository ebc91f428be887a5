//! A prepared statement: an object, and an arena of its own that is kept until it is closed.
//!
//! Source: MariaDB sql/sql_prepare.cc, `Prepared_statement`: its `main_mem_root` takes `query_alloc_block_size` and
//! `query_prealloc_size`, so that at the defaults each statement holds 32 KiB, of which its parse tree uses a part. A
//! recorded 10.11.19 has one block of 984 and one of 32760 bytes for each statement of each connection.

use fragbench_engine::{Block, Ledger};

use super::{MemRoot, my_malloc};
use crate::Sysvars;

/// `sizeof(Prepared_statement)`.
const OBJECT: usize = 984 - 24;

/// A statement of one connection.
#[derive(Debug)]
pub struct PreparedStatement {
    object: Block,
    root: MemRoot,
}

impl PreparedStatement {
    /// COM_STMT_PREPARE of a statement whose parse tree takes `tree` bytes.
    pub fn prepare(ledger: &mut Ledger, vars: &Sysvars, tree: usize) -> PreparedStatement {
        let object = my_malloc(ledger, vars.flavor, OBJECT);
        let (block, prealloc) = (vars.query_alloc_block_size, vars.query_prealloc_size);
        let mut root = MemRoot::preallocated(ledger, vars.flavor, block, prealloc);
        root.alloc(ledger, tree);
        PreparedStatement { object, root }
    }

    /// COM_STMT_CLOSE.
    pub fn close(mut self, ledger: &mut Ledger) {
        self.root.free(ledger);
        ledger.free(self.object);
    }

    /// Sizes asked for.
    pub fn sizes(&self) -> Vec<usize> {
        std::iter::once(self.object.size()).chain(self.root.sizes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;

    #[test]
    fn each_holds_an_arena_of_32_kib() {
        let mut ledger = test_ledger();
        let statement = PreparedStatement::prepare(&mut ledger, &Sysvars::default(), 9000);
        assert_eq!(statement.sizes(), [984, 32760]);
        statement.close(&mut ledger);
    }
}
