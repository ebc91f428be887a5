//! `fragbench record --attach` on real processes: what is recorded, that the process goes on as before in every case, and
//! what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{arg, compiled, fragbench, json, refuse, stderr, succeed};
use fragbench_test_support::{Subject, compile_text, program};

const PROGRAM: &str = include_str!("programs/attached.c");
const PLUGIN: &str = "#include <stdlib.h>\n#include <string.h>\n\
    char *make(int i) { char *p = malloc(100); memset(p, i, 100); return p; }\n";

/// The program at work, in one of its modes.
struct Attached {
    subject: Subject,
    dir: tempfile::TempDir,
}

impl Attached {
    fn start(mode: &str) -> Option<Self> {
        program("gdb")?;
        let dir = tempfile::tempdir().unwrap();
        let binary = compiled(dir.path(), "attached", PROGRAM, &["-O1", "-pthread"])?;
        let source = dir.path().join("plugin.c");
        std::fs::write(&source, PLUGIN).unwrap();
        let plugin = dir.path().join("plugin.so");
        fragbench_test_support::compile("cc", &["-O1", "-shared", "-fPIC"], &source, &plugin)?;
        let mut subject = Subject::start(Command::new(binary).arg(mode).env("PLUGIN", plugin));
        assert_eq!(subject.line(), "ready");
        Some(Self { subject, dir })
    }

    fn trace(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn record(&self, trace: &Path, more: &[&str]) -> Command {
        let mut command = fragbench();
        command.args(["record", "--attach", &self.subject.pid().to_string(), "-o", arg(trace)]);
        command.args(["--patience", "60s", "--timeout", "60s", "--still", "60s"]).args(more);
        command
    }

    /// A recording of some time; what is said of it.
    fn recorded(&self, name: &str, more: &[&str]) -> (serde_json::Value, String) {
        let trace = self.trace(name);
        let output = self.record(&trace, more).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        (info(&trace), stderr(&output))
    }

    fn left_alone(&self) {
        self.subject.assert_left_alone();
        let left = std::fs::read_dir(self.dir.path()).unwrap().flatten();
        let spools: Vec<_> = left.filter(|e| e.file_name().to_string_lossy().ends_with(".spools")).collect();
        assert!(spools.is_empty(), "{spools:?}");
    }

    /// It frees what it had before, and ends well.
    fn ends_well(mut self) {
        self.left_alone();
        self.subject.go_on();
        assert_eq!(self.subject.line(), "freed");
        self.subject.go_on();
        assert!(self.subject.line().starts_with("done "));
    }
}

fn info(trace: &Path) -> serde_json::Value {
    json(&succeed(&["trace", "info", arg(trace), "--format", "json"]))
}

fn number(value: &serde_json::Value, path: &str) -> u64 {
    value.pointer(path).and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("{path}: {value}"))
}

#[test]
fn a_process_at_work_is_recorded_again_and_again_and_ends_well() {
    let Some(attached) = Attached::start("work") else { return };
    for name in ["first.fbt", "second.fbt"] {
        let (info, said) = attached.recorded(name, &["--duration", "1s"]);
        assert!(number(&info, "/events") > 1000, "{info}");
        assert_eq!(info["complete"], true, "{info}");
        assert_eq!(number(&info, "/totals/lost_events"), 0, "{info}");
        assert_eq!(info["recorded_on"]["malloc"]["name"], "libc.so.6", "{info}");
        assert_eq!(said.contains("earlier recording"), name == "second.fbt", "{said}");
        attached.left_alone();
    }
    attached.ends_well();
}

#[test]
fn blocks_made_before_are_the_first_of_the_trace_and_their_frees_are_known() {
    let Some(mut attached) = Attached::start("idle") else { return };
    let trace = attached.trace("start.fbt");
    let mut child = attached.record(&trace, &[]).stderr(Stdio::piped()).spawn().unwrap();
    assert!(wait_for_line(&mut child).contains("attached to process"));
    // The program frees its 512 blocks while it is recorded.
    attached.subject.go_on();
    assert_eq!(attached.subject.line(), "freed");
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(child.wait().unwrap().success());
    let info = info(&trace);
    let on = |name: &str| number(&info, &format!("/recorded_on/{name}"));
    assert_eq!(info["recorded_on"]["start"], "complete", "{info}");
    assert!(on("start_blocks") >= 512 && on("start_bytes") >= 512 * 100, "{info}");
    assert!(on("attached_s") > 1_700_000_000 && on("start_rss_bytes") > 1 << 20, "{info}");
    assert_eq!(number(&info, "/totals/unseen_frees"), 0, "{info}");
    assert_eq!(number(&info, "/totals/unresolved"), 0, "{info}");
    // What it made before and had freed by the end is no longer live.
    let left = on("start_blocks") - 512;
    assert!(number(&info, "/totals/live_end_blocks") <= left + 8, "{info}");
    // Built and played in mid-life, under glibc and under another allocator.
    let out = attached.trace("replayed");
    succeed(&[
        "replay",
        arg(&trace),
        "--allocator",
        "glibc",
        "--allocator",
        "jemalloc",
        "--reps",
        "1",
        "-o",
        arg(&out),
    ]);
    attached.subject.go_on();
    assert!(attached.subject.line().starts_with("done "));
}

