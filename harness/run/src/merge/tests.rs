use std::collections::{BTreeMap, BTreeSet};

use fragbench_model::{LibraryFact, Manifest, RunRecord, Shard};
use serde_json::json;

use super::*;
use crate::plan::tests::selection;
use crate::plan::{Selection, build};
use crate::shard::take_shard;

const BLOCKS: u32 = 7;

/// A shard as it is when it was carried out; figures are those of the run's number.
fn source(index: u32, of: u32) -> Source {
    let mut plan = build(&Selection { repetitions: BLOCKS, ..selection() });
    let part = take_shard(&mut plan, Shard::new(index, of).unwrap()).unwrap();
    let records = plan.runs.iter().map(|run| {
        let cell = &plan.cells[run.cell];
        let record = json!({
            "schema": 1, "run": run.run, "workload": cell.workload.name(), "allocator": cell.allocator.name,
            "settings": {}, "repetition": run.repetition, "aa": cell.aa, "status": "ok", "started_unix_s": 5, "attempt": 1,
            "environment": {}, "proof": null, "metrics": { "wall_s": run.run }, "phases": [], "done": null, "load": {},
            "sampler_cpu_ratio": null, "samples": null, "cautions": []
        });
        serde_json::from_value(record).unwrap()
    });
    let records: Vec<RunRecord> = records.collect();
    let manifest: Manifest = serde_json::from_value(json!({
        "schema": 1, "command": ["run", index.to_string()], "version": "1", "revision": null, "started_unix_s": 10 + index,
        "ended_unix_s": 20 + index, "host": { "kernel": "k", "cpus": 2 }, "libraries": [],
        "sample_interval_ns": 1, "mem_limit_bytes": 100 - index, "timeout_s": 1, "profile": "quick", "plan": plan, "aa": [],
        "part": part,
        "common": { "schema": 1, "workload": { "kind": "named", "name": "w", "parameters": {} },
            "threads": null, "seed": 1, "scale": 1.0, "touch": "page", "thp": false, "latency_every": 0,
            "idle_ms": 0, "epilogue": true }
    }))
    .unwrap();
    Source { name: format!("out/s{index}"), manifest, records }
}

fn sources(of: u32) -> Vec<Source> {
    (1..=of).map(|index| source(index, of)).collect()
}

fn refusals(sources: &[Source]) -> String {
    merge(sources).unwrap_err().join("\n")
}

#[test]
fn shards_in_any_order_are_the_whole_plan() {
    let whole = source(1, 1);
    for of in 1..=BLOCKS {
        let mut sources = sources(of);
        sources.reverse();
        let merged = merge(&sources).unwrap();
        assert_eq!(merged.manifest.plan, whole.manifest.plan);
        assert!(merged.records.iter().map(|(record, _)| record).eq(&whole.records), "{of} shards");
        assert_eq!((merged.missing.len(), merged.warnings.len()), (0, 0), "{:?}", merged.warnings);
        assert_eq!((merged.manifest.started_unix_s, merged.manifest.ended_unix_s), (11, Some(20 + u64::from(of))));
        assert_eq!((merged.manifest.part, merged.manifest.mem_limit_bytes), (None, 100 - u64::from(of)));
        // Where each block ran.
        let mut seen = BTreeSet::new();
        for machine in &merged.manifest.machines {
            assert_eq!(machine.directory, format!("s{}", machine.shard.index()));
            for block in &machine.blocks {
                assert_eq!(crate::shard_of(*block, of), machine.shard.index());
                assert!(seen.insert(*block));
            }
        }
        assert_eq!(seen.len(), BLOCKS as usize);
    }
}

