//! The sort buffer. MariaDB: one block of `min(rows expected, sort_buffer_size / (record + 8))` records with a pointer
//! each. MySQL: a chain of blocks, 32 KiB and each half as large again as the one before, until `sort_buffer_size`,
//! with a growing array of pointers beside it. Rows beyond the buffer are sorted and written to a file, and it is used
//! again.
//!
//! Source: MariaDB sql/filesort_utils.cc, `alloc_sort_buffer`, `sort_buffer` (commit 008ff21); sql/filesort.cc,
//! `filesort`. Records are filled from the start, pointers from the end; what lies between is never touched. How many
//! rows are expected is the caller's to give: of a HEAP table the rows and `EXTRA_RECORDS` more, of an InnoDB range so
//! many that the buffer has its full size. A recorded 10.11.19 asks for 14984 and 2097144 bytes accordingly, for 65560
//! of an `IO_CACHE` with each sort, for 376 and 152 beside, and for 2 × 65560 and 32792 when rows go to a file.
//! MySQL sql/filesort_utils.cc, `Filesort_buffer::allocate_block`, `reset` (commit 013798c): a buffer that is used
//! again keeps its last block alone. Not measured.

use fragbench_engine::{Block, Ledger};

use super::{align8, my_malloc};
use crate::{Flavor, Sysvars};

/// `sizeof(uchar*)`, one a record.
const POINTER: usize = 8;
/// `EXTRA_RECORDS` (sql/handler.h).
pub const EXTRA_RECORDS: usize = 10;
/// `MIN_SORT_MEMORY` of MySQL (sql/sql_const.h).
const FIRST_BLOCK: usize = 32 << 10;
/// Sort information, sort keys, the `IO_CACHE` of buffer descriptions, less the header of `my_malloc`.
const BESIDE: [usize; 3] = [376 - 24, 152 - 24, 65_536];
/// `IO_CACHE`s of the file of sorted runs and of the one they are merged into (`DISK_BUFFER_SIZE`), and the merge's
/// buffer.
const RUNS: usize = 65_536;
const MERGE: [usize; 2] = [32_768, 65_536];

/// A sort's memory.
#[derive(Debug)]
pub struct SortBuffer {
    flavor: Flavor,
    record: usize,
    limit: usize,
    buffer: Buffer,
    beside: [Block; 3],
    /// The file of sorted runs, once there is one.
    runs: Option<Block>,
}

#[derive(Debug)]
enum Buffer {
    Whole(Block),
    Chain(Chain),
}

#[derive(Debug, Default)]
struct Chain {
    blocks: Vec<Block>,
    /// `std::vector<uchar*>`, which doubles.
    pointers: Option<Block>,
    records: usize,
    /// Bytes left in the newest block.
    left: usize,
}

impl SortBuffer {
    /// For `rows` expected rows of `record` bytes, never more than `sort_buffer_size`.
    pub fn new(ledger: &mut Ledger, vars: &Sysvars, rows: usize, record: usize) -> SortBuffer {
        let (flavor, limit) = (vars.flavor, vars.sort_buffer_size);
        let beside = BESIDE.map(|size| my_malloc(ledger, flavor, size));
        let buffer = match flavor {
            Flavor::Mariadb => {
                let rows = rows.min(limit / (record + POINTER)).max(1);
                Buffer::Whole(my_malloc(ledger, flavor, align8(rows * (record + POINTER))))
            }
            Flavor::Mysql => Buffer::Chain(Chain::default()),
        };
        SortBuffer { flavor, record, limit, buffer, beside, runs: None }
    }

    /// Puts in `rows` rows and sorts them, a bufferful at a time; each but the last is written to a file.
    pub fn sort(&mut self, ledger: &mut Ledger, rows: usize) {
        let mut left = rows;
        loop {
            let now = left.min(self.take(ledger, left));
            self.order(ledger, now);
            left -= now;
            if left == 0 || now == 0 {
                break;
            }
            self.runs.get_or_insert_with(|| my_malloc(ledger, self.flavor, RUNS));
        }
        if self.runs.is_some() {
            for block in MERGE.map(|size| my_malloc(ledger, self.flavor, size)) {
                ledger.free(block);
            }
        }
    }

    /// Fills the buffer with up to `rows` rows; how many it holds.
    fn take(&mut self, ledger: &mut Ledger, rows: usize) -> usize {
        match &mut self.buffer {
            Buffer::Whole(block) => {
                let now = rows.min(block.size() / (self.record + POINTER)).max(1);
                ledger.write(block, 0, now * self.record);
                ledger.write(block, block.size().saturating_sub(now * POINTER), block.size());
                now
            }
            Buffer::Chain(chain) => {
                chain.reset(ledger);
                let mut now = 0;
                while now < rows && chain.add(ledger, self.record, self.limit) {
                    now += 1;
                }
                now
            }
        }
    }

    /// Sorts `rows` rows: a radix sort, and MySQL's `std::stable_sort`, take a second array of pointers meanwhile.
    fn order(&self, ledger: &mut Ledger, rows: usize) {
        if rows > 0 {
            let second = my_malloc(ledger, self.flavor, rows * POINTER);
            ledger.write(&second, 0, rows * POINTER);
            ledger.free(second);
        }
    }

