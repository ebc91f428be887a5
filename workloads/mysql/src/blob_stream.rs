//! `mysql/blob-stream`: large values on their way through a server.
//!
//! Sessions write values of 64 KiB to 8 MiB, log-uniform in size. A REPLACE holds the value four to six times over: in
//! the network buffer, which grows to it and stays, in the statement's text, in the parsed string, in the field, and
//! where a row was there before, in the old value and its copy. Meanwhile InnoDB writes it page by page, each with a
//! chain of small heaps. At the peak each session holds one more value as a variable.
//!
//! Sessions advance together, so many pages a step: which copies live at the same time is then the same in every run,
//! and as on a server whose statements take as long as their values are large.
//!
//! Calibrated on a recording of MariaDB 10.11.19 (16 connections, 10 values each): the bounds in
//! this file's test.
//!
//! Should reveal: who gives back blocks of megabytes, and who keeps them by size; glibc's mmap threshold, which the first
//! such block raises.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use fragbench_engine::{Context, Entry, Ledger, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::memory::{MemHeap, Use};
use crate::server::{Background, Server};
use crate::session::Session;
use crate::statement::{Lock, briefly};
use crate::{Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

const SESSIONS: u32 = 16;
const LOAD: &[Load] = &[
    ("values", "2", "values that a session writes in the steady phase, at scale 1"),
    ("smallest_value", "64K", "bytes of the smallest value"),
    ("largest_value", "8M", "bytes of the largest value"),
];
const MOST: u64 = 1 << 30;
const COLUMNS: usize = 2;
/// `srv_page_size`.
const PAGE: usize = 16 << 10;
/// Pages that a session writes in a step.
const STEP: usize = 32;
/// Blocks of which a copy of the value is a part: packet, text, parsed strings, field, record; beyond the value.
const TEXT: [usize; 3] = [144, 56, 24];
const FIELD: usize = 0;
const RECORD: usize = 1224;
/// In a row read back: the heap made with a page, and what the row adds.
const BLOB_HEAP: usize = 16_512;
const OLD_RECORD: usize = 96;
const OLD_ROW: usize = 1216;
/// One REPLACE in so many finds a row: 226 of 366 reads and writes.
const FOUND: (u64, u64) = (6, 10);
/// Steps between two looks of the monitoring agent.
const STEPS_A_POLL: usize = 4;

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/blob-stream".to_owned(),
        summary: "values of 64 KiB to 8 MiB, each held four to six times over while it is written".to_owned(),
        fidelity: "calibrated on a recording".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    let smallest = load.size("smallest_value", 1 << 10, MOST)?;
    let stream = Stream {
        values: load.size("values", 1, MOST)?,
        smallest,
        largest: load.size("largest_value", smallest, MOST)?.min(vars.max_allowed_packet as u64),
    };
    let sessions = vars.sessions(request, SESSIONS)?;
    let server = Server::new(vars, sessions);
    Ok(Box::new(BlobStream { stream, server }))
}

/// What a session does.
#[derive(Debug, Clone, Copy)]
struct Stream {
    values: u64,
    smallest: u64,
    largest: u64,
}

/// How far a session is: values begun, and pages left of the one that is being written.
#[derive(Debug, Default)]
struct Progress {
    begun: u64,
    pages: usize,
    record: usize,
    old: Option<usize>,
}

/// The workload.
struct BlobStream {
    stream: Stream,
    server: Server,
}

impl BlobStream {
    /// All sessions write `values` values each, a step at a time.
    fn write(&self, values: u64, polled: bool) {
        let stream = self.stream;
        let progress: Arc<Vec<Mutex<Progress>>> =
            Arc::new((0..self.server.sessions()).map(|_| Mutex::default()).collect());
        let busy = Arc::new(AtomicUsize::new(1));
        let mut step = 0;
        while busy.swap(0, Relaxed) > 0 {
            let polls = usize::from(polled && step % STEPS_A_POLL == 0);
            let (progress, busy) = (progress.clone(), busy.clone());
            self.server.with(Background { polls, ..Background::default() }, move |session, ledger| {
                let mut own = progress[session.number].lock().unwrap_or_else(PoisonError::into_inner);
                if stream.step(session, ledger, &mut own, values) {
                    busy.fetch_add(1, Relaxed);
                }
            });
            step += 1;
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
        ctx.phase("steady", |_| self.write(values, true));
        ctx.phase("peak", |_| {
            self.server.all(move |session, ledger| {
                let size = session.random.log_between(stream.smallest, stream.largest) as usize;
                session.for_connection(ledger, size / 4);
                session.write_connection_block(ledger, size / 4);
            });
        });
        ctx.phase("disconnect", |_| self.server.disconnect());
        ctx.fact("sessions", sessions as f64);
        ctx.fact("values", (values * sessions as u64) as f64);
    }

    fn resume(&mut self, ctx: &mut Context) {
        self.server.connect(ctx, self.server.sessions());
        self.write(1, false);
        self.server.disconnect();
    }
}

impl Stream {
    /// Goes on with the value that is being written, or begins the next; whether there is more to do.
    fn step(self, session: &mut Session, ledger: &mut Ledger, own: &mut Progress, values: u64) -> bool {
        if own.pages == 0 {
            if own.begun == values {
                return false;
            }
            own.begun += 1;
            self.begin(session, ledger, own);
        }
        let now = own.pages.min(STEP);
        (0..now).for_each(|page| write_page(ledger, page % 4 == 0));
        own.pages -= now;
        if own.pages == 0 {
            briefly(ledger, own.record);
            if let Some(old) = own.old.take() {
                replace(session, ledger, old);
            }
            session.end_statement(ledger);
            session.commit_keeping_buffers(ledger);
            // A read of a row that is not there: nothing but the ticket.
            session.lock_for_statement(ledger);
            session.end_statement(ledger);
        }
        true
    }

    /// REPLACE: the packet, the text, the string, the field.
    fn begin(self, session: &mut Session, ledger: &mut Ledger, own: &mut Progress) {
        let size = session.random.log_between(self.smallest, self.largest) as usize;
        session.receive(ledger, size + 50);
        session.begin(ledger);
        for beyond in TEXT {
            session.whole_for_statement(ledger, size + beyond);
        }
        session.lock_table(ledger, 0, Lock::Write);
        session.lock_for_statement(ledger);
        session.lock_for_statement(ledger);
        session.whole_for_statement(ledger, size + FIELD);
        own.record = size + RECORD;
        own.pages = size.div_ceil(PAGE);
        let (found, of) = FOUND;
        if session.random.chance(found, of) {
            own.old = Some(session.random.log_between(self.smallest, self.largest) as usize);
        }
    }
}

/// The row that was there is read, and its copies are made for the undo log.
fn replace(session: &mut Session, ledger: &mut Ledger, old: usize) {
    briefly(ledger, 640);
    session.for_statement(ledger, BLOB_HEAP);
    session.whole_for_statement(ledger, old);
    session.whole_for_statement(ledger, old + OLD_RECORD);
    session.whole_for_statement(ledger, old + OLD_ROW);
    briefly(ledger, 368);
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

    /// Recording blob-stream: shares of allocations of 160 values.
    #[test]
    fn a_value_asks_for_what_the_server_was_seen_to_ask_for() {
        let stream = Stream { values: 160, smallest: 64 << 10, largest: 8 << 20 };
        let work = |session: &mut Session, ledger: &mut Ledger| {
            let mut own = Progress::default();
            while stream.step(session, ledger, &mut own, 160) {}
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
