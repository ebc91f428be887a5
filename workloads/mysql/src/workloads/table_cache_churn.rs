//! `mysql/table-cache-churn`: more tables than the table cache holds, while some are altered and all are looked at.
//!
//! Most sessions read and join tables in orders of their own, so that each open evicts an instance that another session
//! opened. One in eight alters, creates and drops tables of its own; one in eight reads the information schema, which
//! opens every table for a moment; one flushes the caches three times, and all is opened anew. At the peak each session
//! has ten tables open.
//!
//! Calibrated on a recording of MariaDB 10.11.19 (24 connections, 120 events each, 300 tables of 4 to 40 columns,
//! `table_open_cache=100`): a definition is played as recorded; the bounds are in this file's test. Which session opens
//! which definition, and when the flushes come among other sessions' events, is fixed here and a race there.
//!
//! Should reveal: long-lived blocks of 32 to 8184 bytes that go back to another thread's arena; who pays for frees by
//! strangers, and whose arenas stay full of holes.

use fragbench_engine::{Context, Entry, Ledger, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::definition::DEFINITION;
use crate::definition_cache::DefinitionCache;
use crate::memory::Use;
use crate::server::{Background, Server};
use crate::session::Session;
use crate::statement::briefly;
use crate::{Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

const SESSIONS: u32 = 24;
const LOAD: &[Load] = &[
    ("tables", "300", "tables, of 4 to 40 columns"),
    ("events", "120", "events of a session in the steady phase, at scale 1"),
];
const MOST: u64 = 1 << 20;
/// One in so many sessions defines tables, in every fourth event; one reads the information schema, in every twentieth.
const ROLES: usize = 8;
const DEFINES_EVERY: u64 = 4;
const LOOKS_EVERY: u64 = 20;
/// Every third event is a join, which finds one more table closed.
const JOINS_EVERY: u64 = 3;
/// Tables of a session at the peak.
const JOINED: usize = 10;
/// Events of all sessions between two looks of the monitoring agent.
const EVENTS_A_POLL: u64 = 25;
/// Events of a session when work resumes after the purge.
const RESUMED: u64 = 8;

/// The flushing session runs ahead of those that define, whose events are heavier: its 40th, 80th and 120th event come
/// when so many percent of all calls are made.
const FLUSHES_AT: [u64; 3] = [13, 20, 28];
/// Definitions that a session opens in an event while there are any to open: a SELECT needs one, a join three.
const OPENS: u64 = 2;
/// After a flush: sessions that have waited for it find all tables closed at once.
const REOPENS: u64 = 6;
/// Locks that a session makes, of the tables it is the first of its kind to use.
const LOCKS: usize = 75;
/// What reading a definition takes of a table: its ticket, blocks of a share's root, a name at a time.
const SHARE: &[i32] = &[80, 8184];
const NAME: usize = 160;

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/table-cache-churn".to_owned(),
        summary: "more tables than the cache holds: evictions, DDL, scans of the information schema".to_owned(),
        fidelity: "calibrated on a recording".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    let churn = Churn { tables: load.size("tables", 1, MOST)? };
    let events = load.size("events", 1, MOST)?;
    let sessions = vars.sessions(request, SESSIONS)?;
    let server = Server::new(vars, sessions);
    let cache = DefinitionCache::new(churn.tables);
    Ok(Box::new(TableCacheChurn { churn, events, cache, server }))
}

/// What a session does.
#[derive(Debug, Clone, Copy)]
struct Churn {
    tables: u64,
}

/// The workload.
struct TableCacheChurn {
    churn: Churn,
    events: u64,
    cache: DefinitionCache,
    server: Server,
}

impl Workload for TableCacheChurn {
    fn threads(&self) -> u32 {
        self.server.threads()
    }

    fn run(&mut self, ctx: &mut Context) {
        let (churn, sessions) = (self.churn, self.server.sessions());
        let events = ((self.events as f64 * ctx.settings().scale).round() as u64).max(1);
        self.server.start(ctx, []);
        ctx.phase("connect", |ctx| self.server.connect(ctx, sessions));
        ctx.phase("steady", |_| {
            let mut done = 0;
            for (flushes, percent) in FLUSHES_AT.into_iter().chain([100]).enumerate() {
                let until = events * percent / 100;
                self.work(done, until, flushes == 0);
                if percent < 100 {
                    self.flush();
                }
                done = until;
            }
        });
        ctx.phase("peak", |_| {
            self.server.all(move |session, ledger| {
                (0..JOINED).for_each(|_| {
                    churn.open(session, ledger);
                });
                session.end_statement(ledger);
            });
        });
        ctx.phase("disconnect", |_| self.server.disconnect());
        ctx.fact("sessions", sessions as f64);
        ctx.fact("events", (events * sessions as u64) as f64);
    }

    fn resume(&mut self, ctx: &mut Context) {
        let churn = self.churn;
        self.server.again(ctx, move |session, ledger| {
            (1..=RESUMED).for_each(|turn| churn.event(session, ledger, turn));
        });
    }
}

impl TableCacheChurn {
    /// Events of all sessions, after number `from` to `to`, none before a flush.
    fn work(&self, from: u64, to: u64, first: bool) {
        let (churn, cache, sessions) = (self.churn, self.cache.clone(), self.server.sessions() as u64);
        let all = (to - from) * sessions;
        let opens = if first { OPENS } else { REOPENS };
        let background = Background { undo_records: (all / 2) as usize, polls: (all / EVENTS_A_POLL) as usize };
        self.server.with(background, move |session, ledger| {
            for turn in from..to {
                for nth in 0..opens {
                    let number = session.number as u64 + ((turn - from) * opens + nth) * sessions;
                    if number < churn.tables {
                        cache.open(session, ledger, number, churn.columns(number + 1), first);
                    }
                }
                churn.event(session, ledger, turn + 1);
            }
        });
    }

    /// FLUSH TABLES, by the first session: all instances and definitions are closed.
    fn flush(&self) {
        let (cache, instances) = (self.cache.clone(), self.server.instances());
        self.server.all(move |session, ledger| {
            if session.number == 0 {
                instances.iter().for_each(|instances| instances.close(ledger));
                cache.flush(ledger);
            }
        });
    }
}

impl Churn {
    /// Columns of a table by its number.
    fn columns(self, table: u64) -> usize {
        (4 + table * 7 % 37) as usize
    }

    /// All sessions open equally many tables in an event, whatever they do beside, so that what each evicts is due.
    fn event(self, session: &mut Session, ledger: &mut Ledger, turn: u64) {
        let role = session.number % ROLES;
        let joins = turn.is_multiple_of(JOINS_EVERY);
        session.begin(ledger);
        let columns = self.open(session, ledger);
        if joins {
            self.open(session, ledger);
        }
        if role == ROLES - 2 && turn.is_multiple_of(DEFINES_EVERY) {
            define(session, ledger);
        } else if role == ROLES - 1 && turn.is_multiple_of(LOOKS_EVERY) {
            self.information_schema(session, ledger);
        } else if joins {
            session.play(ledger, &[80, 80, 32_760]);
        } else {
            read(session, ledger, columns);
        }
        session.execute(ledger, 6000);
        session.send(ledger, 1000);
        session.end_statement(ledger);
    }

    /// Opens a table at random; how many columns it has.
    fn open(self, session: &mut Session, ledger: &mut Ledger) -> usize {
        session.lock_for_statement(ledger);
        if session.mdl_locks < LOCKS {
            session.new_lock(ledger);
        }
        let table = session.random.between(1, self.tables);
        let columns = self.columns(table);
        session.open_table(ledger, columns, Use::Read);
        columns
    }

    /// Two scans, of tables and of columns: every table's definition is read for each.
    fn information_schema(self, session: &mut Session, ledger: &mut Ledger) {
        session.read_process_list(ledger);
        for scan in 0..2 {
            for table in 1..=self.tables {
                session.play(ledger, SHARE);
                if scan == 0 {
                    session.play(ledger, &[1016, 32]);
                }
                let columns = self.columns(table);
                if columns > 25 {
                    session.for_statement(ledger, 4088);
                }
                // Not every column has a type whose name is made anew.
                (0..columns / 12 + 1).for_each(|_| briefly(ledger, NAME));
                session.end_statement(ledger);
            }
        }
    }
}

/// `SELECT * ... ORDER BY`, of a few rows: a sort of rows as wide as the table allows.
fn read(session: &mut Session, ledger: &mut Ledger, columns: usize) {
    session.range_access(ledger, true);
    // Rows that fit are as many as the optimizer expects, fewer the wider they are.
    session.play(ledger, &[376, 40, 65_560, 48]);
    session.for_statement(ledger, (14_400 / columns.max(1)).max(600) + 3000);
}

/// CREATE OR REPLACE, INSERT, ALTER, SELECT, DROP of a table of one's own.
fn define(session: &mut Session, ledger: &mut Ledger) {
    session.play(ledger, DEFINITION);
    session.end_statement(ledger);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{Sizes, assert_close, calls};

    const DEFINITIONS: usize = 10;

    /// Recording table-cache-churn: allocations of the three sessions that define, by definition, of the 90 they make.
    /// The number of all includes their other events; sizes are those that only definitions ask for.
    #[test]
    fn a_definition_asks_for_what_the_server_was_seen_to_ask_for() {
        let calls = calls(
            Sysvars::default(),
            |_, _| {},
            |session, ledger| (0..DEFINITIONS).for_each(|_| define(session, ledger)),
        );
        let sizes = Sizes::of(&calls);
        let of = |size: usize| sizes.count(size) / DEFINITIONS as f64;
        assert_close(&[
            ("allocations", sizes.len() / DEFINITIONS as f64, 1512.0, 180.0),
            ("592 bytes", of(592), 187.0, 12.0),
            ("88 bytes", of(88), 201.0, 15.0),
            ("256 bytes", of(256), 104.0, 5.0),
            ("640 bytes", of(640), 92.0, 2.0),
            ("1360 bytes", of(1360), 92.0, 2.0),
            ("16128 bytes", of(16_128), 44.0, 2.0),
            ("2097176 bytes", of(2_097_176), 2.0, 0.0),
        ]);
    }
}
