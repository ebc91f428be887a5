//! A search for settings, carried out: rung by rung, block by block, until the time is over. What gets more runs is
//! decided by [`fragbench_decide::Halving`]; here the plan grows and is run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use fragbench_decide::{BASELINE, Halving, costs, joined, ranked};
use fragbench_model::{Allocator, AllocatorKind, Cell, Manifest, Plan, RunRecord, RunStatus, Settings, WorkloadSpec};
use fragbench_run::{Event, Execution, ResultDir, RunLimits, Runner, WorkerBinary, WorkerRunner};
use indicatif::ProgressBar;

/// Index of the baseline in the plan's cells; its copy follows it.
const BASE: usize = 0;
const COPY: usize = 1;
/// Blocks of the last rung after which more would change nothing.
const ENOUGH_BLOCKS: u32 = 40;

/// The cells a search begins with: the baseline, its copy, the candidates.
pub(crate) fn first_plan(workload: &WorkloadSpec, baseline: Allocator, candidates: Vec<Allocator>, seed: u64) -> Plan {
    let cell = |allocator, aa| Cell { workload: workload.clone(), allocator, aa };
    let mut cells = vec![cell(baseline.clone(), false), cell(baseline, true)];
    cells.extend(candidates.into_iter().map(|allocator| cell(allocator, false)));
    Plan { seed, cells, runs: Vec::new() }
}

/// What runs the cells of a plan that grows: made anew for each block.
pub(crate) trait Runners {
    /// Calls `go` with what runs this manifest's cells.
    ///
    /// # Errors
    /// What `go` says, or that nothing can run them.
    fn with(&self, manifest: &Manifest, go: &mut dyn FnMut(&dyn Runner) -> Result<()>) -> Result<()>;
}

/// The worker.
pub(crate) struct Workers<'a> {
    pub(crate) worker: &'a WorkerBinary,
    pub(crate) limits: RunLimits,
}

impl Runners for Workers<'_> {
    fn with(&self, manifest: &Manifest, go: &mut dyn FnMut(&dyn Runner) -> Result<()>) -> Result<()> {
        let environments = fragbench_run::environments(&manifest.plan.cells, self.worker);
        let (common, limits) = (&manifest.common, self.limits);
        go(&WorkerRunner { binary: self.worker, common, environments: &environments, limits })
    }
}

/// Everything a search needs.
pub(crate) struct Search<'a> {
    pub(crate) runners: &'a dyn Runners,
    pub(crate) interrupted: &'a AtomicBool,
    /// Metric of memory.
    pub(crate) memory: &'a str,
    /// Time for all.
    pub(crate) max_time: Duration,
    /// Describes glibc with settings that were joined; `None` where they cannot be.
    pub(crate) resolve: &'a dyn Fn(&Settings) -> Option<Allocator>,
    pub(crate) bar: &'a ProgressBar,
}

/// What a search came to.
pub(crate) struct Found {
    pub(crate) records: Vec<RunRecord>,
    /// Cells that were measured to the end.
    pub(crate) finalists: Vec<usize>,
    /// Whether it was stopped before that.
    pub(crate) partial: bool,
}

impl Search<'_> {
    /// Runs the search; the manifest's plan grows with it.
    ///
    /// # Errors
    /// When the result directory cannot be written.
    pub(crate) fn go(&self, manifest: &mut Manifest, results: &mut ResultDir) -> Result<Found> {
        let begun = Instant::now();
        let left = || self.max_time.saturating_sub(begun.elapsed()).as_secs_f64();
        let mut halving = Halving::new(COPY + 1..manifest.plan.cells.len());
        let mut records = Vec::new();
        loop {
            let share = halving.share(left());
            let rung = Instant::now();
            let mut blocks = 0;
            loop {
                let block = Instant::now();
                records = self.block(&halving, manifest, results, records)?;
                if self.interrupted.load(Ordering::Acquire) {
                    return Ok(Found { records, finalists: halving.live().to_vec(), partial: true });
                }
                blocks += 1;
                // Another block is begun only where it would end in time.
                let took = block.elapsed().as_secs_f64();
                if rung.elapsed().as_secs_f64() + took > share || blocks >= ENOUGH_BLOCKS {
                    break;
                }
            }
            if halving.is_last() {
                return Ok(Found { records, finalists: halving.live().to_vec(), partial: false });
            }
            self.advance(&mut halving, manifest, &records);
        }
    }

    /// One block: the baseline, its copy and every candidate still alive, in shuffled order.
    fn block(
        &self,
        halving: &Halving,
        manifest: &mut Manifest,
        results: &mut ResultDir,
        records: Vec<RunRecord>,
    ) -> Result<Vec<RunRecord>> {
        let cells: Vec<usize> = [BASE, COPY].iter().chain(halving.live()).copied().collect();
        let runs = fragbench_run::add_rung_block(&mut manifest.plan, &cells);
        results.write_manifest(manifest)?;
        let block = Plan { runs, ..manifest.plan.clone() };
        let hear = |event: Event| match event {
            Event::Begins(planned) => {
                let label = block.cells[planned.cell].allocator.label();
                self.bar.set_message(format!("rung {}, {} settings: {label}", halving.rung() + 1, cells.len() - 1));
            }
            Event::Repeats(_) => {}
            Event::Ended(record) => {
                if let RunStatus::Failed(failure) = &record.status {
                    let label = fragbench_model::label(&record.allocator, &record.settings);
                    self.bar.println(format!("{label} failed: {}", failure.reason));
                }
                self.bar.tick();
            }
        };
        let mut records = records;
        self.runners.with(manifest, &mut |runner| {
            let execution = Execution { plan: &block, runner, interrupted: self.interrupted, deadline: None };
            records = fragbench_run::execute(&execution, results, std::mem::take(&mut records), hear)?;
            Ok(())
        })?;
        Ok(records)
    }

    /// Drops the worse, and after the first rung joins what did well alone.
    fn advance(&self, halving: &mut Halving, manifest: &mut Manifest, records: &[RunRecord]) {
        let (costs, tolerance) = costs(&manifest.plan, records, self.memory, manifest.relevant);
        let kinds: Vec<usize> = manifest.plan.cells.iter().map(|c| family(c.allocator.kind)).collect();
        let order = ranked(halving.live(), &costs, &tolerance);
        halving.next(&costs, &kinds, &tolerance);
        if halving.rung() > 1 {
            return;
        }
        let cells = &manifest.plan.cells;
        let glibc = |i: &&usize| cells[**i].allocator.name == BASELINE;
        let best: Vec<&Settings> = order.iter().filter(glibc).map(|&i| &cells[i].allocator.settings).collect();
        let known: Vec<Settings> = cells.iter().map(|c| c.allocator.settings.clone()).collect();
        let workload = cells[BASE].workload.clone();
        for allocator in joined(&best, &known).iter().filter_map(self.resolve) {
            halving.enter(manifest.plan.cells.len());
            manifest.plan.cells.push(Cell { workload: workload.clone(), allocator, aa: false });
        }
    }
}

/// Families of which the best is kept.
fn family(kind: AllocatorKind) -> usize {
    kind as usize
}
