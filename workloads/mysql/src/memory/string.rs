//! `String`: what it takes when something is appended. MariaDB adds some extra, doubled while below 4 KiB and then the
//! same 8064 bytes ever after; MySQL adds a quarter of its length.
//!
//! Source: MariaDB sql/sql_string.h, `realloc_with_extra`, and sql/sql_string.cc, `realloc_raw`. Measured on 10.11.19: a
//! GROUP_CONCAT of 200 KB takes 712, 1632, 3560, 7632, 15768 bytes and 8080 more each time. MySQL
//! sql-common/sql_string.cc, `String::next_realloc_exp_size`, `mem_realloc`; not measured.

use fragbench_engine::{ALL_PAGES, Block, Ledger};

use super::{align8, my_malloc, my_realloc};
use crate::Flavor;

/// A string being appended to.
#[derive(Debug)]
pub struct GrowingString {
    flavor: Flavor,
    block: Option<Block>,
    length: usize,
    alloced: usize,
    extra: usize,
}

impl GrowingString {
    /// An empty string.
    pub fn new(flavor: Flavor) -> GrowingString {
        GrowingString { flavor, block: None, length: 0, alloced: 0, extra: 0 }
    }

    /// Appends `n` bytes.
    pub fn append(&mut self, ledger: &mut Ledger, n: usize) {
        let length = self.length + n;
        if length >= self.alloced {
            self.alloced = align8(length + self.more() + 1);
            self.block = Some(match self.block.take() {
                None => my_malloc(ledger, self.flavor, self.alloced),
                Some(block) => my_realloc(ledger, self.flavor, block, self.alloced, ALL_PAGES),
            });
        }
        if let Some(block) = &self.block {
            ledger.write(block, self.length, length);
        }
        self.length = length;
    }

    /// What is taken beyond the need.
    fn more(&mut self) -> usize {
        match self.flavor {
            Flavor::Mariadb => {
                if self.extra < 4096 {
                    self.extra = self.extra * 2 + 128;
                }
                self.extra
            }
            Flavor::Mysql => self.length / 4,
        }
    }

    /// `String::free`.
    pub fn free(&mut self, ledger: &mut Ledger) {
        if let Some(block) = std::mem::replace(self, GrowingString::new(self.flavor)).block {
            ledger.free(block);
        }
    }

    /// Size asked for.
    pub fn size(&self) -> usize {
        self.block.as_ref().map_or(0, Block::size)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;

    /// Sizes of the first `count` blocks when single bytes are appended.
    fn sizes(flavor: Flavor, count: usize) -> Vec<usize> {
        let mut ledger = test_ledger();
        let mut string = GrowingString::new(flavor);
        let mut sizes = Vec::new();
        while sizes.len() < count {
            string.append(&mut ledger, 1);
            if sizes.last() != Some(&string.size()) {
                sizes.push(string.size());
            }
        }
        string.free(&mut ledger);
        assert_eq!(string.size(), 0);
        sizes
    }

    #[test]
    fn mariadbs_extra_doubles_to_8064_and_stays() {
        let sizes = sizes(Flavor::Mariadb, 8);
        let steps: Vec<usize> = sizes.windows(2).map(|w| w[1] - w[0]).collect();
        // Each step is the extra and the one byte that did not fit, rounded to 8.
        assert_eq!((sizes[0], steps), (136 + 24, vec![392, 904, 1928, 3976, 8072, 8072, 8072]));
    }

    #[test]
    fn mysql_grows_by_a_quarter() {
        assert_eq!(sizes(Flavor::Mysql, 8), [8, 16, 24, 32, 40, 56, 72, 96].map(|room| room + 32));
    }

    #[test]
    fn a_megabyte_takes_130_steps_or_some_twenty() {
        for (flavor, steps) in [(Flavor::Mariadb, 125..=136), (Flavor::Mysql, 30..=45)] {
            let mut ledger = test_ledger();
            let mut string = GrowingString::new(flavor);
            let mut seen = std::collections::BTreeSet::new();
            while string.length < 1 << 20 {
                string.append(&mut ledger, 100);
                seen.insert(string.size());
            }
            assert!(steps.contains(&seen.len()), "{flavor:?}: {}", seen.len());
            string.free(&mut ledger);
        }
    }
}
