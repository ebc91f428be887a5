//! `mysql/oltp-read-write`: sysbench's transactions against a MariaDB server, as its memory sees them.
//!
//! Sessions connect, prepare their statements and run transactions of twenty statements (sysbench oltp_common.lua: ten
//! point selects, four ranges, two updates, a delete, an insert, BEGIN and COMMIT). Then all hold a report's sort and
//! temporary table at the same moment, which is the peak; then all clients leave, and the threads wait in the thread
//! cache.
//!
//! Three populations: what lives for a statement (freed in reverse order), for a transaction (lock heap, undo records,
//! events), and for longer (sessions, prepared statements, table instances, shares). Calibrated on the recording of
//! MariaDB 10.11.19 that is shipped as a trace, and on a counter preloaded under the same load: the bounds in this
//! file's test. The sizes that come most often are the recording's own; which object of the server's has which size is
//! known for the pools alone, and assumed for the rest.

use std::sync::Arc;

use fragbench_engine::{Block, Context, Crew, Entry, Ledger, Random, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::memory::{
    BinlogCache, EXTRA_RECORDS, GrowingString, Handover, HeapTable, MemHeap, MemRoot, PreparedStatement, SortBuffer,
    Table, TableShare, Thd,
};
use crate::{Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

/// sysbench's usual number of connections in published runs.
const SESSIONS: u32 = 64;
/// The result row of a DISTINCT over a CHAR(120), and the records of its sort and of an ORDER BY over a table.
const RESULT_ROW: usize = 121;
const RESULT_SORT_RECORD: usize = 128;
const TABLE_SORT_RECORD: usize = 232;
/// Rows that the sort of a range is expected to have: enough to ask for the whole of `sort_buffer_size`.
const TABLE_ROWS: usize = 1_000_000;
/// sysbench's own options.
const LOAD: &[Load] = &[
    ("tables", "4", "sysbench --tables: nine prepared statements each, a connection, and two more"),
    ("transactions", "100", "transactions of a session in the steady phase, at scale 1"),
    ("range_size", "100", "rows of a range query (sysbench --range-size)"),
];
/// Largest of them.
const MOST: u64 = 1 << 20;
/// What a statement's InnoDB heaps are made with: with their header the 1152 bytes of four in ten recorded blocks.
const ROW_HEAP: usize = 1024;
/// Transactions of a session when work resumes after the purge.
const RESUMED: u64 = 10;

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/oltp-read-write".to_owned(),
        summary: "sessions of sysbench's read-write transactions: connect, steady, peak, disconnect".to_owned(),
        fidelity: "calibrated on a recording".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    let sysbench = Sysbench {
        tables: load.size("tables", 1, MOST)? as usize,
        transactions: load.size("transactions", 1, MOST)?,
        range_size: load.size("range_size", 1, MOST)? as usize,
    };
    let sessions = request.threads.unwrap_or(SESSIONS) as usize;
    Ok(Box::new(OltpReadWrite {
        vars: Arc::new(vars),
        sysbench,
        sessions,
        shares: Vec::new(),
        cached: None,
        rest: None,
    }))
}

/// Values of sysbench's options.
#[derive(Debug, Clone, Copy)]
struct Sysbench {
    tables: usize,
    transactions: u64,
    range_size: usize,
}

impl Sysbench {
    /// Statements a connection has prepared: sysbench oltp_common.lua.
    fn prepared_statements(self) -> usize {
        9 * self.tables + 2
    }
}

/// The workload.
struct OltpReadWrite {
    vars: Arc<Sysvars>,
    sysbench: Sysbench,
    sessions: usize,
    shares: Vec<TableShare>,
    /// Threads that stay in the thread cache when their clients leave, and those that do not.
    cached: Option<Crew<Session>>,
    rest: Option<Crew<Session>>,
}

impl OltpReadWrite {
    fn all(&self, job: impl Fn(&mut Session, &mut Ledger) + Send + Sync + 'static) {
        let job = Arc::new(job);
        let started: Vec<_> = [&self.cached, &self.rest]
            .into_iter()
            .flatten()
            .map(|crew| {
                let job = job.clone();
                crew.begin(move |_, session, ledger| job(session, ledger))
            })
            .collect();
        started.into_iter().for_each(|turn| turn.wait());
    }
}

impl Workload for OltpReadWrite {
    fn threads(&self) -> u32 {
        self.sessions as u32
    }

    fn run(&mut self, ctx: &mut Context) {
        let settings = ctx.settings();
        let (vars, sysbench) = (self.vars.clone(), self.sysbench);
        let transactions = ((sysbench.transactions as f64 * settings.scale).round() as u64).max(1);
        ctx.phase("connect", |ctx| {
            self.shares = (0..sysbench.tables).map(|_| TableShare::open(ctx.ledger(), vars.flavor, 4)).collect();
            let depth = (vars.table_open_cache / self.sessions).max(1);
            let caches: Vec<_> = (0..self.sessions).map(|_| Arc::new(Handover::new(depth))).collect();
            let mut sessions: Vec<Session> = (0..self.sessions)
                .map(|i| {
                    let before = caches[(i + self.sessions - 1) % self.sessions].clone();
                    let random = Random::new(settings.seed, i as u64);
                    Session::new(vars.clone(), sysbench, random, caches[i].clone(), before)
                })
                .collect();
            let rest = sessions.split_off(self.sessions.min(vars.thread_cache_size));
            self.cached = Some(Crew::start(ctx.spawner(), sessions));
            self.rest = Some(Crew::start(ctx.spawner(), rest));
            self.all(Session::connect);
        });
        ctx.phase("prepare", |_| self.all(Session::prepare));
        ctx.phase("steady", |_| self.all(move |session, ledger| session.transactions(ledger, transactions)));
        ctx.phase("peak", |_| self.all(Session::report));
        ctx.phase("disconnect", |_| {
            self.all(Session::disconnect);
            if let Some(rest) = self.rest.take() {
                rest.all(|_, session, ledger| session.end(ledger));
            }
        });
        ctx.fact("sessions", self.sessions as f64);
        ctx.fact("transactions", (transactions * self.sessions as u64) as f64);
    }

    fn resume(&mut self, _ctx: &mut Context) {
        // Without the sessions whose threads have ended, the ring of table caches has a gap.
        let whole = self.cached.as_ref().is_some_and(|crew| crew.len() == self.sessions);
        self.all(Session::connect);
        self.all(Session::prepare);
        self.all(move |session, ledger| {
            session.alone |= !whole;
            session.transactions(ledger, RESUMED);
        });
        self.all(Session::disconnect);
    }
}

/// One connection's thread.
#[derive(Debug)]
struct Session {
    vars: Arc<Sysvars>,
    sysbench: Sysbench,
    random: Random,
    /// Instances this session opens, and those its predecessor opened, which it closes.
    opens: Arc<Handover>,
    closes: Arc<Handover>,
    /// Neighbours are gone: the table cache is left as it is.
    alone: bool,
    turn: u64,
    thd: Option<Thd>,
    statements: Vec<PreparedStatement>,
    binlog: BinlogCache,
    /// Freed at the end of the statement, in reverse order.
    statement: Vec<Block>,
    row_heaps: [MemHeap; 5],
    range_roots: [MemRoot; 2],
    temporary: HeapTable,
    /// Freed at the end of the transaction.
    transaction: Vec<Block>,
    lock_heap: MemHeap,
    /// The report's, held from the peak until the client leaves.
    held_sort: Option<SortBuffer>,
    held_string: GrowingString,
}

#[derive(Debug, Clone, Copy)]
enum Range {
    Simple,
    Sum,
    Order,
    Distinct,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    IndexUpdate,
    NonIndexUpdate,
    Delete,
    Insert,
}

impl Session {
    fn new(
        vars: Arc<Sysvars>,
        sysbench: Sysbench,
        random: Random,
        opens: Arc<Handover>,
        closes: Arc<Handover>,
    ) -> Session {
        Session {
            statements: Vec::with_capacity(sysbench.prepared_statements()),
            range_roots: [0; 2].map(|_| MemRoot::new(vars.flavor, vars.range_alloc_block_size)),
            binlog: BinlogCache::new(&vars),
            temporary: HeapTable::new(&vars),
            held_string: GrowingString::new(vars.flavor),
            vars,
            sysbench,
            random,
            opens,
            closes,
            alone: false,
            turn: 0,
            thd: None,
            statement: Vec::with_capacity(64),
            row_heaps: [0; 5].map(|_| MemHeap::new()),
            transaction: Vec::with_capacity(64),
            lock_heap: MemHeap::new(),
            held_sort: None,
        }
    }

    fn connect(&mut self, ledger: &mut Ledger) {
        let vars = self.vars.clone();
        self.thd.get_or_insert_with(|| Thd::new(ledger, &vars)).connect(ledger, &vars);
    }

    fn prepare(&mut self, ledger: &mut Ledger) {
        for _ in 0..self.sysbench.prepared_statements() {
            let tree = self.random.between(5000, 12_000) as usize;
            self.statements.push(PreparedStatement::prepare(ledger, &self.vars, tree));
        }
    }

    fn transactions(&mut self, ledger: &mut Ledger, count: u64) {
        for _ in 0..count {
            self.transaction(ledger);
        }
    }

    fn transaction(&mut self, ledger: &mut Ledger) {
        self.turn += 1;
        self.begin(ledger);
        for _ in 0..10 {
            self.point_select(ledger);
        }
        for range in [Range::Simple, Range::Sum, Range::Order, Range::Distinct] {
            self.range_select(ledger, range);
        }
        for change in [Change::IndexUpdate, Change::NonIndexUpdate, Change::Delete, Change::Insert] {
            self.change(ledger, change);
        }
        self.commit(ledger);
    }

    /// BEGIN: a read view, the lock heap, and a table instance that is not in the session's hands yet.
    fn begin(&mut self, ledger: &mut Ledger) {
        self.lock_heap.create(ledger, ROW_HEAP);
        self.keep(ledger, 152);
        self.keep(ledger, 160);
        if self.random.chance(1, 2) {
            // trx_t's vectors come zeroed from `ut_zalloc`.
            let id = ledger.next_id();
            self.transaction.push(ledger.calloc(id, 232, 1));
        }
        if !self.alone {
            let table = Table::open(ledger, self.vars.flavor);
            self.opens.add(ledger, table);
            if let Some(table) = self.closes.evict(ledger, self.turn) {
                table.close(ledger);
            }
        }
        self.end_statement(ledger);
    }

    fn point_select(&mut self, ledger: &mut Ledger) {
        self.use_briefly(ledger, 80);
        self.use_all(ledger, 736);
        self.create_row_heaps(ledger, 3);
        self.use_all(ledger, 736);
        self.parse(ledger);
        self.send(ledger, 250);
        self.end_statement(ledger);
    }

    fn range_select(&mut self, ledger: &mut Ledger, range: Range) {
        let rows = self.sysbench.range_size;
        self.range_access(ledger);
        self.use_briefly(ledger, 88);
        self.use_all(ledger, 272);
        self.use_all(ledger, 736);
        self.create_row_heaps(ledger, 5);
        self.use_all(ledger, 736);
        match range {
            Range::Simple | Range::Sum => {}
            Range::Order => self.sort(ledger, rows, TABLE_ROWS, TABLE_SORT_RECORD),
            Range::Distinct => {
                self.temporary.create(ledger, RESULT_ROW);
                self.temporary.insert(ledger, rows);
                self.sort(ledger, rows, rows + EXTRA_RECORDS, RESULT_SORT_RECORD);
                self.temporary.free(ledger);
            }
        }
        self.parse(ledger);
        self.send(ledger, if matches!(range, Range::Sum) { 100 } else { rows * 125 });
        self.end_statement(ledger);
    }

    fn sort(&mut self, ledger: &mut Ledger, rows: usize, expected: usize, record: usize) {
        let mut buffer = SortBuffer::new(ledger, &self.vars, expected, record);
        buffer.sort(ledger, rows);
        buffer.free(ledger);
    }

    /// UPDATE and DELETE find their row by a range; an INSERT has none.
    fn change(&mut self, ledger: &mut Ledger, change: Change) {
        if !matches!(change, Change::Insert) {
            self.range_access(ledger);
        }
        self.use_briefly(ledger, 33);
        self.use_all(ledger, 736);
        self.create_row_heaps(ledger, 4);
        let event = self.random.between(40, 180) as usize;
        self.keep(ledger, event);
        if self.vars.log_bin {
            self.binlog.write(ledger, event);
        }
        self.parse(ledger);
        self.send(ledger, 60);
        self.end_statement(ledger);
    }

    fn commit(&mut self, ledger: &mut Ledger) {
        self.use_all(ledger, 80);
        self.use_all(ledger, 736);
        self.use_briefly(ledger, 56);
        self.end_statement(ledger);
        if let Some(thd) = &mut self.thd {
            thd.transaction_alloc(ledger, 600);
            thd.end_transaction(ledger);
        }
        self.binlog.reset();
        while let Some(block) = self.transaction.pop() {
            ledger.free(block);
        }
        self.lock_heap.free(ledger);
    }

    /// A range access: its arena and that of the quick select, and the quick select.
    fn range_access(&mut self, ledger: &mut Ledger) {
        for root in &mut self.range_roots {
            root.alloc(ledger, 500);
        }
        self.use_all(ledger, 344);
    }

    /// InnoDB's heaps of a statement: rows fetched, old versions, a search tuple.
    fn create_row_heaps(&mut self, ledger: &mut Ledger, count: usize) {
        for heap in &mut self.row_heaps[..count] {
            heap.create(ledger, ROW_HEAP);
            heap.alloc(ledger, 900);
        }
    }

    /// Executing takes a part of the statement's arena; now and then more than is kept.
    fn parse(&mut self, ledger: &mut Ledger) {
        let bytes = if self.random.chance(6, 100) { self.vars.query_prealloc_size + 2000 } else { 6000 };
        if let Some(thd) = &mut self.thd {
            let mut left = bytes;
            while left > 0 {
                let item = left.min(2000);
                thd.query_root.alloc(ledger, item);
                left -= item;
            }
        }
    }

    fn send(&mut self, ledger: &mut Ledger, bytes: usize) {
        // A result in three thousand outgrows the buffer, which is a realloc there and one back.
        let bytes = if self.random.chance(1, 3000) { bytes + self.vars.net_buffer_length } else { bytes };
        if let Some(thd) = &mut self.thd {
            thd.send(ledger, bytes);
        }
    }

    /// A block for the length of the statement, wholly in use.
    fn use_all(&mut self, ledger: &mut Ledger, bytes: usize) {
        let id = ledger.next_id();
        self.statement.push(ledger.malloc(id, bytes));
    }

    /// A block that is freed at once.
    fn use_briefly(&mut self, ledger: &mut Ledger, bytes: usize) {
        let id = ledger.next_id();
        let block = ledger.malloc(id, bytes);
        ledger.free(block);
    }

    /// A block for the length of the transaction.
    fn keep(&mut self, ledger: &mut Ledger, bytes: usize) {
        let id = ledger.next_id();
        self.transaction.push(ledger.malloc(id, bytes));
    }

    fn end_statement(&mut self, ledger: &mut Ledger) {
        for heap in &mut self.row_heaps {
            heap.free(ledger);
        }
        for root in &mut self.range_roots {
            root.free(ledger);
        }
        while let Some(block) = self.statement.pop() {
            ledger.free(block);
        }
        if let Some(thd) = &mut self.thd {
            thd.query_root.clear(ledger);
        }
    }

    /// A report: a sort that fills its buffer, a temporary table of up to three blocks, a GROUP_CONCAT. All is held
    /// until the client leaves, so that the peak of all sessions falls on one moment whatever the scheduler does.
    fn report(&mut self, ledger: &mut Ledger) {
        let rows = self.vars.sort_buffer_size / (TABLE_SORT_RECORD + 8);
        let mut sort = SortBuffer::new(ledger, &self.vars, TABLE_ROWS, TABLE_SORT_RECORD);
        sort.sort(ledger, self.random.between(rows as u64 / 4, rows as u64) as usize);
        self.held_sort = Some(sort);
        self.temporary.create(ledger, RESULT_ROW);
        let rows = self.random.between(500, 20_000) as usize;
        self.temporary.insert(ledger, rows);
        for _ in 0..self.random.between(10, 400) {
            self.held_string.append(ledger, 120);
        }
    }

    fn disconnect(&mut self, ledger: &mut Ledger) {
        self.held_string.free(ledger);
        self.temporary.free(ledger);
        if let Some(sort) = self.held_sort.take() {
            sort.free(ledger);
        }
        for statement in self.statements.drain(..) {
            statement.close(ledger);
        }
        self.binlog.free(ledger);
        if let Some(thd) = &mut self.thd {
            thd.disconnect(ledger);
        }
    }

    fn end(&mut self, ledger: &mut Ledger) {
        if let Some(thd) = self.thd.take() {
            thd.end(ledger);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_engine::{Call, LoggedCall, Share, Spawner};
    use std::collections::HashMap;

    const TRANSACTIONS: u64 = 400;

    /// The calls of one session's transactions.
    fn calls() -> Vec<LoggedCall> {
        let mut ledger = Spawner::new(Share { latency_every: 1, ..Share::default() }).main_ledger();
        let vars = Arc::new(Sysvars::default());
        let cache = Arc::new(Handover::new(31));
        let sysbench = Sysbench { tables: 4, transactions: TRANSACTIONS, range_size: 100 };
        let mut session = Session::new(vars, sysbench, Random::new(1, 0), cache.clone(), cache);
        session.connect(&mut ledger);
        session.transactions(&mut ledger, 40);
        ledger.log_calls();
        session.transactions(&mut ledger, TRANSACTIONS);
        ledger.logged()
    }

    /// `fragbench trace stat` of the shipped recording (sysbench, 64 connections, 4200 transactions, start-up included;
    /// allocations a transaction without it), and for what a trace does not tell, frees before the next allocation, a
    /// counter preloaded under the same load.
    #[test]
    fn a_transaction_asks_for_what_the_server_was_seen_to_ask_for() {
        let calls = calls();
        let sizes: Vec<usize> = calls.iter().filter(|c| c.call == Call::Malloc).map(|c| c.size).collect();
        let a_transaction = sizes.len() as f64 / TRANSACTIONS as f64;
        let percent = |count: usize| count as f64 / sizes.len() as f64 * 100.0;
        let share = |from: usize, to: usize| percent(sizes.iter().filter(|s| (from..to).contains(*s)).count());
        let of = |size: usize| sizes.iter().filter(|s| **s == size).count() as f64 / TRANSACTIONS as f64;
        let mean = sizes.iter().sum::<usize>() as f64 / sizes.len() as f64;
        let reallocs = percent(calls.iter().filter(|c| c.call == Call::Realloc).count());
        let measured = [
            ("allocations a transaction", a_transaction, 171.0, 6.0),
            ("mean size, KB", mean / 1000.0, 21.5, 1.5),
            ("% below 128 bytes", share(0, 128), 14.4, 2.0),
            ("% from 128 bytes", share(128, 1024), 33.7, 2.5),
            ("% from 1 KiB", share(1024, 8192), 47.5, 2.5),
            ("% from 8 KiB", share(8192, 128 << 10), 2.65, 0.5),
            ("% from 128 KiB", share(128 << 10, usize::MAX), 1.7, 0.2),
            ("1152 bytes", of(1152), 67.0, 3.0),
            ("736 bytes", of(736), 33.0, 3.0),
            ("4088 bytes", of(4088), 14.0, 1.0),
            ("65560 bytes", of(65_560), 2.0, 0.0),
            ("14984 bytes", of(14_984), 1.0, 0.0),
            ("262136 bytes", of(262_136), 1.0, 0.0),
            ("1048568 bytes", of(1_048_568), 1.0, 0.0),
            ("2097144 bytes", of(2_097_144), 1.0, 0.0),
            ("% reallocs", reallocs, 0.012, 0.01),
            ("% freed before the next allocation", freed_at_once(&calls), 23.0, 4.0),
            ("% freed by another session", freed_late(&calls), 4.24, 0.3),
        ];
        let off: Vec<_> = measured.iter().filter(|(_, got, want, bound)| (got - want).abs() > *bound).collect();
        assert!(off.is_empty(), "off: {off:?}\nall: {measured:?}");
    }

    /// Share of frees that come twenty transactions after the allocation, or more: those of the table cache, which in
    /// a run are the neighbour's.
    fn freed_late(calls: &[LoggedCall]) -> f64 {
        let mut made: HashMap<u64, usize> = HashMap::new();
        let (mut late, mut frees) = (0.0, 0.0);
        for (at, call) in calls.iter().enumerate() {
            match call.call {
                Call::Malloc => drop(made.insert(call.id, at)),
                Call::Free => {
                    frees += 1.0;
                    // What was made before the log began is older than that as well.
                    let age = made.get(&call.id).map_or(usize::MAX, |from| at - from);
                    late += f64::from(u8::from(age > 20 * calls.len() / TRANSACTIONS as usize));
                }
                Call::Realloc => {}
            }
        }
        late / frees * 100.0
    }

    fn freed_at_once(calls: &[LoggedCall]) -> f64 {
        let mut newest = None;
        let mut count: HashMap<bool, f64> = HashMap::new();
        for call in calls {
            match call.call {
                Call::Free => *count.entry(newest.take_if(|id| *id == call.id).is_some()).or_default() += 1.0,
                _ => newest = Some(call.id),
            }
        }
        let at_once = count.get(&true).copied().unwrap_or(0.0);
        at_once / count.values().sum::<f64>() * 100.0
    }
}
