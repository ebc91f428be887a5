//! Which records count: the runs of each cell of a plan. A run that was repeated because the machine disturbed it
//! counts once, with its last attempt that succeeded; failed runs are counted and never averaged.

use std::collections::BTreeMap;

use fragbench_model::{Cell, Plan, RunRecord};

use crate::baseline::is_baseline;

/// The runs of one cell.
#[derive(Debug, Clone)]
pub struct CellRuns<'a> {
    /// The cell, as planned.
    pub cell: &'a Cell,
    /// Whether this is the cell that all others of its workload are compared with.
    pub baseline: bool,
    /// Runs whose figures may be used, by repetition.
    pub ok: Vec<&'a RunRecord>,
    /// Runs without figures, by repetition.
    pub failed: Vec<&'a RunRecord>,
}

impl CellRuns<'_> {
    /// Values of a metric over the runs that have it.
    pub fn values(&self, metric: &str) -> Vec<f64> {
        self.ok.iter().filter_map(|r| r.metrics.get(metric).copied()).collect()
    }

    /// Whether this is the cell all others are compared with.
    pub fn is_baseline(&self) -> bool {
        self.baseline
    }
}

/// The runs of every cell, in the plan's order. Records of runs that the plan does not have are left out.
pub fn cell_runs<'a>(plan: &'a Plan, records: &'a [RunRecord]) -> Vec<CellRuns<'a>> {
    let mut last: BTreeMap<u32, &RunRecord> = BTreeMap::new();
    for record in records {
        let slot = last.entry(record.run).or_insert(record);
        if (record.is_ok(), record.attempt) >= (slot.is_ok(), slot.attempt) {
            *slot = record;
        }
    }
    let mut cells: Vec<CellRuns> = plan
        .cells
        .iter()
        .map(|cell| CellRuns { cell, baseline: is_baseline(plan, cell), ok: Vec::new(), failed: Vec::new() })
        .collect();
    let mut planned = plan.runs.clone();
    planned.sort_by_key(|p| (p.cell, p.repetition));
    for run in planned {
        if let (Some(record), Some(cell)) = (last.get(&run.run), cells.get_mut(run.cell)) {
            if record.is_ok() { &mut cell.ok } else { &mut cell.failed }.push(record);
        }
    }
    cells
}
