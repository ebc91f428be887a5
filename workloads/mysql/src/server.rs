//! The server around the sessions: what it holds before any client comes, the tables its clients share, the thread that
//! accepts connections, those that serve them, and background threads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fragbench_engine::{Context, Crew, Ledger, Random, Settings};

use crate::Sysvars;
use crate::memory::{TableShare, TrxPool};
use crate::purge::PurgeWorker;
use crate::session::{Connect, Instances, Links, Session};
use crate::startup::Startup;

/// `innodb_purge_threads`.
const PURGE_THREADS: u64 = 4;
/// Streams of random choices: sessions take the numbers from 0.
const OWN_STREAMS: u64 = 1 << 32;

/// What else goes on while sessions work.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Background {
    /// Undo records that are purged.
    pub(crate) undo_records: usize,
    /// Times that a monitoring agent reads the process list.
    pub(crate) polls: usize,
}

/// A client's place. What it holds survives the thread that serves it, so that another can take over.
type Seat = Arc<Mutex<Session>>;

/// A server with its sessions.
#[derive(Debug)]
pub(crate) struct Server {
    vars: Arc<Sysvars>,
    most: usize,
    connected: usize,
    seats: Vec<Seat>,
    startup: Option<Startup>,
    shares: Vec<TableShare>,
    trx_pool: Option<TrxPool>,
    purge: Option<Crew<PurgeWorker>>,
    monitor: Option<Crew<Seat>>,
    /// Threads that stay in the thread cache when their clients leave, and those that do not.
    cached: Option<Crew<Seat>>,
    rest: Option<Crew<Seat>>,
}

impl Server {
    /// A server that will have `most` clients at a time, or fewer.
    pub(crate) fn new(vars: Sysvars, most: usize) -> Server {
        Server {
            vars: Arc::new(vars),
            most,
            connected: 0,
            seats: Vec::new(),
            startup: None,
            shares: Vec::new(),
            trx_pool: None,
            purge: None,
            monitor: None,
            cached: None,
            rest: None,
        }
    }

    /// Most clients at a time.
    pub(crate) fn sessions(&self) -> usize {
        self.most
    }

    /// Threads at a time: those of clients, of purge, and of a monitoring agent.
    pub(crate) fn threads(&self) -> u32 {
        self.most as u32 + PURGE_THREADS as u32 + 1
    }

    /// The warm-up: the server's own memory, its background threads, a monitoring agent's connection, and the shares of
    /// tables with these numbers of columns.
    pub(crate) fn start(&mut self, ctx: &mut Context, columns: impl IntoIterator<Item = usize>) {
        ctx.phase("warm-up", |ctx| {
            let Settings { seed, .. } = ctx.settings();
            let flavor = self.vars.flavor;
            self.startup = Some(Startup::new(ctx.ledger(), &self.vars, Random::new(seed, OWN_STREAMS)));
            self.shares = columns.into_iter().map(|columns| TableShare::open(ctx.ledger(), flavor, columns)).collect();
            self.trx_pool = Some(TrxPool::start(ctx.ledger()));
            let workers = (1..=PURGE_THREADS).map(|i| PurgeWorker::new(Random::new(seed, OWN_STREAMS + i)));
            self.purge = Some(Crew::start(ctx.spawner(), workers));
            let mut seat = |(number, links): (usize, Links)| {
                let random = Random::new(seed, number as u64);
                let mut session = Session::new(self.vars.clone(), random, number, links);
                session.share_pool(&mut self.trx_pool);
                Arc::new(Mutex::new(session))
            };
            self.seats = Links::ring(self.most, &self.vars).into_iter().enumerate().map(&mut seat).collect();
            let agent = Links::ring(1, &self.vars).into_iter().map(|links| seat((usize::MAX, links)));
            let monitor = Crew::start(ctx.spawner(), agent);
            monitor.all(|_, seat, ledger| {
                let mut agent = sit(seat);
                agent.alone = true;
                agent.connect(ledger, None);
            });
            self.monitor = Some(monitor);
        });
    }

    /// `clients` clients connect; threads are started for those who find none in the thread cache.
    pub(crate) fn connect(&mut self, ctx: &mut Context, clients: usize) {
        let seats = &self.seats[..clients];
        let cached = self
            .cached
            .get_or_insert_with(|| Crew::start(ctx.spawner(), seats.iter().take(self.vars.thread_cache_size).cloned()));
        self.rest = Some(Crew::start(ctx.spawner(), seats.iter().skip(cached.len()).cloned()));
        self.connected = clients;
        let accepted: Vec<_> = (0..clients).map(|_| Mutex::new(Some(Connect::accept(ctx.ledger())))).collect();
        self.all(move |session, ledger| {
            let mut slot = accepted[session.number].lock().unwrap_or_else(PoisonError::into_inner);
            session.connect(ledger, slot.take());
        });
    }

    /// All sessions do `job`.
    pub(crate) fn all(&self, job: impl Fn(&mut Session, &mut Ledger) + Send + Sync + 'static) {
        self.with(Background::default(), job);
    }

    /// All sessions do `job` while background threads do their work.
    pub(crate) fn with(&self, background: Background, job: impl Fn(&mut Session, &mut Ledger) + Send + Sync + 'static) {
        let Background { undo_records, polls } = background;
        let share = undo_records.div_ceil(PURGE_THREADS as usize);
        let purge = self.purge.as_ref().filter(|_| share > 0);
        let purging = purge.map(|crew| crew.begin(move |_, worker, ledger| worker.purge(ledger, share)));
        let monitor = self.monitor.as_ref().filter(|_| polls > 0);
        let polling = monitor.map(|crew| {
            crew.begin(move |_, session, ledger| (0..polls).for_each(|_| sit(session).read_process_list(ledger)))
        });
        let (job, connected) = (Arc::new(job), self.connected);
        let working: Vec<_> = [&self.cached, &self.rest]
            .into_iter()
            .flatten()
            .map(|crew| {
                let job = job.clone();
                crew.begin(move |_, seat, ledger| {
                    let mut session = sit(seat);
                    if session.number < connected {
                        job(&mut session, ledger);
                    }
                })
            })
            .collect();
        working.into_iter().for_each(|turn| turn.wait());
        drop((purging, polling));
    }

    /// All instances in the table cache, by the session that opens them; while no session works.
    pub(crate) fn instances(&self) -> Vec<Instances> {
        self.seats.iter().map(|seat| sit(seat).instances()).collect()
    }

    /// The monitoring agent's session does `job`, as whoever comes to maintain the server.
    pub(crate) fn by_agent(&self, job: impl Fn(&mut Session, &mut Ledger) + Send + Sync + 'static) {
        if let Some(agent) = &self.monitor {
            agent.all(move |_, seat, ledger| job(&mut sit(seat), ledger));
        }
    }

    /// All clients leave; threads that the thread cache has no place for end.
    pub(crate) fn disconnect(&mut self) {
        self.all(Session::disconnect);
        if let Some(rest) = self.rest.take() {
            rest.all(|_, seat, ledger| sit(seat).end(ledger));
        }
        self.connected = 0;
    }

    /// Work again after the memory was given back: all clients connect, do `job` and leave.
    pub(crate) fn again(&mut self, ctx: &mut Context, job: impl Fn(&mut Session, &mut Ledger) + Send + Sync + 'static) {
        self.connect(ctx, self.most);
        self.all(job);
        self.disconnect();
    }
}

/// The session of a seat, for the length of a job; nobody else wants it then.
fn sit(seat: &Seat) -> MutexGuard<'_, Session> {
    seat.lock().unwrap_or_else(PoisonError::into_inner)
}
