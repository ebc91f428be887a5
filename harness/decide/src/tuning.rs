//! What a search for settings amounts to: the front, its knee, and what the rules of every verdict ([`judge`]) say of the
//! finalists, against the baseline of the same blocks, with the correction for their number.

use std::cmp::Ordering;

use fragbench_model::{
    Contrast, Doubt, Plan, Recommendation, RunRecord, SCHEMA, Tried, Trimming, TunePoint, Tuning, Verdict, VerdictKind,
};

use crate::compare::{aa, baseline_of};
use crate::evidence::{Candidate, evidence, was_disturbed};
use crate::figures::Figures;
use crate::paired::LogRatios;
use crate::price::server_ratios;
use crate::runs::{CellRuns, cell_runs};
use crate::summarize::{cautions, version};
use crate::{Cost, P99, judge, knee, median, pareto_front, risks, throughput_of};

const FAULTS: &str = "minor_faults_count";

/// What each of the plan's cells costs so far relative to the baseline (`None` without a block that both have), and from
/// which difference on two of them are told apart: the noise of the baseline against itself, at least `relevant`. Time is the
/// server's where that is known, as in every verdict.
pub fn costs(plan: &Plan, records: &[RunRecord], memory: &str, relevant: f64) -> (Vec<Option<Cost>>, Cost) {
    let cells = cell_runs(plan, records);
    let speed = plan.cells.first().map_or("", |cell| throughput_of(&cell.workload));
    let ratio = |cell: &CellRuns, metric| {
        let base = baseline_of(&cells, &cell.cell.workload.name())?;
        Some(LogRatios::of_cell(cell, base, metric)?.interval().median.ln())
    };
    let servers = |cell: &CellRuns| {
        let base = baseline_of(&cells, &cell.cell.workload.name())?;
        LogRatios::joined(&[Some(server_ratios(cell, base)?)])
    };
    let of_cell = |cell: &CellRuns| {
        // One that fails now and then is no candidate.
        if !cell.failed.is_empty() {
            return None;
        }
        let time = match servers(cell) {
            Some(ratios) => ratios.interval().median.ln(),
            None => -ratio(cell, speed)?,
        };
        Some(Cost { memory: ratio(cell, memory)?, time, p99: ratio(cell, P99).unwrap_or_default() })
    };
    let floor = |metric| {
        let workload = cells.first().map(|c| c.cell.workload.name()).unwrap_or_default();
        aa(&cells, &workload, metric).map_or(0.0, |aa| aa.floor).max(relevant)
    };
    let copy = cells.iter().find(|cell| cell.cell.aa);
    let time = match copy.and_then(servers) {
        Some(ratios) => crate::Aa::new(&ratios).floor.max(relevant),
        None => floor(speed),
    };
    (cells.iter().map(of_cell).collect(), Cost { memory: floor(memory), time, p99: floor(P99) })
}

/// The outcome of a search on one workload; `finalists` are indices of the plan's cells.
pub fn tuning(
    plan: &Plan,
    records: &[RunRecord],
    finalists: &[usize],
    memory: &str,
    relevant: f64,
    partial: bool,
) -> Tuning {
    let cells = cell_runs(plan, records);
    let figures = Figures::less_of(memory, plan);
    let point = |cell: &CellRuns| point(cell, memory, figures.throughput);
    let was_run = |cell: &CellRuns| !cell.ok.is_empty() || !cell.failed.is_empty();
    let (mut judged, mut dropped, mut untried) = (Vec::new(), Vec::new(), Vec::new());
    for (i, cell) in cells.iter().enumerate() {
        match (cell.cell.aa || cell.is_baseline(), was_run(cell)) {
            (true, _) => judged.push(cell.clone()),
            (false, false) => untried.push(point(cell)),
            (false, true) if finalists.contains(&i) => judged.push(cell.clone()),
            (false, true) => dropped.push(point(cell)),
        }
    }
    let evidence = evidence(&judged, &figures, relevant);
    let verdict = judge(&evidence);
    let baseline = judged.iter().find(|cell| cell.is_baseline() && was_run(cell)).map(point);
    let mut finalists: Vec<TunePoint> = judged
        .iter()
        .filter(|cell| !cell.cell.aa && !cell.is_baseline())
        .map(|cell| {
            let of = evidence.candidates.iter().find(|c| c.change.is(&cell.cell.allocator));
            of.map_or_else(|| point(cell), |candidate| compared(point(cell), candidate))
        })
        .collect();
    finalists.sort_by(by_memory);
    dropped.sort_by(by_memory);
    let (front, knee) = front(baseline.iter().chain(&finalists).cloned().collect());
    let recommendation = recommendation(&verdict, &evidence.candidates, &finalists, baseline.as_ref());
    Tuning {
        notes: Vec::new(),
        schema: SCHEMA,
        partial,
        workload: cells.first().map(|c| c.cell.workload.name()).unwrap_or_default(),
        memory: memory.to_owned(),
        throughput: figures.throughput.to_owned(),
        relevant,
        tried: cells.iter().filter(|c| !c.cell.aa && was_run(c)).count() as u32,
        runs: records.len() as u32,
        baseline,
        front,
        knee,
        finalists,
        dropped,
        untried,
        recommendation,
        verdict,
    }
}

