//! The server's variables that decide what it allocates, with the defaults of MariaDB 10.11 and MySQL 8.4, their
//! aliases and their ranges.
//!
//! A value is checked as the server checks it, but refused where the server would adjust it. Variables that size
//! memory outside the C heap (buffer pool, thread stacks) are known and change nothing.
//!
//! Source: `mariadbd --no-defaults --verbose --help` of 10.11.19; MySQL 8.4 Reference Manual, "Server System
//! Variables", "InnoDB Startup Options and System Variables", "Replication and Binary Logging Options and Variables".

use std::collections::BTreeMap;

use fragbench_engine::{Parameters, Request, nearest, parse_size, refuse};
use fragbench_model::{Parameter, WorkerError};

use crate::Flavor;

/// Largest value most of them take: what 64-bit servers accept at most is no allocation anybody wants here.
const MOST: u64 = 1 << 32;
/// Largest value of what is not allocated.
const NO_LIMIT: u64 = u64::MAX;

/// What a variable takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// A number of bytes or of things, both ends included.
    Size(u64, u64),
    /// `ON`, `OFF`, `TRUE`, `FALSE`, `1` or `0`, in either case; a name alone means `ON`.
    Switch,
    /// A switch that is turned on by the base name of files as well.
    BaseName,
    /// One of these words, in either case.
    Words(&'static [&'static str]),
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Range::Size(least, NO_LIMIT) => write!(f, "{least} or more"),
            Range::Size(least, most) => write!(f, "{least} to {most}"),
            Range::Switch => f.write_str("ON, OFF"),
            Range::BaseName => f.write_str("ON, OFF or the base name of files"),
            Range::Words(words) => f.write_str(&words.join(", ")),
        }
    }
}

/// A variable of the server.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// MariaDB's name.
    pub name: &'static str,
    /// Names that mean the same: MySQL's, and those of older or newer versions.
    pub aliases: &'static [&'static str],
    /// Default of MariaDB 10.11.
    pub mariadb: &'static str,
    /// Default of MySQL 8.4.
    pub mysql: &'static str,
    /// Values it takes.
    pub range: Range,
    /// One line.
    pub meaning: &'static str,
}

impl Variable {
    /// Default under a flavor.
    pub fn default(&self, flavor: Flavor) -> &'static str {
        match flavor {
            Flavor::Mariadb => self.mariadb,
            Flavor::Mysql => self.mysql,
        }
    }

    fn parameter(&self) -> Parameter {
        let mut meaning = self.meaning.to_owned();
        if self.mysql != self.mariadb {
            meaning += &format!(" (mysql: {})", self.mysql);
        }
        Parameter {
            name: self.name.to_owned(),
            aliases: self.aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            default: self.mariadb.to_owned(),
            range: self.range.to_string(),
            meaning,
        }
    }

    /// Reads a value; `written` is the name the user gave it under.
    fn read(&self, written: &str, text: &str) -> Result<Value, WorkerError> {
        let wrong = |what: &str| Err(refuse("bad_spec", format!("{written}={text}: {what}")));
        match self.range {
            Range::Size(least, most) => match parse_size(text) {
                Some(value) if (least..=most).contains(&value) => Ok(Value::Size(value as usize)),
                Some(_) => wrong(&format!("must lie in the range {}", self.range)),
                None => {
                    wrong(&format!("not a size; write a whole number, or 16K, 4M, 1G, in the range {}", self.range))
                }
            },
            Range::Switch | Range::BaseName => match text.to_ascii_lowercase().as_str() {
                "on" | "true" | "1" | "" => Ok(Value::Switch(true)),
                "off" | "false" | "0" => Ok(Value::Switch(false)),
                _ if self.range == Range::BaseName => Ok(Value::Switch(true)),
                _ => wrong("not a switch; it takes ON or OFF"),
            },
            Range::Words(words) => match words.iter().position(|word| word.eq_ignore_ascii_case(text)) {
                Some(index) => Ok(Value::Word(words[index])),
                None => wrong(&format!("not a value it takes; {}", nearest(text, words.iter().copied()))),
            },
        }
    }
}

/// A value that was read.
enum Value {
    Size(usize),
    Switch(bool),
    Word(&'static str),
}

impl From<Value> for usize {
    fn from(value: Value) -> usize {
        match value {
            Value::Size(size) => size,
            _ => unreachable!("the table of variables gives this one a size"),
        }
    }
}

impl From<Value> for bool {
    fn from(value: Value) -> bool {
        match value {
            Value::Switch(on) => on,
            _ => unreachable!("the table of variables makes this one a switch"),
        }
    }
}

/// Where internal temporary tables are kept while they are in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TmpEngine {
    /// HEAP tables: the only choice of MariaDB.
    Memory,
    /// MySQL's own engine for them.
    TempTable,
}

