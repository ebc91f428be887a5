//! `fragbench record` on programs that are not as one would wish: each is either recorded, or left unharmed and told why not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{arg, compile_text, compiled, fragbench, json, program, run, stderr, succeed};

/// Work that is seen: blocks of 1237 bytes, every third kept.
const WORK: &str = "#define _GNU_SOURCE
    #include <stdlib.h>
    #include <string.h>
    #include <stdio.h>
    #include <unistd.h>
    static void work(int n) { for (int i = 0; i < n; i++) { char *p = malloc(1237); memset(p, 1, 1237); if (i % 3) free(p); } }
    ";

const FLAGS: [&str; 2] = ["-fno-builtin", "-w"];

/// Compiles a program that has `work(n)`.
fn working(dir: &Path, name: &str, main: &str) -> Option<PathBuf> {
    compiled(dir, name, &format!("{WORK}{main}"), &FLAGS)
}

fn record(trace: &Path, command: &[&str]) -> Output {
    record_with(trace, &[], command)
}

fn record_with(trace: &Path, options: &[&str], command: &[&str]) -> Output {
    let mut arguments = vec!["record", "-o", arg(trace)];
    arguments.extend(options);
    arguments.push("--");
    arguments.extend(command);
    run(&arguments)
}

/// It ends with 1, says all of these, and leaves no trace and no spools.
fn says_why(output: &Output, trace: &Path, words: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    assert!(!trace.exists(), "{text}");
    let left: Vec<_> = std::fs::read_dir(trace.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("spools") || name.contains(".part"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn info(trace: &Path) -> serde_json::Value {
    json(&String::from_utf8(run(&["trace", "info", arg(trace), "--format", "json"]).stdout).unwrap())
}

fn events(trace: &Path) -> u64 {
    info(trace)["events"].as_u64().unwrap()
}

/// Traces beside the program's own.
fn others(trace: &Path) -> Vec<PathBuf> {
    let mut name = trace.file_name().unwrap().to_owned();
    name.push(".children");
    let dir = std::fs::read_dir(trace.with_file_name(name));
    dir.map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
}

#[test]
fn a_program_that_goes_into_the_background_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let done = dir.path().join("done");
    // It goes on until the recorder's parent has seen its first process end, and some more.
    let main = "int main(int c, char **v) { work(30); daemon(1, 1); work(30000); usleep(300000); work(1000);
        fclose(fopen(v[1], \"w\")); return 0; }";
    let Some(built) = working(dir.path(), "daemon", main) else { return };
    let trace = dir.path().join("t.fbt");
    let output = record(&trace, &[arg(&built), arg(&done)]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(done.exists() && stderr(&output).contains("left behind"), "{}", stderr(&output));
    let [daemon] = &others(&trace)[..] else { panic!("{:?}", others(&trace)) };
    assert!(info(daemon)["complete"].as_bool().unwrap());
    assert!(events(daemon) > 50_000, "{}", info(daemon));
    assert!(stderr(&output).contains(arg(daemon)), "{}", stderr(&output));
}

#[test]
fn images_before_an_exec_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let main = "int main(int c, char **v) { work(v[1] ? 30000 : 300); if (v[1]) execl(v[0], v[0], 0); return 0; }";
    let Some(built) = working(dir.path(), "again", main) else { return };
    let trace = dir.path().join("t.fbt");
    assert!(record(&trace, &[arg(&built), "first"]).status.success());
    assert!((400..10_000).contains(&events(&trace)), "the last image is the trace");
    let [first] = &others(&trace)[..] else { panic!("{:?}", others(&trace)) };
    assert!(events(first) >= 50_000);
}

#[test]
fn a_malloc_of_its_own_is_told_from_its_lookup() {
    let dir = tempfile::tempdir().unwrap();
    let source = "#include <stddef.h>
        #include <string.h>
        static char heap[64 << 20] __attribute__((aligned(16))); static size_t at;
        void *malloc(size_t n) { n = (n + 15) & ~(size_t)15; size_t o = __atomic_fetch_add(&at, n, 0); return heap + o; }
        void free(void *p) {}
        void *calloc(size_t a, size_t b) { return malloc(a * b); }
        void *realloc(void *p, size_t n) { void *q = malloc(n); if (p) memcpy(q, p, n); return q; }
        int main(void) { for (int i = 0; i < 100; i++) free(malloc(100)); return 0; }";
    let Some(built) = compiled(dir.path(), "own", source, &["-fno-builtin", "-w"]) else { return };
    let trace = dir.path().join("t.fbt");
    says_why(&record(&trace, &[arg(&built)]), &trace, &["own malloc"]);
    says_why(&record(&trace, &["env", arg(&built)]), &trace, &["own malloc", "own"]);
    // A program that takes the address of malloc has an entry of its own for it and none of these troubles.
    let main = "int main(void) { void *(*volatile f)(size_t) = malloc; free(f(99)); work(300); return 0; }";
    let text = format!("{WORK}{main}");
    let fixed = compiled(dir.path(), "fixed", &text, &["-fno-builtin", "-w", "-no-pie", "-fno-pie"]).unwrap();
    let output = record(&trace, &[arg(&fixed)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let on = &info(&trace)["recorded_on"];
    assert!(on["malloc"]["name"].as_str().unwrap().starts_with("libc"), "{on}");
    assert!(on["malloc"]["version"].as_str().unwrap().starts_with("2."), "{on}");
    assert!(on["malloc"]["build_id"].as_str().unwrap().len() >= 16, "{on}");
}

#[test]
fn a_program_on_musl_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let main = "int main(int c, char **v) { work(300); return 7; }";
    let Some(built) = compile_text("musl-gcc", dir.path(), "m.c", &format!("{WORK}{main}"), &FLAGS) else { return };
    let trace = dir.path().join("t.fbt");
    let output = record(&trace, &[arg(&built)]);
    assert!(stderr(&output).contains("exit status 7"), "it ran as it would: {}", stderr(&output));
    says_why(&output, &trace, &["musl"]);
    // In the middle of a script it has its own exit status, and the rest is recorded.
    let script = format!("{}; test $? = 7", built.display());
    let output = record(&trace, &["sh", "-c", &script]);
    assert!(output.status.success() && !stderr(&output).contains("libc"), "{}", stderr(&output));
}

#[test]
fn what_has_rights_of_its_own_is_refused_as_compare_does() {
    let dir = tempfile::tempdir().unwrap();
    let Some(built) = working(dir.path(), "plain", "int main(void) { work(9); return 0; }") else { return };
    // Another group than ours, which only root can give away.
    if std::os::unix::fs::chown(&built, None, Some(65534)).is_err() {
        eprintln!("skipped: only root may give a file to another group");
        return;
    }
    std::fs::set_permissions(&built, std::fs::Permissions::from_mode(0o2755)).unwrap();
    for verb in [vec!["record", "-o", arg(&dir.path().join("t.fbt"))], vec!["compare"]] {
        let mut arguments = verb;
        arguments.extend(["--", arg(&built)]);
        common::refuse(2, &arguments, &["setgid"]);
    }
}

#[test]
fn a_program_of_the_administrators_is_found_without_its_directory_in_the_path() {
    // ldconfig is static in places; this one lies in /usr/sbin and is a script or a dynamic program.
    let Some(found) = program("useradd") else { return };
    if !found.starts_with("/usr/sbin") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("t.fbt");
    let output = fragbench()
        .env("PATH", "/usr/bin:/bin")
        .args(["record", "-o", arg(&trace), "--", "useradd", "--help"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(events(&trace) > 0);
}

#[test]
fn the_programs_own_exit_status_is_handed_on() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("t.fbt");
    let output = record(&trace, &["sh", "-c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    let output = record(&trace, &["sh", "-c", "kill -9 $$"]);
    assert_eq!(output.status.code(), Some(128 + 9), "{}", stderr(&output));
    assert!(!info(&trace)["complete"].as_bool().unwrap());
}

#[test]
fn a_name_that_is_no_text_does_not_end_the_recording() {
    let dir = tempfile::tempdir().unwrap();
    let main = "#include <sys/prctl.h>
        int main(void) { prctl(PR_SET_NAME, \"\\xff\\xfe\\x80\" \"a\"); work(30000); usleep(100000); return 0; }";
    let Some(built) = working(dir.path(), "name", main) else { return };
    let (trace, log) = (dir.path().join("t.fbt"), dir.path().join("m.csv"));
    let options = ["--memory", arg(&log), "--memory-interval", "5ms"];
    let output = record_with(&trace, &options, &[arg(&built)]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(events(&trace) >= 50_000);
}

#[test]
fn libraries_that_pass_the_recorder_by_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = "#include <stdlib.h>\nvoid work(int n) { for (int i = 0; i < n; i++) free(malloc(500)); }";
    let shared = ["-shared", "-fPIC", "-fno-builtin"];
    let Some(plugin) = compiled(dir.path(), "plugin", plugin, &shared) else { return };
    let main = "#include <dlfcn.h>
        int main(int c, char **v) {
            void *a = dlopen(v[1], RTLD_NOW | RTLD_DEEPBIND), *b = dlmopen(LM_ID_NEWLM, v[1], RTLD_NOW);
            if (!a || !b) return 3;
            ((void (*)(int))dlsym(a, \"work\"))(30); ((void (*)(int))dlsym(b, \"work\"))(30);
            dlopen(v[1], RTLD_NOW); free(malloc(4321)); return 0; }";
    let text = format!("{WORK}{main}");
    let built = compiled(dir.path(), "loads", &text, &["-fno-builtin", "-w", "-ldl"]).unwrap();
    let trace = dir.path().join("t.fbt");
    let output = record(&trace, &[arg(&built), arg(&plugin)]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("2 libraries") && stderr(&output).contains("RTLD_DEEPBIND"),
        "{}",
        stderr(&output)
    );
    assert!(!info(&trace)["complete"].as_bool().unwrap());
}

#[test]
fn a_program_with_a_filter_of_system_calls_is_not_ended_for_the_recorders() {
    let dir = tempfile::tempdir().unwrap();
    // The filter ends the process at one call and lets all others pass.
    let main = "#include <linux/filter.h>
        #include <linux/seccomp.h>
        #include <stddef.h>
        #include <sys/prctl.h>
        #include <sys/syscall.h>
        int main(int c, char **v) {
            struct sock_filter f[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, atoi(v[1]), 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
            struct sock_fprog p = { 4, f };
            work(10);
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            if (v[2] ? syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p) : prctl(PR_SET_SECCOMP, 2, &p)) return 3;
            work(60000); char *big = malloc(1 << 20); memset(big, 1, 1 << 20); free(big); return 0; }";
    let Some(built) = working(dir.path(), "filter", main) else { return };
    let trace = dir.path().join("t.fbt");
    let calls = [libc_number("pwrite64"), libc_number("fstat"), libc_number("rt_sigprocmask"), libc_number("mincore")];
    for (i, call) in calls.iter().enumerate() {
        let mut command = vec![arg(&built), call];
        command.extend((i % 2 == 1).then_some("by its number"));
        let output = record(&trace, &command);
        assert!(output.status.success(), "{call}: {}", stderr(&output));
        assert!(stderr(&output).contains("seccomp"), "{}", stderr(&output));
        assert!((10..1000).contains(&events(&trace)), "{}", info(&trace));
        assert!(!info(&trace)["complete"].as_bool().unwrap());
    }
    // One that the recorder never makes: all is recorded.
    let output = record(&trace, &[arg(&built), libc_number("ptrace")]);
    assert!(output.status.success() && events(&trace) > 100_000, "{}", stderr(&output));
    assert!(info(&trace)["complete"].as_bool().unwrap());
}

/// Number of a system call, as text.
fn libc_number(name: &str) -> &'static str {
    let x86 = cfg!(target_arch = "x86_64");
    match name {
        "pwrite64" => {
            if x86 {
                "18"
            } else {
                "68"
            }
        }
        "fstat" => {
            if x86 {
                "5"
            } else {
                "80"
            }
        }
        "rt_sigprocmask" => {
            if x86 {
                "14"
            } else {
                "135"
            }
        }
        "mincore" => {
            if x86 {
                "27"
            } else {
                "232"
            }
        }
        _ => {
            if x86 {
                "101"
            } else {
                "117"
            }
        }
    }
}

#[test]
fn a_start_signal_that_the_program_takes_for_itself_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let main = "#include <signal.h>
        static void h(int s) {}
        int main(void) { signal(SIGUSR2, h); raise(SIGUSR2); work(300); return 0; }";
    let Some(built) = working(dir.path(), "takes", main) else { return };
    let trace = dir.path().join("t.fbt");
    says_why(&record_with(&trace, &["--start-paused"], &[arg(&built)]), &trace, &["never switched on", "12"]);
}

#[test]
fn a_program_that_loses_the_recorder_on_the_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let main = "int main(void) { work(300); usleep(300000); return 0; }";
    let Some(built) = working(dir.path(), "slow", main) else { return };
    let trace = dir.path().join("t.fbt");
    let output = record(&trace, &["env", "-i", arg(&built)]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("LD_PRELOAD did not reach it"), "{}", stderr(&output));
}

#[test]
fn a_program_of_another_user_is_named_and_meets_no_trouble() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let Some(built) = working(dir.path(), "slow", "int main(void) { work(300); usleep(300000); return 0; }") else {
        return;
    };
    if std::os::unix::fs::chown(&built, Some(0), None).is_err() || program("runuser").is_none() {
        eprintln!("skipped: only root may run a program as another user");
        return;
    }
    let output = record(&dir.path().join("t.fbt"), &["runuser", "-u", "nobody", "--", arg(&built)]);
    let text = stderr(&output);
    assert!(output.status.success() && text.contains("it runs as user"), "{text}");
    assert!(!text.contains("ld.so"), "the loader found the recorder: {text}");
}

#[test]
fn a_place_that_cannot_become_the_trace_is_found_before_the_program_runs() {
    let dir = tempfile::tempdir().unwrap();
    let ran = dir.path().join("ran");
    let fifo = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for place in [dir.path(), &fifo, &dir.path().join("no/such/t.fbt")] {
        let output = record(place, &["touch", arg(&ran)]);
        assert!(matches!(output.status.code(), Some(1 | 2)) && !ran.exists(), "{place:?}: {}", stderr(&output));
    }
    assert!(fifo.symlink_metadata().unwrap().mode() & 0o170_000 == 0o010_000, "it is still there");
    // A link is replaced, not followed.
    let (victim, link) = (dir.path().join("victim"), dir.path().join("link.fbt"));
    std::fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    assert!(record(&link, &["ls", "/"]).status.success());
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    assert!(events(&link) > 0);
}

#[test]
fn a_former_trace_stays_until_the_new_one_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("t.fbt");
    succeed(&["record", "-o", arg(&trace), "--", "ls", "/"]);
    let before = std::fs::read(&trace).unwrap();
    // The spool is damaged by the program itself: no trace can be made of it.
    let script = format!("for s in {}/t.fbt.*.spools/*.spool; do : > $s; done; kill -9 $$", dir.path().display());
    let output = record(&trace, &["sh", "-c", &script]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("spool is kept"), "{}", stderr(&output));
    assert_eq!(std::fs::read(&trace).unwrap(), before);
}

#[test]
fn what_holds_a_command_line_is_for_the_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::DirBuilder::new().mode(0o755).create(dir.path().join("shown")).unwrap();
    let trace = dir.path().join("shown/t.fbt");
    let secret = ["sh", "-c", "sh -c 'ls /; true'; true"];
    assert!(record_with(&trace, &["--keep-cmdline"], &secret).status.success());
    assert_eq!(trace.metadata().unwrap().mode() & 0o777, 0o600);
    assert!(others(&trace).iter().all(|other| other.metadata().unwrap().mode() & 0o077 == 0));
    assert!(record(&trace, &secret).status.success());
    assert_eq!(trace.metadata().unwrap().mode() & 0o400, 0o400);
}

#[test]
fn what_is_known_of_the_process_is_in_the_trace() {
    let dir = tempfile::tempdir().unwrap();
    let main = "#include <sys/prctl.h>
        int main(void) { prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); char *p = malloc(64 << 20); memset(p, 1, 64 << 20);
            for (volatile long i = 0; i < 400000000; i++); usleep(300000); free(p); return 0; }";
    let Some(built) = working(dir.path(), "known", main) else { return };
    let trace = dir.path().join("t.fbt");
    let output = fragbench()
        .env("MALLOC_SECRET_", "hunter2")
        .env("MALLOC_ARENA_MAX", "3")
        .args(["record", "-o", arg(&trace), "--", arg(&built)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let info = info(&trace);
    let on = &info["recorded_on"];
    assert_eq!(on["settings"], "MALLOC_ARENA_MAX=3");
    assert_eq!(on["thp_disabled"], true, "{on}");
    assert!(on["cpu_us"].as_u64().unwrap() > 10_000 && on["cpus_online"].as_u64().unwrap() > 0, "{on}");
    let memory = &info["memory"];
    assert!(memory["samples"].as_u64().unwrap() >= 2, "{memory}");
    let peak = |name: &str| memory[name].as_u64().unwrap();
    assert!(peak("heap_peak_bytes") >= 64 << 20 && peak("anon_peak_bytes") >= peak("heap_peak_bytes"), "{memory}");
    assert!(memory["last_at_s"].as_f64().unwrap() <= info["duration_s"].as_f64().unwrap(), "{memory}");
    // What it ran with is what a search compares with; a candidate changes that and keeps the rest.
    let plan =
        common::succeed(&["tune", "--trace", arg(&trace), "--allocator", "glibc", "--dry-run", "--format", "json"]);
    let plan = json(&plan);
    let settings = |cell: usize| plan["cells"][cell]["allocator"]["settings"].clone();
    assert_eq!(settings(0), serde_json::json!({ "MALLOC_ARENA_MAX": "3" }));
    assert_eq!((settings(1), &plan["cells"][1]["aa"]), (settings(0), &true.into()));
    assert_eq!(settings(2), serde_json::json!({}), "glibc as it comes is a candidate");
    let kept = serde_json::json!({ "MALLOC_ARENA_MAX": "3", "MALLOC_TRIM_THRESHOLD_": "131072" });
    assert_eq!(settings(3), kept);
}

#[test]
fn a_trace_that_was_cut_short_is_no_trace_of_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let main = "int main(void) { work(30000); return 0; }";
    let Some(built) = working(dir.path(), "long", main) else { return };
    let trace = dir.path().join("t.fbt");
    assert!(record(&trace, &[arg(&built)]).status.success());
    let whole = std::fs::read(&trace).unwrap();
    let cut = dir.path().join("cut.fbt");
    // Before the end of its first block of operations nothing can be read.
    std::fs::write(&cut, &whole[..whole.len() / 50]).unwrap();
    for verb in ["stat", "leaks"] {
        common::refuse(1, &["trace", verb, arg(&cut)], &["damaged", "no event", "record again"]);
    }
    std::fs::write(&cut, &whole[..whole.len() * 9 / 10]).unwrap();
    let output = run(&["trace", "stat", arg(&cut), "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("damaged"));
    let seen = json(&String::from_utf8(output.stdout).unwrap())["events"].as_u64().unwrap();
    assert!((1000..50_000).contains(&seen), "{seen}");
}
