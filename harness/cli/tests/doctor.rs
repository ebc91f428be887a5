//! `fragbench doctor` and `--version --verbose` on this machine, and what they say when files are missing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{arg, fragbench, json, stdout, succeed};

#[test]
fn doctor_looks_at_everything_and_fixes_what_lacks() {
    let output = fragbench().args(["doctor", "--format", "json"]).output().unwrap();
    let report = json(&stdout(&output));
    let checks = report["checks"].as_array().unwrap();
    let names: Vec<_> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "C library",
            "worker",
            "preload libraries",
            "reading memory",
            "gdb",
            "perf or strace",
            "huge pages",
            "cgroups"
        ]
    );
    for check in checks {
        assert_eq!(check["ok"] == true, check["fix"].is_null(), "{check}");
    }
    // What was built is in place.
    for built in &checks[..3] {
        assert_eq!(built["ok"], true, "{built}");
    }
    assert_eq!(output.status.code(), Some(if report["ok"] == true { 0 } else { 1 }));
}

#[test]
fn a_place_without_the_files_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let output = fragbench().args(["doctor"]).env("FRAGBENCH_HOME", dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    for word in ["lacking", "fragbench-worker is missing", arg(dir.path()), "FRAGBENCH_HOME", "cannot be preloaded"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn versions_name_every_file() {
    let text = succeed(&["--version", "--verbose"]);
    for file in ["fragbench", "fragbench-worker", "libfragbench_recorder.so", "libfragbench_jemalloc.so"] {
        let line =
            text.lines().find(|line| line.ends_with(&format!("/{file}"))).unwrap_or_else(|| panic!("{file}: {text}"));
        let id = line.split_whitespace().nth(2).unwrap();
        assert!(id.len() >= 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{line}");
    }
    assert!(text.starts_with(succeed(&["--version"]).trim()), "{text}");
}
