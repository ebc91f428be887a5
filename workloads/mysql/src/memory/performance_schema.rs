//! The performance schema: arrays for what is instrumented, taken when the server starts or when threads come, zeroed,
//! and kept until it ends.
//!
//! Source: MariaDB storage/perfschema/pfs_global.cc, `pfs_malloc` (aligned to `PFS_ALIGNMENT`, 64, zeroed whole).
//! Measured on 10.11.19 by starting a server with and without it: 106 MB more with all memory instruments on, in 66
//! arrays whose larger ones are listed here. MySQL storage/perfschema/pfs_buffer_container.h,
//! `PFS_buffer_scalable_container`: threads are kept in pages, each made when the last is full; sizes taken from the
//! same list, not measured.

use fragbench_engine::{ALL_PAGES, Block, Ledger};

use crate::{Flavor, Sysvars};

/// `PFS_ALIGNMENT`.
const ALIGNMENT: usize = 64;
/// Bytes and number of arrays.
const ARRAYS: [(usize, usize); 24] = [
    (5_228_544, 3),
    (2_621_440, 4),
    (10_457_088, 1),
    (9_502_720, 1),
    (2_949_120, 3),
    (3_645_440, 2),
    (5_898_240, 1),
    (2_883_584, 2),
    (1_818_624, 3),
    (5_120_000, 1),
    (4_194_304, 1),
    (3_637_248, 1),
    (2_560_000, 1),
    (1_024_000, 2),
    (655_360, 3),
    (1_474_560, 1),
    (1_424_000, 1),
    (1_310_720, 1),
    (819_200, 1),
    (450_560, 1),
    (131_072, 3),
    (320_000, 1),
    (61_440, 1),
    (16_384, 2),
];
/// `PFS_THREAD_BASIC_PAGE`'s threads, and bytes of one with its histories and statistics.
const THREADS_IN_A_PAGE: usize = 256;
const THREAD: usize = 30_864;
/// MySQL's arrays of statistics by thread are pages: of the list these are what it takes at the start.
const SCALABLE_FROM: usize = 1 << 20;

/// The arrays. Nothing when it is off.
#[derive(Debug, Default)]
pub struct PerformanceSchema {
    flavor: Flavor,
    on: bool,
    arrays: Vec<Block>,
    threads: usize,
}

impl PerformanceSchema {
    /// The server starts.
    pub fn start(ledger: &mut Ledger, vars: &Sysvars) -> PerformanceSchema {
        let mut schema =
            PerformanceSchema { flavor: vars.flavor, on: vars.performance_schema, ..PerformanceSchema::default() };
        if schema.on {
            for (bytes, count) in ARRAYS {
                if vars.flavor == Flavor::Mysql && bytes >= SCALABLE_FROM {
                    continue;
                }
                (0..count).for_each(|_| schema.array(ledger, bytes));
            }
        }
        schema
    }

    fn array(&mut self, ledger: &mut Ledger, bytes: usize) {
        let id = ledger.next_id();
        let block = ledger.aligned(id, ALIGNMENT, bytes, ALL_PAGES);
        // Zeroed, so that every page is in use at once.
        ledger.write(&block, 0, bytes);
        self.arrays.push(block);
    }

    /// A thread starts: MySQL makes a page of threads when the last one is full.
    pub fn thread(&mut self, ledger: &mut Ledger) {
        if self.on && self.flavor == Flavor::Mysql && self.threads.is_multiple_of(THREADS_IN_A_PAGE) {
            self.array(ledger, THREADS_IN_A_PAGE * THREAD);
        }
        self.threads += 1;
    }

    /// The server ends.
    pub fn free(self, ledger: &mut Ledger) {
        self.arrays.into_iter().for_each(|block| ledger.free(block));
    }

    /// Sizes asked for.
    pub fn sizes(&self) -> Vec<usize> {
        self.arrays.iter().map(Block::size).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;

    #[test]
    fn mariadb_takes_all_at_the_start_when_it_is_on_and_nothing_by_default() {
        let mut ledger = test_ledger();
        let off = PerformanceSchema::start(&mut ledger, &Sysvars::default());
        assert!(off.sizes().is_empty());
        let mut on = PerformanceSchema::start(&mut ledger, &Sysvars { performance_schema: true, ..Sysvars::default() });
        let total: usize = on.sizes().iter().sum();
        assert!((100_000_000..110_000_000).contains(&total), "{total}");
        on.thread(&mut ledger);
        assert_eq!(on.sizes().iter().sum::<usize>(), total);
        on.free(&mut ledger);
        off.free(&mut ledger);
    }

    #[test]
    fn mysql_adds_a_page_for_each_256_threads() {
        let mut ledger = test_ledger();
        let mut schema = PerformanceSchema::start(&mut ledger, &Sysvars::of(Flavor::Mysql));
        let before = schema.sizes().len();
        (0..257).for_each(|_| schema.thread(&mut ledger));
        assert_eq!(schema.sizes()[before..], [256 * 30_864; 2]);
        schema.free(&mut ledger);
    }
}
