//! `fragbench merge` as its user sees it: shards become the result that a single machine would have made, and what is
//! missing, twice or different is named.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use common::{arg, json, refuse, run, runs, stderr, succeed};
use serde_json::{Value, json};

const SHARDS: u32 = 3;

/// A whole result, and the same divided into the directories that three machines would have made.
struct Divided {
    dir: tempfile::TempDir,
    whole: PathBuf,
}

static DIVIDED: LazyLock<Divided> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let small = ["--reps", "3", "--threads", "2", "--idle", "1ms", "--scale", "0.02", "--arena-max", "default"];
    let run = ["run", "mysql/oltp-read-write", "--allocator", "glibc,jemalloc", "-o", arg(&whole)];
    succeed(&[&run[..], &small].concat());
    Divided { dir, whole }
});

impl Divided {
    /// A fresh copy of shard `index` at `to`; `change` alters its manifest.
    fn shard(&self, index: u32, to: &Path, change: impl Fn(&mut Value)) -> PathBuf {
        let mut manifest = json(&std::fs::read_to_string(self.whole.join("manifest.json")).unwrap());
        let ours = |repetition: &Value| fragbench_run::shard_of(repetition.as_u64().unwrap() as u32, SHARDS) == index;
        manifest["part"] = json!({ "shard": format!("{index}/{SHARDS}"), "blocks": 3 });
        manifest["plan"]["runs"].as_array_mut().unwrap().retain(|run| ours(&run["repetition"]));
        change(&mut manifest);
        let dir = to.join(format!("shard-{index}"));
        std::fs::create_dir_all(dir.join("samples")).unwrap();
        std::fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
        let mut lines = String::new();
        for line in std::fs::read_to_string(self.whole.join("runs.jsonl")).unwrap().lines() {
            let record = json(line);
            if ours(&record["repetition"]) {
                let samples = record["samples"].as_str().unwrap();
                std::fs::copy(self.whole.join(samples), dir.join(samples)).unwrap();
                lines += &format!("{line}\n");
            }
        }
        std::fs::write(dir.join("runs.jsonl"), lines).unwrap();
        dir
    }

    /// All shards, fresh, in a folder of the test's own.
    fn shards(&self, test: &str) -> (PathBuf, Vec<PathBuf>) {
        let to = self.dir.path().join(test);
        let shards = (1..=SHARDS).map(|index| self.shard(index, &to, |_| {})).collect();
        (to, shards)
    }
}

fn merge<'a>(dirs: &'a [PathBuf], more: &[&'a str]) -> Vec<&'a str> {
    ["merge"].into_iter().chain(dirs.iter().map(|dir| arg(dir))).chain(more.iter().copied()).collect()
}

/// Contents of a directory by relative path.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(contents(&entry)),
            false => drop(found.insert(entry.clone(), std::fs::read(&entry).unwrap())),
        }
    }
    found
}

#[test]
fn merged_shards_are_the_result_of_the_whole_plan() {
    let (to, shards) = DIVIDED.shards("all");
    let before: Vec<_> = shards.iter().map(|dir| contents(dir)).collect();
    let out = to.join("merged");
    let text = succeed(&merge(&shards, &["-o", arg(&out), "--format", "json"]));
    let whole = &DIVIDED.whole;
    let read = |dir: &Path, name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(json(&text), json(&read(&out, "summary.json")));
    for name in ["summary.json", "summary.csv", "runs.jsonl"] {
        assert_eq!(read(&out, name), read(whole, name), "{name}");
    }
    for record in runs(&out) {
        let name = record["samples"].as_str().unwrap();
        assert_eq!(std::fs::read(out.join(name)).unwrap(), std::fs::read(whole.join(name)).unwrap(), "{name}");
    }
    let manifest = json(&read(&out, "manifest.json"));
    assert_eq!(manifest["plan"], json(&read(whole, "manifest.json"))["plan"]);
    let machines: Vec<_> = manifest["machines"].as_array().unwrap().iter().map(|machine| &machine["shard"]).collect();
    assert_eq!(machines, ["1/3", "2/3", "3/3"]);
    assert!(read(&out, "report.html").contains("Merged from shards") && read(&out, "report.md").contains("shard-2"));
    assert_eq!(shards.iter().map(|dir| contents(dir)).collect::<Vec<_>>(), before, "the shards are as they were");

    // It is a result like any other, except that it cannot be gone on with.
    assert_eq!(json(&succeed(&["report", arg(&out), "--format", "json"])), json(&text));
    refuse(2, &["run", "mysql/oltp-read-write", "--resume", arg(&out)], &["merged from shards"]);
    refuse(1, &["merge", arg(&out), "-o", arg(&to.join("again"))], &["merged already"]);
    refuse(2, &merge(&shards, &["-o", arg(&out)]), &["is there already", "-o"]);
}

