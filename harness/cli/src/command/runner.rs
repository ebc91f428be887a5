//! Runs of commands: what a plan's cells and a search's are carried out by.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use fragbench_model::{Cell, Manifest, PlannedRun, RunRecord, RunStatus, Sample};
use fragbench_run::{CommandRun, Program, RunLimits, Runner, run_command};

use crate::interrupt;
use crate::search::Runners;

/// What a search runs commands by.
pub(crate) struct Commands<'a> {
    pub(crate) programs: &'a BTreeMap<String, Program>,
    pub(crate) limits: RunLimits,
}

impl Runners for Commands<'_> {
    fn with(&self, manifest: &Manifest, go: &mut dyn FnMut(&dyn Runner) -> Result<()>) -> Result<()> {
        go(&CommandRunner::new(manifest, self.programs, self.limits))
    }
}

/// Runs a plan's commands.
pub(crate) struct CommandRunner<'a> {
    programs: &'a BTreeMap<String, Program>,
    environments: Vec<BTreeMap<String, String>>,
    idle_ms: u64,
    limits: RunLimits,
}

impl<'a> CommandRunner<'a> {
    /// Runs the cells of this manifest, whose programs were looked at.
    pub(crate) fn new(manifest: &Manifest, programs: &'a BTreeMap<String, Program>, limits: RunLimits) -> Self {
        let environments = fragbench_run::command_environments(&manifest.plan.cells, programs);
        Self { programs, environments, idle_ms: manifest.common.idle_ms, limits }
    }

    /// Runs every cell so often without keeping anything; a failure is told, not kept.
    pub(crate) fn warm_up(&self, cells: &[Cell], times: u32) -> Result<()> {
        let interrupted = interrupt::flag()?;
        for repetition in 0..times {
            for (cell, of) in cells.iter().enumerate().filter(|(_, of)| !of.aa) {
                let (record, _) = self.run(&PlannedRun { run: 0, cell, repetition }, of, 0, interrupted);
                if let RunStatus::Failed(failure) = record.status {
                    note!("warm-up of {} under {}: {}", record.workload, of.allocator.label(), failure.reason);
                }
            }
        }
        Ok(())
    }
}

impl Runner for CommandRunner<'_> {
    fn run(&self, planned: &PlannedRun, cell: &Cell, _seed: u64, interrupted: &AtomicBool) -> (RunRecord, Vec<Sample>) {
        let (Some(command), Some(program)) = (cell.workload.command(), self.programs.get(&cell.workload.name())) else {
            unreachable!("a plan of commands was checked when the runner was made")
        };
        let run = CommandRun {
            command,
            program,
            allocator: &cell.allocator,
            environment: &self.environments[planned.cell],
            idle_ms: self.idle_ms,
            limits: &self.limits,
        };
        run_command(&run, interrupted)
    }
}
