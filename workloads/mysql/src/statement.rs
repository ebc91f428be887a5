//! What a statement does to the heap while it runs: metadata locks, range access, old versions of rows, sorts, temporary
//! tables, sending. Methods of a session; workloads compose statements of them.
//!
//! Source: the order and sizes of calls in a recorded MariaDB 10.11.19, one statement at a time. Names are those of the
//! server's objects where size, order and lifetime point to one; "assumed" where they do not.

use fragbench_engine::{ALL_PAGES, Block, Ledger};

use crate::memory::{PreparedStatement, SortBuffer};
use crate::session::Session;

/// `MDL_ticket`.
const TICKET: usize = 80;
/// `SQL_SELECT`, for a moment, and `QUICK_RANGE_SELECT`, of a range access.
const SQL_SELECT: usize = 272;
const QUICK_SELECT: usize = 344;
/// `MDL_lock`.
const MDL_LOCK: usize = 744;
/// A read of the process list: a temporary table of the Aria engine, since its rows have blobs, and two strings.
const PROCESS_LIST: &[i32] = &[
    32_760, 32, 96, 40, -40, 96, -96, -32, 96, 552, 32, 3408, 96, -552, -32, 8216, 48, 18_296, 296, 168, 72, 2328, 224,
    16_408, -16_408, -224, -296, -168, -72, -48, -8216, -96, -96, -3408, -2328, -18_296, -32_760,
];
/// `mem_heap_create(1024)`: InnoDB's working memory of a step, in four of ten blocks recorded under sysbench.
pub(crate) const ROW_HEAP: usize = 1152;
/// An old version of a row, in `row_prebuilt_t::old_vers_heap`.
const OLD_VERSION: usize = 736;
/// What an UPDATE or DELETE leaves in its instance.
const REFERENCE: usize = 33;

/// Locks a session makes before it comes to find those it has freed.
const LOCKS: usize = 40;
/// Locks a session makes of a table that many use.
const FEW_LOCKS: usize = 12;
const PAGE: usize = 4096;
/// From here on a block is a buffer.
const BUFFER: usize = 16 << 10;

/// How a table is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    Read,
    Write,
}

impl Session {
    /// A block for the length of the statement, in use as [`in_use`] says.
    pub(crate) fn for_statement(&mut self, ledger: &mut Ledger, bytes: usize) {
        let id = ledger.next_id();
        self.statement.push(ledger.malloc_touching(id, bytes, in_use(bytes)));
    }

    /// A block for the length of the transaction.
    pub(crate) fn for_transaction(&mut self, ledger: &mut Ledger, bytes: usize) {
        let id = ledger.next_id();
        self.transaction.push(ledger.malloc(id, bytes));
    }

    /// A range has been read, the statement goes on.
    pub(crate) fn end_ranges(&mut self, ledger: &mut Ledger) {
        for root in &mut self.range_roots {
            root.free(ledger);
        }
    }

    /// The statement has ended.
    pub(crate) fn end_statement(&mut self, ledger: &mut Ledger) {
        self.end_ranges(ledger);
        while let Some(block) = self.statement.pop() {
            ledger.free(block);
        }
        if let Some(thd) = &mut self.thd {
            thd.query_root.clear(ledger);
        }
    }

    /// COM_STMT_PREPARE of a statement whose parse tree takes `tree` bytes.
    pub(crate) fn prepare(&mut self, ledger: &mut Ledger, tree: usize) {
        self.statements.push(PreparedStatement::prepare(ledger, &self.vars, tree));
        self.lock_for_statement(ledger);
        if self.mdl_locks < LOCKS {
            self.new_lock(ledger);
        }
        self.end_statement(ledger);
    }

    /// As [`Self::prepare`], of a table whose lock others have made already.
    pub(crate) fn prepare_known(&mut self, ledger: &mut Ledger, tree: usize) {
        self.statements.push(PreparedStatement::prepare(ledger, &self.vars, tree));
        self.lock_for_statement(ledger);
        if self.mdl_locks < FEW_LOCKS {
            self.new_lock(ledger);
        }
        self.end_statement(ledger);
    }

    /// An `MDL_lock` that was not there: made, and kept for ever by the allocator of the lock table, which gives a
    /// thread's freed ones to others only by and by (mysys/lf_alloc-pin.c).
    pub(crate) fn new_lock(&mut self, ledger: &mut Ledger) {
        self.mdl_locks += 1;
        let id = ledger.next_id();
        self.pins.push(ledger.malloc(id, MDL_LOCK));
    }

    /// Plays a statement as recorded: a positive number asks for a block of that size, a negative one frees the newest
    /// of that size. What is left at the end goes with the statement.
    pub(crate) fn play(&mut self, ledger: &mut Ledger, score: &[i32]) {
        for note in score {
            let size = note.unsigned_abs() as usize;
            if *note > 0 {
                self.for_statement(ledger, size);
            } else if let Some(at) = self.statement.iter().rposition(|block| block.size() == size) {
                ledger.free(self.statement.remove(at));
            } else {
                debug_assert!(false, "the score frees a block of {size} bytes that it has not asked for");
            }
        }
    }

    /// The metadata lock of `table`: one for reading and one for writing a transaction, however many statements use it.
    pub(crate) fn lock_table(&mut self, ledger: &mut Ledger, table: u64, lock: Lock) {
        let bit = 1 << (table % 64);
        let held = &mut self.tickets[lock as usize];
        if *held & bit == 0 {
            *held |= bit;
            self.for_transaction(ledger, TICKET);
        }
    }

    /// A metadata lock that goes with the statement.
    pub(crate) fn lock_for_statement(&mut self, ledger: &mut Ledger) {
        self.for_statement(ledger, TICKET);
    }

