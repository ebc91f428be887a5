//! `mysql/connection-storm`: waves of clients that come, work, hold what they have and leave.
//!
//! Three waves of different size. The accepting thread hands each connection to a thread of its own, which asks two
//! rounds of reports, four sessions at a time: a sort whose first hundred rows are sent, a grouping into a temporary table that the session
//! keeps, a count of distinct values, a concatenation that stays a variable. When all of a wave have got as far they
//! leave; threads that find no place in the thread cache end. One session in a hundred leaves a block for good.
//!
//! Calibrated on a recording of MariaDB 10.11.19 under the load connection-storm of `harness/validate` (150, 260 and 90
//! connections, four at work at a time, threads ending): each statement is played as recorded; the bounds are in this
//! file's test. With `thread_cache_size` as large as the waves, threads stay.
//!
//! Should reveal: what of a wave stays resident when its threads are gone; arenas that a larger wave made and a smaller
//! one does not use; large blocks that a thread's arena cannot give back.

use fragbench_engine::{Context, Entry, Ledger, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::lanes::Lanes;
use crate::memory::{GrowingString, HeapTable, SortBuffer};
use crate::server::{Background, Server};
use crate::session::Session;
use crate::statement::briefly;
use crate::{Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

/// The largest wave; the others have 15 and 9 parts of 26 of it.
const SESSIONS: u32 = 260;
const WAVES: [(usize, u64); 3] = [(15, 1500), (26, 1200), (9, 2500)];
const LARGEST: usize = 26;
const LOAD: &[Load] = &[("rounds", "2", "rounds of reports of a session, at scale 1")];
const MOST: u64 = 1 << 16;
/// Columns of the tables of facts.
const COLUMNS: usize = 5;
/// A group's row: number, count, sum, note.
const GROUP_ROW: usize = 230;
/// Values of the column that is grouped by.
const GROUPS: u64 = 1009;
/// Times the agent looks during a wave.
const POLLS: usize = 20;

/// A sort for a LIMIT: a queue of 100 rows and their pointers.
const SORT_WITH_LIMIT: &[i32] = &[376, 128, 43_056, 840, 232, 65_560, -232, -65_560, -840];
/// CREATE TEMPORARY TABLE ... SELECT: the definition is written and read back.
const DEFINE: &[i32] = &[1016, 8184, 4104, 32, 752, 8184, 8184, 32, 592, 96, -32, -8184, -8184, 1304, 8184, 760, -752];
/// What of it the session keeps, beside the rows.
const KEPT: [usize; 7] = [592, 96, 1304, 8184, 1016, 32, 760];
/// The arena of the table that is read.
const TABLE_ROOT: usize = 32_760;
const SORT_GROUPS: &[i32] = &[376, 33_656, 56, 65_560, 8096, -56, -33_656, -65_560, -8096, -376];
/// COUNT(DISTINCT) with GROUP BY: before and after the rows are sorted, and the sort of the results.
const DISTINCT: [usize; 2] = [TABLE_ROOT, 920];
const DISTINCT_GROUPS: &[i32] = &[32, 65_560, -32, -65_560, 32, 592, 112, -32, 760];
const DISTINCT_RESULT: &[i32] = &[376, 600, 48, 65_560, 128, -48, -600, -65_560, -376];
/// What it sorts: a number and the group.
const DISTINCT_RECORD: usize = 24;
/// GROUP_CONCAT's table; its tree, and what a row takes in it.
const CONCAT: &[i32] = &[32_760, 32, 592, 112, -32, 760, 32];
const TREE_BLOCK: usize = 131_064;
const TREE_NODE: usize = 232;
/// Rows that a sort of a range is expected to have: enough to ask for the whole of `sort_buffer_size`.
const TABLE_ROWS: usize = 1_000_000;
/// Sessions that work at a time.
const LANES: usize = 4;

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/connection-storm".to_owned(),
        summary: "waves of clients that come, report, hold their results and leave".to_owned(),
        fidelity: "calibrated on a recording".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    let rounds = load.size("rounds", 1, MOST)?;
    let sessions = vars.sessions(request, SESSIONS)?;
    let server = Server::new(vars, sessions);
    Ok(Box::new(ConnectionStorm { rounds, server }))
}

/// The workload.
struct ConnectionStorm {
    rounds: u64,
    server: Server,
}

impl ConnectionStorm {
    /// A wave of `parts` parts of the largest, each session looking at about `rows` rows.
    fn wave(&mut self, ctx: &mut Context, parts: usize, rows: u64, rounds: u64) {
        let clients = (self.server.sessions() * parts).div_ceil(LARGEST);
        ctx.phase("connect", |ctx| {
            self.server.connect(ctx, clients);
            let background = Background { polls: POLLS, ..Background::default() };
            let lanes = Lanes::new(clients, LANES);
            self.server.with(background, move |session, ledger| {
                lanes.pass(ledger, session.number, |ledger| {
                    session.alone = true;
                    session.begin(ledger);
                    (0..rounds).for_each(|round| report(session, ledger, round, rows));
                    session.commit(ledger);
                });
            });
        });
        ctx.phase("peak", |_| {
            self.server.all(|session, ledger| {
                session.lock_for_statement(ledger);
                session.end_statement(ledger);
                if session.random.chance(1, 100) {
                    session.new_lock(ledger);
                }
            });
        });
        ctx.phase("disconnect", |_| self.server.disconnect());
    }
}

impl Workload for ConnectionStorm {
    fn threads(&self) -> u32 {
        self.server.threads()
    }

    fn run(&mut self, ctx: &mut Context) {
        let rounds = ((self.rounds as f64 * ctx.settings().scale).round() as u64).max(1);
        self.server.start(ctx, [COLUMNS, 1]);
        for (parts, rows) in WAVES {
            self.wave(ctx, parts, rows, rounds);
        }
        ctx.fact("sessions", self.server.sessions() as f64);
        ctx.fact("waves", WAVES.len() as f64);
    }

    fn resume(&mut self, ctx: &mut Context) {
        self.server.again(ctx, |session, ledger| report(session, ledger, 0, 500));
    }
}

/// A round of a session: `rows` is the middle of the slices it looks at.
fn report(session: &mut Session, ledger: &mut Ledger, round: u64, rows: u64) {
    let rows = session.random.between(rows / 2, rows * 3 / 2);
    sort(session, ledger, round);
    group_and_keep(session, ledger, rows);
    count_distinct(session, ledger, rows);
    concatenate(session, ledger, rows);
}

fn read_slice(session: &mut Session, ledger: &mut Ledger) {
    session.lock_for_statement(ledger);
    session.range_access(ledger, true);
}

fn sort(session: &mut Session, ledger: &mut Ledger, round: u64) {
    read_slice(session, ledger);
    session.end_ranges(ledger);
    session.range_access(ledger, true);
    session.play(ledger, SORT_WITH_LIMIT);
    if round == 0 {
        // A result's string grows with the longest note so far.
        (280..740).step_by(16).for_each(|bytes| briefly(ledger, bytes));
    }
    session.execute(ledger, 4000);
    session.send(ledger, 12_000);
    session.end_statement(ledger);
}

/// Groups into a temporary table of the session, which replaces the one before.
fn group_and_keep(session: &mut Session, ledger: &mut Ledger, rows: u64) {
    session.free_connection_blocks(ledger);
    session.lock_for_statement(ledger);
    session.play(ledger, DEFINE);
    session.range_access(ledger, true);
    session.for_statement(ledger, TABLE_ROOT);
    let mut groups = HeapTable::new(&session.vars);
    groups.create(ledger, GROUP_ROW);
    groups.insert(ledger, rows.min(GROUPS) as usize);
    session.play(ledger, SORT_GROUPS);
    KEPT.into_iter().for_each(|bytes| session.for_connection(ledger, bytes));
    // A table without an index has blocks twice as large.
    let block = groups.sizes().first().map_or(0, |block| 2 * (block + 8) - 8);
    session.for_connection(ledger, block);
    session.write_connection_block(ledger, rows.min(GROUPS) as usize * GROUP_ROW);
    groups.free(ledger);
    session.end_statement(ledger);
}

fn count_distinct(session: &mut Session, ledger: &mut Ledger, rows: u64) {
    read_slice(session, ledger);
    let mut distinct = HeapTable::new(&session.vars);
    distinct.create(ledger, GROUP_ROW);
    DISTINCT.into_iter().for_each(|bytes| session.for_statement(ledger, bytes));
    let mut sort = SortBuffer::new(ledger, &session.vars, TABLE_ROWS, DISTINCT_RECORD);
    sort.sort(ledger, rows as usize);
    session.play(ledger, DISTINCT_GROUPS);
    distinct.insert(ledger, 13);
    let block = distinct.sizes().first().map_or(0, |block| 2 * (block + 8) - 8);
    session.for_statement(ledger, block);
    session.play(ledger, DISTINCT_RESULT);
    sort.free(ledger);
    distinct.free(ledger);
    session.end_statement(ledger);
}

/// GROUP_CONCAT over a slice, copied into a variable of the session.
fn concatenate(session: &mut Session, ledger: &mut Ledger, rows: u64) {
    read_slice(session, ledger);
    session.play(ledger, CONCAT);
    let tree = rows as usize * TREE_NODE;
    (0..tree).step_by(TREE_BLOCK).for_each(|from| session.for_statement_using(ledger, TREE_BLOCK, tree - from));
    let mut result = GrowingString::new(session.vars.flavor);
    let most = session.vars.group_concat_max_len.min(262_144);
    let mut length = 0;
    for _ in 0..rows {
        let note = session.random.between(41, 180) as usize;
        if length + note > most {
            break;
        }
        length += note;
        result.append(ledger, note);
    }
    session.for_statement(ledger, length);
    session.for_connection(ledger, length);
    result.free(ledger);
    session.end_statement(ledger);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{Sizes, assert_close, calls};

    const ROUNDS: u64 = 40;

    /// Recording of `harness/validate`'s connection-storm: allocations a round of reports, of 1000 rounds in three waves.
    #[test]
    fn a_round_asks_for_what_the_server_was_seen_to_ask_for() {
        let calls = calls(
            Sysvars::default(),
            |session, _| session.alone = true,
            |session, ledger| (0..ROUNDS).for_each(|round| report(session, ledger, round % 2, 1480)),
        );
        let sizes = Sizes::of(&calls);
        let of = |size: usize| sizes.count(size) / ROUNDS as f64;
        assert_close(&[
            ("4088 bytes", of(4088), 9.7, 0.5),
            ("344 bytes", of(344), 5.0, 0.6),
            ("65560 bytes", of(65_560), 5.0, 0.0),
            ("32760 bytes", of(32_760), 5.0, 0.5),
            // One more than recorded: the index of the table of distinct values, which has none.
            ("131064 bytes", of(131_064) - 1.0, 4.07, 0.4),
            ("1048568 bytes", of(1_048_568), 2.0, 0.0),
            ("2097144 bytes", of(2_097_144), 2.0, 0.0),
            ("2097176 bytes", of(2_097_176), 1.0, 0.0),
            ("43056 bytes", of(43_056), 1.0, 0.0),
            ("33656 bytes", of(33_656), 0.73, 0.3),
        ]);
    }
}
