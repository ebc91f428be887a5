//! The sort buffer: one block of `min(rows expected, sort_buffer_size / (record + 8))` records with a pointer each.
//!
//! Source: MariaDB sql/filesort_utils.cc, `alloc_sort_buffer`, `sort_buffer` (commit 008ff21). Records are filled from
//! the start, pointers from the end; what lies between is never touched. How many rows are expected is the optimizer's
//! guess, and the caller's to give.

use fragbench_engine::{Block, Ledger};

use super::{align8, my_malloc};

/// `sizeof(uchar*)`, one a record.
const POINTER: usize = 8;

/// A sort's memory.
#[derive(Debug)]
pub struct SortBuffer {
    block: Block,
    record: usize,
}

impl SortBuffer {
    /// For `rows` expected rows of `record` bytes, never more than `sort_buffer_size`.
    pub fn new(ledger: &mut Ledger, rows: usize, record: usize, sort_buffer_size: usize) -> SortBuffer {
        let rows = rows.min(sort_buffer_size / (record + POINTER)).max(1);
        SortBuffer { block: my_malloc(ledger, align8(rows * (record + POINTER))), record }
    }

    /// Puts in `rows` rows and sorts them; a radix sort takes a second array of pointers while it runs.
    pub fn sort(&mut self, ledger: &mut Ledger, rows: usize) {
        ledger.write(&self.block, 0, rows * self.record);
        ledger.write(&self.block, self.block.size().saturating_sub(rows * POINTER), self.block.size());
        let radix = my_malloc(ledger, rows * POINTER);
        ledger.write(&radix, 0, rows * POINTER);
        ledger.free(radix);
    }

    /// `free_sort_buffer`.
    pub fn free(self, ledger: &mut Ledger) {
        ledger.free(self.block);
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
        let mut ledger = test_ledger();
        let few = SortBuffer::new(&mut ledger, 100, 245, 2 << 20);
        assert_eq!(few.size(), align8(100 * 253) + 24);
        let mut many = SortBuffer::new(&mut ledger, 1_000_000, 245, 2 << 20);
        assert_eq!(many.size(), align8(2_097_152 / 253 * 253) + 24);
        many.sort(&mut ledger, 100);
        few.free(&mut ledger);
        many.free(&mut ledger);
    }
}
