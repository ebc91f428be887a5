//! Records to `summary.json`: a median with its interval per metric and cell, every cell relative to the baseline, the
//! noise floor of the machine, the verdict.

use std::collections::{BTreeMap, BTreeSet};

use fragbench_model::{AaSpread, Caution, CautionKind, CellSummary, Plan, RunRecord, SCHEMA, Summary};

use crate::compare::{aa, baseline_of, comparisons};
use crate::evidence::evidence;
use crate::paired::LogRatios;
use crate::runs::{CellRuns, cell_runs};
use crate::{Figures, figure_names, judge, median_interval, risks};

/// What the runs of a plan amount to. Cells stand in the plan's order, the A/A copies left out; `partial` says that
/// the plan was not finished, `relevant` is the share from which on a difference is of practical consequence.
pub fn summarize(plan: &Plan, records: &[RunRecord], partial: bool, relevant: f64) -> Summary {
    let cells = cell_runs(plan, records);
    let noise_floor = floor_of(plan, &cells);
    let comparisons = comparisons(plan, &cells, relevant);
    let verdict = judge(&evidence(&cells, &Figures::of(plan), relevant));
    let cells = cells.iter().filter(|c| !c.cell.aa).map(|c| cell_summary(plan, c)).collect();
    Summary { schema: SCHEMA, partial, noise_floor, relevant, cells, comparisons, verdict }
}

fn cell_summary(plan: &Plan, runs: &CellRuns) -> CellSummary {
    let metrics = figure_names(plan)
        .filter_map(|(name, _)| Some((name.to_owned(), median_interval(&runs.values(name))?)))
        .collect();
    CellSummary {
        workload: runs.cell.workload.name(),
        allocator: runs.cell.allocator.name.clone(),
        settings: runs.cell.allocator.settings.clone(),
        runs: runs.ok.len() as u32,
        failed: runs.failed.len() as u32,
        metrics,
        cautions: cautions(runs),
        version: version(runs),
        risks: risks(&runs.cell.allocator.name, &runs.cell.allocator.settings),
    }
}

/// The distinct cautions of a cell's runs.
pub(crate) fn cautions(runs: &CellRuns) -> Vec<String> {
    let all = runs.ok.iter().chain(&runs.failed).flat_map(|run| &run.cautions);
    let distinct: BTreeSet<&str> = all.map(general).collect();
    distinct.into_iter().map(str::to_owned).collect()
}

/// A caution's text, without figures that are each run's own.
fn general(caution: &Caution) -> &str {
    match caution.kind {
        CautionKind::ForeignCpu => {
            "other processes took part of a core during some of its runs; repeat on a quiet machine"
        }
        CautionKind::Steal => {
            "the hypervisor took processor time during some of its runs; their times are not to be trusted"
        }
        _ => &caution.text,
    }
}

/// The allocator's version as its first run says it, without the revision that jemalloc adds.
pub(crate) fn version(runs: &CellRuns) -> Option<String> {
    let said = runs.ok.iter().find_map(|run| Some(run.proof.as_ref()?.version.clone()))?;
    said.split('-').next().filter(|version| !version.is_empty()).map(str::to_owned)
}

/// How far the baseline is from itself: per metric the farther end of the interval of `|ratio − 1|` between the
/// baseline and its A/A copy, the greatest over the workloads. A metric without an A/A pair is left out.
fn floor_of(plan: &Plan, cells: &[CellRuns]) -> BTreeMap<String, f64> {
    let mut floor = BTreeMap::new();
    for copy in cells.iter().filter(|c| c.cell.aa) {
        for (name, _) in figure_names(plan) {
            if let Some(aa) = aa(cells, &copy.cell.workload.name(), name) {
                let worst = floor.entry(name.to_owned()).or_insert(0.0_f64);
                *worst = worst.max(aa.floor);
            }
        }
    }
    floor
}

/// Median of the ratios of the baseline's two copies per workload and metric, for the manifest.
pub fn aa_spread(plan: &Plan, records: &[RunRecord]) -> Vec<AaSpread> {
    let cells = cell_runs(plan, records);
    cells
        .iter()
        .filter(|c| c.cell.aa)
        .filter_map(|copy| {
            let workload = copy.cell.workload.name();
            let base = baseline_of(&cells, &workload)?;
            let ratio = figure_names(plan)
                .filter_map(|(name, _)| {
                    Some((name.to_owned(), LogRatios::of_cell(copy, base, name)?.interval().median))
                })
                .collect();
            Some(AaSpread { workload, ratio })
        })
        .collect()
}
