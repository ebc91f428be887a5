//! What a connection holds for itself: the `THD`, its arenas, its net buffers, and small change.
//!
//! Source: a recorded MariaDB 10.11.19, from a thread's first allocation to its first statement and from COM_QUIT to
//! its end. The documentation ("Connect Memory Usage", 10.6.1) shows the same set in other sizes: a THD of 26646, two
//! buffers of 16416, the arenas, 1048, 1024, 2 × 280. A thread that waits in the thread cache keeps its THD
//! (sql/thread_cache.h, `Thread_cache::park`).

use fragbench_engine::{Block, Ledger};

use super::{MemRoot, NetBuffer};
use crate::Sysvars;

/// `st_my_thread_var`, zeroed, and `THD`, as they reach libc.
const THREAD_VAR: usize = 216;
const THD: usize = 27_400;
/// Hashes, lists and names of the session, in the recorded order.
const SMALL: [usize; 11] = [280, 280, 152, 120, 280, 280, 1048, 512, 32, 32, 32];
/// What the handshake takes for a moment: two blocks of a root, the scramble's.
const HANDSHAKE: [usize; 5] = [1016, 1016, 152, 32, 32];

/// A thread's session. Connected or cached.
#[derive(Debug)]
pub struct Thd {
    thread_var: Block,
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
    small: [Block; 11],
}

fn plain(ledger: &mut Ledger, size: usize) -> Block {
    let id = ledger.next_id();
    ledger.malloc_touching(id, size, fragbench_engine::ALL_PAGES)
}

impl Thd {
    /// A thread that was just started.
    pub fn new(ledger: &mut Ledger, vars: &Sysvars) -> Thd {
        let id = ledger.next_id();
        let thread_var = ledger.calloc(id, THREAD_VAR, fragbench_engine::ALL_PAGES);
        let object = plain(ledger, THD);
        let query_root = {
            let (block, prealloc) = (vars.query_alloc_block_size, vars.query_prealloc_size);
            MemRoot::preallocated(ledger, vars.flavor, block, prealloc)
        };
        Thd { thread_var, object, query_root, connection: None }
    }

    /// A client connects.
    pub fn connect(&mut self, ledger: &mut Ledger, vars: &Sysvars) {
        let net = NetBuffer::new(ledger, vars.flavor, vars.net_buffer_length);
        let packet = NetBuffer::new(ledger, vars.flavor, vars.net_buffer_length);
        // As recorded, the first block is the larger of the two.
        let first = vars.transaction_prealloc_size.max(vars.transaction_alloc_block_size);
        let transaction_root = MemRoot::preallocated(ledger, vars.flavor, vars.transaction_alloc_block_size, first);
        let small = SMALL.map(|size| plain(ledger, size));
        for block in HANDSHAKE.map(|size| plain(ledger, size)) {
            ledger.free(block);
        }
        self.connection = Some(Connection { transaction_root, net, packet, small });
    }

    /// Sends a result of `bytes`.
    pub fn send(&mut self, ledger: &mut Ledger, bytes: usize) {
        if let Some(c) = &mut self.connection {
            c.packet.packet(ledger, bytes.min(c.packet.room()));
            c.net.packet(ledger, bytes);
        }
    }

    /// Receives a packet of `bytes`.
    pub fn receive(&mut self, ledger: &mut Ledger, bytes: usize) {
        if let Some(c) = &mut self.connection {
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
        ledger.free(self.thread_var);
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
        assert_eq!(c.transaction_root.sizes(), [8184]);
        assert_eq!(thd.query_root.sizes(), [32760]);
        thd.send(&mut ledger, 50_000);
        assert_eq!(thd.connection.as_ref().unwrap().net.size(), 53_248 + 32);
        thd.end_transaction(&mut ledger);
        assert_eq!(thd.connection.as_ref().unwrap().net.size(), 16416);
        thd.end(&mut ledger);
    }
}
