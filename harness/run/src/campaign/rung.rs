//! Blocks of a search: each runs some of a plan's cells once, in an order of its own. The cells of a block are paired, as
//! those of a plan are; which cells a block has changes from rung to rung.

use fragbench_model::{Plan, PlannedRun};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;

/// Parts the seeds of neighbouring blocks (Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators").
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Adds a block of these cells to the plan and gives its runs, in the order that seed and block decide.
pub fn add_rung_block(plan: &mut Plan, cells: &[usize]) -> Vec<PlannedRun> {
    let repetition = plan.runs.iter().map(|run| run.repetition + 1).max().unwrap_or(0);
    let mut rng = Pcg64Mcg::seed_from_u64(plan.seed ^ u64::from(repetition).wrapping_mul(GOLDEN));
    let mut order = cells.to_vec();
    order.shuffle(&mut rng);
    let first = plan.runs.iter().map(|run| run.run + 1).max().unwrap_or(0);
    let block: Vec<PlannedRun> =
        order.into_iter().zip(first..).map(|(cell, run)| PlannedRun { run, cell, repetition }).collect();
    plan.runs.extend(&block);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_different_cells_follow_each_other() {
        let mut plan = Plan { seed: 7, cells: Vec::new(), runs: Vec::new() };
        let first = add_rung_block(&mut plan, &[0, 1, 2, 3, 4, 5, 6, 7]);
        let second = add_rung_block(&mut plan, &[0, 1, 5]);
        assert_eq!(plan.runs, [first.clone(), second.clone()].concat());
        assert!(second.iter().all(|run| run.repetition == 1) && first.iter().all(|run| run.repetition == 0));
        let identities: std::collections::BTreeSet<u32> = plan.runs.iter().map(|run| run.run).collect();
        assert_eq!(identities.len(), 11);
        let mut cells: Vec<usize> = second.iter().map(|run| run.cell).collect();
        cells.sort_unstable();
        assert_eq!(cells, [0, 1, 5]);
        assert_ne!(first.iter().map(|run| run.cell).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    }
}
