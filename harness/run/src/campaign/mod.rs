//! The one way in which a plan is carried out: run by run, block by block, each run kept the moment it ends, until the
//! schedule has seen enough.
//!
//! A [`Runner`] makes a single run, of the worker or of a command. A [`Schedule`] says whether there is time for a run and
//! whether the plan grows. Whoever shows what happens hears [`Event`]s.

mod agreement;
mod blocks;
mod contamination;
mod search;
pub(crate) mod signature;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use fragbench_model::{Caution, CautionKind, Cell, FailureKind, Manifest, PlannedRun, RunRecord, RunStatus, Sample};

use crate::results::{ResultDir, unix_now};
use agreement::Agreement;
pub use blocks::StoppingRule;
use contamination::contamination;
pub use search::{Outlook, Resolve, Search, finalists};

/// At most this share of a plan's runs is repeated: on a machine that is never quiet the marks must do.
const REPEATS_SHARE: f64 = 0.1;

/// A run that is asked of a [`Runner`].
pub struct Order<'a> {
    /// Place of the cell among those the runner was prepared for.
    pub index: usize,
    /// What is run, under what.
    pub cell: &'a Cell,
    /// Seed of its random choices.
    pub seed: u64,
    /// The block it is of, which says by which of several recordings it goes.
    pub repetition: u32,
}

/// What makes a single run.
pub trait Runner {
    /// Takes note of all cells of a plan before any of them is run: their environments are made equally large.
    fn prepare(&mut self, cells: &[Cell]);

    /// Runs once. Every end is a record; its place in the plan is the caller's to fill in.
    fn run(&mut self, order: &Order, interrupted: &AtomicBool) -> (RunRecord, Vec<Sample>);
}

/// What decides how much is run.
pub trait Schedule {
    /// Whether there is time for a run; `begins` says that it would begin a further block.
    fn admits(&mut self, planned: &PlannedRun, begins: bool) -> bool;

    /// Hears how long a run took, whether it was kept or will be repeated.
    fn took(&mut self, _cell: usize, _time: Duration) {}

    /// Adds to a plan that was carried out, `whole` or as far as the time sufficed; whether it did. What is run may be asked
    /// `pilot` runs that nobody keeps.
    fn extend(&mut self, manifest: &mut Manifest, records: &[RunRecord], whole: bool) -> bool;
}

/// What the caller hears of.
pub enum Event<'a> {
    /// A run begins.
    Begins(&'a PlannedRun, &'a Cell),
    /// It ended and was kept.
    Ended(&'a RunRecord),
    /// It was contaminated and will be repeated.
    Repeats(&'a RunRecord),
    /// The plan has grown to so many runs.
    Grown(usize),
}

/// How carrying out a plan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything that was wanted and that there was time for was run.
    Finished,
    /// The user stopped it.
    Interrupted,
    /// It was given up after a block in which every run failed.
    AllFailed,
}

/// A result in the making: its conditions and plan, the runs so far, the directory that keeps them.
pub struct Campaign {
    /// Conditions and plan; the plan may grow.
    pub manifest: Manifest,
    /// Runs so far.
    pub records: Vec<RunRecord>,
    results: Option<ResultDir>,
}

impl Campaign {
    /// Begins a result, in a directory where one is wanted.
    ///
    /// # Errors
    /// When the directory holds a result already or cannot be written.
    pub fn begin(dir: Option<&Path>, manifest: Manifest) -> Result<Self> {
        let results = dir.map(|dir| ResultDir::create(dir, &manifest)).transpose()?;
        Ok(Self { manifest, records: Vec::new(), results })
    }

    /// Goes on with a result that was begun.
    ///
    /// # Errors
    /// When it is no result directory or was written by a newer version.
    pub fn resume(dir: &Path) -> Result<Self> {
        let (results, manifest, records) = ResultDir::resume(dir)?;
        Ok(Self { manifest, records, results: Some(results) })
    }

    /// Its directory, where it has one.
    pub fn results(&self) -> Option<&ResultDir> {
        self.results.as_ref()
    }

    /// Whether the plan has runs that were not made.
    pub fn is_partial(&self) -> bool {
        self.records.len() < self.manifest.plan.runs.len()
    }

