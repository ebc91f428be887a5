//! The scripts of `examples/`, as they are.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{fragbench, program, stderr, stdout};

/// Runs a script; `None`, said aloud, when a program that it needs is missing.
fn example(name: &str, needs: &[&str]) -> Option<String> {
    if needs.iter().any(|needed| program(needed).is_none()) {
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    let dir = tempfile::tempdir().unwrap();
    let output =
        Command::new(script).env("FRAGBENCH", fragbench().get_program()).env("TMPDIR", dir.path()).output().unwrap();
    assert!(output.status.success(), "{name}: {}\n{}\n{}", output.status, stdout(&output), stderr(&output));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{name} leaves nothing");
    Some(stdout(&output))
}

#[test]
fn a_bloated_program_is_inspected() {
    let Some(text) = example("inspect.sh", &["bash", "python3"]) else { return };
    assert!(text.contains("malloc_trim") && text.contains("glibc heap"), "{text}");
}

#[test]
fn a_program_is_recorded_and_replayed() {
    let Some(text) = example("record-replay.sh", &["bash", "python3"]) else { return };
    for word in ["glibc", "jemalloc", "mimalloc", "noise"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_gate_passes_what_did_not_change() {
    let Some(text) = example("gate.sh", &["bash"]) else { return };
    assert!(text.contains("no relevant regression") && text.contains("of 1 figures"), "{text}");
}

/// A script that no test runs would rot.
#[test]
fn every_example_is_run_here() {
    let here = include_str!("examples.rs");
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.ends_with(".sh") || here.contains(&format!("\"{name}\"")), "{name}");
    }
}
