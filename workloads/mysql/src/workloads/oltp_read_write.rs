//! `mysql/oltp-read-write`: sysbench's transactions against a MariaDB server, as its memory sees them.
//!
//! Sessions connect, prepare their statements and run transactions of twenty statements (sysbench oltp_common.lua: ten
//! point selects, four ranges, two updates, a delete, an insert, BEGIN and COMMIT), while purge threads clean up behind
//! them. Then all wait with their statements open, which is the peak; then all leave.
//!
//! Three populations: what lives for a statement (freed in reverse order), for a transaction (tickets, locks), and for
//! longer (sessions, prepared statements, table instances, and one small block that each update of an index leaves
//! behind). Calibrated on a recording of MariaDB 10.11.19 under sysbench oltp_read_write (64 connections, 4 tables of
//! 10,000 rows): the bounds in this file's test, statement by statement.
//!
//! Should reveal: little. Nearly all is freed by the thread that made it and soon; allocators differ by what they keep
//! of sort buffers and temporary tables, which are most of the bytes.

use fragbench_engine::{Context, Entry, Ledger, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::memory::{EXTRA_RECORDS, HeapTable, Use};
use crate::server::{Background, Server};
use crate::session::Session;
use crate::statement::{Lock, ROW_HEAP, briefly, row_heaps};
use crate::{Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

/// sysbench's usual number of connections in published runs.
const SESSIONS: u32 = 64;
/// The result row of a DISTINCT over a CHAR(120), and the records of its sort and of an ORDER BY over a table.
const RESULT_ROW: usize = 121;
const RESULT_SORT_RECORD: usize = 128;
const TABLE_SORT_RECORD: usize = 232;
/// Rows that the sort of a range is expected to have: enough to ask for the whole of `sort_buffer_size`.
const TABLE_ROWS: usize = 1_000_000;
/// sysbench's own options.
const LOAD: &[Load] = &[
    ("tables", "4", "sysbench --tables: nine prepared statements each, a connection, and two more"),
    ("transactions", "66", "transactions of a session in the steady phase, at scale 1"),
    ("range_size", "100", "rows of a range query (sysbench --range-size)"),
];
/// Largest of them.
const MOST: u64 = 1 << 20;
/// Columns of sysbench's tables.
const COLUMNS: usize = 4;
/// Bytes of a statement's arena that its execution uses.
const ARENA: usize = 6000;
/// Of an UPDATE or DELETE: its `upd_node_t`'s graph; of one that changes an index, what building the index entries takes.
const CHANGE_GRAPH: usize = 592;
const INDEX_ENTRIES: usize = 1264;
/// A table lock or undo bookkeeping of a change, until the transaction ends; an update of an index leaves one for good.
const CHANGE_RECORD: usize = 88;
/// COMMIT's.
const COMMIT_RECORD: usize = 56;
/// Transactions of all sessions between two looks of the monitoring agent.
const TRANSACTIONS_A_POLL: u64 = 60;
/// Undo records of a transaction that purge looks at: two updates and a delete.
const UNDO_RECORDS: usize = 3;
/// Transactions of a session when work resumes after the purge.
const RESUMED: u64 = 5;

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/oltp-read-write".to_owned(),
        summary: "sessions of sysbench's read-write transactions: connect, steady, peak, disconnect".to_owned(),
        fidelity: "calibrated on a recording".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    let sessions = vars.sessions(request, SESSIONS)?;
    let sysbench = Sysbench {
        tables: load.size("tables", 1, MOST)?,
        transactions: load.size("transactions", 1, MOST)?,
        range_size: load.size("range_size", 1, MOST)? as usize,
        sessions: sessions as u64,
    };
    let server = Server::new(vars, sessions);
    Ok(Box::new(OltpReadWrite { sysbench, server }))
}

/// Values of sysbench's options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sysbench {
    pub(crate) tables: u64,
    pub(crate) transactions: u64,
    pub(crate) range_size: usize,
    /// Sessions that change rows at the same time.
    pub(crate) sessions: u64,
}

impl Sysbench {
    /// Statements a connection has prepared: sysbench oltp_common.lua.
    fn prepared_statements(self) -> usize {
        9 * self.tables as usize + 2
    }
}

/// The workload.
struct OltpReadWrite {
    sysbench: Sysbench,
    server: Server,
}

impl Workload for OltpReadWrite {
    fn threads(&self) -> u32 {
        self.server.threads()
    }

