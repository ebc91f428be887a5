//! Clients that do one kind of statement over and over: the frame of the modelled workloads. Each has a thread, a
//! connection and a [`Work`]; the phases are the same for all.
//!
//! Three lifetimes: a statement's, in the work's own hands; a connection's, small things that statements leave behind
//! ([`Client::keep`]); and those of the server, pinned for good.

use std::sync::Arc;

use fragbench_engine::{Block, Context, Crew, Ledger, Parameters, Random, Spawner, Workload};
use fragbench_model::WorkerError;

use crate::memory::{MemRoot, Thd};
use crate::{Flavor, Load, Sysvars};

/// The parameter that all of them have.
pub(crate) const STATEMENTS: &str = "statements";
/// Largest value of a load's own parameters.
pub(crate) const MOST: u64 = 1 << 24;
/// Statements of a client when work resumes after the purge.
const RESUMED: u64 = 2;
/// What statements leave behind in a connection that is not idle, at the most: the oldest go first.
const KEPT: usize = 64;

/// What a client does.
pub(crate) trait Work: Send + 'static {
    /// Statement number `number`, from 0.
    fn statement(&mut self, client: &mut Client, ledger: &mut Ledger, number: u64);

    /// The largest statement of its kind; what it takes is held until [`Self::release`], so that the peak of all
    /// clients falls on one moment whatever the scheduler does.
    fn hold(&mut self, client: &mut Client, ledger: &mut Ledger);

    /// Ends what is held, and what lives as long as the connection.
    fn release(&mut self, ledger: &mut Ledger);
}

/// A connection and its thread.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) vars: Arc<Sysvars>,
    pub(crate) random: Random,
    /// From 0, in the order of connecting.
    pub(crate) number: usize,
    pub(crate) thd: Option<Thd>,
    kept: std::collections::VecDeque<Block>,
}

impl Client {
    pub(crate) fn new(vars: Arc<Sysvars>, random: Random, number: usize) -> Client {
        Client { vars, random, number, thd: None, kept: std::collections::VecDeque::with_capacity(KEPT + 1) }
    }

    pub(crate) fn connect(&mut self, ledger: &mut Ledger) {
        let vars = self.vars.clone();
        self.thd.get_or_insert_with(|| Thd::new(ledger, &vars)).connect(ledger, &vars);
    }

    /// Takes `bytes` from the statement's arena, in pieces of the size of an Item, a list, a JOIN.
    pub(crate) fn execute(&mut self, ledger: &mut Ledger, bytes: usize) {
        const PIECE: usize = 2000;
        if let Some(root) = self.query_root() {
            (0..bytes.div_ceil(PIECE)).for_each(|_| root.alloc(ledger, PIECE));
        }
    }

    fn query_root(&mut self) -> Option<&mut MemRoot> {
        self.thd.as_mut().map(|thd| &mut thd.query_root)
    }

    /// Sends a row of `bytes`.
    pub(crate) fn send_value(&mut self, ledger: &mut Ledger, bytes: usize) {
        if let Some(thd) = &mut self.thd {
            thd.send_value(ledger, bytes);
        }
    }

    /// Sends a result and ends the statement.
    pub(crate) fn end_statement(&mut self, ledger: &mut Ledger, result: usize) {
        if let Some(thd) = &mut self.thd {
            thd.send(ledger, result);
            thd.end_transaction(ledger);
            thd.query_root.clear(ledger);
        }
    }

    /// A small thing that outlives its statement: a user variable, a metadata lock, an entry of a cache.
    pub(crate) fn keep(&mut self, ledger: &mut Ledger) {
        let (id, bytes) = (ledger.next_id(), self.random.between(48, 600) as usize);
        self.kept.push_back(ledger.malloc(id, bytes));
        if self.kept.len() > KEPT {
            self.kept.pop_front().into_iter().for_each(|oldest| ledger.free(oldest));
        }
    }

