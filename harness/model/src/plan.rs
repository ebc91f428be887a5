//! What will be run, in which order: workloads × allocators × repetitions.

use serde::{Deserialize, Serialize};

use crate::{Allocator, HugePages, WorkloadSpec};

/// One workload under one allocator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The work.
    pub workload: WorkloadSpec,
    /// The environment.
    pub allocator: Allocator,
    /// The baseline's second copy, run only to know the noise floor.
    pub aa: bool,
    /// Transparent huge pages, where they differ from what all runs have in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thp: Option<HugePages>,
}

impl Cell {
    /// A cell with nothing of its own but work and environment.
    pub fn new(workload: WorkloadSpec, allocator: Allocator) -> Self {
        Self { workload, allocator, aa: false, thp: None }
    }
}

/// One run of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedRun {
    /// Identity within the plan: stable across `--resume`.
    pub run: u32,
    /// Index into [`Plan::cells`].
    pub cell: usize,
    /// Repetition, from 0.
    pub repetition: u32,
}

/// Cells and the order of their runs: repetition-major, shuffled within a repetition by the seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Seed of the order and of the workloads.
    pub seed: u64,
    /// Cells in the order of the tables.
    pub cells: Vec<Cell>,
    /// Runs in the order of execution.
    pub runs: Vec<PlannedRun>,
}
