//! A model of a MySQL or MariaDB server's memory.
use fragbench_engine::Entry;
/// Table.
pub const WORKLOADS: &[Entry] = &[];
