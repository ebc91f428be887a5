//! A search for settings, as a schedule: rung by rung, block by block, until the time is over. What gets more runs is decided
//! by [`fragbench_decide::Halving`]; here the plan grows.
//!
//! The time is a hard limit: the baseline is run once beforehand, uncounted, to know how many candidates the first rung can
//! afford, and no run is begun that is not expected to end in time. Only a last run that takes longer than any of its kind
//! before goes beyond it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use fragbench_decide::{BASELINE, Halving, MIN_BLOCKS, costs, joined, ranked};
use fragbench_model::{Allocator, Cell, Manifest, Plan, PlannedRun, RunRecord, SearchState, Settings, WorkloadSpec};

use super::{Order, Runner, Schedule};
use crate::plan::add_block_of;

/// Index of the baseline in the plan's cells; its copy follows it.
const BASE: usize = 0;
const COPY: usize = 1;
/// Blocks of the last rung after which more would change nothing.
const ENOUGH_BLOCKS: u32 = 40;

/// What describes glibc with settings that were joined; `None` where they cannot be.
pub type Resolve<'a> = dyn Fn(&Settings) -> Option<Allocator> + 'a;

/// A search under way.
pub struct Search<'a> {
    /// Metric of memory.
    memory: &'a str,
    resolve: &'a Resolve<'a>,
    halving: Halving,
    clock: Clock,
    /// Seconds that earlier sittings took.
    spent_before: f64,
    rung: Rung,
}

/// A rung under way.
struct Rung {
    began: Instant,
    /// Seconds it may take.
    share: f64,
    blocks: u32,
    block_began: Instant,
}

/// The time there is, and how long runs take.
struct Clock {
    began: Instant,
    until: Instant,
    /// The longest run of each cell, seconds.
    longest: BTreeMap<usize, f64>,
}

impl Clock {
    fn left(&self) -> f64 {
        self.until.saturating_duration_since(Instant::now()).as_secs_f64()
    }

    fn took(&mut self, cell: usize, time: Duration) {
        let of_cell = self.longest.entry(cell).or_default();
        *of_cell = of_cell.max(time.as_secs_f64());
    }

    /// Whether a run of the cell is expected to end in time: it takes as long as the longest of it, a cell that was not run as
    /// long as the longest of all.
    fn suffices(&self, cell: usize) -> bool {
        let expected = self.longest.get(&cell).copied().or_else(|| self.longest.values().copied().reduce(f64::max));
        expected.unwrap_or_default() < self.left()
    }
}

/// What a time suffices for, told before it is spent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Seconds a run takes.
    pub run_s: f64,
    /// Candidates that there are.
    pub candidates: usize,
    /// Candidates that the first rung can afford; all where there is time.
    pub affordable: usize,
    /// Seconds that would do to try every candidate and to run the last ones often enough to exclude chance.
    pub enough_s: f64,
}

impl<'a> Search<'a> {
    /// The cells a search begins with: the baseline, its copy, the candidates.
    pub fn first_plan(workload: &WorkloadSpec, baseline: Allocator, candidates: Vec<Allocator>, seed: u64) -> Plan {
        let cell = |allocator, aa| Cell { aa, ..Cell::new(workload.clone(), allocator) };
        let mut cells = vec![cell(baseline.clone(), false), cell(baseline, true)];
        cells.extend(candidates.into_iter().map(|allocator| cell(allocator, false)));
        Plan { seed, cells, runs: Vec::new() }
    }

    /// The candidates among a plan's cells.
    pub fn candidates(plan: &Plan) -> std::ops::Range<usize> {
        COPY + 1..plan.cells.len()
    }

    /// A search for less of this metric, within `max_time` from now; it goes on where the manifest says that it was
    /// interrupted, with the time that is left of it.
    pub fn new(manifest: &Manifest, memory: &'a str, max_time: Duration, resolve: &'a Resolve<'a>) -> Self {
        let state = manifest.search.clone();
        let spent_before = state.as_ref().map_or(0.0, |state| state.spent_s);
        let now = Instant::now();
        let left = Duration::from_secs_f64((max_time.as_secs_f64() - spent_before).max(0.0));
        let halving = match state {
            Some(SearchState { rung, live, .. }) => Halving::resume(rung, live),
            None => Halving::new(Self::candidates(&manifest.plan)),
        };
        let clock = Clock { began: now, until: now + left, longest: BTreeMap::new() };
        let rung = Rung { began: now, share: halving.share(clock.left()), blocks: 0, block_began: now };
        Self { memory, resolve, halving, clock, spent_before, rung }
    }

