//! Real processes asked through a real gdb: prediction and outcome, refusal, and a process that runs on after a time
//! limit.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fragbench_ask::{AskError, Busy, Limits, Surveyed, call, malloc_info, trim};
use fragbench_test_support::{Subject, compile, program};

struct Asked(Subject);

impl Asked {
    /// Compiles and starts the program; waits until it waits.
    fn start(mode: &str, dir: &Path) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/subject.c");
        let program = compile("cc", &["-Wall", "-Wextra"], &source, &dir.join("subject")).unwrap();
        let mut asked = Self(Subject::start(Command::new(program).arg(mode)));
        assert_eq!(asked.0.line(), "still here");
        asked
    }

    fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// It runs, nobody traces it, and it answers.
    fn lives_on(&mut self) {
        self.0.assert_left_alone();
        self.0.go_on();
        assert_eq!(self.0.line(), "still here");
    }
}

fn gdb() -> bool {
    program("gdb").is_some()
}

fn within(timeout: Duration) -> Limits {
    Limits { timeout, ..Limits::default() }
}

#[test]
fn what_was_predicted_is_released_and_the_process_lives_on() {
    if !gdb() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut subject = Asked::start("scattered", dir.path());
    let trimmed = trim(subject.pid(), &Limits::default()).unwrap();
    assert!(trimmed.released_bytes > 16 << 20, "{trimmed:?}");
    assert!(trimmed.prediction_error_ratio <= 0.02, "{trimmed:?}");
    assert_eq!(trimmed.surveyed, Surveyed::Stopped);
    assert!(trimmed.survey_ms < trimmed.stopped_ms, "{trimmed:?}");
    assert!(trimmed.returned && trimmed.call_ms > 0.0 && trimmed.stopped_ms > 0.0, "{trimmed:?}");
    assert_eq!(trimmed.before.live_bytes, trimmed.after.live_bytes, "the call leaves what is live as it was");
    subject.lives_on();
    let again = trim(subject.pid(), &Limits::default()).unwrap();
    assert!(again.released_bytes < 1 << 20 && again.predicted_release_bytes < 1 << 20, "{again:?}");
    subject.lives_on();
}

#[test]
fn a_process_at_work_is_predicted_as_it_stands_at_the_call() {
    if !gdb() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut subject = Asked::start("working", dir.path());
    let generous = Duration::from_secs(60);
    let limits = Limits { timeout: generous, patience: generous, still: generous, ..Limits::default() };
    let trimmed = trim(subject.pid(), &limits).unwrap();
    assert_eq!(trimmed.surveyed, Surveyed::Stopped);
    assert!(trimmed.prediction_error_ratio <= 0.05, "{trimmed:?}");
    subject.lives_on();
    // Where it may not be held up for a survey, the prediction is of the process as it was before.
    let trimmed = trim(subject.pid(), &Limits { still: Duration::ZERO, ..limits }).unwrap();
    assert_eq!(trimmed.surveyed, Surveyed::Running);
    subject.lives_on();
}

#[test]
fn a_locked_arena_is_a_refusal_before_anything_is_called() {
    if !gdb() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut subject = Asked::start("locked", dir.path());
    let limits = Limits { patience: Duration::from_millis(50), ..Limits::default() };
    let error = trim(subject.pid(), &limits).unwrap_err();
    assert!(matches!(error, AskError::Busy { busy: Busy::Locked(_), .. }), "{error}");
    assert!(error.to_string().contains("inside malloc") && error.to_string().contains("nothing was called"), "{error}");
    subject.lives_on();
}

#[test]
fn a_call_that_dead_locks_is_taken_back_and_the_process_runs_on() {
    if !gdb() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // On a busy machine the thread that locks may not run before the call has passed its arena: then it is tried again.
    let trapped = |_| {
        let subject = Asked::start("trap", dir.path());
        let error = trim(subject.pid(), &within(Duration::from_secs(2))).err()?;
        Some((subject, error))
    };
    let (mut subject, error) = (0..20).find_map(trapped).expect("of 20 calls one finds the lock taken");
    assert!(matches!(error, AskError::Timeout { .. }) && error.to_string().contains("taken back"), "{error}");
    // The byte makes it give the lock back; then the same call works, so malloc was left sound.
    subject.lives_on();
    let trimmed = trim(subject.pid(), &Limits::default()).unwrap();
    assert!(trimmed.prediction_error_ratio <= 0.02, "{trimmed:?}");
    subject.lives_on();
}

#[test]
fn a_call_that_never_returns_is_taken_back() {
    if !gdb() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut subject = Asked::start("scattered", dir.path());
    let error = call(subject.pid(), "pause", 0, &within(Duration::from_secs(1))).unwrap_err();
    assert!(matches!(error, AskError::Timeout { .. }) && error.to_string().contains("taken back"), "{error}");
    subject.lives_on();
    let (parent, visit) = call(subject.pid(), "getppid", 0, &Limits::default()).unwrap();
    assert_eq!(parent, u64::from(std::process::id()));
    assert_eq!(visit.stops, 1);
    subject.lives_on();
}

#[test]
fn a_gdb_that_does_nothing_does_not_hold_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut subject = Asked::start("locked", dir.path());
    let missing = Limits { gdb: "no-such-gdb".into(), ..Limits::default() };
    let error = call(subject.pid(), "getppid", 0, &missing).unwrap_err();
    assert!(error.to_string().contains("apt install gdb"), "{error}");
    let ends: PathBuf = "/bin/true".into();
    let error = call(subject.pid(), "getppid", 0, &Limits { gdb: ends.display().to_string(), ..Limits::default() });
    assert!(matches!(error, Err(AskError::Io(_))), "{error:?}");
    subject.lives_on();
}

#[test]
fn a_stopped_process_and_one_that_is_gone_are_answers() {
    let dir = tempfile::tempdir().unwrap();
    let mut subject = Asked::start("locked", dir.path());
    let pid = subject.pid().to_string();
    let kill = |signal: &str| assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    kill("-STOP");
    while !std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("State:\tT") {}
    let error = call(subject.pid(), "getppid", 0, &Limits::default()).unwrap_err();
    assert!(matches!(error, AskError::NotFree { .. }) && error.to_string().contains("kill -CONT"), "{error}");
    kill("-CONT");
    subject.lives_on();
    assert!(trim(999_999_999, &Limits::default()).unwrap_err().to_string().contains("has ended"));
}

#[test]
fn what_malloc_says_of_itself_is_what_a_survey_sees() {
    if !gdb() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut subject = Asked::start("scattered", dir.path());
    let maps = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let before = maps(subject.pid());
    let info = malloc_info(subject.pid(), &Limits::default()).unwrap();
    let target = fragbench_proc::LiveTarget::open(subject.pid()).unwrap();
    let bytes = fragbench_inspect::survey(&target).unwrap().bytes();
    assert_eq!(info.stats.arena_count, Some(2), "{}", info.xml);
    assert_eq!(info.stats.system_bytes, Some(bytes.system_bytes), "{}", info.xml);
    // While malloc wrote, its stream was live.
    let free = bytes.free_bytes + bytes.top_bytes;
    assert!(info.stats.free_bytes.unwrap().abs_diff(free) < 16 << 10, "{free}: {}", info.xml);
    assert_eq!(maps(subject.pid()), before, "nothing stays mapped");
    subject.lives_on();
}
