//! A search for settings, as a schedule: rung by rung, block by block, until the time is over. What gets more runs is decided
//! by [`fragbench_decide::Halving`]; here the plan grows.
//!
//! The time is a hard limit: the baseline is run once beforehand, uncounted, to know how many candidates the first rung can
//! afford, and no run is begun that is not expected to end in time. Only a last run that takes longer than any of its kind
//! before goes beyond it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use fragbench_allocators::{Mechanism, mechanism};
use fragbench_decide::{Halving, MIN_BLOCKS, costs, joined, ranked, without_one};
use fragbench_model::{Allocator, Cell, Manifest, Plan, PlannedRun, RunRecord, SearchState, Settings, WorkloadSpec};

use super::signature::suggested;
use super::{Order, Runner, Schedule};
use crate::plan::add_block_of;

/// Index of the baseline in the plan's cells; its copy follows it.
const BASE: usize = 0;
const COPY: usize = 1;
/// Blocks of the last rung after which more would change nothing.
const ENOUGH_BLOCKS: u32 = 40;

/// What describes an allocator by its name and settings that were joined or left out; `None` where it cannot be.
pub type Resolve<'a> = dyn Fn(&str, &Settings) -> Option<Allocator> + 'a;

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
        let rung = Rung { began: now, share: 0.0, blocks: 0, block_began: now };
        Self { memory, resolve, halving, clock, spent_before, rung }
    }

    /// Runs the baseline once without keeping anything, and plans the first block of what the time suffices for: the settings of
    /// what that run's end points to come first, and the thresholds are never those there is no time for. Gives what that is.
    pub fn pilot(&mut self, manifest: &mut Manifest, runner: &mut dyn Runner, interrupted: &AtomicBool) -> Outlook {
        runner.prepare(&manifest.plan.cells);
        let begun = Instant::now();
        let cell = &manifest.plan.cells[BASE];
        let order = Order { index: BASE, cell, seed: manifest.plan.seed, repetition: 0 };
        let (record, _) = runner.run(&order, interrupted);
        self.clock.took(BASE, begun.elapsed());
        let run_s = begun.elapsed().as_secs_f64().max(1e-3);
        let candidates = Self::candidates(&manifest.plan).len();
        let (mut affordable, left) = (candidates, self.clock.left());
        if manifest.search.is_none() {
            affordable = ((self.halving.share(left, run_s) / run_s) as usize).saturating_sub(COPY + 1).min(candidates);
            let order = preferred(&manifest.plan, &suggested(&record));
            let of_baseline = |cell: &&usize| mechanism_of(&manifest.plan, **cell) == Mechanism::Threshold;
            let first: Vec<usize> = order.iter().filter(of_baseline).copied().collect();
            self.halving.limit(affordable, &first, &order, &families(&manifest.plan));
        }
        if manifest.plan.runs.is_empty() {
            self.add_block(manifest);
        }
        self.begin_rung(run_s);
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

    fn begin_rung(&mut self, run_s: f64) {
        let now = Instant::now();
        let share = self.halving.share(self.clock.left(), run_s);
        self.rung = Rung { began: now, share, blocks: 0, block_began: now };
    }

    /// Drops the worse, after the first rung joins what did well alone, and before the last leaves of the best each setting out
    /// once.
    fn advance(&mut self, manifest: &mut Manifest, records: &[RunRecord]) {
        let (costs, tolerance) = costs(&manifest.plan, records, self.memory, manifest.relevant);
        let order = ranked(self.halving.live(), &costs, &tolerance);
        self.halving.next(&costs, &families(&manifest.plan), &tolerance);
        let run_s = self.clock.began.elapsed().as_secs_f64() / records.len().max(1) as f64;
        if self.halving.rung() == 1 {
            self.join(manifest, &order);
        }
        if self.halving.is_last() {
            let alive = ranked(self.halving.live(), &costs, &tolerance);
            let order = self.prune(manifest, &alive);
            // As many finalists as the time suffices to judge.
            let of = |cell: usize| {
                let runs = manifest.plan.runs.iter().filter(|run| run.cell == cell);
                runs.filter(|run| records.iter().any(|r| r.run == run.run && r.is_ok())).count() as u32
            };
            let blocks = order.iter().map(|cell| of(*cell)).min().unwrap_or(0);
            self.halving.narrow((self.clock.left() / run_s) as usize, blocks, order);
        }
        self.begin_rung(run_s);
    }

    /// Takes in pairs of what did well alone, of the baseline's allocator.
    fn join(&mut self, manifest: &mut Manifest, order: &[usize]) {
        let cells = &manifest.plan.cells;
        let name = cells[BASE].allocator.name.clone();
        let same = |i: &&usize| cells[**i].allocator.name == name;
        let best: Vec<&Settings> = order.iter().filter(same).map(|&i| &cells[i].allocator.settings).collect();
        let known: Vec<Settings> = cells.iter().map(|c| c.allocator.settings.clone()).collect();
        for settings in joined(&best, &known) {
            if let Some(cell) = self.cell(manifest, &name, &settings) {
                self.halving.enter(cell);
            }
        }
    }

    /// `alive`, best first, with the best one's settings less one of them each after it: what does not earn its place when it
    /// is left out is not recommended.
    fn prune(&self, manifest: &mut Manifest, alive: &[usize]) -> Vec<usize> {
        let Some((&best, others)) = alive.split_first() else { return Vec::new() };
        let allocator = manifest.plan.cells[best].allocator.clone();
        let less = without_one(&allocator.settings);
        let less = less.iter().filter_map(|settings| self.cell(manifest, &allocator.name, settings));
        let mut order: Vec<usize> = [best].into_iter().chain(less.collect::<Vec<_>>()).collect();
        order.retain(|cell| *cell > COPY);
        for cell in others {
            if !order.contains(cell) {
                order.push(*cell);
            }
        }
        order
    }

    /// The cell of an allocator with these settings, which is added where there is none.
    fn cell(&self, manifest: &mut Manifest, name: &str, settings: &Settings) -> Option<usize> {
        let cells = &mut manifest.plan.cells;
        let is = |cell: &Cell| !cell.aa && cell.allocator.name == name && cell.allocator.settings == *settings;
        cells.iter().position(is).or_else(|| {
            let allocator = (self.resolve)(name, settings)?;
            cells.push(Cell { thp: cells[BASE].thp, ..Cell::new(cells[BASE].workload.clone(), allocator) });
            Some(cells.len() - 1)
        })
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

fn mechanism_of(plan: &Plan, cell: usize) -> Mechanism {
    mechanism(&plan.cells[cell].allocator.settings)
}

/// The candidates in the order in which they are tried where the time does not suffice for all: those of the mechanisms that
/// are suggested, then the others as they stand.
fn preferred(plan: &Plan, suggested: &[Mechanism]) -> Vec<usize> {
    let mut order: Vec<usize> = Search::candidates(plan).collect();
    let rank = |cell: &usize| {
        let own = mechanism_of(plan, *cell);
        suggested.iter().position(|mechanism| *mechanism == own).unwrap_or(suggested.len())
    };
    order.sort_by_key(rank);
    order
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
