//! `fragbench compare` and `tune` of commands whose memory is in other processes than the one that is started: such that lose the
//! setting on the way, such that never could take it, daemons, and programs that set malloc's parameters themselves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::{Path, PathBuf};

use common::{arg, compile_text, figure, program, record, run, runs, stderr};
use serde_json::Value;

/// Takes 20 MiB in small blocks and holds it for a third of a second.
const WORK: &str = r#"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    enum { N = 20 * 1024 };
    static char *p[N];
    for (int i = 0; i < N; i++) memset(p[i] = malloc(1000), 1, 1000);
    usleep(350000);
    for (int i = 0; i < N; i++) free(p[i]);
    return 0;
}"#;

/// The same on a malloc of its own, which never takes anything back.
const OWN_MALLOC: &str = r#"
#include <stddef.h>
#include <string.h>
#include <unistd.h>
static char heap[64 << 20];
static size_t used;
void *malloc(size_t n) { used += 16; *(size_t *)(heap + used) = n; void *p = heap + used + 16; used += (n + 31) & ~15UL; return p; }
void free(void *p) { (void)p; }
void *calloc(size_t n, size_t m) { return malloc(n * m); }
void *realloc(void *p, size_t n) { void *q = malloc(n); if (p) memcpy(q, p, n); return q; }
int main(void) {
    for (int i = 0; i < 20000; i++) memset(malloc(1000), 1, 1000);
    usleep(350000);
    return 0;
}"#;

/// Sets its own arena limit where it is told one, then lets eight threads peak one after the other.
const SETS_ITS_LIMIT: &str = r#"
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void *peak(void *a) {
    static __thread char *p[1000];
    for (int i = 0; i < 1000; i++) memset(p[i] = malloc(4000), 1, 4000);
    for (int i = 0; i < 1000; i++) if (i % 100) free(p[i]);
    pause();
    return a;
}
int main(int argc, char **argv) {
    if (argc > 1) mallopt(M_ARENA_MAX, atoi(argv[1]));
    for (int i = 0; i < 8; i++) { pthread_t t; pthread_create(&t, 0, peak, 0); usleep(30000); }
    usleep(200000);
    return 0;
}"#;

/// Forks itself away from whoever started it, with a session of its own and no environment, takes 10 MiB, writes its number to
/// a file and ends after so many tenths of a second.
const DAEMON: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (fork()) _exit(0);
    setsid();
    if (fork()) _exit(0);
    int null = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3; i++) dup2(null, i);
    for (int i = 0; i < 10 * 1024; i++) memset(malloc(1000), 1, 1000);
    FILE *f = fopen(argv[1], "a");
    fprintf(f, "%d\n", getpid());
    fclose(f);
    for (int i = 0; i < atoi(argv[2]); i++) usleep(100000);
    return 0;
}"#;

const OPTIONS: [&str; 7] = ["compare", "--reps", "1", "--allocator", "glibc,jemalloc", "--arena-max", "default,2"];

fn compile(dir: &Path, name: &str, source: &str, flags: &[&str]) -> Option<PathBuf> {
    compile_text("cc", dir, &format!("{name}.c"), source, flags)
}

/// Compares under glibc, an arena limit and jemalloc; gives the exit status and the records.
fn compared(dir: &Path, options: &[&str], words: &[&str]) -> (Option<i32>, Vec<Value>) {
    let out = dir.join(format!("r{}", std::fs::read_dir(dir).unwrap().count()));
    let output = run(&[&OPTIONS[..], options, &["-o", arg(&out), "--"], words].concat());
    assert!(out.join("runs.jsonl").is_file(), "{}", stderr(&output));
    (output.status.code(), runs(&out))
}

fn limited(records: &[Value]) -> &Value {
    records.iter().find(|r| r["settings"]["MALLOC_ARENA_MAX"] == "2").unwrap()
}

fn assert_lost(record: &Value, words: &[&str]) {
    assert_eq!(record["kind"], "not_in_place", "{record}");
    let reason = record["reason"].as_str().unwrap();
    for word in words {
        assert!(reason.contains(word), "`{word}` in {reason}");
    }
    assert!(record["metrics"].as_object().unwrap().is_empty(), "{record}");
}

