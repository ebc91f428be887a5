//! `fragbench compare` as its user sees it: programs in C, Python and a shell, a server that is loaded and stopped, proofs inside
//! the processes, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;

use common::{arg, compiled, figure, json, program, record, refuse, run, runs, stderr, succeed};

/// Takes so many MiB in small blocks, frees half of them, says a figure, and lives long enough to be looked at.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    size_t n = strtoul(argv[1], 0, 10) * 1024;
    char **p = malloc(n * sizeof *p);
    for (size_t i = 0; i < n; i++) memset(p[i] = malloc(1000), 1, 1000);
    for (size_t i = 0; i < n; i += 2) free(p[i]);
    usleep(150000);
    printf("blocks: %zu in all\n", n);
    return argc > 2;
}"#;

/// Forks a child that lives beside it and writes to a quarter of what it inherits.
const FORKS: &str = r#"
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    size_t size = 16 << 20;
    char *p = malloc(size);
    memset(p, 1, size);
    pid_t child = fork();
    if (child == 0) { for (size_t i = 0; i < size / 4; i += 4096) ((volatile char *)p)[i] = 2; usleep(700000); _exit(0); }
    waitpid(child, 0, 0);
    return 0;
}"#;

#[test]
fn a_program_is_measured_under_every_environment_and_each_proves_itself() {
    let dir = tempfile::tempdir().unwrap();
    let Some(binary) = compiled(dir.path(), "blocks", PROGRAM, &[]) else { return };
    let out = dir.path().join("r");
    let text = succeed(&[
        "compare",
        "--reps",
        "2",
        "--parameter",
        "MIB=8,16",
        "--metric",
        "+blocks=blocks: ([0-9]+)",
        "--format",
        "json",
        "--prepare",
        &format!("echo {{MIB}} >> {}/prepared", dir.path().display()),
        "-o",
        arg(&out),
        "--",
        arg(&binary),
        "{MIB}",
    ]);
    let summary = json(&text);
    assert_eq!(summary["cells"].as_array().unwrap().len(), 12, "two sizes of six environments");
    let records = runs(&out);
    assert_eq!(records.len(), 28, "with the baseline's copy, twice");
    for record in &records {
        assert_eq!(record["status"], "ok", "{record}");
        assert_eq!(record["processes"][0]["proved"], 1, "{record}");
        let mib: f64 = if record["workload"] == "blocks MIB=8" { 8.0 } else { 16.0 };
        assert_eq!(figure(record, "blocks"), mib * 1024.0);
        let peak = figure(record, "heap_rss_peak_bytes") / 1048576.0;
        assert!((0.9 * mib..1.5 * mib + 12.0).contains(&peak), "{peak} MiB of {mib} in {record}");
        assert!(figure(record, "wall_s") >= 0.15 && figure(record, "minor_faults_count") > 100.0);
        assert!(figure(record, "stack_rss_peak_bytes") > 0.0 && figure(record, "file_rss_peak_bytes") > 0.0);
        let jemalloc = record["allocator"] == "jemalloc";
        assert_eq!(record["proof"]["malloc_object"].as_str().unwrap().contains("jemalloc"), jemalloc);
    }
    let prepared = std::fs::read_to_string(dir.path().join("prepared")).unwrap().lines().count();
    assert!(prepared >= 20, "prepared before each run, those repeated on a busy machine too: {prepared}");
    for file in ["report.html", "report.md", "summary.csv", "plots/blocks-MIB-8.memory-over-time.svg"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    assert!(std::fs::read_to_string(out.join("report.md")).unwrap().contains("noise floor (A/A)"));
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    for of_a_worker in ["worker's monotonic clock", "barrier", "harness's own mappings"] {
        assert!(!page.contains(of_a_worker), "a command has no {of_a_worker}");
    }
    assert!(page.contains("from the start of the program to its end"));
    assert_eq!(json(&succeed(&["report", arg(&out), "--format", "json"]))["cells"], summary["cells"]);
}

#[test]
fn a_command_that_always_fails_is_given_up_with_status_1() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let options = ["compare", "--reps", "3", "--allocator", "glibc", "--arena-max", "default,2", "-o", arg(&out)];
    refuse(1, &[&options[..], &["--", "false"]].concat(), &["every run of a block failed"]);
    assert_eq!(runs(&out).len(), 3, "one block: glibc, its copy, the arena limit");
}