    pub(crate) fn disconnect(&mut self, ledger: &mut Ledger) {
        self.kept.drain(..).for_each(|block| ledger.free(block));
        match (&mut self.thd, self.vars.flavor) {
            (Some(thd), Flavor::Mariadb) => thd.disconnect(ledger),
            _ => self.end(ledger),
        }
    }

    pub(crate) fn end(&mut self, ledger: &mut Ledger) {
        if let Some(thd) = self.thd.take() {
            thd.end(ledger);
        }
    }
}

/// A client with its work.
type Member<W> = (Client, W);

/// All clients of one kind.
#[derive(Debug)]
pub(crate) struct Clients<W> {
    /// Threads that stay in the thread cache when their clients leave, and those that do not.
    cached: Crew<Member<W>>,
    rest: Option<Crew<Member<W>>>,
}

impl<W: Work> Clients<W> {
    /// Starts the threads of `works` and connects their clients; random choices are those of the streams from
    /// `stream` on.
    pub(crate) fn connect(
        spawner: &Spawner,
        vars: &Arc<Sysvars>,
        (seed, stream): (u64, u64),
        works: impl IntoIterator<Item = W>,
    ) -> Clients<W> {
        let mut members: Vec<Member<W>> = works
            .into_iter()
            .enumerate()
            .map(|(i, work)| (Client::new(vars.clone(), Random::new(seed, stream + i as u64), i), work))
            .collect();
        let rest = members.split_off(members.len().min(vars.thread_cache_size));
        let (cached, rest) = (Crew::start(spawner, members), Some(Crew::start(spawner, rest)));
        let clients = Clients { cached, rest };
        clients.all(|client, _, ledger| client.connect(ledger));
        clients
    }

    /// All that are connected do `job` at the same time.
    pub(crate) fn all(&self, job: impl Fn(&mut Client, &mut W, &mut Ledger) + Send + Sync + 'static) {
        let job = Arc::new(job);
        let turns: Vec<_> = std::iter::once(&self.cached)
            .chain(&self.rest)
            .map(|crew| {
                let job = job.clone();
                crew.begin(move |_, (client, work), ledger| job(client, work, ledger))
            })
            .collect();
        turns.into_iter().for_each(|turn| turn.wait());
    }

    /// All that are connected do `job`, one after the other in the order of connecting.
    pub(crate) fn in_turn(&self, job: impl Fn(&mut Client, &mut W, &mut Ledger) + Send + Sync + 'static) {
        let job = Arc::new(job);
        for crew in std::iter::once(&self.cached).chain(&self.rest) {
            let job = job.clone();
            crew.in_turn(move |_, (client, work), ledger| job(client, work, ledger));
        }
    }

    /// All do `count` statements, beginning with number `first`.
    pub(crate) fn statements(&self, first: u64, count: u64) {
        Self::together(std::slice::from_ref(self), first, count);
    }

    /// As [`Self::statements`], for several groups at the same time.
    pub(crate) fn together(groups: &[Clients<W>], first: u64, count: u64) {
        let crews = groups.iter().flat_map(|group| std::iter::once(&group.cached).chain(&group.rest));
        let turns: Vec<_> = crews
            .map(|crew| {
                crew.begin(move |_, (client, work), ledger| {
                    (first..first + count).for_each(|number| work.statement(client, ledger, number));
                })
            })
            .collect();
        turns.into_iter().for_each(|turn| turn.wait());
    }

    /// All hold their largest statement.
    pub(crate) fn hold(&self) {
        self.all(|client, work, ledger| work.hold(client, ledger));
    }

    /// All leave; threads that the thread cache has no place for end.
    pub(crate) fn disconnect(&mut self) {
        self.all(|client, work, ledger| {
            work.release(ledger);
            client.disconnect(ledger);
        });
        if let Some(rest) = self.rest.take() {
            rest.all(|_, (client, _), ledger| client.end(ledger));
        }
    }

    /// Those whose threads are cached come back.
    pub(crate) fn reconnect(&self) {
        self.all(|client, _, ledger| client.connect(ledger));
    }

