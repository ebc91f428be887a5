//! Two results cell by cell: what became worse or better from A to B.
//!
//! Runs of two results are not paired: each cell's runs in A stand against its runs in B by the exact rank-sum test and the
//! ratio of the medians. All figures of all cells are one family (Holm), so that a gate raises a false alarm in one of
//! twenty results, not in one of twenty figures. What no number of such runs could establish is said to have too few runs.
//! Work that was not the same is refused.

use std::collections::BTreeMap;

use fragbench_model::{
    Better, CellDiff, CellName, Change, Diff, DiffOutcome, FigureDiff, Interval, Manifest, Pace, RunRecord, SCHEMA,
    label,
};

use crate::bootstrap::ratio_interval;
use crate::compare::baseline_of;
use crate::conditions::conditions;
use crate::evidence::was_disturbed;
use crate::figures::{Figures, figure_names, user_metrics};
use crate::paired::{LEVEL, beyond, block_ratios};
use crate::rank_sum::{least_p, rank_sum};
use crate::ranks::holm;
use crate::runs::{CellRuns, cell_runs};
use crate::{BASELINE, P99, median_interval};

/// What is asked of two results.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffQuestion {
    /// Figures to compare and their better direction: [`diff_metrics`].
    pub metrics: Vec<(String, Better)>,
    /// Share from which on a difference is of practical consequence.
    pub relevant: f64,
    /// Whether each run's figure is first divided by that of the baseline's run of the same block and result.
    pub to_baseline: bool,
}

/// The figures to compare: those named, or what a verdict is given on and shows: peak, end and idle memory, throughput, p99
/// of an allocation, CPU time, and of commands the user's own.
///
/// # Errors
/// A name that neither result's plan has, or whose better direction is not known.
pub fn diff_metrics(a: &Manifest, b: &Manifest, named: &[String]) -> Result<Vec<(String, Better)>, String> {
    let better = |name: &str| [a, b].iter().find_map(|m| figure_names(&m.plan).find(|(known, _)| *known == name));
    if named.is_empty() {
        let figures = Figures::of(&a.plan);
        let [peak, idle] = [figures.memory[0], figures.memory[1]];
        let usual = [peak, "heap_rss_end_bytes", idle, figures.throughput, P99, "cpu_s"];
        let own = user_metrics(&a.plan).map(|m| m.name.as_str()).filter(|name| *name != figures.throughput);
        return Ok(usual
            .into_iter()
            .chain(own)
            .filter_map(|name| Some((name.to_owned(), better(name).and_then(|(_, better)| better)?)))
            .collect());
    }
    named
        .iter()
        .map(|name| match better(name) {
            Some((_, Some(better))) => Ok((name.clone(), better)),
            Some((_, None)) => Err(format!("{name} only describes: neither less nor more of it is better")),
            None => Err(format!("there is no figure {name}; summary.json of a result names them all")),
        })
        .collect()
}

/// A result: its manifest and its runs.
type Measured<'a> = (&'a Manifest, &'a [RunRecord]);

/// One figure of one cell, before it is judged.
struct Pair<'q> {
    cell: usize,
    metric: &'q str,
    better: Better,
    a: Vec<f64>,
    b: Vec<f64>,
    ratio: Interval,
}

/// Lays result `b` beside result `a`.
pub fn diff(a: Measured, b: Measured, question: &DiffQuestion) -> Diff {
    let (in_a, in_b) = (cell_runs(&a.0.plan, a.1), cell_runs(&b.0.plan, b.1));
    let (in_a, in_b): (Vec<_>, Vec<_>) =
        (in_a.into_iter().filter(|c| !c.cell.aa).collect(), in_b.into_iter().filter(|c| !c.cell.aa).collect());
    let mut cells = Vec::new();
    let mut pairs = Vec::new();
    for (cell_a, cell_b) in in_a.iter().filter_map(|c| Some((c, twin(c, &in_b)?))) {
        let mut cell = CellDiff {
            cell: name_of(cell_a),
            runs_a: cell_a.ok.len() as u32,
            runs_b: cell_b.ok.len() as u32,
            failed_a: cell_a.failed.len() as u32,
            failed_b: cell_b.failed.len() as u32,
            refused: other_work((a.0, cell_a), (b.0, cell_b)),
            figures: BTreeMap::new(),
            lacking: BTreeMap::new(),
        };
        let itself = question.to_baseline && cell_a.is_baseline();
        if cell.refused.is_none() && !itself && cell.runs_a > 0 && cell.runs_b > 0 {
            for (metric, better) in &question.metrics {
                let of = |cell, all: &[CellRuns]| values(cell, all, metric, question.to_baseline);
                let (a, b) = (of(cell_a, &in_a), of(cell_b, &in_b));
                match ratio_interval(&b, &a) {
                    Some(ratio) => pairs.push(Pair { cell: cells.len(), metric, better: *better, a, b, ratio }),
                    None => cell.lacking.extend(why_lacking(&a, &b).map(|why| (metric.clone(), why))),
                }
            }
        }
        cells.push(cell);
    }
    for (pair, figure) in pairs.iter().zip(judged(&pairs, question.relevant)) {
        cells[pair.cell].figures.insert(pair.metric.to_owned(), figure);
    }
    let comparisons = pairs.len();
    let (outcome, reasons) = outcome(&cells, comparisons);
    Diff {
        schema: SCHEMA,
        outcome,
        reasons,
        relevant: question.relevant,
        to_baseline: question.to_baseline,
        metrics: question.metrics.iter().map(|(name, _)| name.clone()).collect(),
        comparisons: comparisons as u32,
        runs_needed: runs_needed(comparisons),
        conditions: conditions(a.0, b.0),
        cautions: [("A", a, &in_a), ("B", b, &in_b)]
            .iter()
            .flat_map(|(name, m, cells)| cautions(name, m.0, cells))
            .collect(),
        cells,
        only_in_a: in_a.iter().filter(|c| twin(c, &in_b).is_none()).map(name_of).collect(),
        only_in_b: in_b.iter().filter(|c| twin(c, &in_a).is_none()).map(name_of).collect(),
    }
}

