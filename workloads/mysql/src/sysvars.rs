//! The server's variables that decide what it allocates: their names, aliases and meaning. Defaults and bounds are those
//! that each server prints (`fragbench-option-file`).
//!
//! A value is checked as the server checks it, but refused where the server would adjust it. Variables that size
//! memory outside the C heap (buffer pool, thread stacks) are known and change nothing.

use std::collections::BTreeMap;

use fragbench_engine::{Parameters, Request, nearest, parse_size, refuse};
use fragbench_model::WorkerErrorKind;
use fragbench_model::{Parameter, WorkerError};
use fragbench_option_file::{Flavor, Kind, Number, Server};

/// Greatest size that is handed on: more than any address space holds, so that sums do not overflow.
const ADDRESSABLE: u64 = 1 << 47;

/// A variable of the server.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// MariaDB's name.
    pub name: &'static str,
    /// Names that mean the same: MySQL's, and those of older or newer versions.
    pub aliases: &'static [&'static str],
    /// One line.
    pub meaning: &'static str,
}

impl Variable {
    /// What it takes under a server, or under another one where this server has no such variable.
    fn kind(&self, server: Server) -> &'static Kind {
        let of = |server: Server| {
            let mut names = std::iter::once(&self.name).chain(self.aliases);
            names.find_map(|name| server.variable(name)).map(|variable| &variable.kind)
        };
        of(server)
            .or_else(|| Server::ALL.into_iter().find_map(of))
            .unwrap_or_else(|| unreachable!("{} stands in no server's table", self.name))
    }

    /// Default under a server, as a value is written.
    pub fn default(&self, server: Server) -> String {
        match self.kind(server) {
            Kind::Number(number) => written(number.default),
            Kind::Switch(on) | Kind::File(on) => if *on { "ON" } else { "OFF" }.to_owned(),
            // A server without the choice has what all had before there was one.
            Kind::Words { words, .. } if server.variable(self.name).is_none() => words[0].to_owned(),
            Kind::Words { default, .. } => (*default).to_owned(),
            Kind::Plugin | Kind::Other => String::new(),
        }
    }

    fn parameter(&self) -> Parameter {
        let [mariadb, mysql] = [Server::Mariadb10_11, Server::Mysql9_7].map(|server| self.default(server));
        let mut meaning = self.meaning.to_owned();
        if mysql != mariadb {
            meaning += &format!(" (mysql: {mysql})");
        }
        Parameter {
            name: self.name.to_owned(),
            aliases: self.aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            default: mariadb,
            range: range(self.kind(Server::Mariadb10_11)),
            meaning,
        }
    }

    /// Whether a number is in bounds under one of the variable's names: `table_cache` may be less than
    /// `table_open_cache`.
    fn takes(&self, server: Server, value: u64) -> bool {
        let in_bounds = |kind: &Kind| matches!(kind, Kind::Number(n) if (n.least..=n.most).contains(&value));
        let mut own =
            std::iter::once(&self.name).chain(self.aliases).filter_map(|name| server.variable(name)).peekable();
        if own.peek().is_some() { own.any(|other| in_bounds(&other.kind)) } else { in_bounds(self.kind(server)) }
    }

    /// Reads a value; `name` is the one the user gave it under.
    fn read(&self, server: Server, name: &str, text: &str) -> Result<Value, WorkerError> {
        let wrong = |what: &str| Err(refuse(WorkerErrorKind::BadSpec, format!("{name}={text}: {what}")));
        let kind = self.kind(server);
        match kind {
            Kind::Number(number) => match parse_size(text) {
                Some(value) if self.takes(server, value) => Ok(size(number, value)),
                Some(_) => wrong(&format!("must lie in the range {} ({server})", range(kind))),
                None => {
                    wrong(&format!("not a size; write a whole number, or 16K, 4M, 1G, in the range {}", range(kind)))
                }
            },
            Kind::Switch(_) | Kind::File(_) => match text.to_ascii_lowercase().as_str() {
                "on" | "true" | "1" | "" => Ok(Value::Switch(true)),
                "off" | "false" | "0" => Ok(Value::Switch(false)),
                _ if matches!(kind, Kind::File(_)) => Ok(Value::Switch(true)),
                _ => wrong("not a switch; it takes ON or OFF"),
            },
            Kind::Words { words, .. } => match words.iter().find(|word| word.eq_ignore_ascii_case(text)) {
                Some(word) => Ok(Value::Word(word)),
                None => wrong(&format!("not a value it takes; {}", nearest(text, words.iter().copied()))),
            },
            Kind::Plugin | Kind::Other => unreachable!("{} is of no kind that the models know", self.name),
        }
    }
}