#[test]
fn what_is_missing_is_named_and_merged_only_on_demand() {
    let (to, shards) = DIVIDED.shards("missing");
    let out = to.join("merged");
    // Shard 2 lost its last run, shard 3 is not there.
    let file = shards[1].join("runs.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let (kept, lost) = text.trim_end().rsplit_once('\n').unwrap();
    std::fs::write(&file, format!("{kept}\n")).unwrap();
    let lost = json(lost);
    let what = format!("{} under {}", lost["workload"].as_str().unwrap(), lost["allocator"].as_str().unwrap());
    let block = format!("block {} lacks {what}", lost["repetition"].as_u64().unwrap() + 1);
    let resume = format!("--resume {}", shards[1].display());
    let words = ["--partial", "shard 2/3", &block, &resume, "shard 3/3: no directory", "(blocks 3)"];
    refuse(1, &merge(&shards[..2], &["-o", arg(&out)]), &words);
    let left: Vec<_> = std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "nothing was written: {left:?}");

    let arguments = merge(&shards[..2], &["-o", arg(&out), "--partial", "--format", "json"]);
    let output = run(&arguments);
    assert!(output.status.success() && words[1..].iter().all(|word| stderr(&output).contains(word)), "{output:?}");
    let summary = json(&common::stdout(&output));
    assert_eq!(summary["partial"], true);
    assert_eq!(runs(&out).len(), runs(&DIVIDED.whole).len() - 1 - runs(&shards[2]).len());
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let (to, shards) = DIVIDED.shards("mixed");
    let out = to.join("merged");
    let with = |index: usize, other: PathBuf| {
        let mut dirs = shards.clone();
        dirs[index] = other;
        dirs
    };
    let seed = DIVIDED.shard(2, &to.join("seed"), |manifest| manifest["plan"]["seed"] = json!(2));
    refuse(1, &merge(&with(1, seed), &["-o", arg(&out)]), &["seed differs: 1 (", "; 2 (", "seed/shard-2"]);
    let version = DIVIDED.shard(3, &to.join("version"), |manifest| manifest["version"] = json!("0.0.1"));
    refuse(1, &merge(&with(2, version), &["-o", arg(&out)]), &["version of fragbench differs", "0.0.1"]);
    refuse(1, &merge(&with(0, DIVIDED.whole.clone()), &["-o", arg(&out)]), &["not a shard", "--shard"]);

    // Another CPU is told, and no reason to refuse. The same shard twice: a copy counts once, other figures are refused.
    let copy = DIVIDED.shard(2, &to.join("copy"), |manifest| manifest["host"]["cpu"] = json!("Another CPU"));
    let dirs = [shards.clone(), vec![copy.clone()]].concat();
    let output = run(&merge(&dirs, &["-o", arg(&to.join("copied"))]));
    for words in ["CPU differs", "Another CPU", "count once"] {
        assert!(output.status.success() && stderr(&output).contains(words), "{}", stderr(&output));
    }
    let file = copy.join("runs.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\"started_unix_s\":", "\"started_unix_s\":1", 1)).unwrap();
    refuse(
        1,
        &merge(&dirs, &["-o", arg(&out)]),
        &["twice with different figures", "block 2,", "shard 2/3", "copy/shard-2"],
    );
    assert!(!out.exists());
}