#[test]
fn what_is_missing_is_named_with_its_shard() {
    let mut sources = sources(3);
    sources.remove(1);
    let gone = sources[0].records.pop().unwrap();
    let block = sources[1].records[0].repetition;
    sources[1].records.retain(|record| record.repetition != block);
    let merged = merge(&sources).unwrap();
    assert_eq!(merged.manifest.ended_unix_s, None);
    let text = merged.missing.join("\n");
    assert_eq!(merged.missing.len(), 3, "{text}");
    let one =
        format!("shard 1/3 (out/s1): block {} lacks {} under {}", gone.repetition + 1, gone.workload, gone.allocator);
    let whole = format!("shard 3/3 (out/s3): block {} was not run; finish it with --resume out/s3", block + 1);
    let blocks: Vec<String> =
        (0..BLOCKS).filter(|b| crate::shard_of(*b, 3) == 2).map(|b| (b + 1).to_string()).collect();
    let shard = format!("shard 2/3: no directory of it was given (blocks {})", blocks.join(", "));
    for line in [one, whole, shard] {
        assert!(text.contains(&line), "`{line}` in {text}");
    }
    // What is there is all there.
    let held: usize = sources.iter().map(|source| source.records.len()).sum();
    assert_eq!(merged.records.len(), held);
}

#[test]
fn what_stands_twice_counts_once_when_it_is_the_same_and_is_refused_when_not() {
    let mut twice = sources(2);
    twice.push(Source { name: "copy".into(), ..source(2, 2) });
    // A copy made before the shard was finished, given first.
    twice[2].records.pop();
    twice.swap(1, 2);
    let merged = merge(&twice).unwrap();
    assert_eq!(merged.records.len(), source(1, 1).records.len());
    assert_eq!(
        merged.warnings.len(),
        2,
        "one block of the copy is short, the others are taken from it: {:?}",
        merged.warnings
    );
    assert!(merged.missing.is_empty());

    twice[1].records[0].metrics.insert("wall_s".into(), 0.5);
    let text = refusals(&twice);
    let block = twice[1].records[0].repetition + 1;
    for word in ["twice with different figures", "copy", "out/s2", "shard 2/2", &format!("block {block},")] {
        assert!(text.contains(word), "`{word}` in {text}");
    }
}

#[test]
fn a_block_is_not_put_together_from_two_results() {
    let mut halves = sources(2);
    let second = halves[1].records.split_off(1);
    halves.push(Source { name: "rest".into(), records: second, ..source(2, 2) });
    let text = refusals(&halves);
    assert!(text.contains("the rest of its block in rest") && text.contains("out/s2"), "{text}");
}

#[test]
fn what_is_no_shard_of_the_same_plan_is_refused() {
    type Damage = fn(&mut Source);
    let cases: [(Damage, &str); 15] = [
        (|s| s.manifest.part = None, "out/s2 is a whole result"),
        (|s| *s = source(2, 3), "number of shards differs: 2 (out/s1); 3 (out/s2)"),
        (|s| s.manifest.part.as_mut().unwrap().blocks += 1, "--reps"),
        (|s| s.manifest.plan.seed += 1, "seed differs: 7 (out/s1); 8 (out/s2)"),
        (|s| s.manifest.version = "2".into(), "version of fragbench differs: 1 (out/s1); 2 (out/s2)"),
        (|s| s.manifest.revision = Some("abc".into()), "not known (out/s1); abc (out/s2)"),
        (
            |s| s.manifest.common.driver.as_mut().unwrap().scale = 2.0,
            "`scale` of the runs differs: 1.0 (out/s1); 2.0 (out/s2)",
        ),
        (
            |s| s.manifest.common.driver.as_mut().unwrap().touch = fragbench_model::Touch::Full,
            "`touch` of the runs differs",
        ),
        (|s| s.manifest.sample_interval_ns = 2, "sample interval differs"),
        (|s| drop(s.manifest.plan.cells.pop()), "number of cells differs: 6 (out/s1); 5 (out/s2)"),
        (|s| drop(s.manifest.plan.cells[0].allocator.settings.insert("A".into(), "1".into())), "a cell differs"),
        (|s| s.manifest.libraries[0] = library("libc", Some("2.41"), "a"), "version of libc differs"),
        (|s| s.manifest.libraries[1] = library("mine", None, "b"), "build of `mine` differs"),
        (|s| s.manifest.plan.runs[0].run += 1, "its plan is not that of shard 2/2"),
        (|s| s.records[0].repetition += 1, "is not in the plan of shard 2/2"),
    ];
    for (damage, words) in cases {
        let mut sources = sources(2);
        sources[0].manifest.libraries = vec![library("libc", Some("2.36"), "a"), library("mine", None, "a")];
        sources[1].manifest.libraries = sources[0].manifest.libraries.clone();
        assert!(merge(&sources).is_ok_and(|merged| merged.warnings.is_empty()));
        damage(&mut sources[1]);
        let text = refusals(&sources);
        assert!(text.contains(words), "`{words}` in {text}");
    }
}

