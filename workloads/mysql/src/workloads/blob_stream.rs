//! `mysql/blob-stream`: large values on their way through a server.
//!
//! Sessions read and write values of 64 KiB to 8 MiB, log-uniform in size, of a table of 40. A REPLACE holds the value
//! five times over: in the network buffer, which grows to it and stays, in the statement's text, twice in the parsed
//! string, and in the field; where a row was there before, also the old value and one more copy. Meanwhile InnoDB writes
//! it page by page, each with a chain of small heaps. A read holds the value twice, in the field and in the packet, which
//! shrinks afterwards. At the peak each session holds a quarter of a value more, as a variable.
//!
//! Four sessions work at a time, each in its lane, and in steps: a write takes as many as its value is large, most of
//! them while the client sends, some between the text and the field, fewest while pages are written. Which copies live
//! at the same time is then the same in every run, and as often as on the server.
//!
//! Modelled after a recording of MariaDB 10.11.19 under the load blob-stream of `harness/validate` (16 connections, 10
//! values written and 10 read each, four at a time): statements ask for the recorded sizes in the recorded order, bounds
//! in this file's test; how the lanes overlap is the recording's on average only.
//!
//! Should reveal: who gives back blocks of megabytes, and who keeps them by size; glibc's mmap threshold, which the first
//! such block raises.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use fragbench_engine::{Context, Entry, Ledger, Random, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::memory::{MemHeap, Use};
use crate::server::{Background, Server};
use crate::session::Session;
use crate::statement::{Lock, briefly};
use crate::{Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

const SESSIONS: u32 = 16;
const LOAD: &[Load] = &[
    ("values", "4", "values that a session writes in the steady phase, at scale 1, and as many that it reads"),
    ("rows", "40", "rows that the values are written to"),
    ("smallest_value", "64K", "bytes of the smallest value"),
    ("largest_value", "8M", "bytes of the largest value"),
];
const MOST: u64 = 1 << 30;
const COLUMNS: usize = 2;
/// `srv_page_size`.
const PAGE: usize = 16 << 10;
/// Pages that a session writes in a step; for each step of writing, steps that pass while the client sends (and reads),
/// until the parsed string is in its field, and until the first page. In the recording sessions in their lanes were in
/// these states for 50, 13, 7 and 7 of 78 seconds.
const STEP: usize = 8;
const SENDING: usize = 7;
const PARSING: usize = 2;
const FINDING: usize = 1;
/// Sessions that work at a time.
const LANES: usize = 4;
/// Blocks of which a copy of the value is a part, beyond the value: text, parsed strings; the record, written to pages
/// from elsewhere; the copy beside an old row.
const TEXT: [usize; 3] = [144, 56, 24];
const RECORD: usize = 1224;
const BESIDE_OLD: usize = 104;
/// The heap made with a page of a value that is read.
const BLOB_HEAP: usize = 16_512;
/// What a packet is smaller than the field it is made of.
const FIELD_BEYOND_PACKET: usize = 88;
/// The fraction of the golden ratio, whose multiples fill a range evenly: a session's values follow each other by it, and
/// sessions by the inverse of the plastic number, as in the recorded load. The seed shifts all by less than a hundredth.
const GOLDEN: f64 = 0.618_033_988_7;
const PLASTIC: f64 = 0.754_877_666_2;
/// The stream of the shift.
const CHOICES: u64 = 1 << 40;
/// Steps between two looks of the monitoring agent.
const STEPS_A_POLL: usize = 16;

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/blob-stream".to_owned(),
        summary: "values of 64 KiB to 8 MiB, each held five to seven times over while it is written".to_owned(),
        fidelity: "modelled".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    let smallest = load.size("smallest_value", 1 << 10, MOST)?;
    let stream = Stream {
        values: load.size("values", 1, MOST)?,
        rows: load.size("rows", 1, MOST)? as usize,
        smallest,
        largest: load.size("largest_value", smallest, MOST)?.min(vars.max_allowed_packet as u64),
    };
    let sessions = vars.sessions(request, SESSIONS)?;
    let server = Server::new(vars, sessions);
    Ok(Box::new(BlobStream { stream, server }))
}

/// What sessions do.
#[derive(Debug, Clone, Copy)]
struct Stream {
    values: u64,
    rows: usize,
    smallest: u64,
    largest: u64,
}

/// A statement, and the sizes of its values.
#[derive(Debug, Clone, Copy)]
enum Statement {
    /// What is read, if there is such a row.
    Read(Option<usize>),
    /// What is written, and what was there.
    Write { size: usize, old: Option<usize> },
    /// What becomes a variable.
    Hold(usize),
}

/// How far a write is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Sent,
    Parsed,
    Found,
    /// Pages left.
    Writing(usize),
}

