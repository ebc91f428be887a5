//! How the runs of a workload compare with the server it stands for: what a reader must know before using the figures.

use fragbench_model::Manifest;

/// Sentences on a workload, or on all when none is named; none where its runs had what the server has.
pub fn server_notes(manifest: &Manifest, workload: Option<&str>) -> Vec<String> {
    let of = |name: &str| workload.is_none_or(|workload| workload == name);
    manifest
        .huge_pages
        .iter()
        .filter(|fact| of(&fact.workload))
        .filter_map(|fact| Some(format!("{}: resident memory differs for that alone; --thp chooses.", fact.caution()?)))
        .collect()
}
