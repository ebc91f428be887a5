//! Shards put together again: manifests and records of the parts give those of the whole. Pure; reading and writing are the
//! caller's.
//!
//! It refuses to mix: parts of different plans, programs or C libraries, two results of one block that are not the same
//! one, and a block that is not from one machine, since its cells are compared with each other.

mod blocks;
mod conditions;

use fragbench_model::{Machine, Manifest, Part, RunRecord};

use crate::shard::whole_plan;

/// A shard's result.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its directory, as messages name it.
    pub name: String,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its runs.
    pub records: Vec<RunRecord>,
}

/// The whole.
#[derive(Debug)]
pub struct Merged {
    /// Manifest of the whole plan, with the machines.
    pub manifest: Manifest,
    /// Runs in the plan's order, each with the source that it is from.
    pub records: Vec<(RunRecord, usize)>,
    /// What differs between the sources and bears on how the figures are read.
    pub warnings: Vec<String>,
    /// What the plan has and no source, each with the shard it belongs to and what to do.
    pub missing: Vec<String>,
}

/// Puts shards together.
///
/// # Errors
/// Every reason why these are no parts of one whole.
pub fn merge(sources: &[Source]) -> Result<Merged, Vec<String>> {
    let no_part: Vec<String> = sources.iter().filter(|source| source.manifest.part.is_none()).map(no_shard).collect();
    let (Some(first), []) = (sources.first(), &no_part[..]) else { return Err(no_part) };
    let conditions = conditions::compare(sources);
    if !conditions.refused.is_empty() {
        return Err(conditions.refused);
    }
    let parts: Vec<Part> = sources.iter().filter_map(|source| source.manifest.part).collect();
    let plan = whole_plan(&first.manifest.plan, parts[0]);
    let chosen = blocks::choose(&plan, &parts, sources)?;
    let machines: Vec<Machine> = sources
        .iter()
        .zip(&parts)
        .enumerate()
        .filter(|(index, _)| chosen.blocks.values().any(|from| from == index))
        .map(|(index, (source, part))| machine(source, *part, chosen.from(index)))
        .collect();
    let manifests = || sources.iter().map(|source| &source.manifest);
    let manifest = Manifest {
        started_unix_s: manifests().map(|m| m.started_unix_s).min().unwrap_or(first.manifest.started_unix_s),
        ended_unix_s: if chosen.missing.is_empty() { manifests().filter_map(|m| m.ended_unix_s).max() } else { None },
        host: machines.first().map_or_else(|| first.manifest.host.clone(), |machine| machine.host.clone()),
        mem_limit_bytes: manifests().map(|m| m.mem_limit_bytes).min().unwrap_or(first.manifest.mem_limit_bytes),
        plan,
        aa: Vec::new(),
        part: None,
        machines,
        ..first.manifest.clone()
    };
    let warnings = [conditions.warned, chosen.warnings].concat();
    Ok(Merged { manifest, records: chosen.records, warnings, missing: chosen.missing })
}

fn no_shard(source: &Source) -> String {
    let what = if source.manifest.machines.is_empty() {
        "is a whole result, not a shard; `fragbench run --shard I/N` makes shards, `fragbench diff` compares whole results"
    } else {
        "was merged already: give the shards themselves"
    };
    format!("{} {what}", source.name)
}

fn machine(source: &Source, part: Part, blocks: Vec<u32>) -> Machine {
    let m = &source.manifest;
    let name = std::path::Path::new(&source.name).file_name();
    Machine {
        directory: name.map_or_else(|| source.name.clone(), |name| name.to_string_lossy().into_owned()),
        shard: part.shard,
        blocks,
        command: m.command.clone(),
        started_unix_s: m.started_unix_s,
        ended_unix_s: m.ended_unix_s,
        host: m.host.clone(),
        libraries: m.libraries.clone(),
    }
}

#[cfg(test)]
mod tests;
