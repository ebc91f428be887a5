//! `fragbench compare` on what people run: the commands of docs/guide/should-i-switch.md as they are written there, made
//! shorter only; and programs with an allocator of their own, or that nothing can be preloaded into.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{arg, compile_text, compiled, figure, fragbench, program, record, refuse, run, runs, stderr, stdout};

/// The shell command that the guide shows below `<!-- compare NAME -->`.
fn documented(name: &str) -> String {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/should-i-switch.md")).unwrap();
    let below = readme.split_once(&format!("<!-- compare {name} -->\n```sh\n")).unwrap_or_else(|| panic!("{name}")).1;
    below.split_once("```").unwrap().0.to_owned()
}

/// Runs it with two allocators, once, `shorter` pieces in place of others. Gives the records and what it said; leaves nothing but
/// the result.
fn documented_run(name: &str, shorter: &[(&str, &str)], more: &str) -> (Vec<serde_json::Value>, String) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("result");
    let options = format!("--reps 1 --allocator glibc,jemalloc --arena-max default -o {} {more}", out.display());
    let command = format!("{} compare {options}", arg(Path::new(fragbench().get_program())));
    let pieces = [("target/release/fragbench compare", command.as_str())];
    let text = pieces.iter().chain(shorter).fold(documented(name), |text, (piece, other)| {
        assert!(text.contains(piece), "`{piece}` is not in the guide's command: {text}");
        text.replace(piece, other)
    });
    let output = Command::new("bash").args(["-euc", &text]).env("TMPDIR", dir.path()).output().unwrap();
    assert!(output.status.success(), "{text}\n{}\n{}", stderr(&output), stdout(&output));
    let records = runs(&out);
    for record in &records {
        assert_eq!(record["status"], "ok", "{record}");
        // A link may lead to a program of another name (Debian's redis-server does), a script to its interpreter.
        let family = name.split('-').next().unwrap();
        let ours = |p: &&serde_json::Value| p["program"].as_str().unwrap().contains(family);
        let process = record["processes"].as_array().unwrap().iter().find(ours).unwrap_or_else(|| panic!("{record}"));
        assert_eq!(process["proved"], process["count"], "{record}");
        assert!(!record["cautions"].to_string().contains("\"forced\""), "ended in order: {record}");
        assert!(figure(record, "heap_rss_peak_bytes") > 1e6, "{record}");
    }
    let sockets: Vec<PathBuf> =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path().join("socket")).collect();
    assert!(sockets.iter().all(|socket| UnixStream::connect(socket).is_err()), "no server is left");
    (records, stderr(&output) + &stdout(&output))
}

#[test]
fn mariadb_under_sysbench_as_documented() {
    for needed in ["mariadbd", "mariadb-install-db", "sysbench", "bash"] {
        if program(needed).is_none() {
            return;
        }
    }
    let shorter = [("--threads=16 --time=5", "--threads=4 --time=1 --table-size=1000")];
    let (records, _) = documented_run("mariadbd", &shorter, "--idle 100ms");
    assert_eq!(records.len(), 3, "glibc, its copy, jemalloc");
    for record in &records {
        assert!(figure(record, "transactions_per_s") > 1.0, "{record}");
        assert!(figure(record, "wall_s") > 1.0 && figure(record, "cpu_s") > 0.0, "{record}");
        // It takes 60 MiB at the least before it is loaded.
        assert!(figure(record, "heap_rss_idle_bytes") > 2e7, "{record}");
    }
}

#[test]
fn redis_as_documented() {
    for needed in ["redis-server", "redis-benchmark", "bash"] {
        if program(needed).is_none() {
            return;
        }
    }
    let (records, said) =
        documented_run("redis-server", &[("-n 200000 -r 100000", "-n 20000 -r 10000")], "--idle 100ms");
    for record in &records {
        assert!(figure(record, "requests_per_s") > 10.0, "{record}");
        // 20,000 times one of 10,000 keys: 8,600 values of 1000 bytes.
        let idle = figure(record, "heap_rss_idle_bytes") / 1048576.0;
        assert!((8.0..80.0).contains(&idle), "{idle}");
    }
    // Debian links it with jemalloc.
    if said.contains("is linked with") {
        assert!(record(&records, "glibc")["environment"]["LD_PRELOAD"].as_str().unwrap().contains("libc.so"));
        assert!(record(&records, "as-linked")["environment"]["LD_PRELOAD"].is_null());
    }
}

#[test]
fn a_python_program_as_documented() {
    if program("python3").is_none() || program("bash").is_none() {
        return;
    }
    let (records, _) = documented_run("python3", &[("range(50000)", "range(10000)")], "");
    assert_eq!(records.len(), 3);
    for record in &records {
        // 10,000 texts of 1500 bytes, and the JSON of all.
        let peak = figure(record, "heap_rss_peak_bytes") / 1048576.0;
        assert!((28.0..200.0).contains(&peak), "{peak}");
    }
}

