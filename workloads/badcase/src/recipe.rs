//! What recipes are written with: phases, scaled amounts, filling and freeing in a stated order, and the action that a
//! remedy asks the recipe itself to carry out.

use std::any::Any;
use std::collections::BTreeMap;

use fragbench_engine::{Block, Context, Ledger, Parameters, Random, Request, Spawner, Workload, heap};
use fragbench_model::{ACTION_PARAMETER, AllocatorKind, CaseFact, Parameter, Purge, WorkerError, WorkloadFact};

use crate::Case;

/// Size of the block that makes an arena consolidate: above `FASTBIN_CONSOLIDATION_THRESHOLD` (64 KiB), so that its
/// free consolidates and may trim, and below the mmap threshold (malloc.c, `_int_free`).
pub(crate) const KICK: usize = 70_000;

/// A case under way.
#[derive(Debug)]
pub struct Recipe<'a> {
    ctx: &'a mut Context,
    action: &'a str,
    kept: &'a mut Vec<Box<dyn Any>>,
}

impl Recipe<'_> {
    /// A phase: works, then waits at the barrier while the parent looks. All threads are quiet when `work` returns.
    pub(crate) fn phase<R>(&mut self, name: &str, work: impl FnOnce(&mut Recipe<'_>) -> R) -> R {
        let Recipe { ctx, action, kept } = self;
        ctx.phase(name, |ctx| work(&mut Recipe { ctx, action, kept }))
    }

    /// Keeps threads alive, quiet, until the heap has been purged.
    pub(crate) fn keep(&mut self, threads: impl Any) {
        self.kept.push(Box::new(threads));
    }

    /// Bytes by the scale of the run; `full` at scale 1.
    pub(crate) fn scaled(&self, full: usize) -> usize {
        ((full as f64 * self.ctx.settings().scale) as usize).max(1)
    }

    /// Asks the allocator in place to give memory back, within a phase, timed. With `stall` another thread asks while this
    /// one allocates and frees without a pause.
    pub(crate) fn purge(&self, stall: bool) -> Purge {
        self.ctx.purge(stall)
    }

    /// The recipe's random choices: the same under every allocator.
    pub(crate) fn random(&self) -> Random {
        Random::new(self.ctx.settings().seed, 0)
    }

    /// Whether the recipe is asked to carry out this action.
    pub(crate) fn asked_to(&self, action: &str) -> bool {
        self.action == action
    }

    /// Whether glibc's own malloc is in place, whose structures may be looked at.
    pub(crate) fn on_glibc(&self) -> bool {
        self.ctx.allocator_kind() == AllocatorKind::Glibc
    }

    /// The main thread's books.
    pub(crate) fn ledger(&mut self) -> &mut Ledger {
        self.ctx.ledger()
    }

    /// Starts threads.
    pub(crate) fn spawner(&self) -> &Spawner {
        self.ctx.spawner()
    }

    /// A figure that the recipe measured itself; it must stand in the case's table of figures.
    pub(crate) fn figure(&mut self, name: &str, value: f64) {
        self.ctx.fact(name, value);
    }
}

/// Allocates blocks of `size` until they hold `bytes` together; in order of allocation.
pub(crate) fn fill(ledger: &mut Ledger, bytes: usize, size: usize) -> Vec<Block> {
    (0..bytes / size).map(|_| block(ledger, size)).collect()
}

/// Allocates one block of `size`.
pub(crate) fn block(ledger: &mut Ledger, size: usize) -> Block {
    let id = ledger.next_id();
    ledger.malloc(id, size)
}

/// Frees in the order given: for a heap filled from fresh memory that is ascending by address.
pub(crate) fn free_all(ledger: &mut Ledger, blocks: impl IntoIterator<Item = Block>) {
    blocks.into_iter().for_each(|block| ledger.free(block));
}

/// Fills with blocks of `size` that hold `bytes` together and frees every other one; those that stay, in ascending order of
/// address as far as the heap was fresh.
pub(crate) fn holed(ledger: &mut Ledger, bytes: usize, size: usize) -> Vec<Block> {
    let (kept, freed): (Vec<_>, Vec<_>) =
        fill(ledger, bytes, size).into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
    free_all(ledger, freed.into_iter().map(|(_, block)| block));
    kept.into_iter().map(|(_, block)| block).collect()
}

/// The middle of an odd number of values.
pub(crate) fn median(values: impl IntoIterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.into_iter().collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// Has the calling thread's arena serve and free one block of [`KICK`] bytes.
pub(crate) fn kick() {
    heap::pair(KICK);
}

/// A case as a workload of the worker.
struct Work {
    run: fn(&mut Recipe<'_>),
    action: String,
    adaptive: bool,
    /// Lives as long as the process needs it.
    kept: Vec<Box<dyn Any>>,
}

impl Workload for Work {
    /// The recipes say themselves how many.
    fn threads(&self) -> u32 {
        1
    }

    fn run(&mut self, ctx: &mut Context) {
        (self.run)(&mut Recipe { ctx, action: &self.action, kept: &mut self.kept });
    }

    fn adaptive(&self) -> bool {
        self.adaptive
    }

    /// A recipe is done when it has run.
    fn resumes(&self) -> bool {
        false
    }

    fn resume(&mut self, _ctx: &mut Context) {}
}

fn parameters() -> Vec<Parameter> {
    vec![Parameter {
        name: ACTION_PARAMETER.to_owned(),
        aliases: Vec::new(),
        default: "none".to_owned(),
        range: String::new(),
        meaning: "what the recipe itself does against the case".to_owned(),
    }]
}

/// Checks the request and prepares the recipe.
pub(crate) fn build(case: &Case, request: &Request) -> Result<Box<dyn Workload>, WorkerError> {
    let CaseFact { actions, adaptive, .. } = (case.fact)();
    let choices: Vec<(&str, &str)> =
        std::iter::once("none").chain(actions.iter().map(String::as_str)).map(|name| (name, name)).collect();
    let action = Parameters::new(&parameters(), &request.parameters)?.choice(ACTION_PARAMETER, &choices)?.to_owned();
    Ok(Box::new(Work { run: case.run, action, adaptive, kept: Vec::new() }))
}

pub(crate) fn workload_fact(fact: &CaseFact) -> WorkloadFact {
    let parameters = if fact.actions.is_empty() { Vec::new() } else { parameters() };
    WorkloadFact { name: fact.workload(), summary: fact.summary.clone(), fidelity: "bad case".to_owned(), parameters }
}

/// Strings of a case's fact sheet.
pub(crate) fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

/// Settings of a case's fact sheet.
pub(crate) fn settings<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}