fn recommendation(
    verdict: &Verdict,
    candidates: &[Candidate],
    finalists: &[TunePoint],
    baseline: Option<&TunePoint>,
) -> Option<Recommendation> {
    let change = verdict.change.as_ref().filter(|_| matches!(verdict.kind, VerdictKind::Tune | VerdictKind::Switch))?;
    let chosen = candidates.iter().find(|c| c.change.is(change))?;
    let point = finalists.iter().find(|p| p.allocator == change.name && p.settings == change.settings)?;
    let memory_ratio = verdict.memory_ratio?;
    Some(Recommendation {
        allocator: change.name.clone(),
        settings: change.settings.clone(),
        change: change.clone(),
        preliminary: verdict.doubts.iter().any(|doubt| matches!(doubt, Doubt::TooFewBlocks { .. })),
        memory_ratio,
        saved_bytes: baseline.and_then(|b| b.memory_bytes).map_or(0.0, |bytes| bytes * (1.0 - memory_ratio.median)),
        throughput_ratio: verdict.throughput_ratio,
        tried: Tried { effects: chosen.effects.clone(), ..chosen.tried() },
        trimming: point.trimming,
        risks: verdict.risks.clone(),
    })
}

/// Those no other beats in memory and time, each relative to the baseline of the same blocks, and their knee in the
/// logarithms of both, in which equal ratios are equal distances.
fn front(points: Vec<TunePoint>) -> (Vec<TunePoint>, Option<usize>) {
    let is_baseline = |i: usize| i == 0 && points[0].memory.is_none();
    let axes: Vec<(f64, f64)> = points
        .iter()
        .enumerate()
        .map(|(i, p)| match (is_baseline(i), p.memory, p.cost, p.throughput) {
            (true, ..) => (1.0, 1.0),
            (_, Some(memory), Some(cost), _) => (memory.ratio.median, 1.0 / cost.ratio.median),
            (_, Some(memory), None, Some(speed)) => (memory.ratio.median, speed.ratio.median),
            _ => (f64::INFINITY, f64::NEG_INFINITY),
        })
        .collect();
    let front = pareto_front(&axes);
    let costs: Vec<(f64, f64)> = front.iter().map(|&i| (axes[i].0.ln(), -axes[i].1.ln())).collect();
    (front.iter().map(|&i| points[i].clone()).collect(), knee(&costs))
}

/// By what is held relative to the baseline; what was not compared follows, by bytes.
fn by_memory(a: &TunePoint, b: &TunePoint) -> Ordering {
    let ratio = |p: &TunePoint| p.memory.map_or(f64::INFINITY, |c: Contrast| c.ratio.median);
    let bytes = |p: &TunePoint| p.memory_bytes.unwrap_or(f64::INFINITY);
    ratio(a).total_cmp(&ratio(b)).then(bytes(a).total_cmp(&bytes(b)))
}

/// A cell's medians, compared with nothing.
fn point(cell: &CellRuns, memory: &str, speed: &str) -> TunePoint {
    let value = |name| median(&cell.values(name));
    TunePoint {
        allocator: cell.cell.allocator.name.clone(),
        settings: cell.cell.allocator.settings.clone(),
        runs: cell.ok.len() as u32,
        failed: cell.failed.len() as u32,
        version: version(cell),
        cautions: cautions(cell),
        risks: risks(&cell.cell.allocator.name, &cell.cell.allocator.settings),
        disturbed: cell.ok.iter().filter(|run| was_disturbed(run)).count() as u32,
        memory_bytes: value(memory),
        ops_per_s: value(speed),
        p99_ns: value(P99),
        minor_faults_count: value(FAULTS),
        memory: None,
        throughput: None,
        cost: None,
        p99: None,
        faults: None,
        trimming: trimming(cell),
    }
}

fn compared(point: TunePoint, candidate: &Candidate) -> TunePoint {
    let e = &candidate.effects;
    TunePoint { memory: e.memory, throughput: e.throughput, cost: e.cost, p99: e.p99, faults: e.faults, ..point }
}

/// From the last statistics of each run's work.
fn trimming(cell: &CellRuns) -> Option<Trimming> {
    let figure = |name: &str| {
        let values: Vec<f64> = cell
            .ok
            .iter()
            .filter_map(|run| run.phases.iter().filter_map(|phase| phase.stats.as_ref()).next_back())
            .filter_map(|stats| stats.own.get(name).map(|v| *v as f64))
            .collect();
        median(&values)
    };
    Some(Trimming {
        calls: figure("trim_calls")?,
        total_ms: figure("trim_total_ns")? / 1e6,
        longest_ms: figure("trim_longest_ns")? / 1e6,
    })
}