impl From<Value> for TmpEngine {
    fn from(value: Value) -> TmpEngine {
        match value {
            Value::Word("TempTable") => TmpEngine::TempTable,
            _ => TmpEngine::Memory,
        }
    }
}

/// A parameter of the load itself, declared by the workload that has it: name, default, meaning.
pub type Load = (&'static str, &'static str, &'static str);

macro_rules! last {
    ($only:literal) => {
        $only
    };
    ($first:literal $second:literal) => {
        $second
    };
}

macro_rules! sysvars {
    ($(
        $name:ident: $kind:ty, $range:expr, $mariadb:literal $(| $mysql:literal)?, [$($alias:literal),*], $meaning:literal;
    )*) => {
        /// Values in force.
        #[derive(Debug, Clone)]
        pub struct Sysvars {
            /// Which server.
            pub flavor: Flavor,
            $(#[doc = $meaning] pub $name: $kind,)*
        }

        /// The variables, in the order of their list.
        pub const VARIABLES: &[Variable] = &[$(Variable {
            name: stringify!($name),
            aliases: &[$($alias),*],
            mariadb: $mariadb,
            mysql: last!($mariadb $($mysql)?),
            range: $range,
            meaning: $meaning,
        }),*];

        impl Sysvars {
            fn from_values(
                flavor: Flavor,
                mut value: impl FnMut(&Variable) -> Result<Value, WorkerError>,
            ) -> Result<Sysvars, WorkerError> {
                let mut variables = VARIABLES.iter();
                let mut next = || value(variables.next().unwrap_or_else(|| unreachable!("one field a variable")));
                Ok(Sysvars { flavor, $($name: next()?.into(),)* })
            }
        }
    };
}

use Range::{BaseName, Size, Switch, Words};

// Name, type, range, MariaDB's default, MySQL's where it differs, aliases, meaning.
sysvars! {
    query_alloc_block_size: usize, Size(1024, MOST), "32K" | "8K", [], "block of a statement's arena";
    query_prealloc_size: usize, Size(1024, MOST), "32K" | "8K", [],
        "first block of a prepared statement's arena; not of a session's, as measured";
    transaction_alloc_block_size: usize, Size(1024, 512 << 10), "8K", [], "block of a transaction's arena";
    transaction_prealloc_size: usize, Size(1024, 512 << 10), "4K", [],
        "first block of a transaction's arena; as measured the block is of transaction_alloc_block_size, changes nothing here";
    range_alloc_block_size: usize, Size(4096, MOST), "4K", [], "block of the arena of a range access";
    net_buffer_length: usize, Size(1024, 1 << 20), "16K", [], "buffer for sending and receiving, one each a connection";
    max_allowed_packet: usize, Size(1024, 1 << 30), "16M" | "64M", [], "longest packet, and string";
    slave_max_allowed_packet: usize, Size(1024, 1 << 30), "1G", ["replica_max_allowed_packet"],
        "longest packet of replication; changes nothing here";
    sort_buffer_size: usize, Size(1024, MOST), "2M" | "256K", [], "most that a sort takes at a time";
    join_buffer_size: usize, Size(128, MOST), "256K", [], "buffer of a join without an index";
    join_buffer_space_limit: usize, Size(2048, NO_LIMIT), "2M" , [],
        "most that all join buffers of a statement take (MariaDB alone); changes nothing here";
    read_buffer_size: usize, Size(8192, 2 << 30), "128K", [], "buffer of a sequential scan, and of a sort's files";
    read_rnd_buffer_size: usize, Size(1, 2 << 30), "256K", [],
        "buffer of rows read back in sorted order; MySQL's multi-range read uses it too";
    mrr_buffer_size: usize, Size(8192, 2 << 30), "256K", [], "buffer of a multi-range read (MariaDB alone)";
    bulk_insert_buffer_size: usize, Size(0, MOST), "8M", ["myisam_bulk_insert_tree_size"],
        "tree of keys of a bulk insert into MyISAM or Aria; changes nothing here";
    tmp_memory_table_size: usize, Size(0, MOST), "16M", ["tmp_table_size"],
        "largest internal temporary table in memory";
    max_heap_table_size: usize, Size(16384, MOST), "16M", [], "largest HEAP table; the lesser of the two holds";
    internal_tmp_mem_storage_engine: TmpEngine, Words(&["MEMORY", "TempTable"]), "MEMORY" | "TempTable", [],
        "engine of internal temporary tables (MySQL alone)";
    temptable_max_ram: usize, Size(2 << 20, NO_LIMIT), "1G", [],
        "most that all TempTables have in memory; what goes beyond is mapped from files (MySQL alone)";
    group_concat_max_len: usize, Size(4, 1 << 30), "1M" | "1K", [], "longest result of GROUP_CONCAT";
    log_bin: bool, BaseName, "OFF" | "ON", [], "writes a binary log";
    binlog_cache_size: usize, Size(4096, MOST), "32K", [], "binary log cache of a transaction";
    binlog_stmt_cache_size: usize, Size(4096, MOST), "32K", [], "binary log cache for what is not transactional";
    binlog_file_cache_size: usize, Size(8192, MOST), "16K", [],
        "buffer of a binary log that is being read (MariaDB alone); changes nothing here";
    binlog_row_event_max_size: usize, Size(256, MOST), "8K", [], "longest event of rows, unless one row is longer";
    slave_parallel_threads: usize, Size(0, 16383), "0" | "4", ["slave_parallel_workers", "replica_parallel_workers"],
        "threads that apply replicated events";
    slave_parallel_max_queued: usize, Size(0, 2 << 30), "128K", [],
        "bytes of events that wait for a worker (MariaDB alone)";
    replica_pending_jobs_size_max: usize, Size(1024, NO_LIMIT), "128M", ["slave_pending_jobs_size_max"],
        "bytes of events that wait for all workers (MySQL alone)";
    table_open_cache: usize, Size(1, 1 << 20), "2000" | "4000", ["table_cache"],
        "open instances of tables, of all sessions together";
    table_open_cache_instances: usize, Size(1, 64), "4" | "16", [],
        "parts the table cache is divided in; each evicts for itself; changes nothing here";
    table_definition_cache: usize, Size(400, 2 << 20), "400" | "2000", [], "definitions of tables that are kept";
    stored_program_cache: usize, Size(0, 512 << 10), "256", [], "stored routines kept, a connection; changes nothing here";
    max_prepared_stmt_count: usize, Size(0, 4 << 20), "16382", [], "prepared statements of all sessions together; changes nothing here";
    max_connections: usize, Size(1, 100_000), "151", [], "clients at one time: sessions are no more, and more are refused";
    thread_cache_size: usize, Size(0, 16384), "151" | "9", [],
        "threads kept, with their THD, when their clients have gone";
    thread_stack: usize, Size(128 << 10, MOST), "292K" | "1M", [],
        "stack of a connection's thread; outside the heap, changes nothing here";
    innodb_buffer_pool_size: usize, Size(2 << 20, NO_LIMIT), "128M", [],
        "buffer pool; mapped outside the heap, changes nothing here";
    innodb_log_buffer_size: usize, Size(1 << 20, MOST), "16M" | "64M", [],
        "redo log buffer; mapped outside the heap, changes nothing here";
    innodb_sort_buffer_size: usize, Size(64 << 10, 64 << 20), "1M", [],
        "buffers of an index build; mapped outside the heap, changes nothing here";
    innodb_ft_cache_size: usize, Size(1_600_000, 80_000_000), "8000000", [],
        "fulltext cache of a table until it is written out; changes nothing here";
    innodb_ft_total_cache_size: usize, Size(32_000_000, 1_600_000_000), "640000000", [],
        "fulltext caches of all tables; changes nothing here";
    innodb_ft_result_cache_limit: usize, Size(1_000_000, MOST), "2000000000", [],
        "most that a fulltext query takes for its result";
    key_buffer_size: usize, Size(0, NO_LIMIT), "128M" | "8M", [],
        "MyISAM's key cache; mapped outside the heap, changes nothing here";
    performance_schema: bool, Switch, "OFF" | "ON", [], "instruments the server, in memory taken once and kept";
}

/// The parameter that chooses the server.
const FLAVOR: &str = "flavor";

impl Sysvars {
    /// All with their defaults under a flavor.
    pub fn of(flavor: Flavor) -> Sysvars {
        Sysvars::from_values(flavor, |variable| variable.read(variable.name, variable.default(flavor)))
            .unwrap_or_else(|error| unreachable!("defaults are valid: {}", error.text))
    }

    /// What a workload takes: the flavor, all variables, and what it declares of its own.
    pub fn parameters(load: &[Load]) -> Vec<Parameter> {
        let own = |name: &str, default: &str, range: &str, meaning: &str| Parameter {
            name: name.to_owned(),
            aliases: Vec::new(),
            default: default.to_owned(),
            range: range.to_owned(),
            meaning: meaning.to_owned(),
        };
        let names = Flavor::ALL.map(|(name, _)| name).join(", ");
        let flavor = own(FLAVOR, "mariadb", &names, "which server is modelled: its defaults and how its pools grow");
        let load = load.iter().map(|(name, default, meaning)| own(name, default, "", meaning));
        std::iter::once(flavor).chain(VARIABLES.iter().map(Variable::parameter)).chain(load).collect()
    }

    /// Reads the variables of a request; the load's own are left to the workload, in what is returned beside.
    ///
    /// # Errors
    /// `bad_spec` for a name that is not known, a variable given under two names with two values, and a value that is
    /// malformed or out of range; each names the variable as it was written, its value and what it takes.
    pub fn read(request: &Request, load: &[Load]) -> Result<(Sysvars, Parameters), WorkerError> {
        let mut given = BTreeMap::new();
        let mut written: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        for (name, text) in &request.parameters {
            let Some(variable) = variable(name) else {
                given.insert(name.clone(), text.clone());
                continue;
            };
            match written.insert(variable.name, (name, text)) {
                Some((before, other)) if other != text => {
                    let both = format!("{before}={other} and {name}={text} are one variable; give it one value");
                    return Err(refuse("bad_spec", both));
                }
                _ => given.insert(variable.name.to_owned(), text.clone()),
            };
        }
        let parameters = Parameters::new(&Sysvars::parameters(load), &given)?;
        let flavor = parameters.choice(FLAVOR, &Flavor::ALL)?;
        let vars = Sysvars::from_values(flavor, |variable| {
            let default = (variable.name, variable.default(flavor));
            let (name, text) = written.get(variable.name).copied().unwrap_or(default);
            variable.read(name, text)
        })?;
        Ok((vars, parameters))
    }

    /// How many clients a workload of `usual` sessions has: as many as asked for, else as many of those as the server
    /// admits.
    ///
    /// # Errors
    /// `bad_spec` when more are asked for than `max_connections`.
    pub fn sessions(&self, request: &Request, usual: u32) -> Result<usize, WorkerError> {
        match request.threads {
            None => Ok(self.max_connections.min(usual as usize)),
            Some(asked) if asked as usize <= self.max_connections => Ok(asked as usize),
            Some(asked) => {
                let limit = self.max_connections;
                let text = format!(
                    "{asked} sessions, but max_connections={limit}; ask for fewer, or set max_connections={asked}"
                );
                Err(refuse("bad_spec", text))
            }
        }
    }

    /// Most that an internal temporary table takes in memory.
    pub fn tmp_table_limit(&self) -> usize {
        match self.internal_tmp_mem_storage_engine {
            TmpEngine::Memory => self.tmp_memory_table_size.min(self.max_heap_table_size),
            TmpEngine::TempTable => self.tmp_memory_table_size,
        }
    }
}

impl Default for Sysvars {
    fn default() -> Self {
        Sysvars::of(Flavor::default())
    }
}

/// The variable of that name or alias; dashes and underscores are alike, as are cases.
pub fn variable(name: &str) -> Option<&'static Variable> {
    let name = name.replace('-', "_").to_ascii_lowercase();
    VARIABLES.iter().find(|v| v.name == name || v.aliases.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const LOAD: &[Load] = &[("tables", "4", "tables")];

    fn read(given: &[(&str, &str)]) -> Result<(Sysvars, Parameters), WorkerError> {
        let parameters = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sysvars::read(&Request { parameters, threads: None }, LOAD)
    }

    #[test]
    fn defaults_are_those_of_the_flavor_and_given_values_replace_them() {
        let (mariadb, load) = read(&[]).unwrap();
        assert_eq!((mariadb.query_prealloc_size, mariadb.sort_buffer_size), (32768, 2 << 20));
        assert_eq!((mariadb.log_bin, mariadb.internal_tmp_mem_storage_engine), (false, TmpEngine::Memory));
        assert_eq!(load.size("tables", 1, 10), Ok(4));
        let (mysql, _) = read(&[("flavor", "mysql"), ("max-heap-table-size", "1M")]).unwrap();
        assert_eq!((mysql.query_prealloc_size, mysql.sort_buffer_size), (8192, 256 << 10));
        assert_eq!((mysql.log_bin, mysql.internal_tmp_mem_storage_engine), (true, TmpEngine::TempTable));
        // A TempTable is not bound by max_heap_table_size.
        assert_eq!(mysql.tmp_table_limit(), 16 << 20);
        let (vars, _) = read(&[("max-heap-table-size", "1M"), ("Sort_Buffer_Size", "64k")]).unwrap();
        assert_eq!((vars.tmp_table_limit(), vars.sort_buffer_size), (1 << 20, 64 << 10));
    }

    #[test]
    fn max_connections_bounds_the_sessions() {
        let sessions = |threads, limit: &str| {
            let parameters = [("max_connections".to_owned(), limit.to_owned())].into();
            let request = Request { parameters, threads };
            Sysvars::read(&request, LOAD).unwrap().0.sessions(&request, 64)
        };
        assert_eq!(
            (sessions(None, "151"), sessions(None, "10"), sessions(Some(151), "151")),
            (Ok(64), Ok(10), Ok(151))
        );
        let text = sessions(Some(200), "151").unwrap_err().text;
        assert!(text.contains("200 sessions") && text.contains("max_connections=151"), "{text}");
    }

    #[test]
    fn aliases_are_one_variable() {
        let (vars, _) = read(&[("replica-parallel-workers", "8"), ("tmp_table_size", "4M")]).unwrap();
        assert_eq!((vars.slave_parallel_threads, vars.tmp_memory_table_size), (8, 4 << 20));
        assert!(read(&[("slave_parallel_workers", "8"), ("replica_parallel_workers", "8")]).is_ok());
        let text = read(&[("slave_parallel_workers", "8"), ("replica_parallel_workers", "4")]).unwrap_err().text;
        assert!(text.contains("slave_parallel_workers=8") && text.contains("replica_parallel_workers=4"), "{text}");
    }

    #[test]
    fn switches_take_what_the_server_takes() {
        for (text, on) in [("ON", true), ("true", true), ("1", true), ("", true), ("Off", false), ("0", false)] {
            assert_eq!(read(&[("performance-schema", text)]).unwrap().0.performance_schema, on, "{text}");
        }
        assert!(read(&[("log_bin", "/var/log/mysql/mysql-bin.log")]).unwrap().0.log_bin);
        assert!(read(&[("performance_schema", "maybe")]).is_err());
    }

    #[test]
    fn what_is_wrong_is_named_as_it_was_written_with_what_would_be_right() {
        for (name, value, parts) in [
            ("net-buffer-length", "2M", ["net-buffer-length=2M", "1024 to 1048576"]),
            ("replica_parallel_workers", "many", ["replica_parallel_workers=many", "0 to 16383"]),
            ("performance_schema", "maybe", ["performance_schema=maybe", "ON or OFF"]),
            ("internal_tmp_mem_storage_engine", "TmpTable", ["TmpTable", "TempTable"]),
            ("sort_bufer_size", "1M", ["sort_bufer_size", "sort_buffer_size"]),
            ("flavor", "maria", ["flavor=maria", "mariadb"]),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert_eq!(error.kind, "bad_spec");
            assert!(parts.iter().all(|part| error.text.contains(part)), "{}", error.text);
        }
    }

    #[test]
    fn the_table_tells_each_name_once_and_both_defaults() {
        let mut names = BTreeSet::new();
        for v in VARIABLES {
            assert!(std::iter::once(&v.name).chain(v.aliases).all(|name| names.insert(*name)), "{}", v.name);
            for flavor in [Flavor::Mariadb, Flavor::Mysql] {
                assert!(v.read(v.name, v.default(flavor)).is_ok(), "{} under {flavor:?}", v.name);
            }
        }
        let all = Sysvars::parameters(LOAD);
        let sort = all.iter().find(|p| p.name == "sort_buffer_size").unwrap();
        assert_eq!(sort.default, "2M");
        assert!(sort.meaning.ends_with("(mysql: 256K)"), "{}", sort.meaning);
        let workers = all.iter().find(|p| p.name == "slave_parallel_threads").unwrap();
        assert!(workers.aliases.contains(&"replica_parallel_workers".to_owned()));
        assert!(all.iter().all(|p| p.name == "tables" || !p.range.is_empty()));
    }
}
