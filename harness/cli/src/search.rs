//! A search for settings, carried out: rung by rung, block by block, until the time is over. What gets more runs is
//! decided by [`fragbench_decide::Halving`]; here the plan grows and is run.
//!
//! The time is a hard limit: the baseline is run once beforehand, uncounted, to know how many candidates the first rung can
//! afford, and no run is begun that is not expected to end in time. Only a last run that takes longer than any of its kind
//! before goes beyond it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use fragbench_decide::{BASELINE, Halving, costs, joined, ranked};
use fragbench_model::{Allocator, Cell, Manifest, Plan, PlannedRun, RunRecord, RunStatus, Settings, WorkloadSpec};
use fragbench_run::{Event, Execution, ResultDir, RunLimits, Runner, WorkerBinary, WorkerRunner};
use indicatif::ProgressBar;

/// Index of the baseline in the plan's cells; its copy follows it.
const BASE: usize = 0;
const COPY: usize = 1;
/// Blocks of the last rung after which more would change nothing.
const ENOUGH_BLOCKS: u32 = 40;

/// The cells a search begins with: the baseline, its copy, the candidates.
pub(crate) fn first_plan(workload: &WorkloadSpec, baseline: Allocator, candidates: Vec<Allocator>, seed: u64) -> Plan {
    let cell = |allocator, aa| Cell { aa, ..Cell::new(workload.clone(), allocator) };
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
    /// Whether the user stopped it before that.
    pub(crate) partial: bool,
}

/// The time there is, and how long runs take.
struct Clock {
    until: Instant,
    /// The longest run of each cell, seconds.
    longest: RefCell<BTreeMap<usize, f64>>,
}

impl Clock {
    fn left(&self) -> f64 {
        self.until.saturating_duration_since(Instant::now()).as_secs_f64()
    }

    fn took(&self, cell: usize, since: Instant) {
        let mut longest = self.longest.borrow_mut();
        let of_cell = longest.entry(cell).or_default();
        *of_cell = of_cell.max(since.elapsed().as_secs_f64());
    }

    /// Whether a run of the cell is expected to end in time: it takes as long as the longest of it, a cell that was not run as
    /// long as the longest of all.
    fn suffices(&self, cell: usize) -> bool {
        let longest = self.longest.borrow();
        let expected = longest.get(&cell).copied().or_else(|| longest.values().copied().reduce(f64::max));
        expected.unwrap_or_default() < self.left()
    }
}

