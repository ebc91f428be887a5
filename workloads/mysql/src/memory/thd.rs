//! What a connection holds for itself: the `THD`, its arenas, its net buffers, and small change.
//!
//! Source: a recorded MariaDB 10.11.19, from a thread's first allocation to its first statement and from COM_QUIT to
//! its end. The documentation ("Connect Memory Usage", 10.6.1) shows the same set in other sizes: a THD of 26646, two
//! buffers of 16416, the arenas, 1048, 1024, 2 × 280. A thread that waits in the thread cache keeps its THD with its
//! arenas and `THD::packet` (sql/thread_cache.h, `Thread_cache::park`); the next client adds what [`Connection`] holds.
//! MySQL deletes its THD when the client leaves (sql/conn_handler/connection_handler_per_thread.cc,
//! `handle_connection`).
//!
//! As measured on 10.11.19: the arenas take blocks of `query_alloc_block_size` and `transaction_alloc_block_size` from
//! the first on, whatever `query_prealloc_size` and `transaction_prealloc_size` say; `packet` grows to a row and shrinks
//! to 16408 bytes and the header when the statement ends; `NET`'s buffer grows with what is received and was not seen to
//! shrink before the client left.

use fragbench_engine::{Block, Ledger};

use super::{MemRoot, NetBuffer};
use crate::Sysvars;

/// `st_my_thread_var`, zeroed, and `THD`, as they reach libc.
const THREAD_VAR: usize = 216;
const THD: usize = 27_400;
/// Hashes and lists of the THD.
const OWN: [usize; 4] = [280, 280, 152, 1048];
/// Hashes, lists and names of the client, in the recorded order.
const SMALL: [usize; 7] = [120, 280, 280, 512, 32, 32, 32];
/// What the handshake takes for a moment: two blocks of a root, the scramble's.
const HANDSHAKE: [usize; 5] = [1016, 1016, 152, 32, 32];

/// A thread's session. Connected or cached.
#[derive(Debug)]
pub struct Thd {
    thread_var: Block,
    object: Block,
    /// `main_mem_root`: cleared after each statement.
    pub query_root: MemRoot,
    /// `transaction.mem_root`.
    transaction_root: MemRoot,
    packet: NetBuffer,
    own: [Block; 4],
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    net: NetBuffer,
    small: [Block; 7],
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
        let own = OWN.map(|size| plain(ledger, size));
        let packet = NetBuffer::new(ledger, vars.flavor, vars.net_buffer_length);
        let mut root = |block| MemRoot::preallocated(ledger, vars.flavor, block, block);
        let (query_root, transaction_root) =
            (root(vars.query_alloc_block_size), root(vars.transaction_alloc_block_size));
        Thd { thread_var, object, query_root, transaction_root, packet, own, connection: None }
    }

    /// A client connects.
    pub fn connect(&mut self, ledger: &mut Ledger, vars: &Sysvars) {
        let net = NetBuffer::new(ledger, vars.flavor, vars.net_buffer_length);
        let small = SMALL.map(|size| plain(ledger, size));
        for block in HANDSHAKE.map(|size| plain(ledger, size)) {
            ledger.free(block);
        }
        self.connection = Some(Connection { net, small });
    }

    /// Sends a result of `bytes`, in rows that fit the packet; NET writes its buffer out whenever it is full.
    pub fn send(&mut self, ledger: &mut Ledger, bytes: usize) {
        if let Some(c) = &mut self.connection {
            self.packet.packet(ledger, bytes.min(self.packet.room()));
            c.net.packet(ledger, bytes.min(c.net.room()));
        }
    }

    /// Sends a row whose value takes `bytes`: the packet's string grows to it and shrinks afterwards.
    pub fn send_value(&mut self, ledger: &mut Ledger, bytes: usize) {
        if self.connection.is_some() {
            self.packet.packet(ledger, bytes);
            self.packet.shrink(ledger);
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
        self.transaction_root.alloc(ledger, bytes);
    }

    /// The transaction has ended.
    pub fn end_transaction(&mut self, ledger: &mut Ledger) {
        self.transaction_root.clear(ledger);
    }

    /// The client has gone; the thread goes to the thread cache with its THD.
    pub fn disconnect(&mut self, ledger: &mut Ledger) {
        if let Some(c) = self.connection.take() {
            for block in c.small {
                ledger.free(block);
            }
            c.net.free(ledger);
        }
        self.packet.shrink(ledger);
        self.transaction_root.clear(ledger);
        self.query_root.clear(ledger);
    }

    /// The thread ends.
    pub fn end(mut self, ledger: &mut Ledger) {
        self.disconnect(ledger);
        self.transaction_root.free(ledger);
        self.query_root.free(ledger);
        self.packet.free(ledger);
        for block in self.own {
            ledger.free(block);
        }
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
        let before = ledger.live_bytes();
        let mut thd = Thd::new(&mut ledger, &vars);
        let cached = ledger.live_bytes();
        thd.connect(&mut ledger, &vars);
        assert_eq!((thd.packet.size(), thd.transaction_root.sizes()), (16416, vec![8184]));
        assert_eq!(thd.query_root.sizes(), [32760]);
        thd.send(&mut ledger, 50_000);
        let net = |thd: &Thd| thd.connection.as_ref().unwrap().net.size();
        assert_eq!(net(&thd), 16416, "sending does not grow it");
        thd.receive(&mut ledger, 50_000);
        thd.end_transaction(&mut ledger);
        assert_eq!(net(&thd), 53_248 + 32, "it does not shrink while the client is there");
        thd.disconnect(&mut ledger);
        assert_eq!(ledger.live_bytes(), cached, "a cached thread keeps its THD, arenas and packet");
        thd.end(&mut ledger);
        assert_eq!(ledger.live_bytes(), before);
    }

    #[test]
    fn arenas_take_whole_blocks_whatever_the_prealloc_variables_say() {
        let mut ledger = test_ledger();
        let (query_prealloc_size, transaction_prealloc_size) = (1 << 20, 1 << 16);
        let vars = Sysvars { query_prealloc_size, transaction_prealloc_size, ..Sysvars::default() };
        let thd = Thd::new(&mut ledger, &vars);
        assert_eq!((thd.query_root.sizes(), thd.transaction_root.sizes()), (vec![32760], vec![8184]));
        thd.end(&mut ledger);
    }
}