#[test]
fn a_child_that_lost_the_setting_is_named_and_the_cell_has_no_figures() {
    let dir = tempfile::tempdir().unwrap();
    let Some(work) = compile(dir.path(), "work", WORK, &[]) else { return };
    let script = format!("env -i {}; true", work.display());
    let (_, records) = compared(dir.path(), &[], &["sh", "-c", &script]);
    let named = ["work (process ", &format!("`{}`", work.display()), "MiB at the most", "clears its environment"];
    assert_lost(limited(&records), &[&named[..], &["MALLOC_ARENA_MAX=2 did not arrive"]].concat());
    assert_lost(record(&records, "jemalloc"), &[&named[..], &["libfragbench_jemalloc.so is not mapped"]].concat());
    assert_eq!(record(&records, "glibc")["status"], "ok", "nothing has to arrive in it");
    let (_, records) = compared(dir.path(), &[], &["sh", "-c", &format!("{}; true", work.display())]);
    for record in &records {
        assert_eq!(record["status"], "ok", "{record}");
    }
    assert_eq!(limited(&records)["proof"]["effective"]["arena_max"], "2", "malloc was asked");
}

#[test]
fn a_user_s_session_that_clears_the_environment_is_seen_through() {
    let Some(runuser) = program("runuser") else { return };
    if std::fs::read_to_string("/proc/self/status").is_ok_and(|s| !s.contains("\nUid:\t0\t")) {
        return common::skip("only root may take another user's identity");
    }
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let Some(work) = compile(dir.path(), "work", WORK, &[]) else { return };
    let words = [arg(&runuser), "-u", "nobody", "--", "env", "-i", arg(&work)];
    let (_, records) = compared(dir.path(), &[], &words);
    assert_lost(limited(&records), &["work (process ", "MALLOC_ARENA_MAX=2 did not arrive"]);
    assert_lost(record(&records, "jemalloc"), &["work (process ", "is not mapped"]);
}

#[test]
fn programs_that_take_no_allocator_are_named_under_every_cell() {
    let dir = tempfile::tempdir().unwrap();
    let Some(fixed) = compile(dir.path(), "fixed", WORK, &["-static"]) else { return };
    let Some(own) = compile(dir.path(), "own", OWN_MALLOC, &[]) else { return };
    let go = format!("exec {}", fixed.display());
    let (status, records) = compared(dir.path(), &[], &["sh", "-c", &go]);
    records.iter().for_each(|record| assert_lost(record, &["fixed (process ", "statically linked"]));
    assert_eq!(status, Some(1), "nothing was compared");
    let (status, records) = compared(dir.path(), &[], &["env", arg(&own)]);
    records.iter().for_each(|record| assert_lost(record, &["own (process ", "brings its own malloc"]));
    assert_eq!(status, Some(1));
}

#[test]
fn a_helper_that_holds_next_to_nothing_is_a_caution() {
    let dir = tempfile::tempdir().unwrap();
    let Some(work) = compile(dir.path(), "work", WORK, &[]) else { return };
    let script = format!("env -i sleep 0.3 & {}; wait", work.display());
    let (_, records) = compared(dir.path(), &[], &["sh", "-c", &script]);
    for record in [limited(&records), record(&records, "jemalloc")] {
        assert_eq!(record["status"], "ok", "{record}");
        let cautions = record["cautions"].as_array().unwrap();
        let named = |c: &Value| c["kind"] == "not_in_place" && c["text"].as_str().unwrap().contains("sleep (process ");
        assert!(cautions.iter().any(named), "{record}");
    }
}

#[test]
fn a_search_among_settings_that_never_arrive_finds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(work) = compile(dir.path(), "work", WORK, &[]) else { return };
    let out = dir.path().join("t");
    let script = format!("env -i {}; true", work.display());
    let search = ["tune", "--max-time", "15s", "--format", "json", "-o", arg(&out), "--", "sh", "-c", &script];
    let output = run(&search);
    let tuning = common::json(&common::stdout(&output));
    assert!(tuning["recommendation"].is_null(), "{tuning}");
    for record in runs(&out).iter().filter(|r| !r["settings"].as_object().unwrap().is_empty()) {
        assert_lost(record, &["work (process "]);
    }
}