/// The statements of a lane's sessions in the order of their turns, and where the first of them is.
#[derive(Debug, Default)]
struct Lane {
    statements: VecDeque<(usize, Statement)>,
    stage: Stage,
    /// Steps until it goes on.
    wait: usize,
}

type SharedLane = Arc<Mutex<Lane>>;

fn own(lane: &SharedLane) -> std::sync::MutexGuard<'_, Lane> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The workload.
struct BlobStream {
    stream: Stream,
    server: Server,
}

impl BlobStream {
    /// All sessions read and write `values` values each, a step at a time, and hold one more if that is wanted.
    fn work(&self, seed: u64, values: u64, hold: bool) {
        let lanes = self.stream.lanes(self.server.sessions(), seed, values, hold);
        for step in 0.. {
            // Whose turn it is in this step: decided before it begins, since a session may end its turn within it.
            let turns: Vec<_> = lanes.iter().map(|lane| own(lane).turn()).collect();
            if turns.iter().all(Option::is_none) {
                if lanes.iter().all(|lane| own(lane).statements.is_empty()) {
                    break;
                }
                continue;
            }
            let lanes = lanes.clone();
            let background = Background { polls: usize::from(step % STEPS_A_POLL == 0), ..Background::default() };
            self.server.with(background, move |session, ledger| {
                let at = session.number % LANES;
                if turns[at] == Some(session.number) {
                    own(&lanes[at]).step(session, ledger);
                }
            });
        }
    }
}

impl Workload for BlobStream {
    fn threads(&self) -> u32 {
        self.server.threads()
    }

    fn run(&mut self, ctx: &mut Context) {
        let (stream, sessions) = (self.stream, self.server.sessions());
        let values = ((stream.values as f64 * ctx.settings().scale).round() as u64).max(1);
        self.server.start(ctx, [COLUMNS, 1]);
        ctx.phase("connect", |ctx| {
            self.server.connect(ctx, sessions);
            self.server.all(|session, ledger| session.open_table(ledger, COLUMNS, Use::Changed));
        });
        let seed = ctx.settings().seed;
        ctx.phase("steady", |_| self.work(seed, values, true));
        ctx.phase("peak", |_| {
            self.server.all(|session, ledger| {
                session.lock_for_statement(ledger);
                session.end_statement(ledger);
            });
        });
        ctx.phase("disconnect", |_| self.server.disconnect());
        ctx.fact("sessions", sessions as f64);
        ctx.fact("values", (values * sessions as u64) as f64);
    }

    fn resume(&mut self, ctx: &mut Context) {
        self.server.connect(ctx, self.server.sessions());
        self.work(ctx.settings().seed, 1, false);
        self.server.disconnect();
    }
}

impl Stream {
    /// What each lane's sessions do, in turns: a read, a write, and so on.
    fn lanes(self, sessions: usize, seed: u64, values: u64, hold: bool) -> Vec<SharedLane> {
        let mut lanes: Vec<_> = (0..LANES).map(|_| Lane::default()).collect();
        let mut rows = vec![None; self.rows];
        let shift = Random::new(seed, CHOICES).below(1000) as f64 / 1e5;
        let mut fractions: Vec<_> = (0..sessions).map(|session| session as f64 * PLASTIC + shift).collect();
        for statement in 0..2 * values {
            for (session, fraction) in fractions.iter_mut().enumerate() {
                let mut next = || {
                    *fraction = (*fraction + GOLDEN).fract();
                    *fraction
                };
                let size = (self.smallest as f64 * (self.largest as f64 / self.smallest as f64).powf(next())) as usize;
                let row = (next() * self.rows as f64) as usize % self.rows;
                let lane = &mut lanes[session % LANES].statements;
                if statement % 2 == 0 {
                    lane.push_back((session, Statement::Read(rows[row])));
                } else {
                    lane.push_back((session, Statement::Write { size, old: rows[row].replace(size) }));
                }
                if hold && statement + 1 == 2 * values {
                    lane.push_back((session, Statement::Hold(size / 4)));
                }
            }
        }
        lanes.into_iter().map(|lane| Arc::new(Mutex::new(lane))).collect()
    }
}

impl Lane {
    /// The session that goes on in this step, if one does.
    fn turn(&mut self) -> Option<usize> {
        if self.wait > 0 {
            self.wait -= 1;
            return None;
        }
        self.statements.front().map(|(session, _)| *session)
    }

    /// Goes on with the first statement, or begins it.
    fn step(&mut self, session: &mut Session, ledger: &mut Ledger) {
        let Some((_, statement)) = self.statements.front() else { return };
        match *statement {
            Statement::Read(found) => read(session, ledger, found),
            Statement::Hold(bytes) => hold(session, ledger, bytes),
            Statement::Write { size, old } => {
                self.write(session, ledger, size, old);
                if self.stage != Stage::default() {
                    return;
                }
            }
        }
        self.statements.pop_front();
    }