    fn run(&mut self, ctx: &mut Context) {
        let sysbench = self.sysbench;
        let count = ((sysbench.transactions as f64 * ctx.settings().scale).round() as u64).max(1);
        let all = count * self.server.sessions() as u64;
        self.server.start(ctx, std::iter::repeat_n(COLUMNS, sysbench.tables as usize));
        ctx.phase("connect", |ctx| {
            self.server.connect(ctx, self.server.sessions());
            self.server.all(move |session, ledger| sysbench.prepare(session, ledger));
        });
        ctx.phase("steady", |_| {
            let background =
                Background { undo_records: all as usize * UNDO_RECORDS, polls: (all / TRANSACTIONS_A_POLL) as usize };
            self.server.with(background, move |session, ledger| {
                (0..count).for_each(|_| sysbench.transaction(session, ledger));
            });
        });
        ctx.phase("peak", |_| {
            self.server.all(|session, ledger| {
                session.lock_for_statement(ledger);
                session.end_statement(ledger);
            });
        });
        ctx.phase("disconnect", |_| self.server.disconnect());
        ctx.fact("sessions", self.server.sessions() as f64);
        ctx.fact("transactions", all as f64);
    }

    fn resume(&mut self, ctx: &mut Context) {
        let sysbench = self.sysbench;
        self.server.again(ctx, move |session, ledger| {
            sysbench.prepare(session, ledger);
            (0..RESUMED).for_each(|_| sysbench.transaction(session, ledger));
        });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    Simple,
    Sum,
    Order,
    Distinct,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    IndexUpdate,
    NonIndexUpdate,
    Delete,
}

impl Sysbench {
    pub(crate) fn prepare(self, session: &mut Session, ledger: &mut Ledger) {
        for _ in 0..self.prepared_statements() {
            let tree = session.random.between(5000, 12_000) as usize;
            session.prepare(ledger, tree);
        }
        // 153 instances were opened for 64 sessions.
        for _ in 0..if session.random.chance(2, 5) { 3 } else { 2 } {
            session.open_table(ledger, 0, Use::Changed);
        }
    }

    pub(crate) fn transaction(self, session: &mut Session, ledger: &mut Ledger) {
        session.begin(ledger);
        session.take_instances(ledger);
        let table = self.any_table(session);
        for _ in 0..10 {
            self.point_select(session, ledger, table);
        }
        for range in [Range::Simple, Range::Sum, Range::Order, Range::Distinct] {
            self.range_select(session, ledger, range);
        }
        let table = self.any_table(session);
        self.change(session, ledger, table, Change::IndexUpdate);
        let table = self.any_table(session);
        self.change(session, ledger, table, Change::NonIndexUpdate);
        let table = self.any_table(session);
        self.change(session, ledger, table, Change::Delete);
        self.insert(session, ledger, table);
        session.for_statement(ledger, 80);
        briefly(ledger, COMMIT_RECORD);
        session.end_statement(ledger);
        session.commit(ledger);
        session.leave_instances(ledger);
    }

    fn any_table(self, session: &mut Session) -> u64 {
        session.random.below(self.tables)
    }

    fn point_select(self, session: &mut Session, ledger: &mut Ledger, table: u64) {
        session.lock_table(ledger, table, Lock::Read);
        // Few of the rows were changed since the transaction's view was made.
        if session.random.chance(2, 100) {
            session.old_versions(ledger, 1);
        }
        session.execute(ledger, ARENA);
        session.send(ledger, 250);
        session.end_statement(ledger);
    }

    fn range_select(self, session: &mut Session, ledger: &mut Ledger, range: Range) {
        let rows = self.range_size;
        let table = self.any_table(session);
        session.lock_table(ledger, table, Lock::Read);
        session.range_access(ledger, true);
        // Of a hundred rows these have changed since the view was made, by 64 sessions on 40,000 rows.
        let of = |percent: u64| rows as u64 * percent * self.sessions / u64::from(SESSIONS) / 100;
        let changed = session.random.between(of(4), of(12)) as usize;
        match range {
            Range::Simple | Range::Sum => session.old_versions(ledger, changed),
            Range::Order => {
                session.for_statement(ledger, 104);
                session.old_versions(ledger, changed);
                session.sort(ledger, rows, TABLE_ROWS, TABLE_SORT_RECORD);
            }
            Range::Distinct => {
                let mut table = HeapTable::new(&session.vars);
                table.create(ledger, RESULT_ROW);
                table.insert(ledger, rows);
                session.old_versions(ledger, changed);
                session.sort(ledger, rows, rows + EXTRA_RECORDS, RESULT_SORT_RECORD);
                table.free(ledger);
            }
        }
        session.execute(ledger, ARENA);
        session.send(ledger, if range == Range::Sum { 100 } else { rows * 125 });
        session.end_statement(ledger);
    }