#[test]
fn a_program_s_own_parameters_of_malloc_are_named_and_override_the_cell() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = compile(dir.path(), "sets", SETS_ITS_LIMIT, &[]) else { return };
    let (_, records) = compared(dir.path(), &[], &[arg(&program), "1"]);
    let overridden = limited(&records);
    assert_eq!(overridden["kind"], "setting_ignored", "{overridden}");
    assert!(
        overridden["reason"]
            .as_str()
            .unwrap()
            .contains("arena_max=2 was asked for, 1 is in force: the program sets it itself")
    );
    let glibc = record(&records, "glibc");
    assert_eq!(glibc["status"], "ok");
    let own = glibc["cautions"].as_array().unwrap().iter().find(|c| c["kind"] == "own_mallopt").unwrap();
    assert!(own["text"].as_str().unwrap().contains("arena_max=1"), "{own}");
    let (_, records) = compared(dir.path(), &[], &[arg(&program)]);
    assert_eq!(limited(&records)["status"], "ok", "{records:?}");
    assert!(!records.iter().any(|r| r["cautions"].to_string().contains("own_mallopt")), "{records:?}");
}

#[test]
fn what_an_allocator_does_not_take_fails_its_cell() {
    let dir = tempfile::tempdir().unwrap();
    let Some(work) = compile(dir.path(), "work", WORK, &[]) else { return };
    let (_, records) = compared(dir.path(), &["--setting", "MALLOC_CONF=narenas_ratio:abc"], &[arg(&work)]);
    let ignored = records.iter().find(|r| r["settings"].get("MALLOC_CONF").is_some()).unwrap();
    assert_eq!(ignored["kind"], "setting_ignored", "{ignored}");
    assert!(ignored["reason"].as_str().unwrap().contains("<jemalloc>: Invalid conf value: narenas_ratio:abc"));
    let plain = records.iter().find(|r| r["allocator"] == "jemalloc" && r["settings"].get("MALLOC_CONF").is_none());
    assert_eq!(plain.unwrap()["status"], "ok");
}

/// Whether any of the processes whose numbers are in the file is still there.
fn any_left(file: &Path) -> bool {
    let numbers = std::fs::read_to_string(file).unwrap();
    numbers.lines().any(|pid| std::fs::read(format!("/proc/{pid}/statm")).is_ok_and(|s| !s.starts_with(b"0 ")))
}

#[test]
fn a_daemon_is_measured_to_its_end_and_not_its_launcher() {
    let dir = tempfile::tempdir().unwrap();
    let Some(daemon) = compile(dir.path(), "daemon", DAEMON, &[]) else { return };
    let numbers = dir.path().join("numbers");
    let (status, records) = compared(dir.path(), &[], &["env", "-u", "HOME", arg(&daemon), arg(&numbers), "4"]);
    assert_eq!(status, Some(0));
    for record in &records {
        assert_eq!(record["status"], "ok", "{record}");
        assert!(figure(record, "heap_rss_peak_bytes") > 9e6, "{record}");
        assert!(figure(record, "wall_s") >= 0.4 && figure(record, "cpu_s") > 0.0, "{record}");
    }
    assert!(!any_left(&numbers));
    // One that loses its environment on the way is found all the same.
    let script = format!("env -i {} {} 4", daemon.display(), numbers.display());
    let (_, records) = compared(dir.path(), &[], &["sh", "-c", &script]);
    assert_lost(limited(&records), &["daemon (process ", "did not arrive"]);
    assert!(!any_left(&numbers));
}

#[test]
fn a_daemon_that_does_not_end_is_ended_and_the_run_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let Some(daemon) = compile(dir.path(), "daemon", DAEMON, &[]) else { return };
    let numbers = dir.path().join("numbers");
    let (status, records) = compared(dir.path(), &["--timeout", "1s"], &[arg(&daemon), arg(&numbers), "600"]);
    assert_eq!(status, Some(1));
    for record in &records {
        let reason = record["reason"].as_str().unwrap();
        assert!(reason.contains("left daemon (process ") && reason.contains("--ready"), "{reason}");
    }
    assert!(!any_left(&numbers), "ended with the run");
    let load = format!("until test -s {0}; do sleep 0.01; done; sleep 0.2", numbers.display());
    std::fs::remove_file(&numbers).unwrap();
    let script = format!("echo started; exec {} {} 600", daemon.display(), numbers.display());
    let server = ["--ready", "started", "--load", &load, "--idle", "100ms"];
    let (status, records) = compared(dir.path(), &server, &["sh", "-c", &script]);
    assert_eq!(status, Some(0), "{records:?}");
    for record in &records {
        assert!(figure(record, "heap_rss_idle_bytes") > 9e6, "{record}");
        assert!(!record["cautions"].to_string().contains("forced"), "it ended when it was asked to: {record}");
    }
    assert!(!any_left(&numbers), "asked to end");
}