#[test]
fn each_setting_is_a_cell_of_its_own() {
    let options = ["compare", "--dry-run", "--reps", "1", "--allocator", "glibc", "--arena-max", "default"];
    let settings = ["--setting", "MALLOC_ARENA_MAX=2", "--setting", "MALLOC_ARENA_MAX=4 + MALLOC_TOP_PAD_=4096"];
    let plan = json(&succeed(&[&options[..], &settings, &["--format", "json", "--", "true"]].concat()));
    let counts: Vec<usize> = plan["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| cell["allocator"]["settings"].as_object().unwrap().len())
        .collect();
    assert_eq!(counts, [0, 1, 2, 0], "glibc, two cells of settings, glibc's copy");
}

#[test]
fn two_tunables_of_glibc_arrive_in_one_cell() {
    let dir = tempfile::tempdir().unwrap();
    let Some(binary) = compiled(dir.path(), "blocks", PROGRAM, &[]) else { return };
    let out = dir.path().join("r");
    let both = "GLIBC_TUNABLES=glibc.malloc.trim_threshold=131072:glibc.malloc.mmap_threshold=131072";
    let cells = ["compare", "--reps", "1", "--allocator", "glibc", "--arena-max", "default", "--setting", both];
    succeed(&[&cells[..], &["-o", arg(&out), "--", arg(&binary), "8"]].concat());
    let records = runs(&out);
    assert_eq!(records.len(), 3, "glibc, its copy, and the cell with both");
    for record in &records {
        assert_eq!(record["status"], "ok", "{record}");
        assert_eq!(record["processes"][0]["proved"], 1, "{record}");
    }
}

#[test]
fn what_a_fork_left_shared_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let Some(binary) = compiled(dir.path(), "forks", FORKS, &[]) else { return };
    let out = dir.path().join("r");
    succeed(&[
        "compare",
        "--reps",
        "1",
        "--allocator",
        "glibc",
        "--arena-max",
        "default",
        "-o",
        arg(&out),
        "--",
        arg(&binary),
    ]);
    let record = &runs(&out)[0];
    assert_eq!(record["processes"][0]["count"], 2, "the child is seen: {record}");
    let peak = figure(record, "heap_rss_peak_bytes") / 1048576.0;
    assert!((19.0..24.0).contains(&peak), "16 MiB and the 4 the child copied, not 32: {peak}");
}

#[test]
fn a_failing_run_is_a_record_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let Some(binary) = compiled(dir.path(), "blocks", PROGRAM, &[]) else { return };
    let first = |options: &[&str], more: &[&str]| {
        let out = dir.path().join(format!("r{}", std::fs::read_dir(dir.path()).unwrap().count()));
        let mut all = vec!["compare", "--reps", "1", "--allocator", "glibc", "--arena-max", "default", "-o", arg(&out)];
        all.extend(options);
        all.extend(["--", arg(&binary), "1"]);
        all.extend(more);
        let output = run(&all);
        assert!(out.join("report.html").is_file(), "{}", stderr(&output));
        runs(&out)[0].clone()
    };
    let failed = first(&[], &["fail"]);
    assert_eq!((&failed["kind"], failed["metrics"].as_object().unwrap().len()), (&"exit_status".into(), 0));
    assert!(failed["reason"].as_str().unwrap().contains("exit status 1; it wrote: blocks: 1024"), "{failed}");
    assert_eq!(first(&["--ignore-failure"], &["fail"])["status"], "ok");
    let missing = first(&["--metric", "tps=transactions: ([0-9]+)"], &[]);
    assert_eq!(missing["kind"], "no_figure");
    assert!(missing["reason"].as_str().unwrap().contains("nothing in the output matches `transactions"), "{missing}");
    let unprepared = first(&["--prepare", "echo no room; false"], &[]);
    assert!(
        unprepared["reason"].as_str().unwrap().contains("--prepare `echo no room; false`: exit status 1"),
        "{unprepared}"
    );
    let never = first(&["--ready", "listening", "--load", "true", "--timeout", "100ms"], &[]);
    assert_eq!(never["kind"], "not_ready");
    assert!(never["reason"].as_str().unwrap().contains("`listening` in its output"), "{never}");
    let gone = first(&["--ready", "listening", "--load", "true"], &[]);
    assert!(gone["reason"].as_str().unwrap().contains("left before it was ready"), "{gone}");
}

#[test]
fn an_environment_that_does_not_arrive_is_no_figure_under_the_wrong_name() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    run(&[
        "compare",
        "--reps",
        "1",
        "--allocator",
        "glibc,jemalloc",
        "--arena-max",
        "2",
        "-o",
        arg(&out),
        "--",
        "env",
        "-i",
        "/bin/sleep",
        "0.4",
    ]);
    for record in runs(&out) {
        assert_eq!(record["kind"], "not_in_place", "{record}");
    }
    let reason = |allocator: &str| record(&runs(&out), allocator)["reason"].as_str().unwrap().to_owned();
    assert!(reason("glibc").contains("MALLOC_ARENA_MAX=2 did not arrive"), "{}", reason("glibc"));
    assert!(reason("jemalloc").contains("is not mapped"), "{}", reason("jemalloc"));
}

