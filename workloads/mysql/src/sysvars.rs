//! The server's variables that decide what it allocates, with the defaults of MariaDB 10.11, and what the load is made
//! of.
//!
//! Source: `mariadbd --no-defaults --verbose --help` of 10.11.19; the load's are sysbench's.

use fragbench_engine::Parameters;
use fragbench_model::{Parameter, WorkerError};

/// Largest value any of them takes: what 64-bit servers accept at most is no allocation anybody wants here.
const MOST: u64 = 1 << 32;

macro_rules! sysvars {
    ($($name:ident $default:literal $least:literal $meaning:literal)*) => {
        /// Values in force.
        #[derive(Debug, Clone)]
        pub struct Sysvars {
            $(#[doc = $meaning] pub $name: usize,)*
        }

        impl Sysvars {
            /// All of them with their defaults.
            pub fn parameters() -> Vec<Parameter> {
                vec![$(Parameter {
                    name: stringify!($name).to_owned(),
                    default: $default.to_owned(),
                    meaning: $meaning.to_owned(),
                }),*]
            }

            /// Reads them.
            ///
            /// # Errors
            /// `bad_spec` for a value that is no size or out of range.
            pub fn read(parameters: &Parameters) -> Result<Sysvars, WorkerError> {
                Ok(Sysvars { $($name: parameters.size(stringify!($name), $least, MOST)? as usize,)* })
            }
        }
    };
}

sysvars! {
    query_alloc_block_size "32K" 1024 "block of a statement's arena"
    query_prealloc_size "32K" 1024 "first block of a statement's arena, kept between statements"
    transaction_alloc_block_size "8K" 1024 "block of a transaction's arena"
    transaction_prealloc_size "4K" 1024 "first block of a transaction's arena, kept between transactions"
    range_alloc_block_size "4K" 4096 "block of the arena of a range access"
    net_buffer_length "16K" 1024 "buffer for sending and receiving, one each a connection"
    sort_buffer_size "2M" 1024 "most that a sort takes at a time"
    tmp_memory_table_size "16M" 0 "largest internal temporary table in memory"
    max_heap_table_size "16M" 16384 "largest HEAP table; the lesser of the two holds"
    binlog_cache_size "32K" 4096 "binary log cache of a transaction"
    binlog_stmt_cache_size "32K" 4096 "binary log cache for what is not transactional"
    log_bin "0" 0 "1 writes a binary log"
    table_open_cache "2000" 1 "open instances of tables, of all sessions together"
    thread_cache_size "151" 0 "threads kept, with their THD, when their clients have gone"
    tables "4" 1 "sysbench --tables: nine prepared statements each, a connection, and two more"
    transactions "100" 1 "transactions of a session in the steady phase, at scale 1"
    range_size "100" 1 "rows of a range query (sysbench --range-size)"
}

impl Default for Sysvars {
    fn default() -> Self {
        Parameters::new(&Self::parameters(), &Default::default())
            .and_then(|parameters| Sysvars::read(&parameters))
            .unwrap_or_else(|error| unreachable!("defaults are valid: {}", error.text))
    }
}

impl Sysvars {
    /// Most that an internal temporary table takes in memory.
    pub fn tmp_table_limit(&self) -> usize {
        self.tmp_memory_table_size.min(self.max_heap_table_size)
    }

    /// Statements a connection has prepared: sysbench oltp_common.lua.
    pub fn prepared_statements(&self) -> usize {
        9 * self.tables + 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn defaults_are_those_of_the_server_and_given_values_replace_them() {
        let vars = Sysvars::default();
        assert_eq!((vars.query_prealloc_size, vars.sort_buffer_size), (32768, 2 << 20));
        assert_eq!(vars.tmp_table_limit(), 16 << 20);
        assert_eq!(Sysvars { tables: 10, ..vars }.prepared_statements(), 92);
        let given = BTreeMap::from([("max-heap-table-size".to_owned(), "1M".to_owned())]);
        let vars = Sysvars::read(&Parameters::new(&Sysvars::parameters(), &given).unwrap()).unwrap();
        assert_eq!(vars.tmp_table_limit(), 1 << 20);
    }
}