fn name_of(cell: &CellRuns) -> CellName {
    CellName {
        workload: cell.cell.workload.name(),
        allocator: cell.cell.allocator.name.clone(),
        settings: cell.cell.allocator.settings.clone(),
    }
}

/// The cell of the same name in the other result.
fn twin<'c, 'a>(cell: &CellRuns, others: &'c [CellRuns<'a>]) -> Option<&'c CellRuns<'a>> {
    let name = name_of(cell);
    others.iter().find(|other| name_of(other) == name)
}

/// A figure over a cell's runs, or its ratios to the baseline's by block.
fn values(cell: &CellRuns, all: &[CellRuns], metric: &str, to_baseline: bool) -> Vec<f64> {
    if !to_baseline {
        return cell.values(metric);
    }
    let ratios = baseline_of(all, &cell.cell.workload.name()).and_then(|base| block_ratios(cell, base, metric));
    ratios.into_iter().flat_map(BTreeMap::into_values).map(f64::exp).collect()
}

/// Why a figure has no ratio; nothing where neither result has it.
fn why_lacking(a: &[f64], b: &[f64]) -> Option<String> {
    let why = match (a.is_empty(), b.is_empty()) {
        (true, true) => return None,
        (true, false) => "A does not have it",
        (false, true) => "B does not have it",
        (false, false) => "it is zero or no number in some run, which has no ratio",
    };
    Some(why.to_owned())
}

/// Why the work of two cells of one name is not the same; `None` where it is, or where a command did it.
fn other_work(a: (&Manifest, &CellRuns), b: (&Manifest, &CellRuns)) -> Option<String> {
    let spec = |(manifest, cell): (&Manifest, &CellRuns)| {
        (
            manifest.common.driver.as_ref().map(|driver| driver.touch),
            cell.cell.workload.pace(),
            cell.cell.workload.command().is_some(),
        )
    };
    let ((touch_a, pace_a, command_a), (touch_b, pace_b, command_b)) = (spec(a), spec(b));
    if command_a != command_b {
        return Some("in one result it is a command, in the other a workload".into());
    }
    if let (Some(touch_a), Some(touch_b)) = (touch_a, touch_b)
        && !command_a
        && touch_a != touch_b
    {
        return Some(
            format!("blocks were written to differently (--touch {touch_a:?} and {touch_b:?})").to_lowercase(),
        );
    }
    if pace_a != pace_b {
        let text = |pace: Option<Pace>| pace.map_or_else(|| "none".to_owned(), |pace| pace.to_string());
        return Some(format!("the work was done at another pace (--pace {} and {})", text(pace_a), text(pace_b)));
    }
    a.1.ok.iter().find_map(|run| {
        let done = |run: &RunRecord| run.done.as_ref().filter(|d| !d.adaptive).map(|d| [d.ops, d.live_end_bytes, d.checksum]);
        let twin = b.1.ok.iter().find(|other| other.repetition == run.repetition)?;
        let (a, b) = (done(run)?, done(twin)?);
        (a != b).then(|| {
            format!(
                "it did other work: ops, live bytes at the end and checksum are {a:?} in A and {b:?} in B (another seed, scale, \
                 number of threads, trace or version of the workload)"
            )
        })
    })
}

