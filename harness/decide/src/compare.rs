//! Every cell against the baseline of its workload, paired by block: the block-wise order of a plan puts the two of a
//! pair close in time, so a drift of the machine hits both.

use std::collections::BTreeMap;

use fragbench_model::{Comparison, Contrast, Plan, RunRecord};

use crate::figures::figure_names;
use crate::paired::{Aa, LogRatios, effects};
use crate::runs::{CellRuns, cell_runs};

/// All cells against the baseline of their workload, in the plan's order; the baseline itself, its A/A copy and workloads
/// without a baseline are left out. Within a metric the p-values are corrected for all cells and workloads of the result.
pub(crate) fn comparisons(plan: &Plan, cells: &[CellRuns], relevant: f64) -> Vec<Comparison> {
    let pairs: Vec<(&CellRuns, &CellRuns)> = cells
        .iter()
        .filter(|c| !c.cell.aa && !c.is_baseline())
        .filter_map(|c| Some((c, baseline_of(cells, &c.cell.workload.name())?)))
        .collect();
    let mut by_cell: Vec<BTreeMap<String, Contrast>> = vec![BTreeMap::new(); pairs.len()];
    for (metric, _) in figure_names(plan).filter(|(_, better)| better.is_some()) {
        let (at, ratios): (Vec<usize>, Vec<_>) = pairs
            .iter()
            .enumerate()
            .filter_map(|(i, (cell, base))| {
                let ratios = LogRatios::of_cell(cell, base, metric)?;
                Some((i, (ratios, aa(cells, &cell.cell.workload.name(), metric))))
            })
            .unzip();
        for (i, effect) in at.into_iter().zip(effects(&ratios, relevant)) {
            by_cell[i].insert(metric.to_owned(), effect);
        }
    }
    pairs
        .iter()
        .zip(by_cell)
        .map(|((cell, _), effects)| Comparison {
            workload: cell.cell.workload.name(),
            allocator: cell.cell.allocator.name.clone(),
            settings: cell.cell.allocator.settings.clone(),
            effects,
        })
        .collect()
}

/// The baseline's copies in a workload and metric; `None` without a pair.
pub(crate) fn aa(cells: &[CellRuns], workload: &str, metric: &str) -> Option<Aa> {
    let copy = cells.iter().find(|c| c.cell.aa && c.cell.workload.name() == workload)?;
    Some(Aa::new(&LogRatios::of_cell(copy, baseline_of(cells, workload)?, metric)?))
}

/// The baseline's runs in a workload.
pub(crate) fn baseline_of<'c, 'a>(cells: &'c [CellRuns<'a>], workload: &str) -> Option<&'c CellRuns<'a>> {
    cells.iter().find(|c| c.is_baseline() && c.cell.workload.name() == workload)
}

/// How precisely a metric is known: the widest half-width of the 95 % intervals of the ratios to the baseline, as a share of
/// the ratio, over all cells but the null allocator's. `None` while a cell has no pair.
pub fn precision(plan: &Plan, records: &[RunRecord], metric: &str) -> Option<f64> {
    let cells = cell_runs(plan, records);
    cells
        .iter()
        .filter(|c| !c.is_baseline() && c.cell.allocator.name != crate::NULL)
        .map(|c| {
            let base = baseline_of(&cells, &c.cell.workload.name())?;
            let i = LogRatios::of_cell(c, base, metric)?.interval();
            Some((i.hi - i.lo) / 2.0 / i.median)
        })
        .try_fold(0.0_f64, |widest, width| Some(widest.max(width?)))
}