#[test]
fn programs_that_cannot_be_compared_are_named_with_what_to_do() {
    refuse(2, &["compare", "--", "no-such-program-here"], &["no-such-program-here", "no such program"]);
    refuse(2, &["compare", "--load", "true", "--", "true"], &["--ready REGEX or --ready-socket"]);
    refuse(2, &["compare", "--metric", "x=(", "--", "true"], &["--metric x"]);
    refuse(2, &["compare", "--allocator", "null", "--", "true"], &["null"]);
    refuse(
        2,
        &["compare", "--precision", "2%", "--precision-of", "nothing", "--", "true"],
        &["--precision-of nothing"],
    );
}

/// A server that takes memory for each line it gets, and gives it back at the end of the connection.
const SERVER: &str = r#"
import socket, sys, os
path = sys.argv[1]
if os.path.exists(path): os.unlink(path)
s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen()
print("listening on", path, flush=True)
while True:
    c, _ = s.accept()
    kept = [bytearray(1000) for _ in range(20000)]
    while c.recv(4096): pass
    c.close()
"#;

#[test]
fn a_server_is_loaded_once_it_is_ready_and_stopped() {
    let Some(python) = program("python3") else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("server.py"), SERVER).unwrap();
    let (socket, script, out) = (dir.path().join("s"), dir.path().join("server.py"), dir.path().join("r"));
    let load = format!(
        "{} -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"{}\"); s.send(b\"x\"); print(\"sent\", 1)'",
        python.display(),
        socket.display()
    );
    succeed(&[
        "compare",
        "--reps",
        "2",
        "--allocator",
        "glibc,jemalloc",
        "--arena-max",
        "default",
        "--idle",
        "50ms",
        "--ready",
        "listening on",
        "--load",
        &load,
        "--metric",
        "sent=sent ([0-9]+)",
        "--cleanup",
        &format!("rm {}", socket.display()),
        "-o",
        arg(&out),
        "--",
        arg(&python),
        arg(&script),
        arg(&socket),
    ]);
    let records = runs(&out);
    assert_eq!(records.len(), 6);
    for record in &records {
        assert_eq!(record["status"], "ok", "{record}");
        assert_eq!(figure(record, "sent"), 1.0);
        assert!(figure(record, "heap_rss_peak_bytes") > 5e6, "{record}");
        assert!(figure(record, "heap_rss_idle_bytes") > 0.0);
        assert!(record["metrics"]["wall_s"].as_f64().unwrap() > 0.0);
    }
    assert!(!socket.exists(), "cleaned up after each run");
}

#[test]
fn the_same_allocator_under_another_name_is_not_recommended() {
    let library = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    if !Path::new(library).exists() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(binary) = compiled(dir.path(), "blocks", PROGRAM, &[]) else { return };
    let out = dir.path().join("r");
    let same = format!("glibc,same={library}");
    let text = succeed(&[
        "compare",
        "--reps",
        "6",
        "--allocator",
        &same,
        "--arena-max",
        "default",
        "--format",
        "json",
        "-o",
        arg(&out),
        "--",
        arg(&binary),
        "8",
    ]);
    let verdict = json(&text)["verdict"]["kind"].as_str().unwrap().to_owned();
    assert!(["leave", "not_enough_data"].contains(&verdict.as_str()), "{verdict}");
}

#[test]
fn blocks_are_added_until_the_figure_is_precise_or_time_is_up() {
    let dir = tempfile::tempdir().unwrap();
    let Some(binary) = compiled(dir.path(), "blocks", PROGRAM, &[]) else { return };
    let go = |options: &[&str], name: &str| {
        let out = dir.path().join(name);
        let mut all = vec!["compare", "--allocator", "glibc", "--arena-max", "default", "-o", arg(&out)];
        all.extend(options);
        all.extend(["--", arg(&binary), "4"]);
        succeed(&all);
        (runs(&out).len(), json(&std::fs::read_to_string(out.join("summary.json")).unwrap())["partial"].clone())
    };
    // Peak memory of this program varies by less than a fifth: the six blocks to begin with suffice.
    assert_eq!(go(&["--precision", "20%"], "wide"), (12, false.into()));
    // Wall time is never known to a thousandth: the time ends it, after whole blocks, and the result is no partial one.
    let (records, partial) = go(&["--precision", "0.1%", "--precision-of", "wall_s", "--max-time", "3s"], "short");
    assert!(records % 2 == 0 && records >= 2, "{records}");
    assert_eq!(partial, false);
}