    /// UPDATE and DELETE find their row by a range.
    fn change(self, session: &mut Session, ledger: &mut Ledger, table: u64, change: Change) {
        session.lock_table(ledger, table, Lock::Write);
        session.lock_for_statement(ledger);
        session.range_access(ledger, false);
        session.take_position(ledger);
        match change {
            Change::IndexUpdate => {
                leave_behind(session, ledger);
                session.for_statement(ledger, CHANGE_GRAPH);
                session.for_statement(ledger, INDEX_ENTRIES);
                row_heaps(ledger, 3);
            }
            Change::NonIndexUpdate => {}
            Change::Delete => {
                session.for_statement(ledger, CHANGE_GRAPH);
                row_heaps(ledger, 1);
            }
        }
        session.for_transaction(ledger, CHANGE_RECORD);
        log_change(session, ledger);
        session.execute(ledger, ARENA);
        session.send(ledger, 60);
        session.end_statement(ledger);
    }

    fn insert(self, session: &mut Session, ledger: &mut Ledger, table: u64) {
        session.lock_table(ledger, table, Lock::Write);
        session.lock_for_statement(ledger);
        session.for_statement(ledger, ROW_HEAP);
        briefly(ledger, CHANGE_RECORD);
        row_heaps(ledger, 2);
        log_change(session, ledger);
        session.execute(ledger, ARENA);
        session.send(ledger, 60);
        session.end_statement(ledger);
    }
}

/// The binary log's event of a changed row.
fn log_change(session: &mut Session, ledger: &mut Ledger) {
    if session.vars.log_bin {
        let event = session.random.between(200, 500) as usize;
        session.binlog.write(ledger, event);
    }
}

/// What an update of an index leaves: not freed while the recording lasts (assumed: undo bookkeeping, cached).
fn leave_behind(session: &mut Session, ledger: &mut Ledger) {
    let id = ledger.next_id();
    session.pins.push(ledger.malloc(id, CHANGE_RECORD));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{Sizes, assert_close, calls, freed_late};

    const TRANSACTIONS: u64 = 400;
    const SYSBENCH: Sysbench =
        Sysbench { tables: 4, transactions: TRANSACTIONS, range_size: 100, sessions: SESSIONS as u64 };

    /// The shipped trace `workloads/replay/traces/oltp-read-write.fbt`, sessions' threads alone, from the second second of the load to the end of its work:
    /// allocations a transaction. Frees by another session are 4.2 % of the load's.
    #[test]
    fn a_transaction_asks_for_what_the_server_was_seen_to_ask_for() {
        let calls = calls(
            Sysvars::default(),
            |session, ledger| (0..40).for_each(|_| SYSBENCH.transaction(session, ledger)),
            |session, ledger| (0..TRANSACTIONS).for_each(|_| SYSBENCH.transaction(session, ledger)),
        );
        let sizes = Sizes::of(&calls);
        let of = |size: usize| sizes.count(size) / TRANSACTIONS as f64;
        assert_close(&[
            ("allocations", sizes.len() / TRANSACTIONS as f64, 149.0, 6.0),
            ("mean size, KB", sizes.mean() / 1000.0, 25.2, 1.0),
            ("1152 bytes", of(1152), 52.7, 2.5),
            ("736 bytes", of(736), 31.9, 1.5),
            ("4088 bytes", of(4088), 14.0, 0.0),
            ("80 bytes", of(80), 10.35, 0.6),
            ("344 bytes", of(344), 7.0, 0.0),
            ("88 bytes", of(88), 6.0, 0.5),
            ("272 bytes", of(272), 4.05, 0.1),
            ("33 bytes", of(33), 3.0, 0.0),
            ("65560 bytes", of(65_560), 2.0, 0.0),
            ("592 bytes", of(592), 2.0, 0.0),
            ("14984 bytes", of(14_984), 1.0, 0.0),
            ("32760 bytes", of(32_760), 1.0, 0.0),
            ("262136 bytes", of(262_136), 1.0, 0.0),
            ("1048568 bytes", of(1_048_568), 1.0, 0.0),
            ("2097144 bytes", of(2_097_144), 1.0, 0.0),
            // In a run, what a neighbour frees; here the session is its own neighbour.
            ("% freed two transactions later", freed_late(&calls, 400), 4.9, 0.6),
        ]);
    }
}
