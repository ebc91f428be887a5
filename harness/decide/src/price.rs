//! What a change costs in the server's own processor time. A replay does the server's allocations, not its other work: its loop of
//! calls spends nearly all its time in the allocator, a server a few percent. So a cell's processor time is not set against
//! the replay's but against the server's: the extra over the baseline's run of the same block, as a share of what the server
//! used while it was recorded. The driver's own cost, which the null allocator shows, is in both and cancels.

use std::collections::BTreeMap;

use fragbench_model::{Effects, Price, RunRecord, SERVER_CPU_S, SERVER_SPAN_S, Weighing};

use crate::paired::ratios_of;
use crate::runs::CellRuns;

/// Processor time of a run's work.
pub(crate) const CPU: &str = "cpu_s";

/// Processor time of the server whose work a cell does, and the time in which it used it, seconds.
pub(crate) fn server_time(base: &CellRuns) -> Option<(f64, f64)> {
    time_of(base.ok.first()?)
}

/// Processor time of the server whose work a run does: with several recordings of one load each has its own.
fn time_of(run: &RunRecord) -> Option<(f64, f64)> {
    let facts = &run.done.as_ref()?.facts;
    let (cpu, span) = (*facts.get(SERVER_CPU_S)?, *facts.get(SERVER_SPAN_S)?);
    (cpu.is_finite() && cpu > 0.0 && span > 0.0).then_some((cpu, span))
}

/// Logarithm of the server's processor time under a cell relative to the baseline's, by block; `None` where the server's is
/// not known.
pub(crate) fn server_ratios(cell: &CellRuns, base: &CellRuns) -> Option<BTreeMap<u32, f64>> {
    server_time(base)?;
    let cpu = |run: &RunRecord| run.metrics.get(CPU).copied();
    ratios_of(cell, base, |run, twin| {
        let (server, _) = time_of(twin)?;
        Some((server + cpu(run)? - cpu(twin)?, server))
    })
}

/// What costs are weighed by, given the baseline's runs of each workload.
pub(crate) fn weighing(baselines: &[&CellRuns]) -> Weighing {
    if baselines.iter().any(|base| base.cell.workload.command().is_some()) {
        return Weighing::Command;
    }
    let known: Vec<(f64, f64)> = baselines.iter().filter_map(|base| server_time(base)).collect();
    if known.is_empty() {
        return Weighing::Loop;
    }
    Weighing::ServerTime {
        cpu_s: known.iter().map(|(cpu, _)| cpu).sum(),
        span_s: known.iter().map(|(_, span)| span).sum(),
        workloads: known.len(),
    }
}

/// The price that effects stand for, page faults and the longest stall beside it.
pub(crate) fn price(effects: &Effects, weighing: &Weighing) -> Option<Price> {
    let Weighing::ServerTime { cpu_s, .. } = weighing else { return None };
    let cost = effects.cost?;
    Some(Price {
        cpu_ratio: cost.ratio,
        noise: cost.noise,
        extra_cpu_s: (cost.ratio.median - 1.0) * cpu_s,
        faults_ratio: effects.faults.map(|e| e.ratio),
        longest_ns: effects.longest_ns.map(|(own, _)| own),
        baseline_longest_ns: effects.longest_ns.map(|(_, base)| base),
    })
}