fn library(name: &str, version: Option<&str>, build: &str) -> LibraryFact {
    LibraryFact {
        name: name.into(),
        file: format!("{name}.so"),
        version: version.map(str::to_owned),
        build_id: Some(build.into()),
    }
}

/// Both answer this version in every run, under every allocator.
fn answering(versions: [&str; 2]) -> Vec<Source> {
    let mut sources = sources(2);
    for (source, version) in sources.iter_mut().zip(versions) {
        for record in &mut source.records {
            let answer = json!({ "kind": "glibc", "version": version, "malloc_object": "x", "effective": {} });
            record.proof = Some(serde_json::from_value(answer).unwrap());
        }
    }
    sources
}

#[test]
fn an_allocator_is_told_by_the_version_it_answers() {
    let text = refusals(&answering(["1.0", "1.1"]));
    assert!(text.contains("version of `glibc` differs: [\"1.0\"] (out/s1); [\"1.1\"] (out/s2)"), "{text}");
    // Another build of the same version is only warned of.
    let mut sources = answering(["1.0", "1.0"]);
    sources[0].manifest.libraries = vec![library("null", None, "a")];
    sources[1].manifest.libraries = vec![library("null", None, "b")];
    let merged = merge(&sources).unwrap();
    assert_eq!(merged.warnings, ["build of `null` differs: a (out/s1); b (out/s2): the version is the same"]);
}

#[test]
fn other_machines_are_warned_of() {
    let mut sources = sources(2);
    sources[0].manifest.host.cpu = Some("A".into());
    sources[1].manifest.host.cpu = Some("B".into());
    sources[1].manifest.host.cpus = 64;
    let merged = merge(&sources).unwrap();
    let text = merged.warnings.join("\n");
    assert_eq!(merged.warnings.len(), 2, "{text}");
    assert!(text.contains("CPU differs: A (out/s1); B (out/s2)") && text.contains("number of usable CPUs"), "{text}");
    let cpus: BTreeMap<u32, u32> =
        merged.manifest.machines.iter().map(|machine| (machine.shard.index(), machine.host.cpus)).collect();
    assert_eq!(cpus, [(1, 2), (2, 64)].into());
}

/// Its first workload becomes a replay of a trace in `dir`, under a library there, with this checksum.
fn replayed(dir: &str, checksum: u64, mut source: Source) -> Source {
    let trace = json!({ "kind": "replay", "trace": format!("/{dir}/t.fbt"), "pace": { "kind": "fast" }, "skew_us": 0,
                "threads_scale": 1 });
    for cell in source.manifest.plan.cells.iter_mut().filter(|cell| cell.workload.name() == "a") {
        cell.workload = serde_json::from_value(trace.clone()).unwrap();
        cell.allocator.library = Some(format!("/{dir}/liba.so").into());
        cell.allocator.environment = [("LD_PRELOAD".to_owned(), format!("/{dir}/liba.so"))].into();
    }
    for record in source.records.iter_mut().filter(|record| record.workload == "a") {
        record.workload = "replay/t".into();
        record.done = Some(
            serde_json::from_value(json!({ "ops": 1, "live_end_bytes": 0, "checksum": checksum, "work_ns": 1,
                        "threads_started": 1, "harness_vm_bytes": 0, "latency": {}, "facts": {} }))
            .unwrap(),
        );
    }
    source
}

#[test]
fn paths_may_differ_and_recordings_not() {
    let both = |checksum: u64| vec![replayed("here", 100, source(1, 2)), replayed("there", checksum, source(2, 2))];
    assert_eq!(merge(&both(100)).unwrap().records.len(), source(1, 1).records.len());
    let text = refusals(&both(101));
    assert!(text.contains("checksum of the work of replay/t differs: [100] (out/s1); [101] (out/s2)"), "{text}");
}