    /// Writes the manifest as it is now, where there is a directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_manifest(&self) -> Result<()> {
        self.results.as_ref().map_or(Ok(()), |results| results.write_manifest(&self.manifest))
    }

    /// Carries out what was not run yet, and what the schedule adds. A failed run is a record and the rest goes on, unless a
    /// whole block failed; an interrupted one is not kept, so that `--resume` runs it.
    ///
    /// # Errors
    /// Only when the result directory cannot be written.
    pub fn run(
        &mut self,
        runner: &mut dyn Runner,
        schedule: &mut dyn Schedule,
        interrupted: &AtomicBool,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Ending> {
        let mut agreement = Agreement::default();
        for record in &self.records {
            agreement.check(record);
        }
        let ending = loop {
            runner.prepare(&self.manifest.plan.cells);
            let ending = self.pass(runner, schedule, &mut agreement, interrupted, observe)?;
            if let Some(ending) = ending {
                break ending;
            }
            let whole = !self.is_partial();
            if !whole && self.manifest.part.is_none() {
                // What there was no time for is no part of the plan; a shard's plan is counted on by others.
                let records = &self.records;
                self.manifest.plan.runs.retain(|run| records.iter().any(|record| record.run == run.run));
            }
            if !schedule.extend(&mut self.manifest, &self.records, whole) {
                break Ending::Finished;
            }
            self.keep_manifest()?;
            observe(Event::Grown(self.manifest.plan.runs.len()));
        };
        if ending == Ending::AllFailed {
            let last = self.records.iter().map(|record| record.repetition).max();
            self.manifest.plan.runs.retain(|run| self.manifest.part.is_some() || Some(run.repetition) <= last);
        }
        if !self.is_partial() {
            self.manifest.ended_unix_s = Some(unix_now());
        }
        self.keep_manifest()?;
        Ok(ending)
    }

    /// Runs what the plan has and is not there yet, until the schedule finds no time for one.
    fn pass(
        &mut self,
        runner: &mut dyn Runner,
        schedule: &mut dyn Schedule,
        agreement: &mut Agreement,
        interrupted: &AtomicBool,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Option<Ending>> {
        let known: BTreeSet<u32> = self.records.iter().map(|record| record.run).collect();
        let runs = self.manifest.plan.runs.clone();
        let mut repeats_left = (runs.len() as f64 * REPEATS_SHARE).ceil() as usize;
        let mut block = None;
        for planned in runs.iter().filter(|planned| !known.contains(&planned.run)) {
            let begins = block.is_some_and(|block| block != planned.repetition);
            if begins && self.all_failed(block) {
                return Ok(Some(Ending::AllFailed));
            }
            if interrupted.load(Ordering::Acquire) {
                return Ok(Some(Ending::Interrupted));
            }
            if !schedule.admits(planned, begins) {
                return Ok(None);
            }
            block = Some(planned.repetition);
            let cell = &self.manifest.plan.cells[planned.cell];
            observe(Event::Begins(planned, cell));
            // One seed a repetition, the same for all allocators: their work can be compared call by call.
            let seed = self.manifest.plan.seed.wrapping_add(u64::from(planned.repetition));
            let order = Order { index: planned.cell, cell, seed, repetition: planned.repetition };
            let mut attempt = 1;
            let (mut record, samples) = loop {
                let begun = Instant::now();
                let (mut record, samples) = runner.run(&order, interrupted);
                schedule.took(planned.cell, begun.elapsed());
                (record.run, record.repetition, record.aa) = (planned.run, planned.repetition, cell.aa);
                record.recording = cell.workload.recording_of(planned.repetition).map(fragbench_model::stem);
                record.attempt = attempt;
                let contamination = contamination(&record);
                let again = record.is_ok() && !contamination.is_empty() && attempt == 1 && repeats_left > 0;
                if again && schedule.admits(planned, false) {
                    repeats_left -= 1;
                    attempt += 1;
                    observe(Event::Repeats(&record));
                    continue;
                }
                record.cautions.extend(contamination);
                break (record, samples);
            };
            if failure(&record) == Some(FailureKind::Interrupted) {
                return Ok(Some(Ending::Interrupted));
            }
            let notes = cell.allocator.notes.iter();
            record.cautions.extend(notes.map(|note| Caution { kind: CautionKind::Setting, text: note.clone() }));
            if let Some(failure) = agreement.check(&record) {
                record.status = RunStatus::Failed(failure);
            }
            if let Some(results) = &mut self.results {
                results.append(&mut record, &samples)?;
            }
            observe(Event::Ended(&record));
            self.records.push(record);
        }
        Ok(self.all_failed(block).then_some(Ending::AllFailed))
    }

    /// Whether every run of this block failed.
    fn all_failed(&self, block: Option<u32>) -> bool {
        let Some(block) = block else { return false };
        let mut of_block = self.records.iter().filter(|record| record.repetition == block).peekable();
        of_block.peek().is_some() && of_block.all(|record| failure(record).is_some())
    }
}

fn failure(record: &RunRecord) -> Option<FailureKind> {
    match &record.status {
        RunStatus::Ok => None,
        RunStatus::Failed(failure) => Some(failure.kind),
    }
}

#[cfg(test)]
mod tests;
