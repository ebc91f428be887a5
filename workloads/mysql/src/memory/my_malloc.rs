//! `my_malloc` and `my_realloc`: every request of the SQL layer gets a header, and in MariaDB is rounded to 8.
//!
//! Source: MariaDB mysys/my_malloc.c, `HEADER_SIZE` (commit 0727aa6): 24 bytes. The 16392 bytes of a net buffer become
//! the 16416 that MariaDB's "Connect Memory Usage" shows, and the 4088, 32760 and 1048568 that a recorded 10.11.19 asks
//! for are powers of two less 8. MySQL mysys/my_malloc.cc, `HEADER_SIZE`, `my_realloc` (commit 0923522): 32 bytes where
//! the performance schema is compiled in, no rounding, and a realloc is always malloc, copy and free; not measured.

use fragbench_engine::{Block, Ledger};

use super::align8;
use crate::Flavor;

/// What `my_malloc(n)` asks libc for.
pub const fn request(flavor: Flavor, n: usize) -> usize {
    match flavor {
        Flavor::Mariadb => align8(n) + 24,
        Flavor::Mysql => n + 32,
    }
}

/// `my_malloc(n)`; the first page is in use at once.
#[inline]
pub fn my_malloc(ledger: &mut Ledger, flavor: Flavor, n: usize) -> Block {
    let id = ledger.next_id();
    ledger.malloc_touching(id, request(flavor, n), 1)
}

/// `my_realloc(block, n)`, touching up to `pages` pages.
pub fn my_realloc(ledger: &mut Ledger, flavor: Flavor, block: Block, n: usize, pages: u32) -> Block {
    match flavor {
        Flavor::Mariadb => ledger.realloc(block, request(flavor, n), pages),
        Flavor::Mysql => {
            let new = my_malloc(ledger, flavor, n);
            ledger.write(&new, 0, block.size());
            ledger.free(block);
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{calls_of, test_ledger};
    use super::*;
    use fragbench_engine::{ALL_PAGES, Call};

    #[test]
    fn a_net_buffer_is_what_the_documentation_shows() {
        assert_eq!(request(Flavor::Mariadb, 16384 + 8), 16416);
        assert_eq!(request(Flavor::Mariadb, 1), 32);
        assert_eq!(request(Flavor::Mysql, 1001), 1033);
    }

    #[test]
    fn mysql_never_reallocates_in_place() {
        for (flavor, expected) in [
            (Flavor::Mariadb, vec![(Call::Malloc, 1024), (Call::Realloc, 2024), (Call::Free, 2024)]),
            (Flavor::Mysql, vec![(Call::Malloc, 1032), (Call::Malloc, 2032), (Call::Free, 1032), (Call::Free, 2032)]),
        ] {
            let mut ledger = test_ledger();
            let block = my_malloc(&mut ledger, flavor, 1000);
            let block = my_realloc(&mut ledger, flavor, block, 2000, ALL_PAGES);
            ledger.free(block);
            assert_eq!(calls_of(&mut ledger), expected);
        }
    }
}