/// Ratios and p-values, corrected over the whole family.
fn judged(pairs: &[Pair], relevant: f64) -> Vec<FigureDiff> {
    let p = holm(&pairs.iter().map(|pair| rank_sum(&pair.a, &pair.b)).collect::<Vec<_>>());
    // Holm's correction is monotone: what the least p-values do not reach no data could.
    let least = holm(&pairs.iter().map(|pair| least_p(pair.a.len(), pair.b.len())).collect::<Vec<_>>());
    pairs
        .iter()
        .zip(p.into_iter().zip(least))
        .filter_map(|(pair, (p, least))| {
            let enough = least <= LEVEL;
            Some(FigureDiff {
                a: median_interval(&pair.a)?,
                b: median_interval(&pair.b)?,
                ratio: pair.ratio,
                p: enough.then_some(p),
                change: change(&pair.ratio, enough.then_some(p), pair.better, relevant),
            })
        })
        .collect()
}

/// What a ratio means. `p` is `None` with too few runs.
fn change(ratio: &Interval, p: Option<f64>, better: Better, relevant: f64) -> Change {
    match p {
        None => Change::TooFewRuns,
        Some(p) if p > LEVEL => Change::Noise,
        Some(_) if !beyond(ratio, relevant) => Change::Slight,
        Some(_) if (ratio.median < 1.0) == (better == Better::Less) => Change::Better,
        Some(_) => Change::Worse,
    }
}

/// Runs a side with which the smallest p-value, corrected for so many comparisons, excludes chance.
fn runs_needed(comparisons: usize) -> u32 {
    (1_u32..).find(|n| least_p(*n as usize, *n as usize) * comparisons.max(1) as f64 <= LEVEL).unwrap_or(u32::MAX)
}

fn outcome(cells: &[CellDiff], comparisons: usize) -> (DiffOutcome, Vec<String>) {
    let name = |c: &CellDiff| format!("{} under {}", c.cell.workload, label(&c.cell.allocator, &c.cell.settings));
    let count = |wanted: Change| cells.iter().flat_map(|c| c.figures.values()).filter(|f| f.change == wanted).count();
    let (worse, open) = (count(Change::Worse), count(Change::TooFewRuns));
    let broken: Vec<&CellDiff> = cells.iter().filter(|c| c.runs_a > 0 && c.runs_b == 0 && c.failed_b > 0).collect();
    let refused: Vec<&CellDiff> = cells.iter().filter(|c| c.refused.is_some()).collect();
    let mut reasons = Vec::new();
    if worse > 0 {
        reasons.push(format!("{worse} of {comparisons} figures became relevantly worse."));
    }
    reasons.extend(broken.iter().map(|c| format!("{} succeeded in A, and all its runs in B failed.", name(c))));
    reasons.extend(
        refused.iter().map(|c| format!("{} is not compared: {}.", name(c), c.refused.as_deref().unwrap_or_default())),
    );
    if cells.is_empty() {
        reasons.push("The results have no cell in common.".into());
    } else if comparisons == 0 && refused.len() < cells.len() {
        reasons.push(format!(
            "No cell has any of these figures in both results; relative to the baseline each result needs runs of {BASELINE} \
             with default settings."
        ));
    }
    if open > 0 {
        reasons.push(format!(
            "{open} of {comparisons} figures have so few runs that no difference could exclude chance; {} runs a cell in each \
             result would, for {comparisons} comparisons (--reps, or fewer figures with --metric).",
            runs_needed(comparisons)
        ));
    }
    if worse > 0 || !broken.is_empty() {
        (DiffOutcome::Regression, reasons)
    } else if !refused.is_empty() || comparisons == open {
        (DiffOutcome::CannotCompare, reasons)
    } else {
        reasons.insert(0, format!("None of {} figures became relevantly worse.", comparisons - open));
        (DiffOutcome::NoRegression, reasons)
    }
}

/// What lowers the worth of one result.
fn cautions(name: &str, manifest: &Manifest, cells: &[CellRuns]) -> Vec<String> {
    let runs: Vec<_> = cells.iter().flat_map(|c| &c.ok).collect();
    let disturbed = runs.iter().filter(|r| was_disturbed(r)).count();
    let failed: usize = cells.iter().map(|c| c.failed.len()).sum();
    let mut cautions = Vec::new();
    if manifest.ended_unix_s.is_none() {
        cautions.push(format!("{name} was not finished: its cells have fewer runs than planned."));
    }
    if manifest.machines.len() > 1 {
        cautions.push(format!(
            "{name} was measured on {} machines; its conditions are the first one's.",
            manifest.machines.len()
        ));
    }
    if disturbed > 0 {
        cautions.push(format!(
            "{disturbed} of {} runs of {name} were disturbed by other processes or the hypervisor.",
            runs.len()
        ));
    }
    if failed > 0 {
        cautions.push(format!("{failed} runs of {name} failed and count for nothing."));
    }
    cautions
}
