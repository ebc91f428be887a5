//! Plan: which cells, how often, in which order.
//!
//! Blocks: every repetition is a block that runs each cell once, in an order shuffled by the seed, so that a drift of the
//! machine hits all allocators alike. Blocks can be added to a plan that was carried out.

use fragbench_model::{Allocator, AllocatorKind, Cell, Plan, PlannedRun, WorkloadSpec};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;

/// The null allocator is a floor, not a candidate: it is run in every fifth repetition only, since it is slow wherever
/// much memory is touched.
const NULL_EVERY: u32 = 5;

/// Parts the seeds of neighbouring blocks (Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators").
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// What the user chose.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Works, in the order of the tables.
    pub workloads: Vec<WorkloadSpec>,
    /// Environments, in the order of the tables.
    pub allocators: Vec<Allocator>,
    /// What the user runs today, among `allocators`: the others are compared with it. `None` for the system's glibc without
    /// settings.
    pub baseline: Option<Allocator>,
    /// Runs of each cell.
    pub repetitions: u32,
    /// Seed of order and workloads.
    pub seed: u64,
}

/// Makes the plan. The baseline, if it is among the allocators, gets a second copy per workload, whose distance from the first is the noise floor.
pub fn build(selection: &Selection) -> Plan {
    let mut cells = Vec::new();
    for workload in &selection.workloads {
        for allocator in &selection.allocators {
            cells.push(Cell::new(workload.clone(), allocator.clone()));
        }
        if let Some(baseline) = selection.allocators.iter().find(|a| is_baseline(a, selection)) {
            cells.push(Cell { aa: true, ..Cell::new(workload.clone(), baseline.clone()) });
        }
    }
    of_cells(cells, selection.repetitions, selection.seed)
}

/// Adds a block: each cell once, in an order of its own that seed and block decide.
pub fn add_block(plan: &mut Plan) {
    let repetition = plan.runs.last().map_or(0, |run| run.repetition + 1);
    let mut rng = Pcg64Mcg::seed_from_u64(plan.seed.wrapping_add(u64::from(repetition).wrapping_mul(GOLDEN)));
    let mut order: Vec<usize> = (0..plan.cells.len()).collect();
    order.shuffle(&mut rng);
    order.retain(|&cell| {
        repetition.is_multiple_of(NULL_EVERY) || plan.cells[cell].allocator.kind != AllocatorKind::Null
    });
    plan.runs.extend(order.into_iter().map(|cell| PlannedRun {
        run: repetition * plan.cells.len() as u32 + cell as u32,
        cell,
        repetition,
    }));
}

/// Cells, each run so often, without a copy of the baseline.
pub fn of_cells(cells: Vec<Cell>, repetitions: u32, seed: u64) -> Plan {
    let mut plan = Plan { seed, cells, runs: Vec::new() };
    for _ in 0..repetitions {
        add_block(&mut plan);
    }
    plan
}

/// Adds a block of some of the cells, in an order of its own that seed and block decide: a search runs fewer and fewer. The
/// cells of a block are paired, as those of any other are.
pub(crate) fn add_block_of(plan: &mut Plan, cells: &[usize]) {
    let repetition = plan.runs.iter().map(|run| run.repetition + 1).max().unwrap_or(0);
    let mut rng = Pcg64Mcg::seed_from_u64(plan.seed ^ u64::from(repetition).wrapping_mul(GOLDEN));
    let mut order = cells.to_vec();
    order.shuffle(&mut rng);
    let first = plan.runs.iter().map(|run| run.run + 1).max().unwrap_or(0);
    plan.runs.extend(order.into_iter().zip(first..).map(|(cell, run)| PlannedRun { run, cell, repetition }));
}

fn is_baseline(allocator: &Allocator, selection: &Selection) -> bool {
    if let Some(baseline) = &selection.baseline {
        return allocator.is(baseline);
    }
    allocator.kind == AllocatorKind::Glibc && allocator.libc.is_none() && allocator.settings.is_empty()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn allocator(name: &str, kind: AllocatorKind) -> Allocator {
        Allocator {
            name: name.into(),
            kind,
            library: None,
            libc: None,
            settings: Default::default(),
            environment: Default::default(),
            notes: vec![],
        }
    }

    /// Two workloads under glibc and null, four blocks.
    pub(crate) fn selection() -> Selection {
        let named = |name: &str| WorkloadSpec::Named {
            name: name.into(),
            parameters: Default::default(),
            pace: Default::default(),
        };
        Selection {
            workloads: vec![named("a"), named("b")],
            allocators: vec![allocator("glibc", AllocatorKind::Glibc), allocator("null", AllocatorKind::Null)],
            baseline: None,
            repetitions: 4,
            seed: 7,
        }
    }

    #[test]
    fn the_copy_is_of_what_the_user_runs() {
        let copied = |selection: &Selection| -> Vec<String> {
            build(selection).cells.iter().filter(|c| c.aa).map(|c| c.allocator.name.clone()).collect()
        };
        assert_eq!(copied(&selection()), ["glibc", "glibc"]);
        let linked = allocator("as-linked", AllocatorKind::Other);
        let mut own = selection();
        own.allocators.push(linked.clone());
        own.baseline = Some(linked);
        assert_eq!(copied(&own), ["as-linked", "as-linked"]);
    }

    #[test]
    fn blocks_of_different_cells_follow_each_other() {
        let mut plan = Plan { seed: 7, cells: Vec::new(), runs: Vec::new() };
        add_block_of(&mut plan, &[0, 1, 2, 3, 4, 5, 6, 7]);
        add_block_of(&mut plan, &[0, 1, 5]);
        let (first, second) = plan.runs.split_at(8);
        assert!(second.iter().all(|run| run.repetition == 1) && first.iter().all(|run| run.repetition == 0));
        let identities: BTreeSet<u32> = plan.runs.iter().map(|run| run.run).collect();
        assert_eq!(identities.len(), 11);
        let mut cells: Vec<usize> = second.iter().map(|run| run.cell).collect();
        cells.sort_unstable();
        assert_eq!(cells, [0, 1, 5]);
        assert_ne!(first.iter().map(|run| run.cell).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn each_repetition_runs_every_cell_once_in_its_own_order() {
        let plan = build(&selection());
        assert_eq!(plan.cells.len(), 6, "two workloads × (two allocators + the baseline's copy)");
        let orders: Vec<Vec<usize>> = (0..4)
            .map(|repetition| plan.runs.iter().filter(|r| r.repetition == repetition).map(|r| r.cell).collect())
            .collect();
        assert!(plan.runs.is_sorted_by_key(|run| run.repetition));
        // Cells 1 and 4 are the null allocator's.
        assert_eq!(orders[0].iter().copied().collect::<BTreeSet<_>>(), (0..6).collect());
        for order in &orders[1..] {
            assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([0, 2, 3, 5]));
        }
        assert!(orders[1..].windows(2).any(|w| w[0] != w[1]), "the order is shuffled anew: {orders:?}");
        let identities: BTreeSet<u32> = plan.runs.iter().map(|run| run.run).collect();
        assert_eq!(identities.len(), plan.runs.len());
        assert_eq!(build(&selection()), plan, "the same seed gives the same plan");
        let mut grown = build(&Selection { repetitions: 3, ..selection() });
        add_block(&mut grown);
        assert_eq!(grown, plan, "a block added later is the one that would have been planned");
    }
}
