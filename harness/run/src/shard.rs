//! Which blocks of a plan belong to which shard.
//!
//! A block is never split: its cells are compared with each other, so they run on one machine, one after the other.

use fragbench_model::{Part, Plan, Shard};

use crate::plan::add_block;

/// The shard, from 1, that runs a block. Blocks are dealt in turn, each round one place further than the last: what only
/// every fifth block has, the null allocator, does not always meet the same machine. The number of blocks plays no part.
pub fn shard_of(block: u32, of: u32) -> u32 {
    (block % of + block / of % of) % of + 1
}

/// Leaves of a whole plan what a shard is to run.
///
/// # Errors
/// When there are more shards than blocks, so that some would have nothing to do; says how many blocks there are.
pub fn take_shard(plan: &mut Plan, shard: Shard) -> Result<Part, String> {
    let blocks = plan.runs.last().map_or(0, |run| run.repetition + 1);
    if shard.of() > blocks {
        return Err(format!(
            "the plan has {blocks} blocks, which {} shards cannot share, since a block stays on one machine: at most \
             {blocks} shards, or --reps {} or more",
            shard.of(),
            shard.of()
        ));
    }
    plan.runs.retain(|run| shard_of(run.repetition, shard.of()) == shard.index());
    Ok(Part { shard, blocks })
}

/// The plan that a shard's plan is a part of.
pub fn whole_plan(plan: &Plan, part: Part) -> Plan {
    let mut whole = Plan { seed: plan.seed, cells: plan.cells.clone(), runs: Vec::new() };
    for _ in 0..part.blocks {
        add_block(&mut whole);
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::plan::tests::selection;
    use crate::plan::{Selection, build};

    #[test]
    fn shards_are_disjoint_hold_whole_blocks_and_are_together_the_plan() {
        let whole = build(&Selection { repetitions: 15, ..selection() });
        for of in 1..=15 {
            let shards: Vec<Plan> = (1..=of)
                .map(|index| {
                    let mut plan = whole.clone();
                    let part = take_shard(&mut plan, Shard::new(index, of).unwrap()).unwrap();
                    assert_eq!(whole_plan(&plan, part), whole);
                    plan
                })
                .collect();
            let mut all: Vec<_> = shards.iter().flat_map(|plan| plan.runs.clone()).collect();
            let mut home: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
            for (index, plan) in shards.iter().enumerate() {
                assert!(!plan.runs.is_empty(), "{index} of {of}");
                for run in &plan.runs {
                    home.entry(run.repetition).or_default().insert(index);
                }
            }
            assert!(home.len() == 15 && home.values().all(|shards| shards.len() == 1), "{of}: {home:?}");
            let sizes =
                shards.iter().map(|plan| plan.runs.iter().map(|run| run.repetition).collect::<BTreeSet<_>>().len());
            assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1, "{of}");
            // Within a shard the order is the plan's.
            for plan in &shards {
                assert!(whole.runs.iter().filter(|run| plan.runs.contains(run)).eq(&plan.runs));
            }
            all.sort_by_key(|run| whole.runs.iter().position(|other| other == run));
            assert_eq!(all, whole.runs);
        }
    }

    #[test]
    fn the_null_allocator_is_not_one_machines_alone() {
        for of in 2..=15 {
            let homes: BTreeSet<u32> = (0..75).step_by(5).map(|block| shard_of(block, of)).collect();
            assert!(homes.len() >= 2, "{of}: {homes:?}");
        }
    }

    #[test]
    fn more_shards_than_blocks_are_refused() {
        let mut plan = build(&selection());
        let error = take_shard(&mut plan, Shard::new(1, 5).unwrap()).unwrap_err();
        assert!(error.contains("4 blocks") && error.contains("--reps 5"), "{error}");
        assert_eq!(plan, build(&selection()), "nothing was taken");
    }
}