    /// REPLACE, a stage a step: the packet; the text and the strings; the field and what the row was; pages.
    fn write(&mut self, session: &mut Session, ledger: &mut Ledger, size: usize, old: Option<usize>) {
        let pages = size.div_ceil(PAGE);
        let steps = pages.div_ceil(STEP);
        (self.stage, self.wait) = match self.stage {
            Stage::Sent => {
                session.receive(ledger, size + 50);
                (Stage::Parsed, SENDING * steps)
            }
            Stage::Parsed => {
                session.begin(ledger);
                TEXT.into_iter().for_each(|beyond| session.whole_for_statement(ledger, size + beyond));
                session.lock_table(ledger, 0, Lock::Write);
                (Stage::Found, PARSING * steps)
            }
            Stage::Found => {
                find_row(session, ledger, size, old);
                (Stage::Writing(pages), FINDING * steps)
            }
            Stage::Writing(left) => {
                let now = left.min(STEP);
                (0..now).for_each(|page| write_page(ledger, page % 4 == 0));
                if now < left {
                    (Stage::Writing(left - now), 0)
                } else {
                    session.end_statement(ledger);
                    session.commit_keeping_buffers(ledger);
                    (Stage::Sent, 0)
                }
            }
        };
    }
}

/// SELECT: the value in its field and in the packet; nothing but the ticket where there is no row.
fn read(session: &mut Session, ledger: &mut Ledger, found: Option<usize>) {
    session.lock_for_statement(ledger);
    if let Some(size) = found {
        session.for_statement(ledger, BLOB_HEAP);
        session.whole_for_statement(ledger, size);
        session.send_value(ledger, size.saturating_sub(FIELD_BEYOND_PACKET));
    }
    session.end_statement(ledger);
}

/// SET: a string that is copied into the session's variable.
fn hold(session: &mut Session, ledger: &mut Ledger, bytes: usize) {
    session.whole_for_statement(ledger, bytes);
    session.for_connection(ledger, bytes);
    session.write_connection_block(ledger, bytes);
    session.end_statement(ledger);
}

/// The field of the row to write; where there was a row, that, and one more copy of the new.
fn find_row(session: &mut Session, ledger: &mut Ledger, size: usize, old: Option<usize>) {
    session.lock_for_statement(ledger);
    session.whole_for_statement(ledger, size);
    session.for_statement(ledger, 88);
    if let Some(old) = old {
        briefly(ledger, 640);
        session.for_statement(ledger, BLOB_HEAP);
        session.whole_for_statement(ledger, old);
        [1152, 144].into_iter().for_each(|bytes| session.for_statement(ledger, bytes));
        session.whole_for_statement(ledger, size + BESIDE_OLD);
    }
    session.for_statement(ledger, size + RECORD);
    [88, 272, 368].into_iter().for_each(|bytes| session.for_statement(ledger, bytes));
}

/// A page of the value: a mini-transaction's heaps.
fn write_page(ledger: &mut Ledger, fourth: bool) {
    /// `mem_heap_create`'s sizes, and what is put in each block.
    const FIRST: usize = 520;
    if fourth {
        briefly(ledger, 384);
    }
    let mut heap = MemHeap::new();
    heap.create(ledger, FIRST);
    [FIRST, 1248, 2704, 5616, 8000].into_iter().for_each(|bytes| heap.alloc(ledger, bytes));
    heap.free(ledger);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{Sizes, assert_close, calls};

    /// Recording of `harness/validate`'s blob-stream: shares of allocations of 160 values written and 160 read.
    #[test]
    fn a_value_asks_for_what_the_server_was_seen_to_ask_for() {
        let stream = Stream { values: 160, rows: 40, smallest: 64 << 10, largest: 8 << 20 };
        let work = |session: &mut Session, ledger: &mut Ledger| {
            let lanes = stream.lanes(1, 1, stream.values, false);
            while !own(&lanes[0]).statements.is_empty() {
                own(&lanes[0]).step(session, ledger);
            }
        };
        let sizes = Sizes::of(&calls(Sysvars::default(), |session, _| session.alone = true, work));
        let percent = |size: usize| sizes.count(size) / sizes.len() * 100.0;
        assert_close(&[
            ("mean size, KB", sizes.mean() / 1000.0, 25.8, 6.0),
            ("% 648 bytes", percent(648), 16.74, 3.0),
            ("% 1376 bytes", percent(1376), 16.74, 3.0),
            ("% 2832 bytes", percent(2832), 16.73, 3.0),
            ("% 5744 bytes", percent(5744), 16.71, 3.0),
            ("% 8128 bytes", percent(8128), 16.66, 3.0),
            ("% 384 bytes", percent(384), 4.48, 1.0),
        ]);
    }
}
