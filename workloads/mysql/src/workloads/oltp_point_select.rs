//! `mysql/oltp-point-select`: sysbench's reads by primary key, as the server's memory sees them.
//!
//! Sessions connect, prepare one statement a table and read single rows, each its own transaction. A statement asks libc
//! for one block, its metadata lock's ticket: all else comes from arenas that are kept. What the heap sees of the load is
//! the sessions themselves, the transaction pool filled by one of them, locks kept by the lock table's allocator, and a
//! monitoring agent that reads the process list.
//!
//! Calibrated on a recording of MariaDB 10.11.19 under the load oltp-point-select of `harness/validate` (sysbench, 64 connections, 4 tables, 3000 reads
//! each, from the first connection to the last disconnect): the bounds in this file's test.
//!
//! Should reveal: what an allocator keeps per thread, since nothing else happens; a throughput of small pairs that any
//! thread cache serves.

use fragbench_engine::{Context, Entry, Ledger, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::memory::Use;
use crate::server::{Background, Server};
use crate::session::Session;
use crate::{Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

/// sysbench's usual number of connections in published runs.
const SESSIONS: u32 = 64;
const LOAD: &[Load] = &[
    ("tables", "4", "sysbench --tables: a prepared statement each, a connection"),
    ("reads", "3000", "reads of a session in the steady phase, at scale 1"),
];
const MOST: u64 = 1 << 20;
/// Columns of sysbench's tables.
const COLUMNS: usize = 4;
/// Bytes of a statement's arena that it uses, and of its result.
const ARENA: usize = 3000;
const RESULT: usize = 200;
/// Reads in which a session's locks of the lock table are made, one in so many, until it has these; and one in so many
/// from then on.
const WARM_LOCKS: usize = 60;
const LOCK_AT_FIRST: u64 = 8;
const LOCK_LATER: u64 = 160;
/// Reads of a session at a stretch: all then wait for the slowest, so that what sessions gather grows in all of them
/// alike, as on a server where each read takes a client's round trip.
const STRETCH: u64 = 100;
/// Reads of all sessions between two looks of the monitoring agent.
const READS_A_POLL: u64 = 2200;
/// Reads of a session when work resumes after the purge.
const RESUMED: u64 = 100;

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/oltp-point-select".to_owned(),
        summary: "sessions that read single rows: one small block a statement".to_owned(),
        fidelity: "calibrated on a recording".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    let tables = load.size("tables", 1, MOST)? as usize;
    let reads = load.size("reads", 1, MOST)?;
    let sessions = vars.sessions(request, SESSIONS)?;
    let server = Server::new(vars, sessions);
    Ok(Box::new(OltpPointSelect { tables, reads, server }))
}

/// The workload.
struct OltpPointSelect {
    tables: usize,
    reads: u64,
    server: Server,
}

impl Workload for OltpPointSelect {
    fn threads(&self) -> u32 {
        self.server.threads()
    }

    fn run(&mut self, ctx: &mut Context) {
        let (tables, sessions) = (self.tables, self.server.sessions() as u64);
        let reads = ((self.reads as f64 * ctx.settings().scale).round() as u64).max(1);
        self.server.start(ctx, std::iter::repeat_n(COLUMNS, tables));
        ctx.phase("connect", |ctx| {
            self.server.connect(ctx, sessions as usize);
            self.server.all(move |session, ledger| prepare(session, ledger, tables));
        });
        ctx.phase("steady", |_| {
            let polls_until = |reads: u64| reads * sessions / READS_A_POLL;
            for done in (0..reads).step_by(STRETCH as usize) {
                let to = (done + STRETCH).min(reads);
                let polls = (polls_until(to) - polls_until(done)) as usize;
                let background = Background { polls, ..Background::default() };
                self.server.with(background, move |session, ledger| (done..to).for_each(|_| read(session, ledger)));
            }
        });
        ctx.phase("peak", |_| self.server.all(read));
        ctx.phase("disconnect", |_| self.server.disconnect());
        ctx.fact("sessions", sessions as f64);
        ctx.fact("reads", (reads * sessions) as f64);
    }

    fn resume(&mut self, ctx: &mut Context) {
        let tables = self.tables;
        self.server.again(ctx, move |session, ledger| {
            prepare(session, ledger, tables);
            (0..RESUMED).for_each(|_| read(session, ledger));
        });
    }
}

fn prepare(session: &mut Session, ledger: &mut Ledger, tables: usize) {
    for _ in 0..tables {
        let tree = session.random.between(5000, 12_000) as usize;
        session.prepare(ledger, tree);
    }
    // Every second session finds no instance of its table free: 69 were opened for 64.
    if session.random.chance(1, 13) {
        session.open_table(ledger, 0, Use::Read);
    }
    session.open_table(ledger, 0, Use::Read);
}

fn read(session: &mut Session, ledger: &mut Ledger) {
    session.begin(ledger);
    session.lock_for_statement(ledger);
    let one_in = if session.mdl_locks < WARM_LOCKS { LOCK_AT_FIRST } else { LOCK_LATER };
    if session.random.chance(1, one_in) {
        session.new_lock(ledger);
    }
    session.execute(ledger, ARENA);
    session.send(ledger, RESULT);
    session.end_statement(ledger);
    session.commit(ledger);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{Sizes, assert_close, calls};

    const READS: u64 = 3000;

    /// Recording of `harness/validate`'s oltp-point-select: allocations of one of 64 sessions from its first prepared statement on.
    #[test]
    fn a_read_asks_for_one_ticket_and_seldom_for_a_lock() {
        let work = |session: &mut Session, ledger: &mut Ledger| {
            prepare(session, ledger, 4);
            (0..READS).for_each(|_| read(session, ledger));
        };
        let sizes = Sizes::of(&calls(Sysvars::default(), |_, _| {}, work));
        assert_close(&[
            ("80 bytes", sizes.count(80), 3006.0, 10.0),
            ("744 bytes", sizes.count(744), 74.4, 10.0),
            ("32760 bytes", sizes.count(32_760), 4.0, 0.0),
            ("984 bytes", sizes.count(984), 4.0, 0.0),
            ("others", sizes.len() - [80, 744, 984, 32_760].map(|s| sizes.count(s)).iter().sum::<f64>(), 9.0, 6.0),
        ]);
    }
}