impl Search<'_> {
    /// Runs the search; the manifest's plan grows with it.
    ///
    /// # Errors
    /// When the result directory cannot be written.
    pub(crate) fn go(&self, manifest: &mut Manifest, results: &mut ResultDir) -> Result<Found> {
        let clock = Clock { until: Instant::now() + self.max_time, longest: RefCell::default() };
        let mut halving = Halving::new(COPY + 1..manifest.plan.cells.len());
        let mut records = Vec::new();
        let pilot = self.pilot(manifest, &clock)?;
        let affordable = (halving.share(clock.left()) / pilot) as usize;
        halving.limit(affordable.saturating_sub(COPY + 1), &families(&manifest.plan));
        let mut in_time = clock.suffices(BASE);
        while in_time {
            let share = halving.share(clock.left());
            let rung = Instant::now();
            let mut blocks = 0;
            loop {
                let block = Instant::now();
                (records, in_time) = self.block(&halving, manifest, results, records, &clock)?;
                if self.interrupted.load(Ordering::Acquire) {
                    return Ok(found(records, &halving, manifest, true));
                }
                blocks += 1;
                // Another block is begun only where it would end in time.
                let took = block.elapsed().as_secs_f64();
                if !in_time || rung.elapsed().as_secs_f64() + took > share || blocks >= ENOUGH_BLOCKS {
                    break;
                }
            }
            if halving.is_last() || !in_time {
                break;
            }
            self.advance(&mut halving, manifest, &records);
        }
        Ok(found(records, &halving, manifest, false))
    }

    /// Runs the baseline once without keeping anything; how long it took, seconds.
    fn pilot(&self, manifest: &Manifest, clock: &Clock) -> Result<f64> {
        let cell = &manifest.plan.cells[BASE];
        self.bar.set_message(format!("how long a run takes: {}", cell.allocator.label()));
        let begun = Instant::now();
        let planned = PlannedRun { run: 0, cell: BASE, repetition: 0 };
        self.runners.with(manifest, &mut |runner| {
            runner.run(&planned, cell, manifest.plan.seed, self.interrupted);
            Ok(())
        })?;
        clock.took(BASE, begun);
        Ok(begun.elapsed().as_secs_f64())
    }

    /// One block: the baseline, its copy and every candidate still alive, in shuffled order. Whether the time sufficed for
    /// all of them; what it did not suffice for is taken out of the plan.
    fn block(
        &self,
        halving: &Halving,
        manifest: &mut Manifest,
        results: &mut ResultDir,
        records: Vec<RunRecord>,
        clock: &Clock,
    ) -> Result<(Vec<RunRecord>, bool)> {
        let cells: Vec<usize> = [BASE, COPY].iter().chain(halving.live()).copied().collect();
        let runs = fragbench_run::add_rung_block(&mut manifest.plan, &cells);
        results.write_manifest(manifest)?;
        let block = Plan { runs, ..manifest.plan.clone() };
        let mut begun = (BASE, Instant::now());
        let mut hear = |event: Event| match event {
            Event::Begins(planned) => {
                begun = (planned.cell, Instant::now());
                let label = block.cells[planned.cell].allocator.label();
                self.bar.set_message(format!("rung {}, {} settings: {label}", halving.rung() + 1, cells.len() - 1));
            }
            Event::Repeats(_) => {
                clock.took(begun.0, begun.1);
                begun.1 = Instant::now();
            }
            Event::Ended(record) => {
                clock.took(begun.0, begun.1);
                if let RunStatus::Failed(failure) = &record.status {
                    let label = fragbench_model::label(&record.allocator, &record.settings);
                    self.bar.println(format!("{label} failed: {}", failure.reason));
                }
                self.bar.tick();
            }
        };
        let before = records.len();
        let mut records = records;
        let in_time = |planned: &PlannedRun, _begins: bool| clock.suffices(planned.cell);
        self.runners.with(manifest, &mut |runner| {
            let execution = Execution { plan: &block, runner, interrupted: self.interrupted, in_time: &in_time };
            records = fragbench_run::execute(&execution, results, std::mem::take(&mut records), &mut hear)?;
            Ok(())
        })?;
        let whole = records.len() - before == block.runs.len();
        if !whole && !self.interrupted.load(Ordering::Acquire) {
            manifest.plan.runs.retain(|planned| records.iter().any(|record| record.run == planned.run));
            results.write_manifest(manifest)?;
        }
        Ok((records, whole))
    }

    /// Drops the worse, and after the first rung joins what did well alone.
    fn advance(&self, halving: &mut Halving, manifest: &mut Manifest, records: &[RunRecord]) {
        let (costs, tolerance) = costs(&manifest.plan, records, self.memory, manifest.relevant);
        let order = ranked(halving.live(), &costs, &tolerance);
        halving.next(&costs, &families(&manifest.plan), &tolerance);
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
            manifest.plan.cells.push(Cell::new(workload.clone(), allocator));
        }
    }
}

/// The family of each cell, of which the best is kept.
fn families(plan: &Plan) -> Vec<usize> {
    plan.cells.iter().map(|cell| cell.allocator.kind as usize).collect()
}

/// Those still alive that were run at all are the finalists.
fn found(records: Vec<RunRecord>, halving: &Halving, manifest: &Manifest, partial: bool) -> Found {
    let runs: &[PlannedRun] = &manifest.plan.runs;
    let was_run = |cell: usize| runs.iter().any(|r| r.cell == cell && records.iter().any(|record| record.run == r.run));
    let finalists = halving.live().iter().copied().filter(|cell| was_run(*cell)).collect();
    Found { records, finalists, partial }
}
