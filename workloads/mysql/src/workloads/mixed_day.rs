//! `mysql/mixed-day`: a compressed day of a server that does a little of everything.
//!
//! Modelled of the other workloads' parts. At the start: the pool of transactions and, where it is on, the performance
//! schema. By day ("steady") sessions mix small transactions with sorts, temporary tables, growing results and fulltext
//! searches, while a replica's workers apply what comes from elsewhere. At noon ("peak") all hold their largest
//! statement. At night the clients leave, and a dump reads one table after the other: definitions come into the
//! dictionary and evict older ones, rows grow to a megabyte, and something small stays of every table. Then the next
//! day begins; `days` of them.
//!
//! It should reveal the ratchet that MDEV-30889 tells of, a floor of resident memory that each night leaves higher than
//! the last, with all lifetimes in one heap: what looks harmless by itself pins what another part has freed.

use std::sync::Arc;

use fragbench_engine::{Block, Context, Crew, Entry, Ledger, Random, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use super::fulltext_burst::Searches;
use super::replication_apply::Replica;
use super::sort_spill::Sorts;
use super::string_grow::Strings;
use super::temp_table::TemporaryTables;
use super::trx_pool_burst::Transactions;
use crate::client::{Client, ClientLoad, Clients, MOST, STATEMENTS, Work, scaled};
use crate::memory::{DictionaryCache, PerformanceSchema, TrxPool};
use crate::{Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

const SESSIONS: u32 = 24;
const LOAD: &[Load] = &[
    ClientLoad::<Mixed>::statements("80"),
    ("days", "2", "days and nights"),
    ("dumped_tables", "600", "tables that the dump reads in a night, at scale 1"),
    ("replicated_transactions", "6000", "transactions that the replica applies in a day, at scale 1"),
];
/// Of a hundred statements.
const SHARES: [u32; 5] = [80, 6, 8, 5, 1];
/// Heap of the largest fulltext query, and documents to a pin.
const SEARCH: usize = 4 << 20;
const DOCUMENTS_A_PIN: u64 = 250;
/// Workers of the replica.
const WORKERS: usize = 2;
/// Random streams: sessions have those from 0.
const REPLICA_STREAM: u64 = 1 << 32;
const DUMP_STREAM: u64 = 2 << 32;
/// Columns of the dumped tables, and their longest rows.
const COLUMNS: (u64, u64) = (3, 60);
const ROW: (u64, u64) = (200, 1 << 20);

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/mixed-day".to_owned(),
        summary: "a compressed day: all kinds of statements, a replica, a noon peak, a nightly dump".to_owned(),
        fidelity: "modelled".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    Ok(Box::new(MixedDay {
        sessions: vars.sessions(request, SESSIONS)?,
        vars: Arc::new(vars),
        statements: load.size(STATEMENTS, 1, MOST)?,
        days: load.size("days", 1, 30)?,
        tables: load.size("dumped_tables", 1, MOST)?,
        replicated: load.size("replicated_transactions", 1, MOST)?,
        server: None,
        clients: None,
    }))
}

/// The workload.
struct MixedDay {
    vars: Arc<Sysvars>,
    sessions: usize,
    statements: u64,
    days: u64,
    tables: u64,
    replicated: u64,
    server: Option<Server>,
    clients: Option<Clients<Mixed>>,
}

/// What is there beside the clients, for as long as the server runs.
struct Server {
    _transactions: TrxPool,
    _performance_schema: PerformanceSchema,
    replica: Replica,
    dump: Crew<Dump>,
}

/// A session of all kinds of statements.
#[derive(Debug)]
struct Mixed {
    transactions: Transactions,
    sorts: Sorts,
    tables: TemporaryTables,
    strings: Strings,
    searches: Searches,
}

impl Mixed {
    fn new(vars: &Sysvars, sessions: usize) -> Mixed {
        Mixed {
            transactions: Transactions::new(),
            sorts: Sorts { held: None },
            tables: TemporaryTables::new(vars, sessions),
            strings: Strings::new(vars),
            searches: Searches::new(SEARCH, DOCUMENTS_A_PIN),
        }
    }
}

impl Work for Mixed {
    fn statement(&mut self, client: &mut Client, ledger: &mut Ledger, number: u64) {
        match client.random.weighted(&SHARES) {
            0 => self.transactions.statement(client, ledger, number),
            1 => self.sorts.statement(client, ledger, number),
            2 => self.tables.statement(client, ledger, number),
            3 => self.strings.statement(client, ledger, number),
            _ => self.searches.statement(client, ledger, number),
        }
    }

    fn hold(&mut self, client: &mut Client, ledger: &mut Ledger) {
        match client.number % 4 {
            0 => self.transactions.hold(client, ledger),
            1 => self.sorts.hold(client, ledger),
            2 => self.tables.hold(client, ledger),
            _ => self.strings.hold(client, ledger),
        }
        if client.number == 0 {
            self.searches.hold(client, ledger);
        }
    }

    fn release(&mut self, ledger: &mut Ledger) {
        self.transactions.release(ledger);
        self.sorts.release(ledger);
        self.tables.release(ledger);
        self.strings.release(ledger);
        self.searches.release(ledger);
    }
}

/// The nightly dump's connection.
#[derive(Debug)]
struct Dump {
    client: Client,
    dictionary: DictionaryCache,
    /// Tables read so far: each night reads others.
    read: u64,
    pins: Vec<Block>,
}

impl Dump {
    fn new(vars: &Arc<Sysvars>, random: Random) -> Dump {
        let dictionary = DictionaryCache::new(vars);
        Dump { client: Client::new(vars.clone(), random, 0), dictionary, read: 0, pins: Vec::with_capacity(4096) }
    }

    fn night(&mut self, ledger: &mut Ledger, tables: u64) {
        self.client.connect(ledger);
        for _ in 0..tables {
            let (columns, indexes) =
                (self.client.random.between(COLUMNS.0, COLUMNS.1), self.client.random.between(1, 5));
            let evicted = self.dictionary.open(ledger, self.read, columns as usize, indexes as usize);
            self.read += 1;
            self.client.execute(ledger, 200 * columns as usize);
            evicted.into_iter().for_each(|definition| definition.free(ledger));
            let (id, pin) = (ledger.next_id(), self.client.random.between(48, 80) as usize);
            self.pins.push(ledger.malloc(id, pin));
            let row = self.client.random.log_between(ROW.0, ROW.1).min(self.client.vars.max_allowed_packet as u64);
            self.client.end_statement(ledger, row as usize);
        }
        self.client.disconnect(ledger);
    }
}

impl Workload for MixedDay {
    fn threads(&self) -> u32 {
        self.sessions as u32 + 1 + WORKERS as u32 + 1
    }

    fn run(&mut self, ctx: &mut Context) {
        let (seed, scale) = (ctx.settings().seed, ctx.settings().scale);
        let [statements, tables, replicated] =
            [self.statements, self.tables, self.replicated].map(|count| scaled(count, scale));
        let vars = self.vars.clone();
        let (server, mut clients) = ctx.phase("warm-up", |ctx| {
            let mut schema = PerformanceSchema::start(ctx.ledger(), &vars);
            let mut pool = TrxPool::start(ctx.ledger());
            for _ in 0..self.sessions {
                schema.thread(ctx.ledger());
                pool.take(ctx.ledger());
            }
            let replica = Replica::start(ctx.spawner(), &vars, WORKERS, Random::new(seed, REPLICA_STREAM));
            let dump = Crew::start(ctx.spawner(), [Dump::new(&vars, Random::new(seed, DUMP_STREAM))]);
            let works = (0..self.sessions).map(|_| Mixed::new(&vars, self.sessions));
            let clients = Clients::connect(ctx.spawner(), &vars, (seed, 0), works);
            (Server { _transactions: pool, _performance_schema: schema, replica, dump }, clients)
        });
        for day in 0..self.days {
            let name = |phase: &str| if day == 0 { phase.to_owned() } else { format!("{phase}-{}", day + 1) };
            ctx.phase(&name("steady"), |_| {
                if day > 0 {
                    clients.reconnect();
                }
                let replicating = server.replica.begin(replicated);
                clients.statements(day * statements, statements);
                replicating.wait();
            });
            ctx.phase(&name("peak"), |_| clients.hold());
            ctx.phase(&name("night"), |_| {
                clients.disconnect();
                server.dump.all(move |_, dump, ledger| dump.night(ledger, tables));
            });
        }
        ctx.fact("days", self.days as f64);
        ctx.fact("sessions", self.sessions as f64);
        (self.server, self.clients) = (Some(server), Some(clients));
    }

    fn resume(&mut self, _ctx: &mut Context) {
        if let (Some(server), Some(clients)) = (&self.server, &mut self.clients) {
            clients.reconnect();
            clients.statements(0, 10);
            server.replica.apply(100);
            clients.disconnect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::calls_keeping;
    use fragbench_engine::{Call, Share, Spawner};

    #[test]
    fn a_day_has_statements_of_every_kind() {
        let vars = Sysvars::default();
        let (calls, _) = calls_keeping(vars.clone(), Mixed::new(&vars, 24), 400, true);
        let count = |size: usize| calls.iter().filter(|call| call.call == Call::Malloc && call.size == size).count();
        assert!(count(1152) > 1000, "transactions");
        assert!(count(65_560) > 5, "sorts");
        assert!(count(1_048_568) > 15, "temporary tables");
        assert!(calls.iter().any(|call| call.call == Call::Realloc), "growing results");
        assert!(count(16_512) > 5, "fulltext");
    }

    #[test]
    fn a_night_evicts_definitions_and_leaves_a_pin_of_every_table() {
        let spawner = Spawner::new(Share { latency_every: 1, ..Share::default() });
        let mut ledger = spawner.main_ledger();
        let mut dump = Dump::new(&Arc::new(Sysvars::default()), Random::new(1, 0));
        dump.night(&mut ledger, 300);
        assert_eq!(dump.dictionary.len(), 300);
        ledger.log_calls();
        dump.night(&mut ledger, 300);
        assert_eq!((dump.dictionary.len(), dump.pins.len()), (400, 600));
        let calls = ledger.logged();
        let definitions = calls.iter().filter(|call| call.call == Call::Free && call.size == 712).count();
        assert_eq!(definitions, 200, "as many as came beyond table_definition_cache");
    }
}
