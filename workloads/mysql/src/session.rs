//! A connection's thread: what it holds from connect to disconnect, and what ends with each statement and transaction.
//! What statements do in between is in `statement.rs`.
//!
//! Source: sizes and order as a recorded MariaDB 10.11.19 shows them; the primitives in `memory` cite the server's
//! source. Blocks that no primitive stands for are asked for by their recorded size, with the object they are assumed
//! to be.

use std::sync::Arc;

use fragbench_engine::{Block, Ledger, Random};

use crate::handover::{Handover, Pair};
use crate::memory::{BinlogCache, MemRoot, PreparedStatement, Table, Thd, TrxPool, Use};
use crate::{Flavor, Sysvars};

/// Transactions after which what a session leaves in a table instance is found by another. A server's instances go
/// around faster; this bounds how closely threads must keep step.
const LEFT_BEHIND_FOR: usize = 2;
/// Transactions the pool has ready from the start; the connection that wants one more fills it.
const READY_TRANSACTIONS: usize = 16;

/// What a statement leaves in the table instance it used, for the next user of the instance to free, which is seldom
/// the same thread.
#[derive(Debug, Default)]
pub(crate) struct LeftBehind {
    /// `row_prebuilt_t::old_vers_heap`: the last old version of a row that was built.
    pub(crate) old_versions: Vec<Block>,
    /// What an UPDATE or DELETE leaves (assumed: the reference of the row it was positioned on).
    pub(crate) references: Vec<Block>,
}

impl LeftBehind {
    fn free(&mut self, ledger: &mut Ledger) {
        for block in self.old_versions.drain(..).chain(self.references.drain(..)) {
            ledger.free(block);
        }
    }
}

/// A session's place in the ring of sessions.
#[derive(Debug)]
pub(crate) struct Links {
    /// Leftovers: to the next, from the one before.
    leaves: Pair<LeftBehind>,
    /// Table instances beyond the cache: opened here and closed by the next.
    instances: Pair<Instance>,
}

/// A place of the table cache: an instance, until it is flushed.
type Instance = Option<Table>;

/// Instances that one session has opened and its neighbour will close.
#[derive(Debug, Clone)]
pub(crate) struct Instances(Arc<Handover<Instance>>);

impl Instances {
    /// Closes all that are on their way, for a flush.
    pub(crate) fn close(&self, ledger: &mut Ledger) {
        self.0.each(|instance| {
            if let Some(table) = instance.take() {
                table.close(ledger);
            }
        });
    }
}

impl Links {
    /// For `sessions` sessions that share a table cache.
    pub(crate) fn ring(sessions: usize, vars: &Sysvars) -> Vec<Links> {
        let depth = (vars.table_open_cache / sessions).max(1);
        let leaves = Handover::ring(sessions, LEFT_BEHIND_FOR);
        let instances = Handover::ring(sessions, depth);
        leaves.into_iter().zip(instances).map(|(leaves, instances)| Links { leaves, instances }).collect()
    }
}

/// What the thread that accepts connections hands to the one that serves them: `CONNECT`, and what goes with it.
#[derive(Debug)]
pub(crate) struct Connect([Block; 2]);

impl Connect {
    pub(crate) fn accept(ledger: &mut Ledger) -> Connect {
        Connect([96, 712].map(|size| {
            let id = ledger.next_id();
            ledger.malloc(id, size)
        }))
    }
}

/// One connection's thread.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) vars: Arc<Sysvars>,
    pub(crate) random: Random,
    /// From 0, in the order of connecting.
    pub(crate) number: usize,
    pub(crate) thd: Option<Thd>,
    links: Links,
    /// Neighbours are gone: nothing comes from them, and nothing is left to them.
    pub(crate) alone: bool,
    /// With the connection that will be the first to want more than is ready.
    trx_pool: Option<TrxPool>,
    /// Whether it has had a transaction yet.
    has_transaction: bool,
    /// Times it has taken instances.
    turn: u64,
    /// Instances opened so far.
    opened: u64,
    pub(crate) statements: Vec<PreparedStatement>,
    pub(crate) binlog: BinlogCache,
    /// Freed at the end of the statement, in reverse order.
    pub(crate) statement: Vec<Block>,
    pub(crate) range_roots: [MemRoot; 2],
    /// Freed at the end of the transaction.
    pub(crate) transaction: Vec<Block>,
    /// Freed when the client leaves: temporary tables, variables.
    pub(crate) connection: Vec<Block>,
    /// Never freed.
    pub(crate) pins: Vec<Block>,
    pub(crate) mdl_locks: usize,
    /// Tables with a metadata lock in the transaction: read, written.
    pub(crate) tickets: [u64; 2],
    /// What others have left in the instances this transaction uses, and what it leaves.
    pub(crate) found: LeftBehind,
    pub(crate) left: LeftBehind,
}

