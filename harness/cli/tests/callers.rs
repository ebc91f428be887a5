//! `fragbench compare` of programs that not every cell fits, told before they are started, and of callers with settings of their
//! own in the environment.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::{Path, PathBuf};

use common::{arg, compile_text, fragbench, json, library, record, runs, stderr};
use serde_json::Value;

/// Takes 8 MiB and lives long enough to be looked at.
const WORK: &str = r#"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    for (int i = 0; i < 8 * 1024; i++) memset(malloc(1000), 1, 1000);
    usleep(200000);
    return 0;
}"#;

/// Gives blocks of `malloc` back by a function of jemalloc's own, as Valkey does.
const CALLS_JEMALLOC: &str = r#"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
extern void sdallocx(void *, size_t, int);
int main(void) {
    for (int i = 0; i < 8 * 1024; i++) { void *p = malloc(1000); memset(p, 1, 1000); if (i % 2) sdallocx(p, 1000, 0); }
    usleep(200000);
    return 0;
}"#;

/// Ends with 3 unless a library of the caller's is preloaded.
const NEEDS_A_HOOK: &str = r#"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
extern int hook(void) __attribute__((weak));
int main(void) {
    for (int i = 0; i < 8 * 1024; i++) memset(malloc(1000), 1, 1000);
    usleep(200000);
    return hook ? 0 : 3;
}"#;

struct Compared {
    status: Option<i32>,
    said: String,
    records: Vec<Value>,
    manifest: Value,
}

/// One repetition under glibc, an arena limit and jemalloc.
fn compared(dir: &Path, environment: &[(&str, &str)], options: &[&str], program: &Path) -> Compared {
    let out = dir.join(format!("r{}", std::fs::read_dir(dir).unwrap().count()));
    let mut command = fragbench();
    command.args(["compare", "--reps", "1", "--arena-max", "default,2", "-o", arg(&out)]);
    command.args(if options.is_empty() { &["--allocator", "glibc,jemalloc"][..] } else { options });
    let output = command.args(["--", arg(program)]).envs(environment.iter().copied()).output().unwrap();
    assert!(out.join("runs.jsonl").is_file(), "{}", stderr(&output));
    let manifest = json(&std::fs::read_to_string(out.join("manifest.json")).unwrap());
    Compared { status: output.status.code(), said: stderr(&output), records: runs(&out), manifest }
}

fn compile(compiler: &str, dir: &Path, name: &str, source: &str, flags: &[&str]) -> Option<PathBuf> {
    compile_text(compiler, dir, &format!("{name}.c"), source, flags)
}

fn assert_refused(record: &Value, words: &[&str]) {
    assert_eq!(record["kind"], "refused", "{record}");
    let reason = record["reason"].as_str().unwrap();
    words.iter().for_each(|word| assert!(reason.contains(word), "`{word}` in {reason}"));
}

#[test]
fn a_program_on_musl_is_named_and_cells_of_glibc_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("musl-gcc", dir.path(), "work", WORK, &[]) else { return };
    let seen = compared(dir.path(), &[], &[], &program);
    assert_eq!(seen.status, Some(0), "{}", seen.said);
    assert!(seen.said.contains("runs on musl: as it is linked it is the cell `as-linked`"), "{}", seen.said);
    assert_eq!(record(&seen.records, "as-linked")["status"], "ok", "{:?}", seen.records);
    for record in seen.records.iter().filter(|r| r["allocator"] == "glibc") {
        assert_refused(record, &["runs on musl", "neither glibc's malloc nor its settings"]);
    }
    assert_refused(record(&seen.records, "jemalloc"), &["runs on musl", "is made for glibc"]);
}

#[test]
fn a_program_that_calls_an_allocator_s_own_functions_gets_no_other_allocator() {
    let Some(jemalloc) = library("libjemalloc.so.2") else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile("cc", dir.path(), "calls", CALLS_JEMALLOC, &[arg(&jemalloc)]) else { return };
    let system = format!("glibc,jemalloc,system={}", jemalloc.display());
    let seen = compared(dir.path(), &[], &["--allocator", &system], &program);
    assert!(seen.said.contains("calls sdallocx of jemalloc's own functions"), "{}", seen.said);
    for name in ["as-linked", "system"] {
        assert_eq!(record(&seen.records, name)["status"], "ok", "{:?}", seen.records);
    }
    for record in seen.records.iter().filter(|r| r["allocator"] == "glibc") {
        assert_refused(record, &["calls sdallocx", "--allocator NAME=/path/libjemalloc.so.2"]);
    }
}

#[test]
fn an_allocator_under_names_of_its_own_is_said_with_the_cell() {
    let dir = tempfile::tempdir().unwrap();
    let source = format!("const char *const message = \"<jemalloc>: %s\";\n{WORK}");
    let Some(program) = compile("cc", dir.path(), "prefixed", &source, &[]) else { return };
    let seen = compared(dir.path(), &[], &[], &program);
    assert!(seen.said.contains("has jemalloc built in under names of its own"), "{}", seen.said);
    for record in &seen.records {
        let cautions = record["cautions"].as_array().unwrap();
        let named = |c: &Value| c["kind"] == "built_in" && c["text"].as_str().unwrap().contains("jemalloc built in");
        assert!(cautions.iter().any(named), "{record}");
    }
}

#[test]
fn what_the_caller_preloads_is_kept_and_its_settings_are_named_where_a_cell_sets_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let hook_source = "int hook(void) { return 1; }\n";
    let Some(hook) = compile("cc", dir.path(), "hook", hook_source, &["-shared", "-fPIC"]) else { return };
    let Some(program) = compile("cc", dir.path(), "needs", NEEDS_A_HOOK, &[]) else { return };
    let environment = [("LD_PRELOAD", arg(&hook)), ("MALLOC_ARENA_MAX", "3"), ("MALLOC_CONF", "narenas:3")];
    let seen = compared(dir.path(), &environment, &[], &program);
    assert_eq!(seen.status, Some(0), "{}", seen.said);
    for record in &seen.records {
        assert_eq!(record["status"], "ok", "{record}");
    }
    let plain = record(&seen.records, "glibc");
    assert_eq!(plain["proof"]["effective"]["arena_max"], "0", "the cell is what it is called: {plain}");
    let told = seen.manifest["left_out"].as_array().unwrap();
    let sentence = |words: &[&str]| {
        let has = |text: &str| words.iter().all(|word| text.contains(word));
        told.iter().any(|text| has(text.as_str().unwrap())) && seen.said.lines().any(has)
    };
    assert!(sentence(&["MALLOC_ARENA_MAX=3", "cells of glibc", "--setting 'MALLOC_ARENA_MAX=3'"]), "{}", seen.said);
    assert!(sentence(&["MALLOC_CONF=narenas:3", "cells of jemalloc"]), "{}", seen.said);
    assert_eq!(told.len(), 2, "{told:?}");
}
