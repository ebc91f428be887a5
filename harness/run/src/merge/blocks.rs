//! Which source each block is taken from, what stands twice, and what is missing.

use std::collections::{BTreeMap, BTreeSet};

use fragbench_model::{Part, Plan, PlannedRun, RunRecord, Shard, label};

use super::Source;
use crate::shard::shard_of;

/// What was chosen.
pub(super) struct Chosen {
    /// Source of each block that has runs.
    pub(super) blocks: BTreeMap<u32, usize>,
    /// Runs in the plan's order, with their source.
    pub(super) records: Vec<(RunRecord, usize)>,
    pub(super) warnings: Vec<String>,
    pub(super) missing: Vec<String>,
}

impl Chosen {
    /// Blocks taken from a source.
    pub(super) fn from(&self, source: usize) -> Vec<u32> {
        self.blocks.iter().filter(|(_, from)| **from == source).map(|(block, _)| *block).collect()
    }
}

/// Takes each block from the source that has most of it.
///
/// # Errors
/// Runs that are not in their shard's plan, runs of one block and cell that differ, blocks that are spread over sources.
pub(super) fn choose(plan: &Plan, parts: &[Part], sources: &[Source]) -> Result<Chosen, Vec<String>> {
    let mut refused: Vec<String> =
        sources.iter().zip(parts).filter_map(|(source, part)| foreign(plan, *part, source)).collect();
    if !refused.is_empty() {
        return Err(refused);
    }
    let held: Vec<BTreeMap<u32, &RunRecord>> =
        sources.iter().map(|s| s.records.iter().map(|record| (record.run, record)).collect()).collect();
    let mut chosen = Chosen { blocks: BTreeMap::new(), records: Vec::new(), warnings: Vec::new(), missing: Vec::new() };
    let mut copies: BTreeSet<(usize, usize)> = BTreeSet::new();
    let of = parts[0].shard.of();
    let mut unheard: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for block in 0..parts[0].blocks {
        let runs: Vec<&PlannedRun> = plan.runs.iter().filter(|run| run.repetition == block).collect();
        let shard = shard_of(block, of);
        let candidates: Vec<usize> = (0..sources.len()).filter(|&i| parts[i].shard.index() == shard).collect();
        let count = |source: usize| runs.iter().filter(|run| held[source].contains_key(&run.run)).count();
        // The first of equals.
        let Some(&from) = candidates.iter().rev().max_by_key(|&&source| count(source)) else {
            unheard.entry(shard).or_default().push(block);
            continue;
        };
        for &other in candidates.iter().filter(|&&other| other != from) {
            for run in &runs {
                let Some(copy) = held[other].get(&run.run) else { continue };
                let what = || format!("{} of shard {shard}/{of}", describe(plan, run));
                match held[from].get(&run.run) {
                    Some(record) if record == copy => {
                        copies.insert((from, other));
                    }
                    Some(_) => refused.push(format!(
                        "{} stands twice with different figures, in {} and {}: give one of the two",
                        what(),
                        sources[from].name,
                        sources[other].name
                    )),
                    None => refused.push(format!(
                        "{} is in {} and the rest of its block in {}: the cells of a block are compared with each other, so \
                         they must be from one result; give one of the two and finish it with --resume",
                        what(),
                        sources[other].name,
                        sources[from].name
                    )),
                }
            }
        }
        if count(from) > 0 {
            chosen.blocks.insert(block, from);
        }
        chosen.missing.extend(lacking(plan, &runs, &held[from], parts[from].shard, &sources[from].name));
        chosen.records.extend(runs.iter().filter_map(|run| Some(((*held[from].get(&run.run)?).clone(), from))));
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    chosen.missing.extend(unheard.iter().map(|(shard, blocks)| {
        let blocks: Vec<String> = blocks.iter().map(|block| (block + 1).to_string()).collect();
        format!("shard {shard}/{of}: no directory of it was given (blocks {})", blocks.join(", "))
    }));
    chosen.warnings.extend(copies.iter().map(|(from, other)| {
        format!("{} and {} hold the same runs: they count once", sources[*from].name, sources[*other].name)
    }));
    Ok(chosen)
}

/// What a source holds that its shard of the plan does not.
fn foreign(plan: &Plan, part: Part, source: &Source) -> Option<String> {
    let (shard, name) = (part.shard, &source.name);
    let ours = |run: &PlannedRun| shard_of(run.repetition, shard.of()) == shard.index();
    let planned: BTreeMap<u32, &PlannedRun> =
        plan.runs.iter().filter(|run| ours(run)).map(|run| (run.run, run)).collect();
    if source.manifest.plan.runs.iter().any(|run| planned.get(&run.run) != Some(&run)) {
        return Some(format!("{name}: its plan is not that of shard {shard}, as this version of fragbench divides it"));
    }
    let mut seen: BTreeMap<u32, &RunRecord> = BTreeMap::new();
    source.records.iter().find_map(|record| {
        let same = planned.get(&record.run).is_some_and(|run| {
            let cell = &plan.cells[run.cell];
            (run.repetition, cell.aa) == (record.repetition, record.aa)
                && (&cell.allocator.name, &cell.allocator.settings) == (&record.allocator, &record.settings)
                && cell.workload.name() == record.workload
        });
        if !same {
            return Some(format!(
                "{name}: run {} ({} under {}, block {}) is not in the plan of shard {shard}",
                record.run,
                record.workload,
                label(&record.allocator, &record.settings),
                record.repetition + 1
            ));
        }
        let twin = seen.insert(record.run, record).filter(|twin| *twin != record);
        twin.map(|_| format!("{name}: run {} stands twice with different figures in its runs.jsonl", record.run))
    })
}

/// What one block lacks in the source it is taken from.
fn lacking(
    plan: &Plan,
    runs: &[&PlannedRun],
    held: &BTreeMap<u32, &RunRecord>,
    shard: Shard,
    name: &str,
) -> Option<String> {
    let absent: Vec<&PlannedRun> = runs.iter().filter(|run| !held.contains_key(&run.run)).copied().collect();
    let first = absent.first()?;
    let block = first.repetition + 1;
    let what = if absent.len() == runs.len() {
        format!("block {block} was not run")
    } else {
        let cells: Vec<String> = absent.iter().map(|run| cell(plan, run)).collect();
        format!("block {block} lacks {}", cells.join(", "))
    };
    Some(format!("shard {shard} ({name}): {what}; finish it with --resume {name}"))
}

fn cell(plan: &Plan, run: &PlannedRun) -> String {
    let cell = &plan.cells[run.cell];
    let copy = if cell.aa { " (A/A copy)" } else { "" };
    format!("{} under {}{copy}", cell.workload.name(), cell.allocator.label())
}

fn describe(plan: &Plan, run: &PlannedRun) -> String {
    format!("{}, block {},", cell(plan, run), run.repetition + 1)
}