/// Tells by figures which library's malloc, and in C++ whose `new`, it has.
const WHOSE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int of(const char *name, const char *library) {
    Dl_info info;
    void *address = dlsym(RTLD_DEFAULT, name);
    return address != 0 && dladdr(address, &info) != 0 && strstr(info.dli_fname, library) != 0;
}
int main(void) {
    int *p = (int *)malloc(100);
#ifdef __cplusplus
    delete new int[50];
#endif
    free(p);
    usleep(100000);
    printf("malloc of tcmalloc: %d, of libc: %d; new of tcmalloc: %d\n", of("malloc", "tcmalloc"), of("malloc", "/libc."),
           of("_Znwm", "tcmalloc"));
    return 0;
}"#;

#[test]
fn a_program_linked_with_tcmalloc_is_compared_all_the_same() {
    let Some(library) = common::library("libtcmalloc_minimal.so.4") else { return };
    let dir = tempfile::tempdir().unwrap();
    let flags = ["-fno-builtin", "-Wl,--no-as-needed", arg(&library)];
    let c = compiled(dir.path(), "inc", WHOSE, &flags);
    let cxx = compile_text("c++", dir.path(), "incxx.cc", WHOSE, &flags);
    for binary in [c, cxx].into_iter().flatten() {
        let out = binary.with_extension("result");
        let metric = |name: &str, text: &str| format!("--metric={name}={text}: ([01])");
        let output = run(&[
            "compare",
            "--reps=1",
            "--allocator=glibc,jemalloc",
            "--setting=FRAGBENCH_TRIM_EVERY_MS=1000",
            "--arena-max=default",
            &metric("tcmalloc", "malloc of tcmalloc"),
            &metric("libc", "of libc"),
            &metric("new", "new of tcmalloc"),
            "-o",
            arg(&out),
            "--",
            arg(&binary),
        ]);
        let said = stderr(&output);
        assert!(output.status.success(), "{said}\n{}", stdout(&output));
        for word in ["is linked with", "libtcmalloc_minimal", "`as-linked`", "libc is preloaded"] {
            assert!(said.contains(word), "`{word}`: {said}");
        }
        let records = runs(&out);
        assert_eq!(records.len(), 5, "glibc, its copy, glibc trimmed, jemalloc, as linked");
        for record in &records {
            assert_eq!(record["status"], "ok", "{record}");
            let whose = ["tcmalloc", "libc", "new"].map(|name| figure(record, name));
            let expected = match record["allocator"].as_str().unwrap() {
                "glibc" => [0.0, 1.0, 0.0],
                "jemalloc" => [0.0, 0.0, 0.0],
                _ => [1.0, 0.0, 1.0],
            };
            assert_eq!(whose, expected, "{record}");
        }
    }
}

#[test]
fn what_nothing_can_be_preloaded_into_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let source = "#include <stdlib.h>\nint main(void) { return malloc(1) == 0; }\n";
    let out = dir.path().join("result");
    let refused = |binary: &Path, words: &[&str]| {
        refuse(2, &["compare", "-o", arg(&out), "--", arg(binary)], words);
        assert!(!out.exists(), "nothing was begun");
    };
    if let Some(binary) = compiled(dir.path(), "static", source, &["-static"]) {
        refused(&binary, &["static is statically linked", "use a dynamically linked build"]);
    }
    // A setuid program of another user: a copy given away or, without the right to do that, one of the system's.
    let foreign = compiled(dir.path(), "setuid", source, &[]).map(|binary| {
        if std::os::unix::fs::chown(&binary, Some(65534), None).is_err() {
            return PathBuf::from("/usr/bin/su");
        }
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o4755)).unwrap();
        binary
    });
    if let Some(binary) = foreign.filter(|binary| binary.metadata().is_ok_and(|m| m.mode() & 0o4000 != 0)) {
        refused(&binary, &["is setuid", "LD_PRELOAD", "as its owner", "a copy without"]);
    }
    let own = "#include <stddef.h>\nstatic char heap[1 << 20]; static size_t at;\n\
               void *malloc(size_t n) { void *p = heap + at; at += (n + 15) & ~15ul; return p; }\n\
               void free(void *p) { (void)p; }\nint main(void) { return malloc(1) == 0; }\n";
    if let Some(binary) = compiled(dir.path(), "own", own, &["-rdynamic", "-fno-builtin"]) {
        refused(&binary, &["own brings its own malloc", "tcmalloc", "by its own variables"]);
    }
}
