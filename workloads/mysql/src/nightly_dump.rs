//! `mysql/nightly-dump`: days of transactions, and nights in which everything is dumped.
//!
//! By day sessions run sysbench's read-write transactions, and leave in the evening. By night one session dumps all
//! tables, opening each, and the archives grow: twice as many rows the next day. The instances of the dumped tables stay
//! in the table cache, among what the day has freed, until the next day's sessions evict them. The pattern behind
//! MDEV-30889 (memory that grows with each nightly mariadb-dump and does not come back).
//!
//! Calibrated on a recording of MariaDB 10.11.19 (24 connections of 20 transactions a day, 80 archives, three days): days
//! by the bounds of `oltp-read-write`, nights by those in this file's test.
//!
//! Should reveal: whether what a day leaves is used by the night, and whether a few blocks that outlive it keep pages of
//! the rest from going back.

use std::sync::{Arc, Mutex, PoisonError};

use fragbench_engine::{Context, Entry, Ledger, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::memory::{MemHeap, Table, Use};
use crate::oltp_read_write::Sysbench;
use crate::server::{Background, Server};
use crate::session::Session;
use crate::statement::briefly;
use crate::{Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

const SESSIONS: u32 = 24;
const LOAD: &[Load] = &[
    ("tables", "4", "sysbench --tables, in which the day's transactions are"),
    ("transactions", "20", "transactions of a session a day, at scale 1"),
    ("archives", "80", "tables that only the dump reads"),
    ("days", "3", "days and nights"),
];
const MOST: u64 = 1 << 16;
/// Rows of an archive on the first day.
const ROWS: u64 = 12;
const COLUMNS: usize = 3;
const SYSBENCH_COLUMNS: usize = 4;
/// Undo records of a transaction.
const UNDO_RECORDS: u64 = 3;
/// Looks of the monitoring agent a day.
const POLLS: usize = 25;
/// What a row of an archive takes when it is copied: the row read, with its text.
const BLOB_HEAP: usize = 16_512;
const ROW_RECORD: usize = 88;

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/nightly-dump".to_owned(),
        summary: "days of transactions, nights in which all tables are dumped and grow".to_owned(),
        fidelity: "calibrated on a recording".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    let tables = load.size("tables", 1, MOST)?;
    let transactions = load.size("transactions", 1, MOST)?;
    Ok(Box::new(NightlyDump {
        sysbench: Sysbench { tables, transactions, range_size: 100 },
        archives: load.size("archives", 1, MOST)?,
        days: load.size("days", 1, 16)?,
        dumped: Arc::default(),
        server: Server::new(vars, request.threads.unwrap_or(SESSIONS) as usize),
    }))
}

/// Instances of dumped tables, until somebody evicts them.
type Dumped = Arc<Mutex<Vec<Option<Table>>>>;

/// The workload.
struct NightlyDump {
    sysbench: Sysbench,
    archives: u64,
    days: u64,
    dumped: Dumped,
    server: Server,
}

impl NightlyDump {
    fn day(&mut self, ctx: &mut Context, transactions: u64) {
        let (sysbench, sessions) = (self.sysbench, self.server.sessions());
        ctx.phase("day", |ctx| {
            self.server.connect(ctx, sessions);
            let dumped = self.dumped.clone();
            let undo_records = (transactions * UNDO_RECORDS) as usize * sessions;
            self.server.with(Background { undo_records, polls: POLLS }, move |session, ledger| {
                evict(session, ledger, &dumped, sessions);
                sysbench.prepare(session, ledger);
                (0..transactions).for_each(|_| sysbench.transaction(session, ledger));
            });
        });
        ctx.phase("peak", |_| {
            self.server.all(|session, ledger| {
                session.lock_for_statement(ledger);
                session.end_statement(ledger);
            });
        });
        ctx.phase("disconnect", |_| self.server.disconnect());
    }

    /// The night after day number `day`, from 0.
    fn night(&mut self, ctx: &mut Context, day: u64) {
        let (archives, dumped) = (self.archives, self.dumped.clone());
        let rows = ROWS << day;
        ctx.phase("night", |_| {
            self.server.by_agent(move |session, ledger| {
                let mut kept = Vec::with_capacity(archives as usize);
                for _ in 0..archives {
                    kept.push(Some(dump(session, ledger)));
                    (0..rows).for_each(|_| copy_row(session, ledger));
                }
                let old = std::mem::replace(&mut *dumped.lock().unwrap_or_else(PoisonError::into_inner), kept);
                old.into_iter().flatten().for_each(|table| table.close(ledger));
            });
        });
    }
}

impl Workload for NightlyDump {
    fn threads(&self) -> u32 {
        self.server.threads()
    }

    fn run(&mut self, ctx: &mut Context) {
        let transactions = ((self.sysbench.transactions as f64 * ctx.settings().scale).round() as u64).max(1);
        let columns = std::iter::repeat_n(SYSBENCH_COLUMNS, self.sysbench.tables as usize);
        self.server.start(ctx, columns.chain(std::iter::repeat_n(COLUMNS, self.archives as usize)));
        for day in 0..self.days {
            self.day(ctx, transactions);
            self.night(ctx, day);
        }
        ctx.fact("sessions", self.server.sessions() as f64);
        ctx.fact("days", self.days as f64);
    }

    fn resume(&mut self, ctx: &mut Context) {
        self.night(ctx, 0);
    }
}

/// A session of the day closes its part of what the night has left open.
fn evict(session: &mut Session, ledger: &mut Ledger, dumped: &Dumped, sessions: usize) {
    let mine: Vec<Table> = {
        let mut all = dumped.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter_mut().skip(session.number).step_by(sessions).filter_map(Option::take).collect()
    };
    mine.into_iter().for_each(|table| table.close(ledger));
}

/// Dumps a table: its definition is asked for, as a table of the information schema, and its rows are sent.
fn dump(session: &mut Session, ledger: &mut Ledger) -> Table {
    let table = Table::open(ledger, COLUMNS, Use::Read);
    session.read_process_list(ledger);
    session.lock_for_statement(ledger);
    session.for_statement(ledger, BLOB_HEAP);
    session.send(ledger, 50_000);
    session.end_statement(ledger);
    session.commit(ledger);
    table
}

/// INSERT ... SELECT of a row with a text of up to 13 KB, of which the row's heaps take a part.
fn copy_row(session: &mut Session, ledger: &mut Ledger) {
    briefly(ledger, BLOB_HEAP);
    briefly(ledger, ROW_RECORD);
    let row = session.random.between(300, 5000) as usize;
    session.for_statement(ledger, row);
    let mut heap = MemHeap::new();
    heap.create(ledger, 520);
    heap.alloc(ledger, 520);
    heap.alloc(ledger, 1248);
    if row > 2000 {
        heap.alloc(ledger, 2704);
    }
    heap.free(ledger);
    session.end_statement(ledger);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{Sizes, assert_close, calls};

    const ROWS_COPIED: usize = 960;

    /// Recording nightly-dump: allocations a copied row, of those of a night.
    #[test]
    fn a_copied_row_asks_for_what_the_server_was_seen_to_ask_for() {
        let work = |session: &mut Session, ledger: &mut Ledger| {
            (0..ROWS_COPIED).for_each(|_| copy_row(session, ledger));
        };
        let sizes = Sizes::of(&calls(Sysvars::default(), |session, _| session.alone = true, work));
        let of = |size: usize| sizes.count(size) / ROWS_COPIED as f64;
        assert_close(&[
            ("16512 bytes", of(16_512), 1.0, 0.0),
            ("88 bytes", of(88), 1.0, 0.0),
            ("648 bytes", of(648), 0.91, 0.1),
            ("1376 bytes", of(1376), 0.91, 0.1),
            ("2832 bytes", of(2832), 0.71, 0.15),
        ]);
    }
}
