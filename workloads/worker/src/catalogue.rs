//! Everything the worker can run: the tables of the workload crates, bad cases, replays, and work generated from
//! profiles.

use fragbench_engine::{Entry, Request, Workload, nearest, refuse};
use fragbench_model::WorkerErrorKind;
use fragbench_model::{CASE_FAMILY, Description, RunSpec, WorkerError, WorkloadSpec};

use crate::empty;

/// One table a crate.
const TABLES: &[&[Entry]] = &[&[empty::ENTRY], fragbench_mysql::WORKLOADS];

fn entries() -> impl Iterator<Item = &'static Entry> {
    TABLES.iter().copied().flatten()
}

/// What each named workload says of itself, in the order of the tables.
pub(crate) fn describe() -> Description {
    let workloads = entries().map(|entry| (entry.fact)()).chain(fragbench_badcase::workloads()).collect();
    Description { workloads, badcases: fragbench_badcase::facts() }
}

/// Builds the work that `spec` asks for.
///
/// # Errors
/// `bad_spec` for a name or parameter that does not exist, `bad_trace` for a trace that cannot be replayed.
pub(crate) fn build(spec: &RunSpec) -> Result<Box<dyn Workload>, WorkerError> {
    match &spec.workload {
        WorkloadSpec::Named { name, parameters, .. } => {
            let request = Request { parameters: parameters.clone(), threads: spec.driver.threads };
            if name.starts_with(CASE_FAMILY)
                && let Some(case) = fragbench_badcase::build(name, &request)
            {
                return case;
            }
            let Some(entry) = entries().find(|entry| (entry.fact)().name == *name) else {
                let known = describe();
                let hint = nearest(name, known.workloads.iter().map(|fact| fact.name.as_str()));
                return Err(refuse(WorkerErrorKind::BadSpec, format!("no workload {name:?}; {hint}")));
            };
            (entry.build)(&request)
        }
        WorkloadSpec::Replay { same_load, .. } if !same_load.is_empty() => Err(refuse(
            WorkerErrorKind::BadSpec,
            "a run replays one recording; which of several it is says who plans the runs",
        )),
        WorkloadSpec::Replay { trace, pace, skew_us, threads_scale, .. } => {
            fragbench_replay::build(trace, *pace, *skew_us, *threads_scale)
        }
        WorkloadSpec::Profile { trace, pace, .. } => fragbench_replay::build(trace, *pace, 0, 1),
        WorkloadSpec::Command { command } => Err(refuse(
            WorkerErrorKind::BadSpec,
            format!("{} is a command, which is not the worker's to run", command.name),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_default_builds() {
        let facts = describe().workloads;
        let mut names: Vec<_> = facts.iter().map(|fact| fact.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), facts.len());
        for entry in entries() {
            assert!((entry.build)(&Request::default()).is_ok(), "{}", (entry.fact)().name);
        }
        for case in fragbench_badcase::workloads() {
            let built = fragbench_badcase::build(&case.name, &Request::default());
            assert!(built.is_some_and(|built| built.is_ok()), "{}", case.name);
        }
    }
}
