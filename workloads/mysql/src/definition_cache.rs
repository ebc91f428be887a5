//! The table definition cache: what a server keeps of each table from its first use on. One session opens each
//! definition, since each table has one, and whoever flushes frees those of all.
//!
//! Source: a recorded MariaDB 10.11.19 (recording table-cache-churn, tables of 4 to 40 columns): the first use of each
//! table in a session's calls, told by number of columns; FLUSH TABLES frees the share, InnoDB keeps its dictionary.

use std::sync::{Arc, Mutex, PoisonError};

use fragbench_engine::{Block, Ledger};

use crate::session::Session;

/// InnoDB reads a table's definition from its dictionary: `dict_table_t`, its name, columns, and for each of two indexes
/// `dict_index_t`, its heap and its tree; kept for ever.
const TABLE: &[i32] = &[32_128, 88, 536];
const DICTIONARY: [usize; 11] = [1248, 232, 712, 34, 1504, 232, 544, 1168, 232, 544, 1168];
/// The engine's statistics are read at the first use: a record's names, values and ranges.
const STATISTICS: &[i32] = &[
    640, 1360, 16_128, 32, 32, 32, 25, 28, 25, 31, 36, 32, 32, 25, 25, 61, 25, 408, 408, 408, 408, 31, 28, 32, 29, 36,
    32, 32, 29, 36, 32, 32, 29, 36, 32, 29, 28, 32, 31, 36, 32, 32,
];

type Slot = Mutex<Option<Vec<Block>>>;

/// The shares that are open, by number of table.
#[derive(Debug, Clone)]
pub(crate) struct DefinitionCache(Arc<Vec<Slot>>);

impl DefinitionCache {
    /// For `tables` tables, of which none is open.
    pub(crate) fn new(tables: u64) -> DefinitionCache {
        DefinitionCache(Arc::new((0..tables).map(|_| Slot::default()).collect()))
    }

    /// Opens the definition of table `number` (from 0), of `columns` columns; when it is the `first` time, InnoDB's too.
    pub(crate) fn open(&self, session: &mut Session, ledger: &mut Ledger, number: u64, columns: usize, first: bool) {
        let Some(slot) = self.0.get(number as usize) else { return };
        let take = |ledger: &mut Ledger, size: usize| {
            let id = ledger.next_id();
            ledger.malloc(id, size)
        };
        let blocks: Vec<Block> = share(columns).map(|size| take(ledger, size)).collect();
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(blocks);
        // The definition as read from its file, and its columns' names.
        session.play(ledger, &[40, 46 * columns as i32 + 1150]);
        session.end_statement(ledger);
        if first {
            session.play(ledger, TABLE);
            session.pins.extend(DICTIONARY.map(|size| take(ledger, size)));
            session.end_statement(ledger);
            session.play(ledger, STATISTICS);
            session.end_statement(ledger);
        }
    }

    /// FLUSH TABLES: closes all.
    pub(crate) fn flush(&self, ledger: &mut Ledger) {
        for slot in self.0.iter() {
            let blocks = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            blocks.into_iter().flatten().rev().for_each(|block| ledger.free(block));
        }
    }
}

/// Blocks of a share's roots: the definition's, more for many columns, and what statistics by column add.
fn share(columns: usize) -> impl Iterator<Item = usize> {
    let names = (columns >= 33).then_some(16 * columns + 8);
    let definition = std::iter::once(8184).chain(names).chain(std::iter::repeat_n(4088, columns.div_ceil(18) - 1));
    definition.chain([88]).chain(std::iter::repeat_n(4088, 2 + columns / 10)).chain((columns > 6).then_some(8184))
}
