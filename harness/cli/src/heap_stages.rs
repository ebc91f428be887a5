//! The heap of a bad case drawn from life: one more untreated run of each, surveyed from outside at every barrier and after
//! the purge.

use std::cell::RefCell;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use fragbench_inspect::{Survey, survey};
use fragbench_model::{CaseFact, HeapStage, Manifest, RunRecord};
use fragbench_proc::LiveTarget;
use fragbench_run::{Campaign, Ending, Event, RunLimits, StoppingRule, WorkerBinary, WorkerRunner};

use crate::cases::{Heaps, untreated};

/// Cells of the largest map.
const CELLS: usize = 640;

type Seen = Vec<(String, Result<Survey, String>)>;

/// Runs each case once and surveys its heap while it stands still; what cannot be drawn is said. `None` when the user stopped
/// it.
pub(crate) fn heap_stages(
    worker: &WorkerBinary,
    manifest: &Manifest,
    facts: &[CaseFact],
    limits: RunLimits,
    interrupted: &AtomicBool,
) -> Result<Option<Heaps>> {
    let cases = untreated(manifest, facts)?;
    let cells = cases.iter().map(|(_, _, cell)| manifest.plan.cells[*cell].clone()).collect();
    let plan = fragbench_run::of_cells(cells, 1, manifest.plan.seed);
    let mut campaign = Campaign::begin(None, Manifest { plan, part: None, ..manifest.clone() })?;
    let seen: RefCell<Seen> = RefCell::default();
    let mut heaps = Heaps::new();
    let mut runner = WorkerRunner::new(worker, &manifest.common, limits).on_barrier(|name, pid| {
        let target = LiveTarget::open(pid).map_err(|e| e.to_string());
        let survey = target.and_then(|target| survey(&target).map_err(|e| e.to_string()));
        seen.borrow_mut().push((name.to_owned(), survey));
    });
    let mut observe = |event: Event| match event {
        Event::Begins(..) | Event::Repeats(_) => seen.borrow_mut().clear(),
        Event::Ended(record) => {
            // Runs of a plan of one block are numbered as its cells are.
            let (version, fact, _) = &cases[record.run as usize];
            match stages(record, seen.take()) {
                Ok(stages) => {
                    heaps.insert((version.clone(), fact.name.clone()), stages);
                }
                Err(why) => note!("{}: its heap is not drawn: {why}", fact.name),
            }
        }
        Event::Grown(_) => {}
    };
    let ending = campaign.run(&mut runner, &mut StoppingRule::all(), interrupted, &mut observe)?;
    Ok((ending != Ending::Interrupted).then_some(heaps))
}

fn stages(record: &RunRecord, seen: Seen) -> Result<Vec<HeapStage>, String> {
    if !record.is_ok() {
        return Err(fragbench_report::failure_text(record));
    }
    let surveys = seen
        .into_iter()
        .map(|(name, survey)| survey.map(|survey| (name, survey)))
        .collect::<Result<Vec<(String, Survey)>, String>>()?;
    // One scale for all, that of the largest heap.
    let cell_bytes = surveys.iter().map(|(_, survey)| survey.map(CELLS).cell_bytes).max().unwrap_or(1);
    let stage = |(name, survey): (String, Survey)| HeapStage {
        name,
        bytes: survey.bytes(),
        trim: survey.trim(),
        map: survey.map_to_scale(cell_bytes),
    };
    Ok(surveys.into_iter().map(stage).collect())
}