    /// Runs the baseline once without keeping anything, and plans the first block of what the time suffices for. Gives what
    /// that is.
    pub fn pilot(&mut self, manifest: &mut Manifest, runner: &mut dyn Runner, interrupted: &AtomicBool) -> Outlook {
        runner.prepare(&manifest.plan.cells);
        let begun = Instant::now();
        let cell = &manifest.plan.cells[BASE];
        let order = Order { index: BASE, cell, seed: manifest.plan.seed, repetition: 0 };
        runner.run(&order, interrupted);
        self.clock.took(BASE, begun.elapsed());
        let run_s = begun.elapsed().as_secs_f64().max(1e-3);
        let candidates = Self::candidates(&manifest.plan).len();
        let (mut affordable, left) = (candidates, self.clock.left());
        if manifest.search.is_none() {
            affordable = ((self.halving.share(left) / run_s) as usize).saturating_sub(COPY + 1).min(candidates);
            self.halving.limit(affordable, &families(&manifest.plan));
        }
        if manifest.plan.runs.is_empty() {
            self.add_block(manifest);
        }
        let now = Instant::now();
        self.rung = Rung { began: now, share: self.halving.share(self.clock.left()), blocks: 0, block_began: now };
        let enough_s = run_s * f64::from(Halving::runs(candidates as u32, COPY as u32 + 1, MIN_BLOCKS));
        Outlook { run_s, candidates, affordable, enough_s }
    }

    /// Rung that is run, from 0, and the settings that are alive in it.
    pub fn progress(&self) -> (u32, usize) {
        (self.halving.rung(), self.halving.live().len())
    }

    /// Those still alive that were run at all.
    pub fn finalists(&self, manifest: &Manifest, records: &[RunRecord]) -> Vec<usize> {
        finalists(&manifest.plan, records, self.halving.live())
    }

    /// Notes in the manifest how far it has come.
    pub fn keep(&self, manifest: &mut Manifest) {
        manifest.search = Some(SearchState {
            rung: self.halving.rung(),
            live: self.halving.live().to_vec(),
            spent_s: self.spent_before + self.clock.began.elapsed().as_secs_f64(),
        });
    }

    fn add_block(&mut self, manifest: &mut Manifest) {
        let cells: Vec<usize> = [BASE, COPY].iter().chain(self.halving.live()).copied().collect();
        add_block_of(&mut manifest.plan, &cells);
        self.rung.block_began = Instant::now();
        self.keep(manifest);
    }

    /// Drops the worse, and after the first rung joins what did well alone.
    fn advance(&mut self, manifest: &mut Manifest, records: &[RunRecord]) {
        let (costs, tolerance) = costs(&manifest.plan, records, self.memory, manifest.relevant);
        let order = ranked(self.halving.live(), &costs, &tolerance);
        self.halving.next(&costs, &families(&manifest.plan), &tolerance);
        let now = Instant::now();
        self.rung = Rung { began: now, share: self.halving.share(self.clock.left()), blocks: 0, block_began: now };
        if self.halving.is_last() {
            // As many finalists as the time suffices to judge.
            let of = |cell: usize| {
                let runs = manifest.plan.runs.iter().filter(|run| run.cell == cell);
                runs.filter(|run| records.iter().any(|r| r.run == run.run && r.is_ok())).count() as u32
            };
            let blocks = self.halving.live().iter().map(|cell| of(*cell)).min().unwrap_or(0);
            let run_s = self.clock.began.elapsed().as_secs_f64() / records.len().max(1) as f64;
            self.halving.narrow((self.clock.left() / run_s) as usize, blocks, &costs, &tolerance);
        }
        if self.halving.rung() > 1 {
            return;
        }
        let cells = &manifest.plan.cells;
        let glibc = |i: &&usize| cells[**i].allocator.name == BASELINE;
        let best: Vec<&Settings> = order.iter().filter(glibc).map(|&i| &cells[i].allocator.settings).collect();
        let known: Vec<Settings> = cells.iter().map(|c| c.allocator.settings.clone()).collect();
        let workload = cells[BASE].workload.clone();
        for allocator in joined(&best, &known).iter().filter_map(self.resolve) {
            self.halving.enter(manifest.plan.cells.len());
            manifest.plan.cells.push(Cell::new(workload.clone(), allocator));
        }
    }
}

impl Schedule for Search<'_> {
    fn admits(&mut self, planned: &PlannedRun, _begins: bool) -> bool {
        self.clock.suffices(planned.cell)
    }

    fn took(&mut self, cell: usize, time: Duration) {
        self.clock.took(cell, time);
    }

    /// Another block of the rung where it would end in time, else the next rung's first.
    fn extend(&mut self, manifest: &mut Manifest, records: &[RunRecord], whole: bool) -> bool {
        self.rung.blocks += 1;
        let took = self.rung.block_began.elapsed().as_secs_f64();
        let fits = self.rung.began.elapsed().as_secs_f64() + took <= self.rung.share;
        let another = whole && fits && self.rung.blocks < ENOUGH_BLOCKS;
        if !another {
            if !whole || self.halving.is_last() {
                self.keep(manifest);
                return false;
            }
            self.advance(manifest, records);
        }
        self.add_block(manifest);
        true
    }
}

/// Cells of these that were run at all.
pub fn finalists(plan: &Plan, records: &[RunRecord], cells: &[usize]) -> Vec<usize> {
    let was_run = |cell| plan.runs.iter().any(|r| r.cell == cell && records.iter().any(|record| record.run == r.run));
    cells.iter().copied().filter(|cell| was_run(*cell)).collect()
}

/// The family of each cell, of which the best is kept.
fn families(plan: &Plan) -> Vec<usize> {
    plan.cells.iter().map(|cell| cell.allocator.kind as usize).collect()
}
