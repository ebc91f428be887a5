//! `String`: grows by `my_realloc` with some extra, doubled while below 4 KiB, and by the same 8064 bytes ever after.
//!
//! Source: MariaDB sql/sql_string.h, `realloc_with_extra`, and sql/sql_string.cc, `realloc_raw`.

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
            if self.extra < 4096 {
                self.extra = self.extra * 2 + 128;
            }
            self.alloced = align8(length + self.extra + 1);
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

    #[test]
    fn the_extra_doubles_to_8064_and_stays() {
        let mut ledger = test_ledger();
        let mut string = GrowingString::new(Flavor::Mariadb);
        let mut sizes = Vec::new();
        while sizes.len() < 8 {
            string.append(&mut ledger, 1);
            if sizes.last() != Some(&string.size()) {
                sizes.push(string.size());
            }
        }
        let steps: Vec<usize> = sizes.windows(2).map(|w| w[1] - w[0]).collect();
        // Each step is the extra and the one byte that did not fit, rounded to 8.
        assert_eq!((sizes[0], steps), (136 + 24, vec![392, 904, 1928, 3976, 8072, 8072, 8072]));
        string.free(&mut ledger);
        assert_eq!(string.size(), 0);
    }
}
