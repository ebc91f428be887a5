//! `fragbench diff` as a gate: its exit status and what it prints on results of real runs, and the workflow made of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use common::{arg, json, program, refuse, run, runs, stderr, stdout, succeed};
use serde_json::Value;

const PEAK: &str = "heap_rss_peak_bytes";

/// A small result, made once: glibc and mimalloc, six blocks.
fn result() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("diff-result");
        if out.exists() {
            std::fs::remove_dir_all(&out).unwrap();
        }
        let small = ["--reps", "6", "--scale", "0.05", "--idle", "1ms", "--arena-max", "default"];
        let cells = ["run", "mysql/oltp-read-write", "--allocator", "glibc,mimalloc", "-o", arg(&out)];
        succeed(&[cells.as_slice(), &small].concat());
        out
    })
}

/// A copy of a result with its manifest and its records changed.
fn copy(from: &Path, to: &Path, manifest: impl Fn(&mut Value), record: impl Fn(&mut Value)) {
    std::fs::create_dir_all(to).unwrap();
    let mut text = json(&std::fs::read_to_string(from.join("manifest.json")).unwrap());
    manifest(&mut text);
    std::fs::write(to.join("manifest.json"), text.to_string()).unwrap();
    let lines: String = runs(from)
        .into_iter()
        .map(|mut run| {
            record(&mut run);
            format!("{run}\n")
        })
        .collect();
    std::fs::write(to.join("runs.jsonl"), lines).unwrap();
}

/// The same with the peak of one allocator's cells multiplied.
fn with_peak(from: &Path, to: &Path, allocator: &str, factor: f64) {
    copy(
        from,
        to,
        |_| {},
        |run| {
            if run["allocator"] == allocator && run["metrics"][PEAK].is_number() {
                run["metrics"][PEAK] = (run["metrics"][PEAK].as_f64().unwrap() * factor).into();
            }
        },
    );
}

fn diff(a: &Path, b: &Path, more: &[&str]) -> Output {
    run(&[&["diff", arg(a), arg(b)], more].concat())
}

#[test]
fn a_regression_is_status_1_and_none_is_0() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (result(), dir.path().join("b"));
    let same = diff(a, a, &["--metric", PEAK]);
    assert_eq!(same.status.code(), Some(0), "{}", stderr(&same));
    assert!(stdout(&same).ends_with("no relevant regression\n  None of 2 figures became relevantly worse.\n"));

    with_peak(a, &b, "mimalloc", 10.0);
    let output = diff(a, &b, &["--format", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let found = json(&stdout(&output));
    assert_eq!((&found["outcome"], &found["conditions"]), (&json("\"regression\""), &json("[]")));
    let cells = found["cells"].as_array().unwrap();
    assert_eq!(cells.iter().map(|c| c["allocator"].as_str().unwrap()).collect::<Vec<_>>(), ["glibc", "mimalloc"]);
    let peak = &cells[1]["figures"][PEAK];
    assert_eq!(peak["change"], "worse", "{peak}");
    assert!((peak["ratio"]["median"].as_f64().unwrap() - 10.0).abs() < 1e-6, "{peak}");
    assert!(cells[0]["figures"].as_object().unwrap().values().all(|f| f["change"] == "noise"), "{}", cells[0]);
    // Not of consequence when so much is allowed, not looked at when another figure is asked for, gone the other way round.
    for more in [["--metric", "heap_rss_end_bytes"], ["--metric", "heap_rss_idle_bytes"]] {
        assert_eq!(diff(a, &b, &more).status.code(), Some(0), "{more:?}");
    }
    assert_eq!(diff(&b, a, &["--metric", PEAK]).status.code(), Some(0));
    for (format, words) in [
        ("table", ["mimalloc: heap_rss_peak_bytes +900.0 %", "relevant regression"]),
        ("markdown", ["# fragbench diff: relevant regression", "| mimalloc | **"]),
    ] {
        let text = stdout(&diff(a, &b, &["--metric", PEAK, "--format", format]));
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn what_cannot_be_compared_is_status_2_and_said_plainly() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (result(), dir.path().join("b"));
    let against = |words: &[&str]| refuse(2, &["diff", arg(a), arg(&b)], words);
    against(&["is no result directory"]);
    copy(a, &b, |_| {}, |run| run["done"]["checksum"] = 1.into());
    against(&["mysql/oltp-read-write under glibc is not compared: it did other work", "cannot be compared"]);
    copy(a, &b, |m| m["profile"] = "tune".into(), |_| {});
    against(&["result of a search", "fragbench run"]);
    copy(
        a,
        &b,
        |m| m["plan"]["cells"].as_array_mut().unwrap().iter_mut().for_each(|c| c["workload"]["name"] = "x".into()),
        |_| {},
    );
    against(&["no cell in common"]);
    copy(
        a,
        &b,
        |m| m["plan"]["runs"].as_array_mut().unwrap().retain(|run| run["repetition"].as_u64() < Some(2)),
        |_| {},
    );
    against(&["so few runs that no difference could exclude chance"]);
    refuse(2, &["diff", arg(a), arg(a), "--metric", "rss"], &["no figure rss"]);
    refuse(2, &["diff", arg(a), arg(a), "--metric", "arena_count"], &["only describes"]);
}

#[test]
fn other_conditions_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let b = dir.path().join("b");
    let change = |m: &mut Value| {
        m["host"]["cpu"] = "another CPU".into();
        m["plan"]["seed"] = 7.into();
    };
    copy(result(), &b, change, |_| {});
    let output = diff(result(), &b, &["--metric", PEAK]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("another CPU") && text.contains("seed") && text.contains("The machines differ"), "{text}");
}

/// The workflow that the documentation points to.
fn workflow() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("github/gate.yml")
}

