//! What the tests of the command share: running it, and saying plainly when a program they need is missing.

#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) use fragbench_test_support::{compile_text, file, library, program, skip};

/// The command under test.
pub(crate) fn fragbench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fragbench"))
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    fragbench().args(arguments).output().expect("fragbench starts")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs it and expects success; gives its standard output.
pub(crate) fn succeed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}\n{}\n{}", output.status, stdout(&output), stderr(&output));
    stdout(&output)
}

/// As [`succeed`], from another working directory.
pub(crate) fn succeed_in(dir: &Path, arguments: &[&str]) -> String {
    let output = fragbench().current_dir(dir).args(arguments).output().expect("fragbench starts");
    assert!(output.status.success(), "{arguments:?}: {}\n{}\n{}", output.status, stdout(&output), stderr(&output));
    stdout(&output)
}

/// Runs it and expects this exit status and one clear error that holds every one of `words`.
pub(crate) fn refuse(status: i32, arguments: &[&str], words: &[&str]) {
    let output = run(arguments);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}\n{}", stdout(&output));
    for word in words {
        assert!(text.contains(word), "{arguments:?} should say `{word}`: {text}");
    }
    assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{text}");
}

/// Parses JSON.
pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The runs of a result directory.
pub(crate) fn runs(dir: &Path) -> Vec<serde_json::Value> {
    std::fs::read_to_string(dir.join("runs.jsonl")).unwrap().lines().map(json).collect()
}

/// A path as an argument.
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Compiles a C program; `None` where there is no compiler.
pub(crate) fn compiled(dir: &Path, name: &str, source: &str, flags: &[&str]) -> Option<PathBuf> {
    compile_text("cc", dir, &format!("{name}.c"), source, flags)
}

/// The first run under an allocator.
pub(crate) fn record<'a>(records: &'a [serde_json::Value], allocator: &str) -> &'a serde_json::Value {
    records.iter().find(|r| r["allocator"] == allocator).unwrap()
}

/// A figure of a run.
pub(crate) fn figure(record: &serde_json::Value, name: &str) -> f64 {
    record["metrics"][name].as_f64().unwrap_or_else(|| panic!("{name} is missing in {record}"))
}
