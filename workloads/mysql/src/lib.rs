//! A model of a MySQL or MariaDB server's memory: what the server asks libc for, in which sizes, for how long and on
//! which threads, after its own pools have had their say. `memory` holds the pools, `sysvars` what sizes them, and each
//! further file is a workload.
//!
//! It refuses to be more than that: no SQL is run, no buffer pool is modelled (the server maps it itself, and it is the
//! same under any allocator).

mod blob_stream;
#[cfg(test)]
mod calibration;
mod client;
mod connection_storm;
mod definition;
mod definition_cache;
mod fulltext_burst;
mod handover;
mod lanes;
pub mod memory;
mod mixed_day;
mod nightly_dump;
mod oltp_point_select;
mod oltp_read_write;
mod prepared_statement_churn;
mod purge;
mod replication_apply;
mod server;
mod session;
mod sort_spill;
mod startup;
mod statement;
mod string_grow;
mod sysvars;
mod table_cache_churn;
mod temp_table;
mod trx_pool_burst;

use fragbench_engine::Entry;

pub use fragbench_option_file::{Flavor, Server};
pub use sysvars::{Load, Sysvars, TmpEngine, VARIABLES, Variable, variable};

/// One line a workload; the file's name is the workload's.
pub const WORKLOADS: &[Entry] = &[
    oltp_read_write::ENTRY,
    oltp_point_select::ENTRY,
    connection_storm::ENTRY,
    sort_spill::ENTRY,
    blob_stream::ENTRY,
    string_grow::ENTRY,
    temp_table::ENTRY,
    prepared_statement_churn::ENTRY,
    table_cache_churn::ENTRY,
    replication_apply::ENTRY,
    fulltext_burst::ENTRY,
    nightly_dump::ENTRY,
    trx_pool_burst::ENTRY,
    mixed_day::ENTRY,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Files that are no workloads.
    const PARTS: &[&str] = &[
        "lib",
        "calibration",
        "client",
        "definition",
        "definition-cache",
        "handover",
        "lanes",
        "purge",
        "server",
        "session",
        "startup",
        "statement",
        "sysvars",
    ];

    #[test]
    fn every_workload_file_is_in_the_table() {
        let files: BTreeSet<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some())
            .map(|path| path.file_stem().unwrap().to_string_lossy().replace('_', "-"))
            .filter(|name| !PARTS.contains(&name.as_str()))
            .map(|name| format!("mysql/{name}"))
            .collect();
        let table: BTreeSet<String> = WORKLOADS.iter().map(|entry| (entry.fact)().name).collect();
        assert_eq!(files, table);
    }
}
