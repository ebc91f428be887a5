//! Every cell against the baseline of its workload, paired by repetition: the repetition-major order of a plan puts
//! the two of a pair close in time, so a drift of the machine hits both.

use std::collections::BTreeMap;

use fragbench_model::{Interval, Plan, RunRecord, Settings};

use crate::runs::{CellRuns, cell_runs};
use crate::{is_baseline, ratio_interval};

/// One cell relative to the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Workload's name.
    pub workload: String,
    /// Allocator's name.
    pub allocator: String,
    /// Its settings.
    pub settings: Settings,
    /// Metric name → ratio to the baseline. A metric that is missing or not above zero on either side is left out.
    pub ratios: BTreeMap<String, Interval>,
}

/// Ratios of every cell to the baseline of its workload in these metrics, in the plan's order; the baseline itself, its A/A copy and
/// workloads without a baseline are left out.
pub fn against_baseline(plan: &Plan, records: &[RunRecord], metrics: &[&str]) -> Vec<Comparison> {
    let cells = cell_runs(plan, records);
    cells
        .iter()
        .filter(|c| !c.cell.aa && !is_baseline(&c.cell.allocator.name, &c.cell.allocator.settings))
        .filter_map(|c| {
            let base = baseline_of(&cells, &c.cell.workload.name())?;
            Some(Comparison {
                workload: c.cell.workload.name(),
                allocator: c.cell.allocator.name.clone(),
                settings: c.cell.allocator.settings.clone(),
                ratios: ratios(c, base, metrics.iter().copied()),
            })
        })
        .collect()
}

/// The baseline's runs in a workload.
pub(crate) fn baseline_of<'c, 'a>(cells: &'c [CellRuns<'a>], workload: &str) -> Option<&'c CellRuns<'a>> {
    cells.iter().find(|c| c.is_baseline() && c.cell.workload.name() == workload)
}

/// Ratio per metric where both sides have pairs above zero.
pub(crate) fn ratios<'m>(
    cell: &CellRuns,
    base: &CellRuns,
    metrics: impl Iterator<Item = &'m str>,
) -> BTreeMap<String, Interval> {
    metrics.filter_map(|name| Some((name.to_owned(), ratio_interval(&pairs(cell, base, name))?))).collect()
}

/// `(cell, baseline)` values of the repetitions both have.
pub(crate) fn pairs(cell: &CellRuns, base: &CellRuns, metric: &str) -> Vec<(f64, f64)> {
    let value = |r: &RunRecord| r.metrics.get(metric).copied();
    cell.ok
        .iter()
        .filter_map(|run| {
            let twin = base.ok.iter().find(|b| b.repetition == run.repetition)?;
            Some((value(run)?, value(twin)?))
        })
        .collect()
}
