//! Carries a plan out: every run that is not done yet, in the plan's order, each kept the moment it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use fragbench_model::{
    AllocatorKind, Caution, Cell, Common, FailureKind, Plan, PlannedRun, RunRecord, RunStatus, Sample,
};

use super::agreement::Agreement;
use crate::results::ResultDir;
use crate::worker::WorkerBinary;
use crate::worker::{RunLimits, run_once};

/// A run during which other processes took more than this share of a core is repeated once, then marked.
const FOREIGN_CPU_LIMIT: f64 = 0.25;
/// The same for time stolen by the hypervisor, as a share of all CPU time.
const STEAL_LIMIT: f64 = 0.05;
/// At most this share of a plan's runs is repeated: on a machine that is never quiet the marks must do.
const REPEATS_SHARE: f64 = 0.1;

/// What the caller hears of.
pub enum Event<'a> {
    /// A run begins.
    Begins(&'a PlannedRun),
    /// It ended and was kept.
    Ended(&'a RunRecord),
    /// It was contaminated and will be repeated.
    Repeats(&'a RunRecord),
}

/// What carries out a single run.
pub trait Runner {
    /// Runs once. Every end is a record; its place in the plan is the caller's to fill in.
    fn run(&self, planned: &PlannedRun, cell: &Cell, seed: u64, interrupted: &AtomicBool) -> (RunRecord, Vec<Sample>);
}

/// Runs the worker.
pub struct WorkerRunner<'a> {
    /// The worker's program.
    pub binary: &'a WorkerBinary,
    /// What all runs have in common.
    pub common: &'a Common,
    /// Environment of each of the plan's cells, padded to equal size.
    pub environments: &'a [BTreeMap<String, String>],
    /// Limits.
    pub limits: RunLimits,
}

impl Runner for WorkerRunner<'_> {
    fn run(&self, planned: &PlannedRun, cell: &Cell, seed: u64, interrupted: &AtomicBool) -> (RunRecord, Vec<Sample>) {
        let Some(mut spec) = self.common.spec(&cell.workload, seed) else {
            unreachable!("a plan of workloads was made with a driver")
        };
        // The epilogue is about what an allocator gives back; the null allocator gives back nothing.
        spec.driver.epilogue &= cell.allocator.kind != AllocatorKind::Null;
        spec.driver.thp = cell.thp.unwrap_or(spec.driver.thp);
        run_once(self.binary, &cell.allocator, &self.environments[planned.cell], &spec, &self.limits, interrupted)
    }
}

/// Everything an execution needs.
pub struct Execution<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What carries out a run.
    pub runner: &'a dyn Runner,
    /// Set by the user's Ctrl-C.
    pub interrupted: &'a AtomicBool,
    /// Whether there is time for a run; the second says that it would begin a further block.
    pub in_time: &'a dyn Fn(&PlannedRun, bool) -> bool,
}

/// Carries out what `done` does not hold yet and returns all records. A failed run is a record and the rest goes
/// on; an interrupted one is not kept, so that `--resume` runs it.
///
/// # Errors
/// Only when the result directory cannot be written.
pub fn execute(
    execution: &Execution,
    results: &mut ResultDir,
    done: Vec<RunRecord>,
    mut hear: impl FnMut(Event),
) -> Result<Vec<RunRecord>> {
    let known: BTreeSet<u32> = done.iter().map(|record| record.run).collect();
    let mut agreement = Agreement::default();
    for record in &done {
        agreement.check(record);
    }
    let mut records = done;
    let mut repeats_left = (execution.plan.runs.len() as f64 * REPEATS_SHARE).ceil() as usize;
    let mut block = None;
    for planned in &execution.plan.runs {
        if known.contains(&planned.run) {
            continue;
        }
        let begins = block.is_some_and(|block| block != planned.repetition);
        if !(execution.in_time)(planned, begins) {
            break;
        }
        block = Some(planned.repetition);
        if execution.interrupted.load(Ordering::Acquire) {
            break;
        }
        hear(Event::Begins(planned));
        let cell = &execution.plan.cells[planned.cell];
        // One seed a repetition, the same for all allocators: their work can be compared call by call.
        let seed = execution.plan.seed.wrapping_add(u64::from(planned.repetition));
        let mut attempt = 1;
        let (mut record, samples) = loop {
            let (mut record, samples) = execution.runner.run(planned, cell, seed, execution.interrupted);
            record.run = planned.run;
            record.repetition = planned.repetition;
            record.aa = cell.aa;
            record.attempt = attempt;
            let contamination = contamination(&record);
            let again = record.is_ok() && !contamination.is_empty() && attempt == 1 && repeats_left > 0;
            if again && (execution.in_time)(planned, false) {
                repeats_left -= 1;
                attempt += 1;
                hear(Event::Repeats(&record));
                continue;
            }
            record.cautions.extend(contamination);
            break (record, samples);
        };
        if matches!(&record.status, RunStatus::Failed(f) if f.kind == FailureKind::Interrupted) {
            break;
        }
        record
            .cautions
            .extend(cell.allocator.notes.iter().map(|note| Caution { kind: "setting".into(), text: note.clone() }));
        if let Some(failure) = agreement.check(&record) {
            record.status = RunStatus::Failed(failure);
        }
        results.append(&mut record, &samples)?;
        hear(Event::Ended(&record));
        records.push(record);
    }
    Ok(records)
}

fn contamination(record: &RunRecord) -> Vec<Caution> {
    let mut cautions = Vec::new();
    if let Some(foreign) = record.load.foreign_cpu_ratio.filter(|&r| r > FOREIGN_CPU_LIMIT) {
        cautions.push(Caution {
            kind: "foreign_cpu".into(),
            text: format!(
                "other processes used {:.0} % of a core during the run; repeat on a quiet machine",
                foreign * 100.0
            ),
        });
    }
    if let Some(steal) = record.load.steal_ratio.filter(|&r| r > STEAL_LIMIT) {
        cautions.push(Caution {
            kind: "steal".into(),
            text: format!(
                "the hypervisor took {:.0} % of the CPU time during the run; its times are not to be trusted",
                steal * 100.0
            ),
        });
    }
    cautions
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_model::{MachineLoad, SCHEMA};

    fn record() -> RunRecord {
        RunRecord {
            schema: SCHEMA,
            run: 0,
            workload: "w".into(),
            allocator: "glibc".into(),
            settings: Default::default(),
            repetition: 0,
            aa: false,
            status: RunStatus::Ok,
            started_unix_s: 0,
            attempt: 1,
            environment: Default::default(),
            proof: None,
            libc: None,
            processes: Vec::new(),
            metrics: Default::default(),
            phases: vec![],
            done: None,
            load: MachineLoad::default(),
            sampler_cpu_ratio: None,
            samples: None,
            cautions: vec![],
        }
    }

    #[test]
    fn a_busy_machine_is_marked_and_an_unknown_one_is_not() {
        let mut run = record();
        assert!(contamination(&run).is_empty());
        run.load = MachineLoad { steal_ratio: Some(0.2), foreign_cpu_ratio: Some(0.8), cpu_hz: None };
        let kinds: Vec<String> = contamination(&run).into_iter().map(|c| c.kind).collect();
        assert_eq!(kinds, ["foreign_cpu", "steal"]);
    }
}
