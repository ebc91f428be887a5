//! `mysql/replication-apply`: a replica's reader thread hands events to workers, who free them.
//!
//! Modelled on parallel replication as a recorded MariaDB 10.11.19 replica shows it (`memory::replication` has sizes
//! and sources); transactions go to the workers in turn, most change a few rows, one in a hundred a BLOB. The reader
//! stops when a worker's queue holds `slave_parallel_max_queued` bytes (MySQL: `replica_pending_jobs_size_max` for all
//! workers together). Workers give `queued_event`s back 200 at a time, which the reader uses again. At the peak the
//! workers stand still, as behind a long transaction, and the queues are half full; they are emptied in the phase "drain".
//! With `--sessions N` there are N - 1 workers; else `slave_parallel_threads`, or four where that is 0.
//!
//! It should reveal the price of memory that is allocated in one thread and freed in another, with hardly an exception:
//! glibc's workers fill the reader's arena through its lock and never use it themselves, jemalloc's and tcmalloc's
//! thread caches overflow on one side and run dry on the other, mimalloc collects what other threads have freed.
//!
//! How far the reader is ahead depends on the scheduler, within the queues' bound; what is allocated and who frees it
//! does not.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use fragbench_engine::{Block, Context, Crew, Entry, Ledger, Random, Request, Spawner, Turn, Workload, clock};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::client::{MOST, scaled};
use crate::memory::replication::{BATCH, Event, Kind, transaction};
use crate::{Flavor, Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

const LOAD: &[Load] = &[("transactions", "8000", "transactions applied in the steady phase, at scale 1")];
/// Workers where the server would have none.
const WORKERS: usize = 4;
/// Transactions of the warm-up, and when work resumes.
const FEW: u64 = 2000;
/// Bytes that all queues hold at the most, whatever the variables say: bounds what depends on the scheduler.
const MOST_QUEUED: usize = 16 << 20;
/// What a worker takes while it has a table open, for an event of rows, and for a commit; as recorded.
const TABLE: [usize; 2] = [2328, 48];
const ROWS: [usize; 4] = [80, 80, 88, 312];
const COMMIT: [usize; 3] = [80, 88, 200];

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/replication-apply".to_owned(),
        summary: "a replica's events: allocated by the reader, freed by the workers".to_owned(),
        fidelity: "modelled".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    let asked = if vars.slave_parallel_threads == 0 { WORKERS } else { vars.slave_parallel_threads };
    let workers = request.threads.map_or(asked, |threads| threads as usize - 1).max(1);
    let transactions = load.size("transactions", 1, MOST)?;
    Ok(Box::new(ReplicationApply { vars: Arc::new(vars), workers, transactions, replica: None }))
}

/// The workload.
struct ReplicationApply {
    vars: Arc<Sysvars>,
    workers: usize,
    transactions: u64,
    replica: Option<Replica>,
}

impl Workload for ReplicationApply {
    fn threads(&self) -> u32 {
        self.workers as u32 + 1
    }

    fn run(&mut self, ctx: &mut Context) {
        let settings = ctx.settings();
        let transactions = scaled(self.transactions, settings.scale);
        let replica = ctx.phase("warm-up", |ctx| {
            let replica = Replica::start(ctx.spawner(), &self.vars, self.workers, Random::new(settings.seed, 0));
            replica.apply(FEW.min(transactions));
            replica
        });
        ctx.phase("steady", |_| replica.apply(transactions));
        ctx.phase("peak", |_| replica.stall());
        ctx.phase("drain", |_| replica.apply(0));
        ctx.fact("workers", self.workers as f64);
        ctx.fact("transactions", transactions as f64);
        self.replica = Some(replica);
    }

    fn resume(&mut self, _ctx: &mut Context) {
        if let Some(replica) = &self.replica {
            replica.apply(FEW);
        }
    }
}

/// A replica's threads: the reader is the first, its workers are the others.
#[derive(Debug)]
pub(crate) struct Replica(Crew<Role>);

#[derive(Debug)]
enum Role {
    Reader(Reader),
    Worker(Worker),
}

impl Replica {
    pub(crate) fn start(spawner: &Spawner, vars: &Arc<Sysvars>, workers: usize, random: Random) -> Replica {
        let queues: Vec<Arc<Queue>> = (0..workers).map(|_| Arc::new(Queue::new(vars, workers))).collect();
        let workers = queues.iter().map(|queue| Role::Worker(Worker::new(queue.clone()))).collect::<Vec<_>>();
        let reader = Role::Reader(Reader::new(vars.clone(), random, queues));
        Replica(Crew::start(spawner, std::iter::once(reader).chain(workers)))
    }

    /// Reads and applies `transactions` transactions, and what is queued.
    pub(crate) fn apply(&self, transactions: u64) {
        self.begin(transactions).wait();
    }

