//! InnoDB's purge: background threads that take what transactions have left in the undo log and remove what no reader
//! needs any more.
//!
//! Source: MariaDB storage/innobase/trx/trx0purge.cc, `trx_purge_attach_undo_recs` (a heap of undo records a batch), and
//! storage/innobase/row/row0purge.cc, `row_purge_record`; sizes, order and frequencies as a recorded 10.11.19 shows
//! them under sysbench's read-write transactions.

use fragbench_engine::{Block, Ledger, Random};

use crate::memory::MemHeap;
use crate::statement::{ROW_HEAP, briefly, row_heaps};

/// Undo records of a batch, and what each takes of the batch's heap.
const BATCH: usize = 90;
const UNDO_RECORD: usize = 560;
/// What the heap of a batch is made with.
const UNDO_HEAP: usize = 736;
/// A node of the map of pages to purge, for the length of the batch, one a transaction (three records).
const PAGE: usize = 56;
/// Beside the removal of a record marked as deleted (assumed: a mini-transaction's memo and a cursor).
const REMOVAL: [usize; 2] = [232, 544];
const COLUMN: usize = 33;

/// One of the threads.
#[derive(Debug)]
pub(crate) struct PurgeWorker {
    random: Random,
    undo: MemHeap,
    pages: Vec<Block>,
}

impl PurgeWorker {
    pub(crate) fn new(random: Random) -> PurgeWorker {
        PurgeWorker { random, undo: MemHeap::new(), pages: Vec::with_capacity(BATCH) }
    }

    /// Purges `records` undo records, batch after batch.
    pub(crate) fn purge(&mut self, ledger: &mut Ledger, records: usize) {
        let mut left = records;
        while left > 0 {
            let batch = left.min(BATCH);
            self.undo.create(ledger, UNDO_HEAP);
            for record in 0..batch {
                if record % 3 == 0 {
                    let id = ledger.next_id();
                    self.pages.push(ledger.malloc(id, PAGE));
                }
                self.undo.alloc(ledger, UNDO_RECORD);
                self.record(ledger);
            }
            self.undo.free(ledger);
            self.pages.drain(..).for_each(|page| ledger.free(page));
            left -= batch;
        }
    }

    /// Builds the index entry the record speaks of, searches for it, and removes it if it is to go.
    fn record(&mut self, ledger: &mut Ledger) {
        let id = ledger.next_id();
        let row = ledger.malloc(id, ROW_HEAP);
        let column = self.random.chance(2, 3).then(|| {
            let id = ledger.next_id();
            ledger.malloc(id, COLUMN)
        });
        row_heaps(ledger, 2);
        if self.random.chance(1, 3) {
            row_heaps(ledger, 1);
        }
        if self.random.chance(1, 2) {
            row_heaps(ledger, 1);
            REMOVAL.into_iter().for_each(|bytes| briefly(ledger, bytes));
        }
        ledger.free(row);
        if let Some(column) = column {
            ledger.free(column);
        }
    }
}
