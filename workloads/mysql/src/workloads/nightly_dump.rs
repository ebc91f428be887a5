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
//! Not in the model: time. A server's night lasts seconds, in which allocators that give back by time do so; here days
//! and nights follow each other at once, so that those keep more at the end than under the server.
//!
//! Should reveal: whether what a day leaves is used by the night, and whether a few blocks that outlive it keep pages of
//! the rest from going back.

use std::sync::{Arc, Mutex, PoisonError};

use fragbench_engine::{Context, Entry, Ledger, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use super::oltp_read_write::Sysbench;
use crate::memory::{MemHeap, Table, Use};
use crate::server::{Background, Server};
use crate::session::Session;
use crate::statement::ROW_HEAP;
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
/// What mariadb-dump asks about an archive, of the information schema, and SHOW CREATE TABLE; then SHOW TRIGGERS.
const ASK: &[i32] = &[
    32_760, 44_856, 56, 32, 592, 112, -32, 760, 152, 32_760, 152, 80, 48, 1208, -48, -1208, 8184, 65_528, -8184, -80,
    -152, -32_760, -152, -65_528, -112, -592, -760, -44_856, -32_760, -56,
];
const COLUMNS_OF: &[i32] = &[
    80, 160, 32, -32, -160, -80, 32_760, 56, 40, 112, 88, -88, 112, -112, -40, -112, 112, 680, 32, 3840, 112, -680,
    -32, 8216, 48, 18_320, 496, 168, 72, 2328, 1072, 152, 32_760, 152, 80, 8184, 160, -160, -8184, -80, -152, -32_760,
    -152, 376, 376, 40, 65_560, 16_408, -16_408, 48, -40, -376, -65_560, -48, -376, -1072, -496, -168, -72, -48, -8216,
    -112, -112, -3840, -2328, -18_320, -32_760, -56,
];
const TRIGGERS: &[i32] = &[
    32, -32, 48, -48, 32_760, 91_800, 56, 32, 112, 56, -56, 112, -112, -32, -112, 112, 592, 32, 3584, 112, -592, -32,
    8216, 48, 18_296, 352, 168, 72, 2328, 616, 152, 32_760, 152, -152, -32_760, -152, 16_408, -16_408, -616, -352,
    -168, -72, -48, -8216, -112, -112, -3584, -2328, -18_296, -91_800, -32_760, -56, 640, -640,
];
/// Before the first use of an archive InnoDB reads its definition, the server its statistics.
const FIRST_USE: &[i32] = &[
    88, 536, 32_128, 232, 544, 1168, 32, -32, 72, -72, 232, 544, 1168, -1168, -544, -232, -32_128, -536, -88, 80, 80,
    640, 1360, 16_128, 32, 32, 32, 25, 28, 25, 31, 36, 32, 32, 25, 25, 65, 25, 408, 408, 408, 408, 31, 28, 32, 31, 36,
    32, 32, -28, -32, -32, -32, -65, -31, -31, -31, -408, -28, -36, -36, -408, -32, -32, -32, -408, -32, -32, -408,
    -25, -25, -25, -25, -25, -1360, -640, -16_128, -80, -80,
];
/// What stays of it.
const DEFINITION: [usize; 9] = [1248, 8184, 232, 712, 38, 1504, 88, 4088, 744];
/// INSERT ... SELECT into the same table, by way of a temporary one: its beginning, and its end after the rows.
const COPY: &[i32] = &[
    80, 80, 32_760, 16_512, 32, 112, 48, -48, 112, -112, -32, -112, 112, 568, 32, 3552, 112, -568, -32, 8216, 48,
    18_320, 344, 168, 72, 2328, 248, 16_408,
];
const COPIED: &[i32] = &[16_408, 528, 88];
/// InnoDB's reading of a row, with its text, and one of the temporary table.
const BLOB_HEAP: &[i32] = &[16_512, -16_512];
const ROW_RECORD: &[i32] = &[88, -88];
/// A text too large for its page goes to pages of its own: once a statement the page is split, with the index's heap.
const SPLIT: &[i32] = &[
    648, 1376, 2832, 5744, 8128, 8128, 1128, 1152, 160, -160, -1152, 8128, -8128, -8128, -8128, -5744, -2832, -1376,
    -648, -1128,
];
/// `mem_heap_create(1024)`, for a moment, with five rows of twelve.
const ROW: i32 = ROW_HEAP as i32;
/// Texts of an archive are of up to a size between these.
const SHORTEST_TEXT: u64 = 1150;
const LONGEST_TEXT: u64 = 13_000;
/// From how many bytes on a row's update takes a heap, and from how many on that grows, by what.
const INLINE: u64 = 500;
const OUTSIDE: [(u64, usize); 2] = [(1500, 2704), (4500, 5600)];
/// Background statistics of an archive that has grown: deletes and writes rows of `innodb_table_stats` and of
/// `innodb_index_stats`.
const STATISTICS: &[i32] = &[
    80, 24, 152, 384, 34, -34, -384, -152, -24, 80, 80, 640, 1360, -1360, -640, 640, 1360, -1360, -640, 640, 1360,
    16_128, 256, 256, 8, 592, 43, 592, 88, 25, 25, 1152, 88, -88, -1152, -25, -25, -1360, -640, -43, -592, -256, -592,
    -256, -8, -16_128, 72,
];
const STATISTIC: &[i32] = &[
    640, 1360, 16_128, 256, 256, 8, 592, 65, 592, 88, -88, 25, 25, 25, 25, 1152, 88, -88, -1152, -25, -25, -25, -25,
    -1360, -640, -65, -592, -256, -592, -256, -8, -16_128,
];
/// Rows of `innodb_index_stats` of an archive.
const INDEX_STATISTICS: usize = 3;

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
    let sessions = vars.sessions(request, SESSIONS)?;
    Ok(Box::new(NightlyDump {
        sysbench: Sysbench { tables, transactions, range_size: 100, sessions: sessions as u64 },
        archives: load.size("archives", 1, MOST)?,
        days: load.size("days", 1, 16)?,
        dumped: Arc::default(),
        known: false,
        server: Server::new(vars, sessions),
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
    /// The archives have been opened before.
    known: bool,
    server: Server,
}

impl NightlyDump {
    fn day(&mut self, ctx: &mut Context, transactions: u64) {
        let (sysbench, sessions) = (self.sysbench, self.server.sessions());
        ctx.phase("day", |ctx| {
            self.server.connect(ctx, sessions);
            let dumped = self.dumped.clone();
            self.server.all(move |session, ledger| {
                evict(session, ledger, &dumped, sessions);
                sysbench.prepare(session, ledger);
            });
            let undo_records = (transactions * UNDO_RECORDS) as usize * sessions;
            self.server.with(Background { undo_records, polls: POLLS }, move |session, ledger| {
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

    /// The night after day number `day`, from 0: all is dumped, then all archives grow to twice their rows.
    fn night(&mut self, ctx: &mut Context, day: u64) {
        let (archives, dumped) = (self.archives, self.dumped.clone());
        let rows = ROWS << day;
        let first = !std::mem::replace(&mut self.known, true);
        ctx.phase("night", |_| {
            self.server.by_agent(move |session, ledger| {
                let tables: Vec<Table> = (0..archives).map(|_| dump(session, ledger, rows, first)).collect();
                let mut kept = Vec::with_capacity(archives as usize);
                for table in tables {
                    kept.push(Some(Table::open(ledger, COLUMNS, Use::Changed)));
                    table.close(ledger);
                    copy(session, ledger, rows);
                    // What has grown by a tenth since it was counted is counted again; later nights come too soon.
                    if first {
                        statistics(session, ledger);
                    }
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

/// Dumps an archive of `rows` rows.
fn dump(session: &mut Session, ledger: &mut Ledger, rows: u64, first: bool) -> Table {
    session.play(ledger, ASK);
    let table = Table::open(ledger, COLUMNS, Use::Read);
    if first {
        session.play(ledger, FIRST_USE);
        session.pins.extend(DEFINITION.map(|size| {
            let id = ledger.next_id();
            ledger.malloc(id, size)
        }));
    }
    session.play(ledger, COLUMNS_OF);
    session.end_statement(ledger);
    (0..rows).for_each(|_| session.play(ledger, BLOB_HEAP));
    session.send(ledger, 10_000);
    session.end_statement(ledger);
    session.play(ledger, TRIGGERS);
    session.end_statement(ledger);
    table
}

/// Copies the `rows` rows of an archive.
fn copy(session: &mut Session, ledger: &mut Ledger, rows: u64) {
    session.play(ledger, COPY);
    (0..rows).for_each(|_| session.play(ledger, BLOB_HEAP));
    session.play(ledger, COPIED);
    let longest = session.random.between(SHORTEST_TEXT, LONGEST_TEXT);
    for row in 0..rows {
        session.play(ledger, ROW_RECORD);
        copy_row(ledger, 50 + session.random.below(longest));
        match row % 12 {
            8 => session.play(ledger, SPLIT),
            2 | 5 => session.play(ledger, &[ROW, 160, -160, -ROW]),
            1 | 4 | 7 => session.play(ledger, &[ROW, -ROW]),
            _ => {}
        }
    }
    session.end_statement(ledger);
}

/// Writes a row of `bytes`: built in a heap of its size, then put into pages by way of growing ones.
fn copy_row(ledger: &mut Ledger, bytes: u64) {
    let mut heap = MemHeap::new();
    heap.create(ledger, bytes as usize);
    let mut pages = MemHeap::new();
    if bytes > INLINE {
        pages.create(ledger, 520);
        pages.alloc(ledger, 520);
        pages.alloc(ledger, 1248);
    }
    for (from, room) in OUTSIDE {
        if bytes > from {
            pages.alloc(ledger, room);
        }
    }
    pages.free(ledger);
    heap.free(ledger);
}

/// Counts an archive again.
fn statistics(session: &mut Session, ledger: &mut Ledger) {
    session.play(ledger, STATISTICS);
    (0..INDEX_STATISTICS).for_each(|_| session.play(ledger, STATISTIC));
    session.end_statement(ledger);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{Sizes, assert_close, calls};

    const ARCHIVES: u64 = 80;

    /// Recording nightly-dump, 16.4 to 19.8 s: allocations a copied row of the third night, of the 3840 of 80 archives.
    #[test]
    fn a_copied_row_asks_for_what_the_server_was_seen_to_ask_for() {
        let rows = ROWS << 2;
        let work = |session: &mut Session, ledger: &mut Ledger| {
            (0..ARCHIVES).for_each(|_| copy(session, ledger, rows));
        };
        let sizes = Sizes::of(&calls(Sysvars::default(), |session, _| session.alone = true, work));
        let of = |size: usize| sizes.count(size) / (ARCHIVES * rows) as f64;
        assert_close(&[
            ("16512 bytes", of(16_512), 1.0, 0.03),
            ("88 bytes", of(88), 1.0, 0.03),
            ("648 bytes", of(648), 0.911, 0.1),
            ("1376 bytes", of(1376), 0.907, 0.1),
            ("2832 bytes", of(2832), 0.709, 0.1),
            ("5744 bytes", of(5744), 0.398, 0.1),
            ("8128 bytes", of(8128), 0.206, 0.1),
            ("1152 bytes", of(1152), 0.443, 0.1),
        ]);
    }

    /// Recording nightly-dump: allocations of the first night, of the thread that dumps, an archive.
    #[test]
    fn a_dumped_archive_asks_for_what_the_server_was_seen_to_ask_for() {
        let work = |session: &mut Session, ledger: &mut Ledger| {
            (0..ARCHIVES).for_each(|_| dump(session, ledger, ROWS, true).close(ledger));
        };
        let sizes = Sizes::of(&calls(Sysvars::default(), |session, _| session.alone = true, work));
        let of = |size: usize| sizes.count(size) / ARCHIVES as f64;
        assert_close(&[
            ("allocations", sizes.len() / ARCHIVES as f64, 148.0, 15.0),
            ("16512 bytes", of(16_512), 12.0, 0.0),
            ("44856 bytes", of(44_856), 1.06, 0.1),
            ("91800 bytes", of(91_800), 1.06, 0.1),
            ("408 bytes", of(408), 4.0, 0.1),
            ("32760 bytes", of(32_760), 6.6, 1.0),
        ]);
    }
}
