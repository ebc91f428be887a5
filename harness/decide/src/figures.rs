//! Which figures advice is given on.

use fragbench_model::{Better, METRICS, Plan, UserMetric, WorkloadSpec};

use crate::PEAK;

/// The figures that decide, by metric name.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures<'a> {
    /// Memory, joined by the geometric mean: heap RSS at its peak (what the machine must have) and after a quiet stretch
    /// (what is kept). Neither depends on how long a phase took; a mean over time does, and a run that was held up would
    /// shift it.
    pub memory: Vec<&'a str>,
    /// Whether less of it is all that is sought.
    pub memory_alone: bool,
    /// Throughput.
    pub throughput: &'a str,
    /// Further figures that must not become worse.
    pub others: Vec<(&'a str, Better)>,
}

impl<'a> Figures<'a> {
    /// Those of a plan's workloads.
    pub fn of(plan: &'a Plan) -> Self {
        let throughput = plan.cells.first().map_or(CALLS, |cell| throughput_of(&cell.workload));
        let others = user_metrics(plan).filter(|m| m.name != throughput);
        let others = others.filter_map(|m| Some((m.name.as_str(), m.better?))).collect();
        Self { memory: vec![PEAK, "heap_rss_idle_bytes"], memory_alone: false, throughput, others }
    }

    /// The same for a search for less of one memory figure.
    pub fn less_of(memory: &'a str, plan: &'a Plan) -> Self {
        Self { memory: vec![memory], memory_alone: true, ..Self::of(plan) }
    }
}

/// Throughput of a worker.
const CALLS: &str = "ops_per_s";

/// What stands for a workload's throughput: calls of malloc; of a command the first of the user's figures of which more is
/// better, else how often it could be run in a second.
pub fn throughput_of(workload: &WorkloadSpec) -> &str {
    match workload.command() {
        None => CALLS,
        Some(command) => {
            let more = command.metrics.iter().find(|m| m.better == Some(Better::More));
            more.map_or("runs_per_s", |m| &m.name)
        }
    }
}

/// The user's own figures: a plan's commands all have the same.
pub fn user_metrics(plan: &Plan) -> impl Iterator<Item = &UserMetric> {
    plan.cells.first().and_then(|cell| cell.workload.command()).into_iter().flat_map(|command| &command.metrics)
}

/// Names of all figures that a plan's runs may have, and which direction is better.
pub fn figure_names(plan: &Plan) -> impl Iterator<Item = (&str, Option<Better>)> {
    let own = user_metrics(plan).map(|m| (m.name.as_str(), m.better));
    METRICS.iter().map(|m| (m.name, m.better)).chain(own)
}
