//! The heap of a bad case drawn from life: one more untreated run of it, surveyed from outside at every barrier and after
//! the purge.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use fragbench_inspect::{Survey, survey};
use fragbench_model::{HeapStage, RunStatus};
use fragbench_proc::LiveTarget;
use fragbench_run::{CaseRun, RunLimits, WorkerBinary, run_watched};

/// Cells of the largest map.
const CELLS: usize = 640;

/// Runs the case once and surveys its heap while it stands still.
///
/// # Errors
/// Why there is nothing to draw: the run failed, or its heap could not be read.
pub(crate) fn heap_stages(
    worker: &WorkerBinary,
    run: &CaseRun,
    environment: &BTreeMap<String, String>,
    limits: &RunLimits,
    interrupted: &AtomicBool,
) -> Result<Vec<HeapStage>, String> {
    let mut seen: Vec<(String, Result<Survey, String>)> = Vec::new();
    let mut look = |name: &str, pid: u32| {
        let target = LiveTarget::open(pid).map_err(|e| e.to_string());
        seen.push((name.to_owned(), target.and_then(|target| survey(&target).map_err(|e| e.to_string()))));
    };
    let (record, _) = run_watched(
        worker,
        &run.cell.allocator,
        environment,
        &fragbench_run::case_spec(&run.cell),
        limits,
        interrupted,
        &mut look,
    );
    if let RunStatus::Failed(_) = record.status {
        return Err(fragbench_report::failure_text(&record));
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
