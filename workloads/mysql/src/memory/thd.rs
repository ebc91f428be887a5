//! What a connection holds for itself: the `THD`, its arenas, its net buffers, and small change.
//!
//! Source: MariaDB documentation, "Connect Memory Usage" (10.6.1): THD 26646 bytes, two buffers of 16416, the query and
//! transaction arenas, 1048, 1024, 2 × 280, 2 × 256, 128, 120, and 8216 for a moment while the database's options are
//! read. A thread that waits in the thread cache keeps its THD (sql/thread_cache.h, `Thread_cache::park`).

use fragbench_engine::{Block, Ledger};

use super::{MemRoot, NetBuffer, my_malloc};
use crate::Sysvars;

/// Requests as they reach libc.
const THD: usize = 26_648;
const SMALL: [usize; 8] = [1048, 1024, 280, 280, 256, 256, 128, 120];
const DB_OPTIONS: usize = 8216;

/// A thread's session. Connected or cached.
#[derive(Debug)]
pub struct Thd {
    object: Block,
    /// `main_mem_root`: cleared after each statement.
    pub query_root: MemRoot,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    /// `transaction.mem_root`.
    transaction_root: MemRoot,
    net: NetBuffer,
    packet: NetBuffer,
    small: [Block; 8],
}

fn plain(ledger: &mut Ledger, size: usize) -> Block {
    let id = ledger.next_id();
    ledger.malloc_touching(id, size, fragbench_engine::ALL_PAGES)
}

impl Thd {
    /// A thread that was just started.
    pub fn new(ledger: &mut Ledger, vars: &Sysvars) -> Thd {
        let object = plain(ledger, THD);
        let query_root = {
            let (block, prealloc) = (vars.query_alloc_block_size, vars.query_prealloc_size);
            MemRoot::preallocated(ledger, vars.flavor, block, prealloc)
        };
        Thd { object, query_root, connection: None }
    }

    /// A client connects.
    pub fn connect(&mut self, ledger: &mut Ledger, vars: &Sysvars) {
        let net = NetBuffer::new(ledger, vars.flavor, vars.net_buffer_length);
        let packet = NetBuffer::new(ledger, vars.flavor, vars.net_buffer_length);
        let transaction_root = MemRoot::preallocated(
            ledger,
            vars.flavor,
            vars.transaction_alloc_block_size,
            vars.transaction_prealloc_size,
        );
        let small = SMALL.map(|size| plain(ledger, size));
        let options = my_malloc(ledger, vars.flavor, DB_OPTIONS - 24);
        ledger.free(options);
        self.connection = Some(Connection { transaction_root, net, packet, small });
    }

    /// Sends a result of `bytes`.
    pub fn send(&mut self, ledger: &mut Ledger, bytes: usize) {
        if let Some(c) = &mut self.connection {
            c.packet.packet(ledger, bytes.min(c.packet.room()));
            c.net.packet(ledger, bytes);
        }
    }

    /// Takes `bytes` from the transaction's arena.
    pub fn transaction_alloc(&mut self, ledger: &mut Ledger, bytes: usize) {
        if let Some(c) = &mut self.connection {
            c.transaction_root.alloc(ledger, bytes);
        }
    }

    /// The transaction has ended.
    pub fn end_transaction(&mut self, ledger: &mut Ledger) {
        if let Some(c) = &mut self.connection {
            c.transaction_root.clear(ledger);
            c.net.shrink(ledger);
        }
    }

    /// The client has gone; the thread goes to the thread cache with its THD.
    pub fn disconnect(&mut self, ledger: &mut Ledger) {
        if let Some(mut c) = self.connection.take() {
            for block in c.small {
                ledger.free(block);
            }
            c.transaction_root.free(ledger);
            c.packet.free(ledger);
            c.net.free(ledger);
        }
        self.query_root.clear(ledger);
    }

    /// The thread ends.
    pub fn end(mut self, ledger: &mut Ledger) {
        self.disconnect(ledger);
        self.query_root.free(ledger);
        ledger.free(self.object);
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;

    #[test]
    fn a_session_comes_and_goes_whole() {
        let (mut ledger, vars) = (test_ledger(), Sysvars::default());
        let mut thd = Thd::new(&mut ledger, &vars);
        thd.connect(&mut ledger, &vars);
        let c = thd.connection.as_ref().unwrap();
        assert_eq!((c.net.size(), c.packet.size()), (16416, 16416));
        assert_eq!(c.transaction_root.sizes(), [4088]);
        assert_eq!(thd.query_root.sizes(), [32760]);
        thd.send(&mut ledger, 50_000);
        assert_eq!(thd.connection.as_ref().unwrap().net.size(), 53_248 + 32);
        thd.end_transaction(&mut ledger);
        assert_eq!(thd.connection.as_ref().unwrap().net.size(), 16416);
        thd.end(&mut ledger);
    }
}
