//! Records to `summary.json`: a median with its interval per metric and cell, the noise floor of the machine, the
//! verdict.

use std::collections::{BTreeMap, BTreeSet};

use fragbench_model::{AaSpread, CellSummary, METRICS, Plan, RunRecord, SCHEMA, Summary};

use crate::compare::{baseline_of, ratios};
use crate::runs::{CellRuns, cell_runs};
use crate::{evidence, judge, median_interval};

/// What the runs of a plan amount to. Cells stand in the plan's order, the A/A copies left out; `partial` says that
/// the plan was not finished.
pub fn summarize(plan: &Plan, records: &[RunRecord], partial: bool) -> Summary {
    let cells = cell_runs(plan, records);
    let noise_floor = floor_of(&cells);
    let verdict = judge(&evidence(&cells, &noise_floor));
    let cells = cells.iter().filter(|c| !c.cell.aa).map(cell_summary).collect();
    Summary { schema: SCHEMA, partial, noise_floor, cells, verdict }
}

fn cell_summary(runs: &CellRuns) -> CellSummary {
    let metrics =
        METRICS.iter().filter_map(|m| Some((m.name.to_owned(), median_interval(&runs.values(m.name))?))).collect();
    let cautions: BTreeSet<&str> =
        runs.ok.iter().chain(&runs.failed).flat_map(|r| &r.cautions).map(|c| c.text.as_str()).collect();
    CellSummary {
        workload: runs.cell.workload.name(),
        allocator: runs.cell.allocator.name.clone(),
        settings: runs.cell.allocator.settings.clone(),
        runs: runs.ok.len() as u32,
        failed: runs.failed.len() as u32,
        metrics,
        cautions: cautions.into_iter().map(str::to_owned).collect(),
    }
}

/// How far the baseline is from itself: per metric the farther end of the interval of `|ratio − 1|` between the
/// baseline and its A/A copy, the greatest over the workloads. A metric without an A/A pair is left out.
pub fn noise_floor(plan: &Plan, records: &[RunRecord]) -> BTreeMap<String, f64> {
    floor_of(&cell_runs(plan, records))
}

fn floor_of(cells: &[CellRuns]) -> BTreeMap<String, f64> {
    let mut floor = BTreeMap::new();
    for copy in cells.iter().filter(|c| c.cell.aa) {
        let Some(base) = baseline_of(cells, &copy.cell.workload.name()) else { continue };
        for (name, ratio) in ratios(copy, base, names()) {
            let worst = floor.entry(name).or_insert(0.0_f64);
            *worst = worst.max((ratio.lo - 1.0).abs()).max((ratio.hi - 1.0).abs());
        }
    }
    floor
}

/// Ratio of the medians of the baseline's two copies per workload and metric, for the manifest.
pub fn aa_spread(plan: &Plan, records: &[RunRecord]) -> Vec<AaSpread> {
    let cells = cell_runs(plan, records);
    cells
        .iter()
        .filter(|c| c.cell.aa)
        .filter_map(|copy| {
            let workload = copy.cell.workload.name();
            let base = baseline_of(&cells, &workload)?;
            let ratio = ratios(copy, base, names()).into_iter().map(|(name, r)| (name, r.median)).collect();
            Some(AaSpread { workload, ratio })
        })
        .collect()
}

fn names() -> impl Iterator<Item = &'static str> {
    METRICS.iter().map(|m| m.name)
}
