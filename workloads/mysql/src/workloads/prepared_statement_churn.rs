//! `mysql/prepared-statement-churn`: sessions that prepare statements by the hundred and close them in another order.
//!
//! Each session prepares a batch of statements of seven shapes, runs each once, and when it has more than it may keep,
//! closes half of them in an order that has nothing to do with that of preparing. At the peak all hold what is left.
//!
//! Calibrated on a recording of MariaDB 10.11.19 (48 connections, batches of 30, at most 120 kept): each shape is played
//! as recorded; the bounds are in this file's test.
//!
//! Should reveal: arenas of 32 KiB that go in random order leave holes of 32 KiB, among sort buffers and temporary tables
//! that come and go in between: who fills the holes, and who grows.

use fragbench_engine::{Context, Entry, Ledger, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::memory::{HeapTable, Use};
use crate::server::{Background, Server};
use crate::session::Session;
use crate::{Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

const SESSIONS: u32 = 48;
const LOAD: &[Load] = &[
    ("batches", "16", "batches of statements of a session in the steady phase, at scale 1"),
    ("batch", "30", "statements of a batch"),
    ("kept", "120", "statements that a session keeps at most"),
];
const MOST: u64 = 16_382;
const COLUMNS: usize = 5;
/// The record of a sort by a VARCHAR(200), and the row of a grouping.
const SORT_RECORD: usize = 296;
const GROUP_ROW: usize = 60;
/// Rows that the sort of a range is expected to have: enough to ask for the whole of `sort_buffer_size`.
const TABLE_ROWS: usize = 1_000_000;
/// Batches of all sessions between two looks of the monitoring agent.
const BATCHES_A_POLL: usize = 11;
/// Batches of a session when work resumes after the purge.
const RESUMED: u64 = 2;

/// Statements as recorded, beside what primitives stand for.
const IN_LIST: &[i32] = &[4088, 320, -320, 344, 4088, -4088, -4088, -344, 48];
const UPDATE: &[i32] = &[80, 4088, 344, 4088, -4088, 88, 88, 272, -4088, -344, 80];
const SUBQUERY: &[i32] = &[4088, 4088, 344, 4088, 280, -4088, -4088, -280];
const SORT_GROUPS: &[i32] = &[376, 488, 40, 65_560, 128, -40, -488, -65_560, -128, -376];

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/prepared-statement-churn".to_owned(),
        summary: "sessions that prepare statements by the hundred and close them in another order".to_owned(),
        fidelity: "calibrated on a recording".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    let churn = Churn {
        batches: load.size("batches", 1, MOST)?,
        batch: load.size("batch", 1, MOST)?,
        kept: load.size("kept", 1, MOST)? as usize,
    };
    let sessions = vars.sessions(request, SESSIONS)?;
    let server = Server::new(vars, sessions);
    Ok(Box::new(PreparedStatementChurn { churn, server }))
}

/// What a session does.
#[derive(Debug, Clone, Copy)]
struct Churn {
    batches: u64,
    batch: u64,
    kept: usize,
}

/// The workload.
struct PreparedStatementChurn {
    churn: Churn,
    server: Server,
}

impl Workload for PreparedStatementChurn {
    fn threads(&self) -> u32 {
        self.server.threads()
    }

    fn run(&mut self, ctx: &mut Context) {
        let (churn, sessions) = (self.churn, self.server.sessions());
        let batches = ((churn.batches as f64 * ctx.settings().scale).round() as u64).max(1);
        self.server.start(ctx, [COLUMNS, 1]);
        ctx.phase("connect", |ctx| self.server.connect(ctx, sessions));
        ctx.phase("steady", |_| {
            let polls = batches as usize * sessions / BATCHES_A_POLL;
            self.server.with(Background { polls, ..Background::default() }, move |session, ledger| {
                (0..2).for_each(|_| session.open_table(ledger, COLUMNS, Use::Read));
                (0..batches).for_each(|nth| churn.batch(session, ledger, nth));
            });
        });
        ctx.phase("peak", |_| {
            self.server.all(|session, ledger| {
                session.lock_for_statement(ledger);
                session.end_statement(ledger);
            });
        });
        ctx.phase("disconnect", |_| self.server.disconnect());
        ctx.fact("sessions", sessions as f64);
        ctx.fact("statements", (batches * churn.batch * sessions as u64) as f64);
    }

    fn resume(&mut self, ctx: &mut Context) {
        let churn = self.churn;
        self.server.again(ctx, move |session, ledger| (0..RESUMED).for_each(|nth| churn.batch(session, ledger, nth)));
    }
}

impl Churn {
    /// The session's batch number `nth`, and what it closes after it.
    fn batch(self, session: &mut Session, ledger: &mut Ledger, nth: u64) {
        for turn in nth * self.batch..(nth + 1) * self.batch {
            let tree = session.random.between(5000, 20_000) as usize;
            session.prepare_known(ledger, tree);
            session.begin(ledger);
            execute(session, ledger, (session.number as u64 + turn * 5) % 7);
            session.end_statement(ledger);
            session.commit(ledger);
        }
        while session.statements.len() > self.kept {
            for _ in 0..session.statements.len() / 2 {
                let at = session.random.below(session.statements.len() as u64) as usize;
                session.statements.swap_remove(at).close(ledger);
            }
        }
    }
}

/// Runs a statement of one of seven shapes.
fn execute(session: &mut Session, ledger: &mut Ledger, shape: u64) {
    session.lock_for_statement(ledger);
    match shape {
        // By primary key, alone and joined: nothing but the ticket.
        0 | 1 => {}
        2 => {
            session.range_access(ledger, true);
            session.sort(ledger, 20, TABLE_ROWS, SORT_RECORD);
        }
        3 => {
            session.range_access(ledger, true);
            session.for_statement(ledger, 280);
            let mut groups = HeapTable::new(&session.vars);
            groups.create(ledger, GROUP_ROW);
            groups.insert(ledger, 13);
            session.play(ledger, SORT_GROUPS);
            groups.free(ledger);
        }
        4 => {
            session.take_instances(ledger);
            session.play(ledger, UPDATE);
            session.take_position(ledger);
            session.leave_instances(ledger);
        }
        5 => session.play(ledger, IN_LIST),
        _ => session.play(ledger, SUBQUERY),
    }
    session.execute(ledger, 6000);
    session.send(ledger, 1000);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{Sizes, assert_close, calls};

    const BATCHES: u64 = 14;

    /// Recording prepared-statement-churn: allocations a statement, of 22,663.
    #[test]
    fn a_statement_asks_for_what_the_server_was_seen_to_ask_for() {
        let churn = Churn { batches: BATCHES, batch: 30, kept: 120 };
        let calls = calls(
            Sysvars::default(),
            |_, _| {},
            |session, ledger| (0..BATCHES).for_each(|nth| churn.batch(session, ledger, nth)),
        );
        let sizes = Sizes::of(&calls);
        let of = |size: usize| sizes.count(size) / (BATCHES * 30) as f64;
        assert_close(&[
            ("allocations", sizes.len() / (BATCHES * 30) as f64, 10.5, 0.6),
            ("mean size, KB", sizes.mean() / 1000.0, 56.0, 4.0),
            ("80 bytes", of(80), 2.29, 0.1),
            ("4088 bytes", of(4088), 1.57, 0.1),
            ("32760 bytes", of(32_760), 1.146, 0.03),
            ("984 bytes", of(984), 1.0, 0.0),
            ("344 bytes", of(344), 0.716, 0.03),
            ("65560 bytes", of(65_560), 0.287, 0.02),
            ("1048568 bytes", of(1_048_568), 0.143, 0.01),
        ]);
    }
}
