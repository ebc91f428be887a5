//! The server's memory primitives, one a file. Each follows the growth rule of the server source it cites and asks the
//! heap for what the server would ask it for; what a primitive keeps of its own lies in the harness's heap.
//!
//! A pool touches its blocks as it comes to use them, not when it gets them.

mod binlog_cache;
mod blob_heap;
mod dictionary;
mod filesort;
mod fulltext;
mod heap_table;
mod mem_heap;
mod mem_root;
mod my_malloc;
mod net_buffer;
mod performance_schema;
mod prepared_statement;
pub mod replication;
mod statement_buffers;
mod string;
mod table_cache;
mod temp_table;
mod thd;
mod trx_pool;

pub use binlog_cache::BinlogCache;
pub use blob_heap::BlobHeap;
pub use dictionary::{Definition, DictionaryCache};
pub use filesort::{EXTRA_RECORDS, SortBuffer};
pub use fulltext::FulltextQuery;
pub use heap_table::{Blocks, HeapTable};
pub use mem_heap::MemHeap;
pub use mem_root::{Growth, MemRoot};
pub use my_malloc::{my_malloc, my_realloc, request};
pub use net_buffer::NetBuffer;
pub use performance_schema::PerformanceSchema;
pub use prepared_statement::PreparedStatement;
pub use statement_buffers::{JoinBuffer, mrr_buffer, read_buffer, read_rnd_buffer};
pub use string::GrowingString;
pub use table_cache::{Table, TableShare, Use};
pub use temp_table::TempTable;
pub use thd::Thd;
pub use trx_pool::TrxPool;

/// Rounds up to a multiple of 8: `ALIGN_SIZE` (include/my_sys.h), `UNIV_MEM_ALIGNMENT` (storage/innobase).
pub(crate) const fn align8(n: usize) -> usize {
    (n + 7) & !7
}

/// A ledger that logs its calls.
#[cfg(test)]
pub(crate) fn test_ledger() -> fragbench_engine::Ledger {
    let share = fragbench_engine::Share { latency_every: 1, ..Default::default() };
    let mut ledger = fragbench_engine::Spawner::new(share).main_ledger();
    ledger.log_calls();
    ledger
}

/// The calls logged since the last look: what was called, and with which size.
#[cfg(test)]
pub(crate) fn calls_of(ledger: &mut fragbench_engine::Ledger) -> Vec<(fragbench_engine::Call, usize)> {
    ledger.logged().into_iter().map(|call| (call.call, call.size)).collect()
}