    /// As [`Self::apply`], beside other work.
    pub(crate) fn begin(&self, transactions: u64) -> Turn<'_, impl Sized> {
        self.0.begin(move |_, role, ledger| match role {
            Role::Reader(reader) => reader.read(ledger, transactions),
            Role::Worker(worker) => worker.apply(ledger),
        })
    }

    /// Reads until the queues are half full, while no worker applies.
    pub(crate) fn stall(&self) {
        self.0.all(|_, role, ledger| {
            if let Role::Reader(reader) = role {
                reader.fill(ledger);
            }
        });
    }
}

/// The way to one worker.
#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes beyond which the reader waits.
    most: usize,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    bytes: usize,
    /// `queued_event`s that came back, a batch each.
    returned: VecDeque<Vec<Block>>,
    /// No more events come in this turn of work.
    closed: bool,
}

impl Queue {
    fn new(vars: &Sysvars, workers: usize) -> Queue {
        let most = match vars.flavor {
            Flavor::Mariadb => vars.slave_parallel_max_queued,
            Flavor::Mysql => vars.replica_pending_jobs_size_max / workers,
        };
        Queue { state: Mutex::default(), changed: Condvar::new(), most: most.min(MOST_QUEUED / workers) }
    }

    /// The state once it is not `blocked` any more.
    fn when(&self, ledger: &Ledger, mut blocked: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !blocked(&state) {
            return state;
        }
        let start = clock::monotonic_ns();
        let state = self.changed.wait_while(state, |s| blocked(s)).unwrap_or_else(PoisonError::into_inner);
        ledger.waited(clock::monotonic_ns() - start);
        state
    }

    /// The reader adds an event, and waits while there are too many, unless nobody takes them now.
    fn push(&self, ledger: &Ledger, event: Event, running: bool) {
        let mut state = self.when(ledger, |s| running && s.bytes > self.most);
        state.bytes += event.bytes();
        state.events.push_back(event);
        self.changed.notify_all();
    }

    /// The next event; `None` when no more will come.
    fn pop(&self, ledger: &Ledger) -> Option<Event> {
        let mut state = self.when(ledger, |s| s.events.is_empty() && !s.closed);
        let Some(event) = state.events.pop_front() else {
            // Heeded once: the next turn of work begins with an open queue, whoever comes first.
            state.closed = false;
            return None;
        };
        state.bytes -= event.bytes();
        self.changed.notify_all();
        Some(event)
    }

    /// No more events come in this turn of work.
    fn close(&self, ledger: &Ledger) {
        self.when(ledger, |_| false).closed = true;
        self.changed.notify_all();
    }

    /// A worker gives a batch back.
    fn give_back(&self, ledger: &Ledger, batch: Vec<Block>) {
        self.when(ledger, |_| false).returned.push_back(batch);
        self.changed.notify_all();
    }

    /// The reader takes the oldest batch, waiting for it.
    fn take_back(&self, ledger: &Ledger) -> Vec<Block> {
        self.when(ledger, |s| s.returned.is_empty()).returned.pop_front().unwrap_or_default()
    }
}

/// The thread that reads the relay log.
#[derive(Debug)]
struct Reader {
    vars: Arc<Sysvars>,
    random: Random,
    queues: Vec<Arc<Queue>>,
    /// Events sent to each worker.
    sent: Vec<usize>,
    transactions: usize,
    /// `queued_event`s to use again.
    free: Vec<Block>,
}

impl Reader {
    fn new(vars: Arc<Sysvars>, random: Random, queues: Vec<Arc<Queue>>) -> Reader {
        let sent = vec![0; queues.len()];
        Reader { vars, random, queues, sent, transactions: 0, free: Vec::with_capacity(4 * BATCH) }
    }

    fn read(&mut self, ledger: &mut Ledger, transactions: u64) {
        for _ in 0..transactions {
            self.transaction(ledger, true);
        }
        self.queues.iter().for_each(|queue| queue.close(ledger));
    }

    /// Reads until a queue is half full; the others are about as full.
    fn fill(&mut self, ledger: &mut Ledger) {
        while self.queues.iter().all(|queue| queue.when(ledger, |_| false).bytes * 2 <= queue.most) {
            self.transaction(ledger, false);
        }
    }

    /// One transaction to the next worker. A batch that has come back is fetched once in [`BATCH`] events, two batches
    /// after its events were sent: how soon the worker was done makes no difference. While workers stand still, none
    /// is waited for.
    fn transaction(&mut self, ledger: &mut Ledger, running: bool) {
        let worker = self.transactions % self.queues.len();
        self.transactions += 1;
        let rows = match self.random.below(100) {
            0 => self.random.log_between(64 << 10, 1 << 20),
            1..=9 => self.random.between(1 << 10, 8 << 10),
            _ => self.random.between(20, 200),
        };
        for kind in transaction(&self.vars, rows as usize) {
            let sent = self.sent[worker];
            if self.vars.flavor == Flavor::Mariadb && running && sent >= 2 * BATCH && sent.is_multiple_of(BATCH) {
                self.free.extend(self.queues[worker].take_back(ledger));
            }
            let event = Event::read(ledger, self.vars.flavor, kind, self.free.pop());
            self.queues[worker].push(ledger, event, running);
            self.sent[worker] += 1;
        }
    }
}