    /// Finds rows by a range of an index: an arena while the range is weighed, another while it is read.
    pub(crate) fn range_access(&mut self, ledger: &mut Ledger, select: bool) {
        let [weighing, reading] = &mut self.range_roots;
        weighing.alloc(ledger, 500);
        if select {
            briefly(ledger, SQL_SELECT);
        }
        let id = ledger.next_id();
        self.statement.push(ledger.malloc(id, QUICK_SELECT));
        reading.alloc(ledger, 500);
        weighing.free(ledger);
    }

    /// Reads `rows` rows that others have changed: each is built from undo records, step by step, and replaces the one
    /// built before; the first replaces what the instance's last user left.
    pub(crate) fn old_versions(&mut self, ledger: &mut Ledger, rows: usize) {
        let mut newest: Option<Block> = None;
        for row in 0..rows {
            let old = if row == 0 { self.found.old_versions.pop() } else { newest.take() };
            if let Some(old) = old {
                ledger.free(old);
            }
            row_heaps(ledger, if self.random.chance(43, 100) { 2 } else { 1 });
            let id = ledger.next_id();
            newest = Some(ledger.malloc(id, OLD_VERSION));
        }
        self.left.old_versions.extend(newest);
    }

    /// Positions on the row to change, where the instance's last user has left his position.
    pub(crate) fn take_position(&mut self, ledger: &mut Ledger) {
        if let Some(old) = self.found.references.pop() {
            ledger.free(old);
        }
        let id = ledger.next_id();
        self.left.references.push(ledger.malloc(id, REFERENCE));
    }

    /// Takes `bytes` from the statement's arena.
    pub(crate) fn execute(&mut self, ledger: &mut Ledger, bytes: usize) {
        /// An Item, a list, a JOIN: of this order.
        const PIECE: usize = 2000;
        if let Some(thd) = &mut self.thd {
            let mut left = bytes;
            while left > 0 {
                let piece = left.min(PIECE);
                thd.query_root.alloc(ledger, piece);
                left -= piece;
            }
        }
    }

    /// A block for the length of the statement of which the first `used` bytes are written.
    pub(crate) fn for_statement_using(&mut self, ledger: &mut Ledger, bytes: usize, used: usize) {
        let id = ledger.next_id();
        self.statement.push(ledger.malloc_touching(id, bytes, used.min(bytes).div_ceil(PAGE) as u32));
    }

    /// A block for the length of the statement, filled.
    pub(crate) fn whole_for_statement(&mut self, ledger: &mut Ledger, bytes: usize) {
        let id = ledger.next_id();
        self.statement.push(ledger.malloc(id, bytes));
    }

    /// Receives a packet of `bytes`.
    pub(crate) fn receive(&mut self, ledger: &mut Ledger, bytes: usize) {
        if let Some(thd) = &mut self.thd {
            thd.receive(ledger, bytes);
        }
    }

    /// Sends a result of `bytes`.
    pub(crate) fn send(&mut self, ledger: &mut Ledger, bytes: usize) {
        if let Some(thd) = &mut self.thd {
            thd.send(ledger, bytes);
        }
    }

    /// Sends a row with a value of `bytes`.
    pub(crate) fn send_value(&mut self, ledger: &mut Ledger, bytes: usize) {
        if let Some(thd) = &mut self.thd {
            thd.send_value(ledger, bytes);
        }
    }

    /// Sorts `rows` rows where `expected` were expected.
    pub(crate) fn sort(&mut self, ledger: &mut Ledger, rows: usize, expected: usize, record: usize) {
        let mut buffer = SortBuffer::new(ledger, &self.vars, expected, record);
        buffer.sort(ledger, rows);
        buffer.free(ledger);
    }

    /// A block that is the connection's until the client leaves.
    pub(crate) fn for_connection(&mut self, ledger: &mut Ledger, bytes: usize) {
        let id = ledger.next_id();
        self.connection.push(ledger.malloc_touching(id, bytes, in_use(bytes)));
    }

    /// Writes the first `bytes` of the connection's newest block.
    pub(crate) fn write_connection_block(&mut self, ledger: &mut Ledger, bytes: usize) {
        if let Some(block) = self.connection.last() {
            ledger.write(block, 0, bytes.min(block.size()));
        }
    }

    /// Temporary tables and variables of the connection go.
    pub(crate) fn free_connection_blocks(&mut self, ledger: &mut Ledger) {
        while let Some(block) = self.connection.pop() {
            ledger.free(block);
        }
    }

    /// Reads the process list, as a monitoring agent does: `information_schema.processlist` with a condition.
    pub(crate) fn read_process_list(&mut self, ledger: &mut Ledger) {
        self.play(ledger, PROCESS_LIST);
        self.end_statement(ledger);
    }
}

/// Pages of a block that a statement uses: all of a small one, the first of a buffer, which seldom fills.
fn in_use(bytes: usize) -> u32 {
    if bytes < BUFFER { ALL_PAGES } else { 1 }
}

/// A block that is freed at once.
pub(crate) fn briefly(ledger: &mut Ledger, bytes: usize) {
    let id = ledger.next_id();
    let block = ledger.malloc(id, bytes);
    ledger.free(block);
}

/// `count` heaps of InnoDB's, one within the other, for a step of a statement.
pub(crate) fn row_heaps(ledger: &mut Ledger, count: usize) {
    if count > 0 {
        let id = ledger.next_id();
        let heap = ledger.malloc(id, ROW_HEAP);
        row_heaps(ledger, count - 1);
        ledger.free(heap);
    }
}
