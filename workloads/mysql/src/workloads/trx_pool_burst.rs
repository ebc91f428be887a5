//! `mysql/trx-pool-burst`: the connection that needs the seventeenth transaction makes fifteen hundred of them.
//!
//! Modelled on InnoDB's pool of `trx_t` (`memory::TrxPool` has source and measurement): sixteen sessions work with the
//! transactions that were made at start-up; then one more comes, and its first statement calls for 1473 × (536 + 1152)
//! bytes that are never freed. After that all sessions work on, hold a transaction's heaps at the peak, and leave.
//! With `--sessions N` there are N of them; with sixteen or fewer there is no burst.
//!
//! It should reveal a carpet of small pins, 2.5 MB of them, in the arena of the thread that happened to be the
//! seventeenth: what that thread frees below the carpet can be used again but not given back, and which arena bears it
//! is a matter of connection order.

use std::sync::{Arc, Mutex, PoisonError};

use fragbench_engine::{Context, Entry, Ledger, Request, Workload};
use fragbench_model::{WorkerError, WorkloadFact};

use crate::client::{Client, ClientLoad, Clients, MOST, STATEMENTS, Work, scaled};
use crate::memory::{MemHeap, TrxPool};
use crate::{Load, Sysvars};

pub(crate) const ENTRY: Entry = Entry { fact, build };

/// Ready from the start.
const FIRST: usize = 16;
const SESSIONS: u32 = 24;
const LOAD: &[Load] = &[ClientLoad::<Transactions>::statements("6000")];
/// InnoDB's heaps of a statement, and locks of a transaction.
const HEAPS: usize = 4;
const HEAP: usize = 1024;
const LOCK: usize = 120;
const LOCKS: u64 = 200;

fn fact() -> WorkloadFact {
    WorkloadFact {
        name: "mysql/trx-pool-burst".to_owned(),
        summary: "small transactions, and the seventeenth connection's burst of blocks that stay for good".to_owned(),
        fidelity: "modelled".to_owned(),
        parameters: Sysvars::parameters(LOAD),
    }
}

fn build(request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let (vars, load) = Sysvars::read(request, LOAD)?;
    Ok(Box::new(TrxPoolBurst {
        sessions: vars.sessions(request, SESSIONS)?,
        vars: Arc::new(vars),
        statements: load.size(STATEMENTS, 1, MOST)?,
        pool: Arc::default(),
        clients: Vec::new(),
    }))
}

/// The workload.
struct TrxPoolBurst {
    vars: Arc<Sysvars>,
    sessions: usize,
    statements: u64,
    pool: Arc<Mutex<TrxPool>>,
    clients: Vec<Clients<Transactions>>,
}

/// A session of small transactions.
#[derive(Debug)]
pub(crate) struct Transactions {
    heaps: [MemHeap; HEAPS],
    locks: MemHeap,
}

impl Transactions {
    pub(crate) fn new() -> Transactions {
        Transactions { heaps: [0; HEAPS].map(|_| MemHeap::new()), locks: MemHeap::new() }
    }

    fn locks(&mut self, ledger: &mut Ledger, count: u64) {
        self.locks.create(ledger, HEAP);
        (0..count).for_each(|_| self.locks.alloc(ledger, LOCK));
    }
}

impl Work for Transactions {
    fn statement(&mut self, client: &mut Client, ledger: &mut Ledger, _number: u64) {
        client.execute(ledger, 6000);
        let locks = client.random.between(1, 20);
        self.locks(ledger, locks);
        for heap in &mut self.heaps {
            heap.create(ledger, HEAP);
            heap.alloc(ledger, 900);
        }
        self.heaps.iter_mut().rev().for_each(|heap| heap.free(ledger));
        if client.random.chance(1, 10) {
            client.keep(ledger);
        }
        self.locks.free(ledger);
        client.end_statement(ledger, 250);
    }

    fn hold(&mut self, _client: &mut Client, ledger: &mut Ledger) {
        self.locks(ledger, LOCKS);
    }

    fn release(&mut self, ledger: &mut Ledger) {
        self.locks.free(ledger);
    }
}

impl TrxPoolBurst {
    /// Connects `count` further sessions; each takes its transaction, in the order of connecting.
    fn connect(&mut self, ctx: &mut Context, count: usize) {
        let before = self.clients.iter().map(Clients::len).sum::<usize>() as u64;
        let works = (0..count).map(|_| Transactions::new());
        let clients = Clients::connect(ctx.spawner(), &self.vars, (ctx.settings().seed, before), works);
        let pool = self.pool.clone();
        clients.in_turn(move |_, _, ledger| pool.lock().unwrap_or_else(PoisonError::into_inner).take(ledger));
        self.clients.push(clients);
    }
}

impl Workload for TrxPoolBurst {
    fn threads(&self) -> u32 {
        self.sessions as u32
    }

    fn run(&mut self, ctx: &mut Context) {
        let statements = scaled(self.statements, ctx.settings().scale);
        let first = self.sessions.min(FIRST);
        ctx.phase("warm-up", |ctx| {
            self.pool = Arc::new(Mutex::new(TrxPool::start(ctx.ledger())));
            self.connect(ctx, first);
            self.clients.iter().for_each(|clients| clients.statements(0, statements / 10 + 1));
        });
        ctx.phase("burst", |ctx| self.connect(ctx, self.sessions - first));
        ctx.phase("steady", |_| Clients::together(&self.clients, 1, statements));
        ctx.phase("peak", |_| self.clients.iter().for_each(Clients::hold));
        ctx.phase("disconnect", |_| self.clients.iter_mut().for_each(Clients::disconnect));
        let made = self.pool.lock().unwrap_or_else(PoisonError::into_inner).made();
        ctx.fact("transactions_made", made as f64);
    }

    fn resume(&mut self, _ctx: &mut Context) {
        for clients in &mut self.clients {
            clients.reconnect();
            clients.statements(0, 100);
            clients.disconnect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_engine::{Call, Share, Spawner};

    #[test]
    fn the_seventeenth_session_bears_the_burst_and_nobody_else() {
        for (sessions, expected) in [(16, vec![0; 16]), (20, [&[0; 16][..], &[1473, 0, 0, 0]].concat())] {
            let spawner = Spawner::new(Share { latency_every: 1, ..Share::default() });
            let mut main = spawner.main_ledger();
            let pool = Arc::new(Mutex::new(TrxPool::start(&mut main)));
            let works = (0..sessions).map(|_| Transactions::new());
            let clients = Clients::connect(&spawner, &Arc::new(Sysvars::default()), (1, 0), works);
            clients.all(|_, _, ledger| ledger.log_calls());
            let seen = Arc::new(Mutex::new(Vec::new()));
            let log = seen.clone();
            clients.in_turn(move |_, _, ledger| {
                pool.lock().unwrap().take(ledger);
                let calls = ledger.logged();
                let lock_heaps = calls.iter().filter(|call| call.call == Call::Malloc && call.size == 1152).count();
                log.lock().unwrap().push(lock_heaps);
            });
            assert_eq!(*seen.lock().unwrap(), expected);
        }
    }

    #[test]
    fn a_transaction_is_heaps_of_1152_bytes_within_one_another() {
        let calls = crate::client::tests::calls(Sysvars::default(), Transactions::new(), 100, false);
        let heaps = calls.iter().filter(|call| call.call == Call::Malloc && call.size == 1152).count();
        assert_eq!(heaps, 500, "four of a statement and its locks");
        let larger = calls.iter().filter(|call| call.call == Call::Malloc && call.size == 2384).count();
        assert!((20..80).contains(&larger), "more locks than a first block holds: {larger}");
    }
}
