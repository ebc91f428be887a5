//! Replicated events: allocated by the thread that reads the relay log, freed by the worker that applies them.
//!
//! Source: MariaDB sql/rpl_parallel.cc, `rpl_parallel::do_event`, `rpl_parallel_thread::get_qev`, `free_qev`,
//! `QEV_BATCH_FREE`; sql/rpl_parallel.h, `queued_event`. Measured on a 10.11.19 replica with four workers: with each
//! event 176 bytes, the event's object (GTID 632, table map 1336, rows 376, Xid 144) and its buffers (names of 48 and
//! 40, rows of their own size plus 24), and 1120 of a `queued_event` for one event in four: workers give these back,
//! 200 at a time, for the reader to use again. All but those are freed by a worker, some 130 calls later.
//! MySQL sql/rpl_rta_submode.cc, `Mts_submode_logical_clock`, `slave_worker_exec_job_group`: events go the same way, in
//! a ring that is made with the worker, without `queued_event`s; sizes taken to be the same, not measured.

use fragbench_engine::{Block, Ledger};

use super::align8;
use crate::{Flavor, Sysvars};

/// Beside each event.
const BESIDE: usize = 176;
const GTID: usize = 632;
const TABLE_MAP: [usize; 3] = [1336, 48, 40];
const ROWS: usize = 376;
const XID: usize = 144;
/// `sizeof(queued_event)`: two paths of FN_REFLEN.
const QUEUED: usize = 1120;
/// `QEV_BATCH_FREE`.
pub const BATCH: usize = 200;
/// What a rows event has beside its rows: header, width, column maps.
const ROWS_HEADER: usize = 40;
/// A row's own bytes at the least.
const LEAST_ROW: usize = 1;

/// What an event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Begins a transaction.
    Gtid,
    /// Names a table.
    TableMap,
    /// Holds rows, of this many bytes.
    Rows(usize),
    /// Ends a transaction.
    Xid,
}

/// An event on its way to a worker.
#[derive(Debug)]
pub struct Event {
    kind: Kind,
    blocks: [Option<Block>; 4],
    queued: Option<Block>,
    bytes: usize,
}

impl Event {
    /// The reader makes an event; `queued` is a `queued_event` to use again, or one is made.
    pub fn read(ledger: &mut Ledger, flavor: Flavor, kind: Kind, queued: Option<Block>) -> Event {
        let sizes = match kind {
            Kind::Gtid => [Some(GTID), None, None],
            Kind::TableMap => TABLE_MAP.map(Some),
            Kind::Rows(bytes) => [Some(ROWS), Some(align8(ROWS_HEADER + bytes) + 24), None],
            Kind::Xid => [Some(XID), None, None],
        };
        let mut take = |size: usize| {
            let id = ledger.next_id();
            ledger.malloc(id, size)
        };
        let queued = match flavor {
            Flavor::Mariadb => queued.or_else(|| Some(take(QUEUED))),
            Flavor::Mysql => None,
        };
        let [a, b, c] = sizes.map(|size| size.map(&mut take));
        let event = [Some(take(BESIDE)), a, b, c];
        let bytes = event.iter().flatten().map(Block::size).sum();
        Event { kind, blocks: event, queued, bytes }
    }

    /// What it does.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes that count against the worker's queue.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The worker has applied the event: all is freed but the `queued_event`, which is left.
    pub fn apply(self, ledger: &mut Ledger) -> Option<Block> {
        self.blocks.into_iter().flatten().for_each(|block| ledger.free(block));
        self.queued
    }
}

/// The events of a transaction that changes rows of `bytes` bytes altogether: as many rows events as their largest size
/// asks for.
pub fn transaction(vars: &Sysvars, bytes: usize) -> impl Iterator<Item = Kind> {
    let most = vars.binlog_row_event_max_size.max(LEAST_ROW);
    let pieces = bytes.div_ceil(most).max(1);
    let rows = (0..pieces).map(move |i| Kind::Rows((bytes - i * most).min(most)));
    [Kind::Gtid, Kind::TableMap].into_iter().chain(rows).chain([Kind::Xid])
}

#[cfg(test)]
mod tests {
    use super::super::{calls_of, test_ledger};
    use super::*;
    use fragbench_engine::Call;

    fn apply(flavor: Flavor) -> Vec<usize> {
        let mut ledger = test_ledger();
        let vars = Sysvars::of(flavor);
        let events: Vec<Event> =
            transaction(&vars, 40).map(|kind| Event::read(&mut ledger, flavor, kind, None)).collect();
        let calls = calls_of(&mut ledger);
        let queued: Vec<Block> = events.into_iter().filter_map(|event| event.apply(&mut ledger)).collect();
        assert_eq!(queued.len(), if flavor == Flavor::Mariadb { 4 } else { 0 });
        queued.into_iter().for_each(|block| ledger.free(block));
        calls.into_iter().filter(|call| call.0 == Call::Malloc).map(|call| call.1).collect()
    }

    #[test]
    fn a_transaction_of_one_row_takes_what_was_measured() {
        let measured = [632, 176, 1336, 48, 40, 176, 376, 104, 176, 144, 176];
        assert_eq!(apply(Flavor::Mysql), measured);
        let mut with_queued = apply(Flavor::Mariadb);
        with_queued.retain(|size| *size != QUEUED);
        assert_eq!(with_queued, measured);
    }

    #[test]
    fn rows_are_split_at_the_largest_event_and_a_queued_event_is_used_again() {
        let vars = Sysvars::default();
        let kinds: Vec<Kind> = transaction(&vars, 20_000).collect();
        let rows = [8192, 8192, 20_000 - 16_384].map(Kind::Rows);
        assert_eq!(kinds, [&[Kind::Gtid, Kind::TableMap], &rows[..], &[Kind::Xid]].concat());
        let mut ledger = test_ledger();
        let first = Event::read(&mut ledger, vars.flavor, Kind::Xid, None).apply(&mut ledger);
        assert!(first.is_some());
        calls_of(&mut ledger);
        let again = Event::read(&mut ledger, vars.flavor, Kind::Xid, first);
        assert_eq!(calls_of(&mut ledger), [(Call::Malloc, XID), (Call::Malloc, BESIDE)]);
        again.apply(&mut ledger).into_iter().for_each(|block| ledger.free(block));
    }
}