#[test]
fn the_workflow_is_one() {
    let Some(checker) = program("check-jsonschema") else { return };
    let check = |file: &Path| {
        Command::new(&checker).args(["--builtin-schema", "vendor.github-workflows"]).arg(file).output().unwrap()
    };
    let output = check(&workflow());
    assert!(output.status.success(), "{}", stdout(&output));
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("wrong.yml");
    std::fs::write(&wrong, std::fs::read_to_string(workflow()).unwrap().replace("runs-on", "run-on")).unwrap();
    assert!(!check(&wrong).status.success(), "a wrong key is found");
}

/// Names, each with a text.
type Named = Vec<(String, String)>;

/// Variables under the top level's `env`, and the scripts of a job's steps by name.
fn parts(text: &str, job: &str) -> (Named, Named) {
    let variables = text
        .lines()
        .skip_while(|line| *line != "env:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(|line| line.trim().split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
        .collect();
    let own: Vec<&str> = text
        .lines()
        .skip_while(|line| *line != format!("  {job}:"))
        .skip(1)
        .take_while(|line| line.starts_with("    "))
        .collect();
    let mut steps: Named = Vec::new();
    let mut lines = own.into_iter().peekable();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("      - name: ") {
            steps.push((name.to_owned(), String::new()));
        } else if line == "        run: |" {
            let script = &mut steps.last_mut().unwrap().1;
            while let Some(line) = lines.next_if(|line| line.starts_with("          ")) {
                script.push_str(&format!("{}\n", &line[10..]));
            }
        }
    }
    (variables, steps)
}

