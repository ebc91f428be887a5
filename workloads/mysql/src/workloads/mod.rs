//! The table of workloads, one file each.

mod blob_stream;
mod connection_storm;
mod fulltext_burst;
mod mixed_day;
mod nightly_dump;
mod oltp_point_select;
mod oltp_read_write;
mod prepared_statement_churn;
mod replication_apply;
mod sort_spill;
mod string_grow;
mod table_cache_churn;
mod temp_table;
mod trx_pool_burst;

use fragbench_engine::Entry;

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

    #[test]
    fn every_workload_file_is_in_the_table() {
        let files: BTreeSet<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/workloads"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().replace('_', "-"))
            .filter(|name| name != "mod")
            .map(|name| format!("mysql/{name}"))
            .collect();
        let table: BTreeSet<String> = WORKLOADS.iter().map(|entry| (entry.fact)().name).collect();
        assert_eq!(files, table);
    }
}
