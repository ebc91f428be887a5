//! `my_malloc`: every request of the SQL layer gets a header of 24 bytes and is rounded to 8.
//!
//! Source: MariaDB mysys/my_malloc.c, `HEADER_SIZE` (commit 0727aa6). The 16392 bytes of a net buffer become the 16416
//! that MariaDB's "Connect Memory Usage" shows.

use fragbench_engine::{Block, Ledger};

use super::align8;

const HEADER_SIZE: usize = 24;

/// What `my_malloc(n)` asks libc for.
pub const fn request(n: usize) -> usize {
    align8(n) + HEADER_SIZE
}

/// `my_malloc(n)`; the first page is in use at once.
#[inline]
pub fn my_malloc(ledger: &mut Ledger, n: usize) -> Block {
    let id = ledger.next_id();
    ledger.malloc_touching(id, request(n), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_net_buffer_is_what_the_documentation_shows() {
        assert_eq!(request(16384 + 8), 16416);
        assert_eq!(request(1), 32);
    }
}
