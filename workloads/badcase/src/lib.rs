//! Known bad cases of glibc malloc: one file a case in `cases/`, with the mechanism, where it was reported, the recipe, and what is
//! expected to be seen, by version of glibc and by remedy. `recipe` is what recipes are written with.
//!
//! Recipes are deterministic: a fresh process each, threads started one at a time, sizes inside the band the case is
//! about, blocks freed in a stated order. They look at no memory figure; the parent does, at the barrier of each phase.
//! One whose work depends on what the allocator answers (addresses, refusals) says so: `adaptive`.

mod cases;
mod recipe;
mod sys;

use fragbench_engine::{Request, Workload};
use fragbench_model::{CaseFact, WorkerError, WorkloadFact};

pub use cases::CASES;
pub use recipe::Recipe;

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What it is and what is expected.
    pub fact: fn() -> CaseFact,
    /// The recipe.
    pub run: fn(&mut Recipe<'_>),
}

/// What every case says of itself, in the order of the table.
pub fn facts() -> Vec<CaseFact> {
    CASES.iter().map(|case| (case.fact)()).collect()
}

/// The cases as workloads, in the order of the table.
pub fn workloads() -> Vec<WorkloadFact> {
    facts().iter().map(recipe::workload_fact).collect()
}

/// Builds the case with this workload name; `None` when there is none.
pub fn build(name: &str, request: &Request) -> Option<Result<Box<dyn Workload>, WorkerError>> {
    let case = CASES.iter().find(|case| (case.fact)().workload() == name)?;
    Some(recipe::build(case, request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_case_file_is_in_the_table() {
        let files: BTreeSet<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cases"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().replace('_', "-"))
            .filter(|name| name != "mod")
            .collect();
        let table: BTreeSet<String> = facts().into_iter().map(|fact| fact.name).collect();
        assert_eq!(files, table);
        assert_eq!(table.len(), CASES.len(), "names are unique");
    }
}
