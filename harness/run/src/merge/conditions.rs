//! Whether shards were measured under conditions that let them stand in one result. What would put figures of different
//! things under one name is refused; what moves absolute figures, while ratios within a block stay fair, is warned of.

use std::collections::BTreeSet;
use std::path::Path;

use fragbench_model::{Cell, Common, Host, Manifest, RunRecord, WorkloadSpec};
use serde_json::{Value, json};

use super::Source;

/// What differs.
#[derive(Default)]
pub(super) struct Differences {
    pub(super) refused: Vec<String>,
    pub(super) warned: Vec<String>,
}

/// A condition, read off what says it.
type Of<T> = fn(&T) -> Value;

/// Compares all sources in everything that a figure depends on.
pub(super) fn compare(sources: &[Source]) -> Differences {
    let mut found = Differences::default();
    let plan: [(&str, Of<Manifest>); 11] = [
        ("number of shards", |m| json!(m.part.map(|part| part.shard.of()))),
        ("number of blocks (--reps)", |m| json!(m.part.map(|part| part.blocks))),
        ("seed", |m| json!(m.plan.seed)),
        ("version of fragbench", |m| json!(m.version)),
        ("revision of fragbench", |m| json!(m.revision)),
        ("profile", |m| json!(m.profile)),
        ("sample interval", |m| json!(m.sample_interval_ns)),
        ("time limit of a run", |m| json!(m.timeout_s)),
        ("threshold of relevance", |m| json!(m.relevant)),
        ("generated work", |m| json!(m.profiles)),
        ("version of libc", |m| json!(m.libraries.iter().find(|fact| fact.name == "libc").map(|fact| &fact.version))),
    ];
    for (what, value) in plan {
        found.refused.extend(differs(what, sources, |source| value(&source.manifest)));
    }
    found.refused.extend(common(sources));
    found.refused.extend(cells(sources));
    if found.refused.is_empty() {
        builds(sources, &mut found);
        found.refused.extend(recordings(sources));
    }
    let machine: [(&str, Of<Host>, &str); 11] = [
        ("CPU", |h| json!(h.cpu), "times mix kinds of CPU; only ratios, which are formed within a block, stay fair"),
        (
            "number of usable CPUs",
            |h| json!(h.cpus),
            "glibc and jemalloc have arenas by the number of CPUs: memory differs where no limit is set",
        ),
        ("kernel", |h| json!(h.kernel), "page faults and what they cost may differ"),
        ("operating system", |h| json!(h.os), "its libraries may be built differently"),
        ("transparent huge pages", |h| json!(h.thp), "resident memory differs where they are allowed"),
        (
            "vm.overcommit_memory",
            |h| json!(h.overcommit),
            "under 2 glibc unmaps what it shrinks an arena's heap by, else it only discards it",
        ),
        ("virtualisation", |h| json!(h.virtualised), "times of a virtual machine scatter more"),
        ("frequency governor", |h| json!(h.governor), "times scatter more where frequencies change"),
        (
            "processor quota of the cgroup",
            |h| json!(h.cgroup_cpu_quota),
            "times differ where processors are taken away",
        ),
        ("memory limit of the cgroup", |h| json!(h.cgroup_memory_limit_bytes), "near it the kernel takes pages away"),
        ("limit of address space", |h| json!(h.address_space_limit_bytes), "near it arenas are refused"),
    ];
    for (what, value, so) in machine {
        let line = differs(what, sources, |source| value(&source.manifest.host));
        found.warned.extend(line.map(|line| format!("{line}: {so}")));
    }
    found
}

