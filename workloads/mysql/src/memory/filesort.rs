//! The sort buffer: one block of `min(rows expected, sort_buffer_size / (record + 8))` records with a pointer each.
//!
//! Source: MariaDB sql/filesort_utils.cc, `alloc_sort_buffer`, `sort_buffer` (commit 008ff21); sql/filesort.cc,
//! `filesort`. Records are filled from the start, pointers from the end; what lies between is never touched. How many
//! rows are expected is the caller's to give: of a HEAP table the rows and `EXTRA_RECORDS` more, of an InnoDB range so
//! many that the buffer has its full size. A recorded 10.11.19 asks for 14984 and 2097144 bytes accordingly, for 65560
//! of an `IO_CACHE` with each sort, and for 592 and 376 beside.

use fragbench_engine::{Block, Ledger};

use super::{align8, my_malloc};
use crate::{Flavor, Sysvars};

/// `sizeof(uchar*)`, one a record.
const POINTER: usize = 8;
/// `EXTRA_RECORDS` (sql/handler.h).
pub const EXTRA_RECORDS: usize = 10;
/// Sort information, addon fields, the `IO_CACHE` of buffer descriptions, less the header of `my_malloc`.
const BESIDE: [usize; 3] = [592 - 24, 376 - 24, 65_536];

/// A sort's memory.
#[derive(Debug)]
pub struct SortBuffer {
    flavor: Flavor,
    block: Block,
    beside: [Block; 3],
    record: usize,
}

impl SortBuffer {
    /// For `rows` expected rows of `record` bytes, never more than `sort_buffer_size`.
    pub fn new(ledger: &mut Ledger, vars: &Sysvars, rows: usize, record: usize) -> SortBuffer {
        let flavor = vars.flavor;
        let beside = BESIDE.map(|size| my_malloc(ledger, flavor, size));
        let rows = rows.min(vars.sort_buffer_size / (record + POINTER)).max(1);
        SortBuffer { flavor, block: my_malloc(ledger, flavor, align8(rows * (record + POINTER))), beside, record }
    }

    /// Puts in `rows` rows and sorts them; a radix sort takes a second array of pointers while it runs.
    pub fn sort(&mut self, ledger: &mut Ledger, rows: usize) {
        ledger.write(&self.block, 0, rows * self.record);
        ledger.write(&self.block, self.block.size().saturating_sub(rows * POINTER), self.block.size());
        let radix = my_malloc(ledger, self.flavor, rows * POINTER);
        ledger.write(&radix, 0, rows * POINTER);
        ledger.free(radix);
    }

    /// `free_sort_buffer`.
    pub fn free(self, ledger: &mut Ledger) {
        ledger.free(self.block);
        for block in self.beside {
            ledger.free(block);
        }
    }

    /// Size asked for.
    pub fn size(&self) -> usize {
        self.block.size()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;

    #[test]
    fn few_rows_take_their_room_and_many_the_whole_buffer() {
        let (mut ledger, vars) = (test_ledger(), Sysvars::default());
        let few = SortBuffer::new(&mut ledger, &vars, 100 + EXTRA_RECORDS, 128);
        assert_eq!(few.size(), 14_984);
        let mut many = SortBuffer::new(&mut ledger, &vars, 1_000_000, 232);
        assert_eq!(many.size(), 2_097_144);
        many.sort(&mut ledger, 100);
        few.free(&mut ledger);
        many.free(&mut ledger);
    }
}
