//! The recipes that spread a sweep, each carried out: GNU parallel itself, a Slurm array's and an Indexed Job's commands as
//! those would start them. Each one's merged result has the runs of the undivided plan.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{arg, json, program, runs, stderr, stdout, succeed};
use serde_json::Value;

const RECIPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../run/recipes");

/// A sweep whose words have to be quoted.
const SWEEP: &[&str] =
    &["compare", "--allocator", "glibc", "--arena-max", "default", "--reps", "4", "--name", "a name"];
const COMMAND: &[&str] = &["--", "sh", "-c", "exit $((1 - 1))"];

fn sweep<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [SWEEP, more, COMMAND].concat()
}

/// What a run is of: block, settings, and whether it is the A/A copy.
type Run = (u64, String, bool);

/// Runs of the undivided plan.
fn planned(arguments: &[&str]) -> BTreeSet<Run> {
    let plan = json(&succeed(arguments));
    let runs = plan["runs"].as_array().unwrap().iter();
    runs.map(|run| {
        let cell = &plan["cells"][run["cell"].as_u64().unwrap() as usize];
        (run["repetition"].as_u64().unwrap(), cell["allocator"]["settings"].to_string(), cell["aa"] == true)
    })
    .collect()
}

/// The merged result holds each of the plan's runs once, with figures.
fn assert_whole(merged: &Path) {
    let records = runs(merged);
    assert!(records.iter().all(|record| record["status"] == "ok" && record["workload"] == "a name"), "{records:?}");
    let held: BTreeSet<Run> = records
        .iter()
        .map(|run| (run["repetition"].as_u64().unwrap(), run["settings"].to_string(), run["aa"] == true))
        .collect();
    assert_eq!(held.len(), records.len(), "each once");
    assert_eq!(held, planned(&sweep(&["--dry-run", "--format", "json"])));
    let manifest = json(&std::fs::read_to_string(merged.join("manifest.json")).unwrap());
    assert_eq!(manifest["machines"].as_array().unwrap().len(), 3);
    assert!(manifest["ended_unix_s"].is_number());
}

fn merge(out: &Path) {
    let shards: Vec<PathBuf> = (1..=3).map(|shard| out.join(format!("shard-{shard}"))).collect();
    let merged = out.join("merged");
    let shards = shards.iter().map(|dir| arg(dir));
    succeed(&["merge"].into_iter().chain(shards).chain(["-o", arg(&merged)]).collect::<Vec<_>>());
}

/// Takes a shard's last run away, as when it was killed before it was kept.
fn kill_before_its_end(shard: &Path) {
    let file = shard.join("runs.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let (kept, _) = text.trim_end().rsplit_once('\n').unwrap();
    std::fs::write(file, format!("{kept}\n")).unwrap();
}

fn said(output: &Output) -> String {
    format!("{}\n{}{}", output.status, stdout(output), stderr(output))
}

#[test]
fn gnu_parallel_runs_the_shards_on_local_slots() {
    if program("parallel").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("of parallel");
    let script = Path::new(RECIPES).join("parallel.sh");
    let start = || {
        let mut command = Command::new(&script);
        command.env("FRAGBENCH", env!("CARGO_BIN_EXE_fragbench")).args(["3", arg(&out)]).args(sweep(&[]));
        command.output().unwrap()
    };
    let output = start();
    assert!(output.status.success(), "{}", said(&output));
    assert_whole(&out.join("merged"));

    // Started again it finishes what was begun.
    kill_before_its_end(&out.join("shard-2"));
    std::fs::remove_dir_all(out.join("merged")).unwrap();
    let output = start();
    assert!(output.status.success(), "{}", said(&output));
    assert_whole(&out.join("merged"));

    let output = Command::new(&script).arg("3").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("parallel.sh SHARDS OUT VERB"), "{}", stderr(&output));
}