impl Session {
    pub(crate) fn new(vars: Arc<Sysvars>, random: Random, number: usize, links: Links) -> Session {
        Session {
            range_roots: [0; 2].map(|_| MemRoot::new(vars.flavor, vars.range_alloc_block_size)),
            binlog: BinlogCache::new(&vars),
            vars,
            random,
            number,
            thd: None,
            links,
            alone: false,
            trx_pool: None,
            has_transaction: false,
            turn: 0,
            opened: 0,
            statements: Vec::with_capacity(64),
            statement: Vec::with_capacity(64),
            transaction: Vec::with_capacity(64),
            connection: Vec::with_capacity(64),
            pins: Vec::with_capacity(128),
            mdl_locks: 0,
            tickets: [0; 2],
            found: LeftBehind::default(),
            left: LeftBehind::default(),
        }
    }

    /// Gives it the pool of transactions, if it is the one that will fill it.
    pub(crate) fn share_pool(&mut self, pool: &mut Option<TrxPool>) {
        if self.number == READY_TRANSACTIONS {
            self.trx_pool = pool.take();
        }
    }

    /// A client connects: to a new thread, or to one that waits in the thread cache with its THD.
    pub(crate) fn connect(&mut self, ledger: &mut Ledger, connect: Option<Connect>) {
        let vars = self.vars.clone();
        self.thd.get_or_insert_with(|| Thd::new(ledger, &vars)).connect(ledger, &vars);
        for block in connect.into_iter().flat_map(|connect| connect.0) {
            ledger.free(block);
        }
    }

    /// Opens an instance of a table; when the cache is full, closes the one that the neighbour opened longest ago.
    pub(crate) fn open_table(&mut self, ledger: &mut Ledger, columns: usize, used: Use) {
        if self.alone {
            return;
        }
        self.opened += 1;
        let table = Table::open(ledger, columns, used);
        self.links.instances.0.put(ledger, Some(table));
        if let Some(Some(table)) = self.links.instances.1.take(ledger, self.opened) {
            table.close(ledger);
        }
    }

    /// The instances that this session opens.
    pub(crate) fn instances(&self) -> Instances {
        Instances(self.links.instances.0.clone())
    }

    /// A transaction begins, with a `trx_t` of the pool.
    pub(crate) fn begin(&mut self, ledger: &mut Ledger) {
        if !self.has_transaction
            && let Some(pool) = &mut self.trx_pool
        {
            (0..=READY_TRANSACTIONS).for_each(|_| pool.take(ledger));
        }
        self.has_transaction = true;
    }

    /// Takes table instances for a transaction: in them is what others have left.
    pub(crate) fn take_instances(&mut self, ledger: &mut Ledger) {
        self.turn += 1;
        if !self.alone
            && let Some(found) = self.links.leaves.1.take(ledger, self.turn)
        {
            self.found = found;
        }
    }

    /// A transaction ends: its locks, undo and tickets go, and a buffer that has grown shrinks.
    pub(crate) fn commit(&mut self, ledger: &mut Ledger) {
        if let Some(thd) = &mut self.thd {
            thd.transaction_alloc(ledger, 600);
            thd.end_transaction(ledger);
        }
        self.commit_keeping_buffers(ledger);
    }

    /// As [`Self::commit`], while a packet as large as the last is expected.
    pub(crate) fn commit_keeping_buffers(&mut self, ledger: &mut Ledger) {
        self.binlog.reset();
        while let Some(block) = self.transaction.pop() {
            ledger.free(block);
        }
        self.tickets = [0; 2];
    }

    /// Leaves the instances to the next user, with what the transaction has left in them.
    pub(crate) fn leave_instances(&mut self, ledger: &mut Ledger) {
        // What was found and not used goes now, as if its instance had found a user.
        self.found.free(ledger);
        let mut left = std::mem::take(&mut self.left);
        if self.alone {
            left.free(ledger);
        } else {
            self.links.leaves.0.put(ledger, left);
        }
    }

    /// COM_QUIT: all that is the connection's goes; the THD stays with the thread, but for MySQL, which deletes it.
    pub(crate) fn disconnect(&mut self, ledger: &mut Ledger) {
        while let Some(statement) = self.statements.pop() {
            statement.close(ledger);
        }
        self.free_connection_blocks(ledger);
        self.binlog.free(ledger);
        match (&mut self.thd, self.vars.flavor) {
            (Some(thd), Flavor::Mariadb) => thd.disconnect(ledger),
            _ => self.end(ledger),
        }
    }

    /// The thread ends, and its THD with it.
    pub(crate) fn end(&mut self, ledger: &mut Ledger) {
        if let Some(thd) = self.thd.take() {
            thd.end(ledger);
        }
    }
}
