//! What runs a plan's commands.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use fragbench_model::{Cell, FailureKind, RunRecord, Sample};

use super::{CommandRun, command_environments, fits, session};
use crate::campaign::{Order, Runner};
use crate::program::Program;
use crate::session::{Abort, RunLimits, Session};

/// Runs commands of the user's.
pub struct CommandRunner<'a> {
    programs: &'a BTreeMap<String, Program>,
    environments: Vec<BTreeMap<String, String>>,
    idle_ms: u64,
    limits: RunLimits,
}

impl<'a> CommandRunner<'a> {
    /// Runs commands whose programs were looked at, by the commands' names.
    pub fn new(programs: &'a BTreeMap<String, Program>, idle_ms: u64, limits: RunLimits) -> Self {
        Self { programs, environments: Vec::new(), idle_ms, limits }
    }

    /// Runs every cell so often without keeping anything; `failed` hears of those that fail.
    pub fn warm_up(
        &mut self,
        cells: &[Cell],
        times: u32,
        interrupted: &AtomicBool,
        mut failed: impl FnMut(&Cell, &RunRecord),
    ) {
        self.prepare(cells);
        for _ in 0..times {
            for (index, cell) in cells.iter().enumerate().filter(|(_, cell)| !cell.aa) {
                let (record, _) = self.run(&Order { index, cell, seed: 0, repetition: 0 }, interrupted);
                if !record.is_ok() {
                    failed(cell, &record);
                }
            }
        }
    }
}

impl Runner for CommandRunner<'_> {
    fn prepare(&mut self, cells: &[Cell]) {
        if self.environments.len() != cells.len() {
            self.environments = command_environments(cells, self.programs);
        }
    }

    fn run(&mut self, order: &Order, interrupted: &AtomicBool) -> (RunRecord, Vec<Sample>) {
        let cell = order.cell;
        let name = cell.workload.name();
        // Of the environment the record keeps what is the allocator's, with what stands behind it of the caller's.
        let environment = &self.environments[order.index];
        let own: BTreeMap<String, String> = fragbench_allocators::variables(&cell.allocator)
            .into_keys()
            .filter_map(|name| environment.get_key_value(&name).map(|(name, value)| (name.clone(), value.clone())))
            .collect();
        let session = Session::begin(name.clone(), &cell.allocator, own.clone(), &self.limits, interrupted);
        let (Some(command), Some(program)) = (cell.workload.command(), self.programs.get(&name)) else {
            let why = "the plan is of the worker's workloads: they are no commands";
            return session.end(Err(Abort::new(FailureKind::Refused, why)), Vec::new());
        };
        if let Some(why) = fits::refusal(program, &cell.allocator) {
            return session.end(Err(Abort::new(FailureKind::Refused, why)), Vec::new());
        }
        let run = CommandRun {
            command,
            program,
            allocator: &cell.allocator,
            environment,
            variables: &own,
            idle_ms: self.idle_ms,
        };
        session::run(&run, session)
    }
}
