//! What a workload is to the worker: a fact sheet, a way to build it from a request, and its work.

use std::collections::BTreeMap;

use fragbench_model::{WorkerError, WorkloadFact};

use crate::Context;

/// What was asked of a named workload.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Parameters that differ from their defaults, as text; see [`crate::Parameters`].
    pub parameters: BTreeMap<String, String>,
    /// Number of threads; `None` asks for the workload's own default.
    pub threads: Option<u32>,
}

/// The work of one run. Built once, run once.
pub trait Workload {
    /// Threads at work at one time at the most.
    fn threads(&self) -> u32;

    /// The work, as a sequence of [`Context::phase`]s. Threads may stay alive, quiet, after it.
    fn run(&mut self, ctx: &mut Context);

    /// Whether what it does depends on what the allocator answers: see [`fragbench_model::Done::adaptive`].
    fn adaptive(&self) -> bool {
        false
    }

    /// Whether there is work to go on with after the purge; without it the run ends there.
    fn resumes(&self) -> bool {
        true
    }

    /// A bounded repeat of the work, after memory was given back to the system: what faults now is the price.
    fn resume(&mut self, ctx: &mut Context);
}

/// A line of a table of workloads.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// What it says of itself.
    pub fact: fn() -> WorkloadFact,
    /// Checks the request and prepares the work; nothing is allocated from the heap under test yet.
    pub build: fn(&Request) -> Result<Box<dyn Workload>, WorkerError>,
}
