//! A prefix as packages lay it out, moved anywhere, used without a checkout's help by somebody without a home.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{arg, fragbench, json, stderr, stdout};

/// `bin`, `lib/fragbench` and `share/fragbench` below a directory.
fn install(prefix: &Path) {
    let built = Path::new(fragbench().get_program()).parent().unwrap().to_owned();
    let libraries = ["recorder", "jemalloc", "mimalloc", "null", "trim"].map(|name| format!("libfragbench_{name}.so"));
    let (bin, lib, traces) = (prefix.join("bin"), prefix.join("lib/fragbench"), prefix.join("share/fragbench/traces"));
    for dir in [&bin, &lib, &traces] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::copy(built.join("fragbench"), bin.join("fragbench")).unwrap();
    for name in libraries.iter().map(String::as_str).chain(["fragbench-worker"]) {
        std::fs::copy(built.join(name), lib.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workloads/replay/traces/blob-churn.fbt");
    std::fs::copy(shipped, traces.join("only-here.fbt")).unwrap();
}

/// Runs the installed program from another directory, with nothing in its environment but a path.
fn installed(prefix: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(prefix.join("bin/fragbench"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").current_dir(prefix.parent().unwrap());
    command.output().unwrap()
}

#[test]
fn a_prefix_is_found_wherever_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("first");
    install(&first);
    let prefix = dir.path().join("moved");
    std::fs::rename(&first, &prefix).unwrap();

    let report = json(&stdout(&installed(&prefix, &["doctor", "--format", "json"])));
    let checks = report["checks"].as_array().unwrap();
    let worker = checks.iter().find(|check| check["name"] == "worker").unwrap();
    let lib = prefix.canonicalize().unwrap().join("lib/fragbench");
    assert_eq!(worker["found"], arg(&lib.join("fragbench-worker")), "{report}");
    assert!(checks.iter().any(|check| check["name"] == "preload libraries" && check["ok"] == true), "{report}");

    let out = dir.path().join("result");
    let small = ["--reps", "1", "--idle", "1ms", "--scale", "0.02", "--arena-max", "default", "-o", arg(&out)];
    let run = ["run", "mysql/oltp-read-write", "--allocator", "glibc,jemalloc"];
    let output = installed(&prefix, &[&run[..], &small].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    for record in common::runs(&out) {
        assert_eq!(record["status"], "ok", "{record}");
    }
    // The prefix's own traces, not those of the checkout it was built in.
    let output = installed(&prefix, &["list", "workloads"]);
    let text = stdout(&output);
    assert!(text.contains("replay/only-here") && !text.contains("replay/connection-storm"), "{text}");
}
