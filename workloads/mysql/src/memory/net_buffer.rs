//! `NET`'s packet buffer: starts at `net_buffer_length`, grows by `my_realloc` to what a packet needs, in steps of
//! 4096.
//!
//! Source: MariaDB sql/net_serv.cc, `my_net_init`, `net_realloc` (commit 00fd9e1): the length rounded up to `IO_SIZE`,
//! and `NET_HEADER_SIZE + COMP_HEADER_SIZE + 1` more.

use fragbench_engine::{ALL_PAGES, Block, Ledger};

use super::{my_malloc, my_realloc};
use crate::Flavor;

/// Packet header 4, compression header 3, one more.
const EXTRA: usize = 8;
const IO_SIZE: usize = 4096;

/// A connection's buffer.
#[derive(Debug)]
pub struct NetBuffer {
    flavor: Flavor,
    block: Option<Block>,
    initial: usize,
    max_packet: usize,
}

impl NetBuffer {
    /// With `net_buffer_length` bytes of room.
    pub fn new(ledger: &mut Ledger, flavor: Flavor, net_buffer_length: usize) -> NetBuffer {
        let block = my_malloc(ledger, flavor, net_buffer_length + EXTRA);
        NetBuffer { flavor, block: Some(block), initial: net_buffer_length, max_packet: net_buffer_length }
    }

    /// Longest packet that fits as it is.
    pub fn room(&self) -> usize {
        self.max_packet
    }

    /// Makes room for a packet of `length` bytes and fills it.
    pub fn packet(&mut self, ledger: &mut Ledger, length: usize) {
        if length > self.max_packet {
            self.max_packet = length.next_multiple_of(IO_SIZE);
            self.resize(ledger, 1);
        }
        if let Some(block) = &self.block {
            ledger.write(block, 0, length);
        }
    }

    /// Shrinks to the initial length, as after a statement with a large result.
    pub fn shrink(&mut self, ledger: &mut Ledger) {
        if self.max_packet > self.initial {
            self.max_packet = self.initial;
            self.resize(ledger, ALL_PAGES);
        }
    }

    fn resize(&mut self, ledger: &mut Ledger, pages: u32) {
        let size = self.max_packet + EXTRA;
        self.block = self.block.take().map(|block| my_realloc(ledger, self.flavor, block, size, pages));
    }

    /// `net_end`.
    pub fn free(self, ledger: &mut Ledger) {
        if let Some(block) = self.block {
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
    fn it_grows_in_whole_pages_and_shrinks_back() {
        let mut ledger = test_ledger();
        let mut net = NetBuffer::new(&mut ledger, Flavor::Mariadb, 16384);
        assert_eq!(net.size(), 16416);
        net.packet(&mut ledger, 16000);
        assert_eq!(net.size(), 16416);
        net.packet(&mut ledger, 70_000);
        assert_eq!(net.size(), 73_728 + 8 + 24);
        net.shrink(&mut ledger);
        assert_eq!(net.size(), 16416);
        net.free(&mut ledger);
    }
}