/// Says how the sources differ in something, if they do: each value with those that have it.
fn differs<'a>(
    what: &str,
    sources: impl IntoIterator<Item = &'a Source>,
    value: impl Fn(&Source) -> Value,
) -> Option<String> {
    let mut groups: Vec<(Value, Vec<&str>)> = Vec::new();
    for source in sources {
        let value = value(source);
        match groups.iter_mut().find(|(known, _)| *known == value) {
            Some((_, names)) => names.push(&source.name),
            None => groups.push((value, vec![&source.name])),
        }
    }
    let shown = |value: &Value| match value {
        Value::Null => "not known".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let texts: Vec<String> =
        groups.iter().map(|(value, names)| format!("{} ({})", shown(value), names.join(", "))).collect();
    (groups.len() > 1).then(|| format!("{what} differs: {}", texts.join("; ")))
}

/// What all runs have in common, field by field.
fn common(sources: &[Source]) -> Vec<String> {
    let fields = |common: &Common| match json!(common) {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    let Some(first) = sources.first() else { return Vec::new() };
    fields(&first.manifest.common)
        .keys()
        .filter_map(|name| {
            let value = |source: &Source| fields(&source.manifest.common).get(name).cloned().unwrap_or(Value::Null);
            differs(&format!("`{name}` of the runs"), sources, value)
        })
        .collect()
}

/// The first cell in which sources differ. Paths may: results of different machines are merged.
fn cells(sources: &[Source]) -> Option<String> {
    let cells = |source: &Source| -> Vec<Value> { source.manifest.plan.cells.iter().map(identity).collect() };
    let (first, rest) = sources.split_first()?;
    let ours = cells(first);
    rest.iter().find_map(|source| {
        let theirs = cells(source);
        if ours.len() != theirs.len() {
            return Some(format!(
                "number of cells differs: {} ({}); {} ({})",
                ours.len(),
                first.name,
                theirs.len(),
                source.name
            ));
        }
        let (a, b) = ours.iter().zip(&theirs).find(|(a, b)| a != b)?;
        Some(format!("a cell differs: {a} ({}); {b} ({})", first.name, source.name))
    })
}

/// A cell without what depends on where things lie.
fn identity(cell: &Cell) -> Value {
    let file = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let workload = match &cell.workload {
        WorkloadSpec::Replay { pace, skew_us, threads_scale, .. } => {
            let recordings: Vec<_> = cell.workload.recordings().into_iter().map(file).collect();
            json!([recordings, pace, skew_us, threads_scale])
        }
        WorkloadSpec::Profile { profile, pace, .. } => json!([file(profile), pace]),
        other => json!(other),
    };
    let allocator = &cell.allocator;
    let mut environment = allocator.environment.clone();
    if let Some(preload) = environment.get_mut("LD_PRELOAD") {
        *preload = preload.split([':', ' ']).filter_map(|path| file(Path::new(path))).collect::<Vec<_>>().join(":");
    }
    json!({
        "workload": workload,
        "allocator": allocator.name,
        "kind": allocator.kind,
        "library": allocator.library.as_deref().and_then(file),
        "libc": allocator.libc.as_ref().map(|libc| (&libc.version, &libc.build_id)),
        "settings": allocator.settings,
        "environment": environment,
        "aa": cell.aa,
    })
}

/// Versions that an allocator answered in a source's runs. A command does not answer.
fn versions<'a>(source: &'a Source, allocator: &str) -> BTreeSet<&'a str> {
    let commands = source.manifest.plan.cells.iter().any(|cell| cell.workload.command().is_some());
    let answers = source.records.iter().filter(|record| !commands && record.is_ok() && record.allocator == allocator);
    answers.filter_map(|record| Some(record.proof.as_ref()?.version.as_str())).collect()
}

/// Whether a name means the same allocator or program everywhere: by the version it answered, or where none is told by
/// its build. Another build of the same version is warned of.
fn builds(sources: &[Source], found: &mut Differences) {
    let names: BTreeSet<&str> =
        sources.iter().flat_map(|s| &s.manifest.libraries).map(|fact| fact.name.as_str()).collect();
    for name in &names {
        let facts = |source: &Source| source.manifest.libraries.iter().find(|fact| fact.name == *name).cloned();
        let build = |source: &Source| json!(facts(source).map(|fact| fact.build_id));
        let Some(line) = differs(&format!("build of `{name}`"), sources, build) else { continue };
        // Ours have the version of fragbench.
        let ours = |source: &Source| facts(source).is_none_or(|fact| fact.file.starts_with("libfragbench_"));
        let told = ["worker", "libc"].contains(name)
            || sources.iter().all(ours)
            || sources.iter().all(|source| !versions(source, name).is_empty());
        if told {
            found.warned.push(format!("{line}: the version is the same"));
        } else {
            found.refused.push(format!("{line}: no version of it is known, so these may be different programs"));
        }
    }
    let allocators: BTreeSet<&str> =
        sources.iter().flat_map(|s| &s.manifest.plan.cells).map(|cell| cell.allocator.name.as_str()).collect();
    for name in allocators {
        let answered = sources.iter().filter(|source| !versions(source, name).is_empty());
        found
            .refused
            .extend(differs(&format!("version of `{name}`"), answered, |source| json!(versions(source, name))));
    }
}

/// Replays of one recording do the same work in every block: another checksum is that of another file of its name.
fn recordings(sources: &[Source]) -> Vec<String> {
    let cells = || sources.iter().flat_map(|source| &source.manifest.plan.cells);
    let is_replay = |workload: &str| {
        cells().any(|cell| {
            matches!(cell.workload, WorkloadSpec::Replay { .. } | WorkloadSpec::Profile { .. })
                && cell.workload.name() == workload
        })
    };
    type Replay<'a> = (&'a str, Option<&'a str>);
    let of = |record: &RunRecord, replay: &Replay| (record.workload.as_str(), record.recording.as_deref()) == *replay;
    let work = |source: &Source, replay: &Replay| -> BTreeSet<u64> {
        let records = source.records.iter().filter(|record| record.is_ok() && of(record, replay));
        records.filter_map(|record| Some(record.done.as_ref()?.checksum)).collect()
    };
    let records = sources.iter().flat_map(|source| &source.records);
    let replays: BTreeSet<Replay> = records
        .map(|record| (record.workload.as_str(), record.recording.as_deref()))
        .filter(|(workload, _)| is_replay(workload))
        .collect();
    let differing = replays.iter().filter_map(|replay| {
        let ran = sources.iter().filter(|source| !work(source, replay).is_empty());
        let (workload, recording) = replay;
        let name = recording.map_or_else(|| (*workload).to_owned(), |name| format!("{workload} ({name})"));
        differs(&format!("checksum of the work of {name}"), ran, |source| json!(work(source, replay)))
    });
    differing.map(|line| format!("{line}: these are different recordings")).collect()
}