#[test]
fn a_process_at_work_has_nearly_no_free_of_a_block_that_is_not_known() {
    let Some(attached) = Attached::start("work") else { return };
    let (info, _) = attached.recorded("work.fbt", &["--duration", "2s"]);
    assert_eq!(info["recorded_on"]["start"], "complete", "{info}");
    let unseen = number(&info, "/totals/unseen_frees") + number(&info, "/totals/unresolved");
    assert!(unseen * 1000 <= number(&info, "/events"), "{info}");
    let (info, said) = attached.recorded("without.fbt", &["--duration", "300ms", "--no-survey"]);
    assert!(info["recorded_on"]["start_blocks"].is_null() && said.contains("--no-survey"), "{info}\n{said}");
    assert!(number(&info, "/totals/unseen_frees") > 100, "{info}");
    attached.ends_well();
}

#[test]
fn each_hazard_leaves_the_process_sound() {
    for mode in ["threads", "fork", "dlopen", "deepbind", "signals"] {
        let Some(attached) = Attached::start(mode) else { return };
        for name in ["first.fbt", "second.fbt", "third.fbt"] {
            let (info, _) = attached.recorded(name, &["--duration", "300ms"]);
            assert!(number(&info, "/events") > 100, "{mode}: {info}");
            assert_eq!(number(&info, "/totals/damaged_stretches"), 0, "{mode}: {info}");
        }
        attached.ends_well();
    }
}

#[test]
fn what_a_library_loaded_later_makes_is_recorded() {
    let Some(attached) = Attached::start("dlopen") else { return };
    let (info, _) = attached.recorded("later.fbt", &["--duration", "1s"]);
    let stat = succeed(&["trace", "stat", arg(&attached.trace("later.fbt"))]);
    assert!(number(&info, "/events") > 1000, "{info}\n{stat}");
    // The plugin's own blocks are freed by the program: were they not seen being made, each would be such a free.
    let unseen = number(&info, "/totals/unseen_frees");
    assert!(unseen * 20 < number(&info, "/events"), "{info}");
    attached.ends_well();
}

#[test]
fn an_idle_process_is_left_without_an_event_of_its_own() {
    let Some(attached) = Attached::start("idle") else { return };
    let (info, _) = attached.recorded("idle.fbt", &["--duration", "100ms", "--no-survey"]);
    assert_eq!(number(&info, "/events"), 0, "{info}");
    let (info, said) = attached.recorded("again.fbt", &["--duration", "100ms", "--no-survey"]);
    assert!(said.contains("earlier recording"), "{said}\n{info}");
    attached.ends_well();
}

fn wait_for_line(child: &mut Child) -> String {
    use std::io::{BufRead, BufReader};
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    line
}

#[test]
fn when_fragbench_is_killed_the_recording_ends_and_another_can_begin() {
    let Some(attached) = Attached::start("work") else { return };
    let trace = attached.trace("killed.fbt");
    let mut child = attached.record(&trace, &[]).stderr(Stdio::piped()).spawn().unwrap();
    assert!(wait_for_line(&mut child).contains("attached to process"));
    child.kill().unwrap();
    child.wait().unwrap();
    attached.subject.assert_left_alone();
    // The process ends the recording by itself: until then another is refused.
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let output = attached.record(&attached.trace("next.fbt"), &["--duration", "300ms"]).output().unwrap();
        if output.status.success() {
            break;
        }
        assert!(stderr(&output).contains("recorded already"), "{}", stderr(&output));
        assert!(std::time::Instant::now() < give_up, "the recording does not end");
    }
    assert!(number(&info(&attached.trace("next.fbt")), "/events") > 100);
    for entry in std::fs::read_dir(attached.dir.path()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().ends_with(".spools") {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    attached.ends_well();
}

#[test]
fn what_cannot_be_attached_to_is_refused_with_the_next_step() {
    refuse(1, &["record", "--attach", "999999999", "-o", "x.fbt"], &["999999999"]);
    refuse(2, &["record", "-o", "x.fbt", "--no-survey", "--", "true"], &["--attach"]);
    if program("gdb").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let text = "#include <stdio.h>\nint main(void) { puts(\"ready\"); fflush(stdout); getchar(); return 0; }\n";
    let Some(fixed) = compile_text("cc", dir.path(), "fixed.c", text, &["-static"]) else { return };
    let mut subject = Subject::start(&mut Command::new(fixed));
    assert_eq!(subject.line(), "ready");
    let trace = dir.path().join("x.fbt");
    refuse(1, &["record", "--attach", &subject.pid().to_string(), "-o", arg(&trace)], &["statically linked"]);
    subject.assert_left_alone();
}
