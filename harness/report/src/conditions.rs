//! Under which conditions the figures of a result were obtained, in a few words for the first screen.

use fragbench_model::RunRecord;

use crate::ResultData;
use crate::server::recordings_note;

/// Without the revision that jemalloc adds to its version.
fn short(version: &str) -> &str {
    version.split_once('-').map_or(version, |(version, _)| version)
}

/// What bears on every figure and stands on the first screen: clock, huge pages, versions of the allocators.
pub fn conditions(data: &ResultData) -> Vec<String> {
    let distinct = |mut words: Vec<String>| {
        words.sort();
        words.dedup();
        words.join(", ")
    };
    let m = &data.manifest;
    let mut facts = Vec::new();
    let paces = distinct(m.plan.cells.iter().filter_map(|c| Some(c.workload.pace()?.to_string())).collect());
    if !paces.is_empty() {
        facts.push(format!("pace {paces}"));
    }
    let pages = distinct(m.huge_pages.iter().map(|fact| fact.used.name().to_owned()).collect());
    if !pages.is_empty() {
        facts.push(format!("huge pages {pages}"));
    }
    let version = |r: &RunRecord| Some(format!("{} {}", r.allocator, short(&r.proof.as_ref()?.version)));
    let versions = distinct(data.records.iter().filter(|r| r.allocator != "null").filter_map(version).collect());
    facts.extend((!versions.is_empty()).then_some(versions));
    facts.extend(recordings_note(&m.plan));
    facts
}
