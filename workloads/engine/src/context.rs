//! What a workload sees of the run: its seed and scale, its threads, and its phases.

use std::collections::BTreeMap;

use fragbench_model::{AllocatorKind, Command, Message, Purge, RunSpec};

use crate::ledger::{Ledger, Share};
use crate::{Spawner, clock, link, probe, timeline};

/// The part of the specification that workloads may look at.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Seed of every random choice; see [`crate::Random::new`].
    pub seed: u64,
    /// Factor on the length of phases.
    pub scale: f64,
    /// What is written into blocks, and how often calls are timed.
    pub share: Share,
}

impl From<&RunSpec> for Settings {
    fn from(spec: &RunSpec) -> Settings {
        let share = Share { touch: spec.driver.touch, latency_every: spec.driver.latency_every };
        Settings { seed: spec.seed, scale: spec.driver.scale, share }
    }
}

/// The run, from the main thread.
#[derive(Debug)]
pub struct Context {
    settings: Settings,
    spawner: Spawner,
    ledger: Ledger,
    pub(crate) probe: probe::Probe,
    pub(crate) work_ns: u64,
    pub(crate) facts: BTreeMap<String, f64>,
}

impl Context {
    pub(crate) fn new(settings: Settings, probe: probe::Probe) -> Context {
        let spawner = Spawner::new(settings.share);
        let ledger = spawner.main_ledger();
        Context { settings, spawner, ledger, probe, work_ns: 0, facts: BTreeMap::new() }
    }

    /// Seed, scale, touch policy.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Starts threads.
    pub fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// The main thread's own books.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// The family of the allocator in place: for facts that only one of them can be asked for.
    pub fn allocator_kind(&self) -> AllocatorKind {
        self.probe.answer().kind
    }

    /// A further fact of the run, for its record.
    pub fn fact(&mut self, name: &str, value: f64) {
        self.facts.insert(name.to_owned(), value);
    }

    /// Asks the allocator in place to give back what it can, from this thread, and says how long that took. With `stall`
    /// another thread asks, while this one allocates and frees without a pause.
    pub fn purge(&self, stall: bool) -> Purge {
        if stall { self.probe.purge_with_stall(&self.spawner) } else { self.probe.purge() }
    }

    /// A phase: tells the parent, works, and waits at the barrier until the parent has seen enough. All threads must be
    /// quiet when `work` returns.
    pub fn phase<R>(&mut self, name: &str, work: impl FnOnce(&mut Context) -> R) -> R {
        let start_ns = clock::monotonic_ns();
        link::send(&Message::Phase { name: name.to_owned(), at_ns: start_ns });
        let result = work(self);
        let end_ns = clock::monotonic_ns();
        self.work_ns += end_ns - start_ns;
        link::send(&Message::Barrier { name: name.to_owned(), at_ns: end_ns });
        self.wait();
        result
    }

    /// Answers the parent's questions until it says `continue`.
    pub(crate) fn wait(&mut self) {
        loop {
            match timeline().at_rest(link::receive) {
                Command::Continue => return,
                Command::Stats => link::send(&Message::Stats(self.probe.stats())),
                Command::Purge { stall } => link::send(&Message::Purged(self.purge(stall))),
            }
        }
    }
}