/// A thread that applies events.
#[derive(Debug)]
struct Worker {
    queue: Arc<Queue>,
    /// `queued_event`s of events that were applied.
    done: Vec<Block>,
    table: Vec<Block>,
}

impl Worker {
    fn new(queue: Arc<Queue>) -> Worker {
        Worker { queue, done: Vec::with_capacity(BATCH), table: Vec::with_capacity(TABLE.len()) }
    }

    /// Applies events until no more come.
    fn apply(&mut self, ledger: &mut Ledger) {
        while let Some(event) = self.queue.pop(ledger) {
            self.execute(ledger, event.kind());
            self.done.extend(event.apply(ledger));
            if self.done.len() == BATCH {
                let batch = std::mem::replace(&mut self.done, Vec::with_capacity(BATCH));
                self.queue.give_back(ledger, batch);
            }
        }
    }

    fn execute(&mut self, ledger: &mut Ledger, kind: Kind) {
        let take = |ledger: &mut Ledger, size: usize| {
            let id = ledger.next_id();
            ledger.malloc(id, size)
        };
        let briefly = |ledger: &mut Ledger, sizes: &[usize]| {
            let blocks: Vec<Block> = sizes.iter().map(|size| take(ledger, *size)).collect();
            blocks.into_iter().rev().for_each(|block| ledger.free(block));
        };
        match kind {
            Kind::Gtid => {}
            Kind::TableMap => self.table.extend(TABLE.map(|size| take(ledger, size))),
            Kind::Rows(_) => briefly(ledger, &ROWS),
            Kind::Xid => {
                self.table.drain(..).rev().for_each(|block| ledger.free(block));
                briefly(ledger, &COMMIT);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_engine::{Call, Share};
    use std::collections::BTreeMap;

    const TRANSACTIONS: u64 = 3000;

    /// What the reader asks for, and what it and the workers free, by size.
    fn run(vars: Sysvars, workers: usize) -> (BTreeMap<usize, usize>, usize, usize) {
        let spawner = Spawner::new(Share { latency_every: 1, ..Share::default() });
        let replica = Replica::start(&spawner, &Arc::new(vars), workers, Random::new(1, 0));
        replica.0.all(|_, _, ledger| ledger.log_calls());
        replica.apply(TRANSACTIONS);
        let sums = Arc::new(Mutex::new((BTreeMap::new(), 0, 0)));
        let log = sums.clone();
        replica.0.all(move |index, _, ledger| {
            let mut sums = log.lock().unwrap();
            for call in ledger.logged() {
                match (index, call.call) {
                    (0, Call::Malloc) => *sums.0.entry(call.size).or_default() += 1,
                    (0, _) => sums.1 += 1,
                    // A worker's own blocks have its number in their identity, the reader's have the reader's.
                    (_, Call::Free) if call.id >> 40 == 1 => sums.2 += 1,
                    _ => {}
                }
            }
        });
        let sums = sums.lock().unwrap();
        sums.clone()
    }

    #[test]
    fn all_that_the_reader_allocates_is_freed_by_workers_but_what_comes_back() {
        let (sizes, freed_by_reader, freed_by_workers) = run(Sysvars::default(), 4);
        assert_eq!(freed_by_reader, 0);
        // Now and then a row has the size of an event.
        let of = |size: usize| sizes.get(&size).copied().unwrap_or(0);
        assert!([632, 1336, 144].iter().all(|size| (3000..3300).contains(&of(*size))), "{sizes:?}");
        let queued = sizes.values().sum::<usize>() - freed_by_workers;
        assert!((queued..queued + 100).contains(&of(1120)), "{queued} stay, {} were made", of(1120));
        assert!(of(176) > 12_000 && queued > 0 && queued < of(176) / 3, "{queued} serve {} events", of(176));
        assert!(sizes.keys().any(|size| *size > 8000), "a BLOB fills events of binlog_row_event_max_size");
    }

    #[test]
    fn mysql_has_no_queued_events() {
        let (sizes, _, freed_by_workers) = run(Sysvars::of(Flavor::Mysql), 2);
        assert_eq!(sizes.values().sum::<usize>(), freed_by_workers);
        assert!(freed_by_workers > 30_000);
    }

    #[test]
    fn a_stall_fills_the_queues_to_their_bound() {
        for queued in [128 << 10, 1 << 20] {
            let vars = Sysvars { slave_parallel_max_queued: queued, ..Sysvars::default() };
            let spawner = Spawner::new(Share::default());
            let replica = Replica::start(&spawner, &Arc::new(vars), 4, Random::new(1, 0));
            replica.apply(100);
            replica.stall();
            let held = Arc::new(Mutex::new(0));
            let sum = held.clone();
            replica.0.all(move |_, role, ledger| {
                if let Role::Worker(worker) = role {
                    *sum.lock().unwrap() += worker.queue.when(ledger, |_| false).bytes;
                }
            });
            let held = *held.lock().unwrap();
            assert!((queued / 2..8 * queued).contains(&held), "{held} bytes for {queued}");
            replica.apply(0);
        }
    }
}