/// As the server would lower it, to a whole number of blocks.
fn size(number: &Number, value: u64) -> Value {
    Value::Size((value - value % number.multiple).max(number.least.min(value)).min(ADDRESSABLE) as usize)
}

/// What a variable takes, in words.
fn range(kind: &Kind) -> String {
    match kind {
        Kind::Number(number) if number.most >= ADDRESSABLE => format!("{} or more", number.least),
        Kind::Number(number) => format!("{} to {}", number.least, number.most),
        Kind::Switch(_) => "ON, OFF".into(),
        Kind::File(_) => "ON, OFF or the base name of files".into(),
        Kind::Words { words, .. } => words.join(", "),
        Kind::Plugin | Kind::Other => String::new(),
    }
}

/// A number with the largest unit that it is a multiple of.
fn written(value: u64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "K")];
    let unit = units.into_iter().find(|(shift, _)| value > 0 && value.is_multiple_of(1 << shift));
    unit.map_or(value.to_string(), |(shift, unit)| format!("{}{unit}", value >> shift))
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

macro_rules! sysvars {
    ($(
        $name:ident: $kind:ty, [$($alias:literal),*], $meaning:literal;
    )*) => {
        /// Values in force.
        #[derive(Debug, Clone)]
        pub struct Sysvars {
            /// How its pools grow.
            pub flavor: Flavor,
            /// Whose defaults and bounds hold.
            pub server: Server,
            $(#[doc = $meaning] pub $name: $kind,)*
        }

        /// The variables, in the order of their list.
        pub const VARIABLES: &[Variable] = &[$(Variable {
            name: stringify!($name),
            aliases: &[$($alias),*],
            meaning: $meaning,
        }),*];

        impl Sysvars {
            fn from_values(
                server: Server,
                mut value: impl FnMut(&Variable) -> Result<Value, WorkerError>,
            ) -> Result<Sysvars, WorkerError> {
                let mut variables = VARIABLES.iter();
                let mut next = || value(variables.next().unwrap_or_else(|| unreachable!("one field a variable")));
                Ok(Sysvars { flavor: server.flavor(), server, $($name: next()?.into(),)* })
            }
        }
    };
}

// Name, type, aliases, meaning; defaults and bounds are of the servers' tables.
sysvars! {
    query_alloc_block_size: usize, [], "block of a statement's arena";
    query_prealloc_size: usize, [],
        "first block of a prepared statement's arena; not of a session's, as measured";
    transaction_alloc_block_size: usize, [], "block of a transaction's arena";
    transaction_prealloc_size: usize, [],
        "first block of a transaction's arena; as measured the block is of transaction_alloc_block_size, changes nothing here";
    range_alloc_block_size: usize, [], "block of the arena of a range access";
    net_buffer_length: usize, [], "buffer for sending and receiving, one each a connection";
    max_allowed_packet: usize, [], "longest packet, and string";
    slave_max_allowed_packet: usize, ["replica_max_allowed_packet"],
        "longest packet of replication; changes nothing here";
    sort_buffer_size: usize, [], "most that a sort takes at a time";
    join_buffer_size: usize, [], "buffer of a join without an index";
    join_buffer_space_limit: usize, [],
        "most that all join buffers of a statement take (MariaDB alone); changes nothing here";
    read_buffer_size: usize, [], "buffer of a sequential scan, and of a sort's files";
    read_rnd_buffer_size: usize, [],
        "buffer of rows read back in sorted order; MySQL's multi-range read uses it too";
    mrr_buffer_size: usize, [], "buffer of a multi-range read (MariaDB alone)";
    bulk_insert_buffer_size: usize, [],
        "tree of keys of a bulk insert into MyISAM or Aria; changes nothing here";
    tmp_memory_table_size: usize, ["tmp_table_size"],
        "largest internal temporary table in memory";
    max_heap_table_size: usize, [], "largest HEAP table; the lesser of the two holds";
    internal_tmp_mem_storage_engine: TmpEngine, [],
        "engine of internal temporary tables (MySQL alone)";
    temptable_max_ram: usize, [],
        "most that all TempTables have in memory; what goes beyond is mapped from files (MySQL alone)";
    group_concat_max_len: usize, [], "longest result of GROUP_CONCAT";
    log_bin: bool, [], "writes a binary log";
    binlog_cache_size: usize, [], "binary log cache of a transaction";
    binlog_stmt_cache_size: usize, [], "binary log cache for what is not transactional";
    binlog_file_cache_size: usize, [],
        "buffer of a binary log that is being read (MariaDB alone); changes nothing here";
    binlog_row_event_max_size: usize, [], "longest event of rows, unless one row is longer";
    slave_parallel_threads: usize, ["slave_parallel_workers", "replica_parallel_workers"],
        "threads that apply replicated events";
    slave_parallel_max_queued: usize, [],
        "bytes of events that wait for a worker (MariaDB alone)";
    replica_pending_jobs_size_max: usize, ["slave_pending_jobs_size_max"],
        "bytes of events that wait for all workers (MySQL alone)";
    table_open_cache: usize, ["table_cache"],
        "open instances of tables, of all sessions together";
    table_open_cache_instances: usize, [],
        "parts the table cache is divided in; each evicts for itself; changes nothing here";
    table_definition_cache: usize, [], "definitions of tables that are kept";
    stored_program_cache: usize, [], "stored routines kept, a connection; changes nothing here";
    max_prepared_stmt_count: usize, [], "prepared statements of all sessions together; changes nothing here";
    max_connections: usize, [], "clients at one time: sessions are no more, and more are refused";
    thread_cache_size: usize, [],
        "threads kept, with their THD, when their clients have gone";
    thread_stack: usize, [],
        "stack of a connection's thread; outside the heap, changes nothing here";
    innodb_buffer_pool_size: usize, [],
        "buffer pool; mapped outside the heap, changes nothing here";
    innodb_log_buffer_size: usize, [],
        "redo log buffer; MySQL's is a block of the heap, MariaDB's is mapped outside and changes nothing here";
    innodb_sort_buffer_size: usize, [],
        "buffers of an index build; mapped outside the heap, changes nothing here";
    innodb_ft_cache_size: usize, [],
        "fulltext cache of a table until it is written out; changes nothing here";
    innodb_ft_total_cache_size: usize, [],
        "fulltext caches of all tables; changes nothing here";
    innodb_ft_result_cache_limit: usize, [],
        "most that a fulltext query takes for its result";
    key_buffer_size: usize, [],
        "MyISAM's key cache; mapped outside the heap, changes nothing here";
    performance_schema: bool, [], "instruments the server, in memory taken once and kept";
}

/// The parameter that chooses the server.
const FLAVOR: &str = "flavor";

impl Sysvars {
    /// All with the defaults of a flavor's documented version.
    pub fn of(flavor: Flavor) -> Sysvars {
        Sysvars::of_server(match flavor {
            Flavor::Mariadb => Server::Mariadb10_11,
            Flavor::Mysql => Server::Mysql9_7,
        })
    }

    /// All with their defaults.
    pub fn of_server(server: Server) -> Sysvars {
        Sysvars::from_values(server, |variable| variable.read(server, variable.name, &variable.default(server)))
            .unwrap_or_else(|error| unreachable!("defaults are valid: {}", error.text))
    }

    /// The defaults that follow another variable's value, and the bound of one by another.
    ///
    /// Source: the servers' `--help` under `max_connections` of 20 to 20000 and `table_open_cache` of 200 to 4000;
    /// MySQL Reference Manual, `thread_cache_size`, `table_definition_cache`; MariaDB, `thread_cache_size`.
    fn follow(&mut self, given: impl Fn(&str) -> bool) {
        let automatic = match self.flavor {
            Flavor::Mariadb => self.max_connections.min(256),
            Flavor::Mysql => (8 + self.max_connections / 100).min(100),
        };
        if !given("thread_cache_size") {
            self.thread_cache_size = automatic;
        }
        if self.flavor == Flavor::Mariadb {
            self.thread_cache_size = self.thread_cache_size.min(self.max_connections);
        } else if !given("table_definition_cache") {
            self.table_definition_cache = (400 + self.table_open_cache / 2).min(2000);
        }
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
        let names = Server::NAMES.map(|(name, _)| name).join(", ");
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
                    return Err(refuse(WorkerErrorKind::BadSpec, both));
                }
                _ => given.insert(variable.name.to_owned(), text.clone()),
            };
        }
        let parameters = Parameters::new(&Sysvars::parameters(load), &given)?;
        let server = parameters.choice(FLAVOR, &Server::NAMES)?;
        let mut vars = Sysvars::from_values(server, |variable| match written.get(variable.name) {
            Some((name, text)) => variable.read(server, name, text),
            None => variable.read(server, variable.name, &variable.default(server)),
        })?;
        vars.follow(|name| written.contains_key(name));
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
                Err(refuse(WorkerErrorKind::BadSpec, text))
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
mod tests;