#[test]
fn each_task_of_a_slurm_array_runs_its_shard() {
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(RECIPES).join("slurm.sbatch");
    let task = |id: &str| {
        // As Slurm starts it: a copy elsewhere, the environment that sbatch hands on and the task's number.
        let copy = dir.path().join("slurm_script");
        std::fs::copy(&script, &copy).unwrap();
        let mut command = Command::new("bash");
        command.env("FRAGBENCH", env!("CARGO_BIN_EXE_fragbench")).env("SHARDS", "3").env("OUT", dir.path().join("out"));
        command.env("SLURM_ARRAY_TASK_ID", id).arg(copy).args(sweep(&[]));
        command
    };
    for id in ["1", "2", "3"] {
        let output = task(id).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    // Requeued, it goes on.
    let out = dir.path().join("out");
    kill_before_its_end(&out.join("shard-3"));
    let output = task("3").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    merge(&out);
    assert_whole(&out.join("merged"));

    let output = task("1").env_remove("SHARDS").output().unwrap();
    assert!(!output.status.success() && stderr(&output).contains("SHARDS"), "{}", said(&output));
    // sbatch reads options up to the first command.
    let text = std::fs::read_to_string(&script).unwrap();
    let last = text.rfind("\n#SBATCH").unwrap();
    assert!(text[..last].lines().all(|line| line.starts_with('#')), "every option is before the first command");
}

#[test]
fn each_pod_of_an_indexed_job_runs_its_shard() {
    let Some(validate) = program("kubernetes-validate") else { return };
    let manifest = Path::new(RECIPES).join("kubernetes.yaml");
    let dir = tempfile::tempdir().unwrap();
    let check = |file: &Path| Command::new(&validate).arg("--strict").arg(file).output().unwrap();
    let output = check(&manifest);
    assert!(output.status.success(), "{}", said(&output));
    let wrong = dir.path().join("wrong.yaml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&wrong, text.replace("completionMode", "completionsMode")).unwrap();
    assert!(!check(&wrong).status.success(), "a wrong key is found");

    // The Python that the validator runs on reads YAML.
    let python = validate.canonicalize().unwrap().with_file_name("python3");
    let read = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let job = json(&stdout(&Command::new(python).args(["-c", read, arg(&manifest)]).output().unwrap()));
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let words = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let variable = |name: &str| {
        let all = container["env"].as_array().unwrap();
        all.iter().find(|variable| variable["name"] == name).unwrap()["value"].as_str().unwrap().to_owned()
    };
    let (command, shards) = (words(&container["command"]), variable("SHARDS"));
    let spec = &job["spec"];
    assert_eq!((&spec["completionMode"], spec["completions"].to_string()), (&"Indexed".into(), shards.clone()));
    assert_eq!(spec["parallelism"], spec["completions"]);
    assert_eq!(container["volumeMounts"][0]["mountPath"], variable("OUT"));

    let bin = Path::new(env!("CARGO_BIN_EXE_fragbench")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let out = dir.path().join("out");
    let pod = |index: u32, shards: &str, arguments: &[&str]| {
        let mut start = Command::new(&command[0]);
        start.args(&command[1..]).args(arguments).env("PATH", &path).env("OUT", &out);
        let output = start.env("SHARDS", shards).env("JOB_COMPLETION_INDEX", index.to_string()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        stdout(&output)
    };
    // What the manifest asks for, as a plan: its pods share the plan of the undivided sweep.
    let asked = words(&container["args"]);
    let asked: Vec<&str> = asked.iter().map(String::as_str).chain(["--dry-run", "--format", "json"]).collect();
    let blocks = |text: &str| -> BTreeSet<u64> {
        json(text)["runs"].as_array().unwrap().iter().map(|run| run["repetition"].as_u64().unwrap()).collect()
    };
    let shared: Vec<u64> =
        (0..shards.parse().unwrap()).flat_map(|index| blocks(&pod(index, &shards, &asked))).collect();
    assert_eq!(shared.len(), 15, "each block once: {shared:?}");
    assert_eq!(shared.into_iter().collect::<BTreeSet<_>>(), blocks(&succeed(&asked)));

    // A small sweep, carried out; the last pod was lost and is started again.
    (0..3).for_each(|index| drop(pod(index, "3", &sweep(&[]))));
    kill_before_its_end(&out.join("shard-3"));
    pod(2, "3", &sweep(&[]));
    merge(&out);
    assert_whole(&out.join("merged"));
}