    /// Those that are connected, or wait in the thread cache.
    pub(crate) fn len(&self) -> usize {
        self.cached.len() + self.rest.as_ref().map_or(0, Crew::len)
    }
}

/// A workload of clients of one kind.
pub(crate) struct ClientLoad<W> {
    vars: Arc<Sysvars>,
    statements: u64,
    /// Made anew with each run.
    works: Box<dyn Fn() -> Vec<W>>,
    sessions: usize,
    clients: Option<Clients<W>>,
}

impl<W: Work> ClientLoad<W> {
    /// `sessions` clients, each with a work of `make`; [`STATEMENTS`] is read from `load`.
    ///
    /// # Errors
    /// `bad_spec` when that parameter is none.
    pub(crate) fn new(
        (vars, load): (Sysvars, Parameters),
        sessions: usize,
        make: impl Fn(&Sysvars) -> W + 'static,
    ) -> Result<ClientLoad<W>, WorkerError> {
        let (vars, statements) = (Arc::new(vars), load.size(STATEMENTS, 1, MOST)?);
        let own = vars.clone();
        let works = Box::new(move || (0..sessions).map(|_| make(&own)).collect());
        Ok(ClientLoad { vars, statements, works, sessions, clients: None })
    }

    /// The declaration of [`STATEMENTS`] with its default.
    pub(crate) const fn statements(default: &'static str) -> Load {
        (STATEMENTS, default, "statements of a session in the steady phase, at scale 1")
    }
}

/// `count` at a scale, at least 1.
pub(crate) fn scaled(count: u64, scale: f64) -> u64 {
    ((count as f64 * scale).round() as u64).max(1)
}

impl<W: Work> Workload for ClientLoad<W> {
    fn threads(&self) -> u32 {
        self.sessions as u32
    }

    fn run(&mut self, ctx: &mut Context) {
        let (seed, statements) = (ctx.settings().seed, scaled(self.statements, ctx.settings().scale));
        let mut clients = ctx.phase("warm-up", |ctx| {
            let clients = Clients::connect(ctx.spawner(), &self.vars, (seed, 0), (self.works)());
            clients.statements(0, 1);
            clients
        });
        ctx.phase("steady", |_| clients.statements(1, statements));
        ctx.phase("peak", |_| clients.hold());
        ctx.phase("disconnect", |_| clients.disconnect());
        ctx.fact("sessions", self.sessions as f64);
        ctx.fact("statements", (statements * self.sessions as u64) as f64);
        self.clients = Some(clients);
    }

    fn resume(&mut self, _ctx: &mut Context) {
        if let Some(clients) = &mut self.clients {
            clients.reconnect();
            clients.statements(0, RESUMED);
            clients.disconnect();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use fragbench_engine::{LoggedCall, Share};

    /// The calls of `count` statements of one client, and of its peak if `hold`; all is released after it.
    pub(crate) fn calls(vars: Sysvars, work: impl Work, count: u64, hold: bool) -> Vec<LoggedCall> {
        let (calls, live) = calls_keeping(vars, work, count, hold);
        assert_eq!(live, 0, "nothing is left behind");
        calls
    }

    /// As [`calls`], and the bytes that are pinned after it.
    pub(crate) fn calls_keeping(vars: Sysvars, mut work: impl Work, count: u64, hold: bool) -> (Vec<LoggedCall>, i64) {
        let mut ledger = Spawner::new(Share { latency_every: 1, ..Share::default() }).main_ledger();
        let mut client = Client::new(Arc::new(vars), Random::new(1, 0), 0);
        client.connect(&mut ledger);
        work.statement(&mut client, &mut ledger, 0);
        ledger.log_calls();
        (1..=count).for_each(|number| work.statement(&mut client, &mut ledger, number));
        if hold {
            work.hold(&mut client, &mut ledger);
        }
        let calls = ledger.logged();
        work.release(&mut ledger);
        client.disconnect(&mut ledger);
        client.end(&mut ledger);
        (calls, ledger.live_bytes())
    }
}