fn executable(file: &Path, script: &str) {
    std::fs::write(file, script).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A job carried out as the service does: a fresh shell for each step, `GITHUB_PATH` and `GITHUB_STEP_SUMMARY` as files.
struct Job {
    dir: tempfile::TempDir,
    variables: Named,
    steps: Named,
}

impl Job {
    /// `given` stands in place of what a user writes under `env`. What the build step fetches is a repository whose build
    /// is this one's; what `make` builds lies in `base` and `head`.
    fn new(name: &str, given: &[(&str, &str)]) -> Self {
        let text = std::fs::read_to_string(workflow()).unwrap();
        let (mut variables, steps) = parts(&text, name);
        assert_eq!(
            steps.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["Build fragbench", "Build both versions", "Measure both versions", "Compare them"]
        );
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in given {
            let known = variables.iter_mut().find(|(known, _)| known == name);
            known.unwrap_or_else(|| panic!("{name} does not stand under env")).1 = (*value).to_owned();
        }
        let built = Path::new(env!("CARGO_BIN_EXE_fragbench")).parent().unwrap();
        let stub = |name: &str, text: &str| {
            let file = dir.path().join("stubs").join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            executable(&file, &format!("#!/bin/sh\nset -e\n{text}\n"));
        };
        stub("git", "test \"$1 $7\" = \"clone $FRAGBENCH_REPOSITORY\" && mkdir -p \"$8\" && touch \"$8/Cargo.toml\"");
        stub(
            "cargo",
            &format!(
                "test \"$1 $2 $3\" = 'build --release --manifest-path' && test -f \"$4\"\n\
                 mkdir -p \"$(dirname \"$4\")/target\" && ln -sfn {} \"$(dirname \"$4\")/target/release\"",
                built.display()
            ),
        );
        stub("make", "test \"$1\" = -C && test -d \"$2\"");
        ["base", "head"].iter().for_each(|version| std::fs::create_dir(dir.path().join(version)).unwrap());
        std::fs::write(dir.path().join("paths"), "").unwrap();
        Self { dir, variables, steps }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Carries out one step; gives its status and what it added to the summary.
    fn step(&self, name: &str) -> (Option<i32>, String) {
        let (_, script) = self.steps.iter().find(|(known, _)| known == name).unwrap();
        let (summary, paths) = (self.path("summary.md"), self.path("paths"));
        std::fs::write(&summary, "").unwrap();
        let usual = std::env::var("PATH").unwrap();
        let added = std::fs::read_to_string(&paths).unwrap();
        let search: Vec<&str> =
            added.lines().chain([arg(&self.path("stubs")), &usual].map(|p| &*p.to_owned().leak())).collect();
        let output = Command::new("bash")
            .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script])
            .current_dir(self.dir.path())
            .envs(self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            .env("PATH", search.join(":"))
            .env("GITHUB_STEP_SUMMARY", &summary)
            .env("GITHUB_PATH", &paths)
            .output()
            .unwrap();
        eprintln!("{name}: {}\n{}{}", output.status, stdout(&output), stderr(&output));
        (output.status.code(), std::fs::read_to_string(&summary).unwrap())
    }

    /// Builds and measures; then compares: what was measured, twice the same, and with `allocator` made worse.
    fn gates(&self, allocator: &str) {
        for name in ["Build fragbench", "Build both versions", "Measure both versions"] {
            assert_eq!(self.step(name).0, Some(0), "{name}");
        }
        let (status, summary) = self.step("Compare them");
        assert!(
            matches!(status, Some(0 | 1)),
            "two small results of the same thing are comparable: {status:?} {summary}"
        );
        assert!(
            summary.starts_with("# fragbench diff: ") && summary.contains(&format!("| {allocator} |")),
            "{summary}"
        );
        let (base, head) = (self.path("results/base"), self.path("results/head"));
        with_peak(&base, &head, allocator, 1.0);
        assert_eq!(self.step("Compare them").0, Some(0));
        with_peak(&base, &head, allocator, 5.0);
        let (status, summary) = self.step("Compare them");
        assert_eq!(status, Some(1), "{summary}");
        assert!(summary.starts_with("# fragbench diff: relevant regression"), "{summary}");
    }
}

#[test]
fn the_workflow_gates_an_allocator() {
    let job = Job::new("allocator", &[("WORK", "mysql/oltp-read-write --scale 0.05 --idle 1ms --reps 5")]);
    let library = Path::new(env!("CARGO_BIN_EXE_fragbench")).with_file_name("libfragbench_mimalloc.so");
    for version in ["base", "head"] {
        std::fs::copy(&library, job.path(version).join("libmine.so")).unwrap();
    }
    job.gates("mine");
}

#[test]
fn the_workflow_gates_a_program() {
    let Some(perl) = program("perl") else { return };
    let job = Job::new("program", &[("PROGRAM", "program.pl"), ("COMMAND", "--reps 5")]);
    for version in ["base", "head"] {
        let file = job.path(version).join("program.pl");
        executable(
            &file,
            &format!(
                "#!{}\nmy @held = map {{ 'x' x 1000 }} 1 .. 20000;\nselect(undef, undef, undef, 0.2);\n",
                perl.display()
            ),
        );
    }
    job.gates("glibc");
}