    /// `free_sort_buffer`.
    pub fn free(self, ledger: &mut Ledger) {
        match self.buffer {
            Buffer::Whole(block) => ledger.free(block),
            Buffer::Chain(chain) => chain.blocks.into_iter().chain(chain.pointers).for_each(|b| ledger.free(b)),
        }
        for block in self.beside.into_iter().chain(self.runs) {
            ledger.free(block);
        }
    }

    /// Sizes asked for, of records and of pointers.
    pub fn sizes(&self) -> Vec<usize> {
        match &self.buffer {
            Buffer::Whole(block) => vec![block.size()],
            Buffer::Chain(chain) => chain.blocks.iter().chain(&chain.pointers).map(Block::size).collect(),
        }
    }

    /// Size asked for, all in all.
    pub fn size(&self) -> usize {
        self.sizes().iter().sum()
    }

    /// Whether rows have gone to a file.
    pub fn spilled(&self) -> bool {
        self.runs.is_some()
    }
}

impl Chain {
    /// `reset`: the last block stays.
    fn reset(&mut self, ledger: &mut Ledger) {
        if let Some(last) = self.blocks.pop() {
            self.blocks.drain(..).for_each(|block| ledger.free(block));
            self.left = last.size() - super::request(Flavor::Mysql, 0);
            self.blocks.push(last);
        }
        self.records = 0;
    }

    /// Adds a record; `false` when the buffer is full.
    fn add(&mut self, ledger: &mut Ledger, record: usize, limit: usize) -> bool {
        if self.left < record {
            let header = super::request(Flavor::Mysql, 0);
            let next = self.blocks.last().map_or(FIRST_BLOCK, |last| (last.size() - header) * 3 / 2);
            let pointers = self.pointers.as_ref().map_or(0, Block::size);
            let used = pointers + self.blocks.iter().map(|b| b.size() - header).sum::<usize>();
            // Records that fill what is left need pointers as well, as far as there is no room for them yet.
            let left = limit.saturating_sub(used);
            let fit = self.records + left / (record + POINTER);
            let left = left.saturating_sub((fit * POINTER).saturating_sub(pointers));
            let bytes = next.max(record).min(left);
            if bytes < record {
                return false;
            }
            self.blocks.push(my_malloc(ledger, Flavor::Mysql, bytes));
            self.left = bytes;
        }
        if let Some(block) = self.blocks.last() {
            let from = block.size() - self.left;
            ledger.write(block, from, from + record);
        }
        self.left -= record;
        self.records += 1;
        self.point(ledger);
        true
    }

    /// One more pointer: the array doubles, the new one being there before the old one goes.
    fn point(&mut self, ledger: &mut Ledger) {
        let room = self.pointers.as_ref().map_or(0, Block::size) / POINTER;
        if self.records > room {
            let bytes = (2 * room).max(1) * POINTER;
            let id = ledger.next_id();
            let old = self.pointers.replace(ledger.malloc(id, bytes));
            old.into_iter().for_each(|block| ledger.free(block));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{calls_of, test_ledger};
    use super::*;
    use fragbench_engine::Call;

    #[test]
    fn few_rows_take_their_room_and_many_the_whole_buffer() {
        let (mut ledger, vars) = (test_ledger(), Sysvars::default());
        let few = SortBuffer::new(&mut ledger, &vars, 100 + EXTRA_RECORDS, 128);
        assert_eq!(few.size(), 14_984);
        let mut many = SortBuffer::new(&mut ledger, &vars, 1_000_000, 232);
        assert_eq!(many.size(), 2_097_144);
        many.sort(&mut ledger, 100);
        assert!(!many.spilled());
        few.free(&mut ledger);
        many.free(&mut ledger);
    }

    #[test]
    fn rows_beyond_the_buffer_go_to_a_file_and_the_buffer_stays() {
        let (mut ledger, vars) = (test_ledger(), Sysvars { sort_buffer_size: 65_536, ..Sysvars::default() });
        let mut sort = SortBuffer::new(&mut ledger, &vars, 1_000_000, 130);
        sort.sort(&mut ledger, 2000);
        assert!(sort.spilled());
        assert_eq!(sort.sizes(), [align8(65_536 / 138 * 138) + 24], "as large as the variable allows");
        let calls = calls_of(&mut ledger);
        let count = |size: usize| calls.iter().filter(|call| **call == (Call::Malloc, size)).count();
        assert_eq!((count(65_560), count(32_792)), (3, 1), "descriptions, runs, merge; the merge's buffer");
        sort.free(&mut ledger);
    }

    #[test]
    fn mysql_chains_blocks_that_grow_by_half() {
        let (mut ledger, vars) = (test_ledger(), Sysvars::of(Flavor::Mysql));
        let mut sort = SortBuffer::new(&mut ledger, &vars, 1_000_000, 120);
        assert!(sort.sizes().is_empty(), "nothing before the first row");
        sort.sort(&mut ledger, 100);
        assert_eq!(sort.sizes(), [32_768 + 32, 128 * 8]);
        sort.sort(&mut ledger, 1000);
        // The first block of the second fill is the one that was kept.
        assert_eq!(
            sort.sizes(),
            [32_768, 49_152, 73_728].map(|b| b + 32).into_iter().chain([1024 * 8]).collect::<Vec<_>>()
        );
        sort.sort(&mut ledger, 3000);
        assert!(sort.spilled());
        let total: usize = sort.size();
        assert!(total <= vars.sort_buffer_size + 5 * 32, "{total}");
        sort.free(&mut ledger);
    }
}
