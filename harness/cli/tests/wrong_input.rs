//! Every subcommand and every option, as the command describes itself, with a typo, an empty, a negative, an absurd and
//! no value: what is wrong is named with the option it was given to and a next step, and nothing is begun.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;
use std::process::{Output, Stdio};

use common::{fragbench, stderr, stdout};

/// Greater than any number that an option takes.
const ABSURD: &str = "99999999999999999999";

/// A command line that would begin nothing, for each subcommand: a plan that is only shown, or something that is not there.
fn harmless(verb: &str) -> (Vec<&str>, &[&str]) {
    const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../workloads/replay/traces/blob-churn.fbt");
    const RESULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../results");
    let before: &[&str] = match verb {
        "run" | "tune" => &["mysql/oltp-read-write", "--dry-run"],
        "badcase" => &["pinned-top", "--dry-run"],
        "replay" => &[TRACE, "--dry-run"],
        "compare" => &["--dry-run"],
        "record" => &["-o", "t.fbt"],
        "trace info" | "trace stat" | "trace leaks" | "trace export" => &["nowhere.fbt"],
        "trace profile" | "trace pack" => &["-o", "made", "nowhere.fbt"],
        "merge" => &["-o", "merged", RESULT],
        "report" => &["nowhere"],
        "diff" => &["nowhere", "nowhere-else"],
        "inspect" | "trim" | "syscalls" | "watch" => &["999999999"],
        "export" => &["--once", "999999999"],
        "list" | "doctor" => &[],
        other => panic!("say what would begin nothing for `{other}`"),
    };
    let after: &[&str] = match verb {
        "record" => &["--", "no-such-program-anywhere"],
        "compare" => &["--", "true"],
        _ => &[],
    };
    (before.to_vec(), after)
}

/// What an option needs beside it.
fn companions(verb: &str, option: &str) -> &'static [&'static str] {
    match option {
        "--precision-of" => &["--precision", "2%"],
        "--service" | "--library-dir" => &["--emit", "env"],
        "--stack-depth" => &["--stacks"],
        "--freeze-limit" => &["--freeze"],
        "--from" | "--to" | "--against-from" | "--against-to" => &["--against", "nowhere-else.fbt"],
        "--ready" | "--ready-socket" => &["--load", "true"],
        "--load" => &["--ready", "ready"],
        "--shard" if verb == "tune" => &["--reps", "2"],
        _ => &[],
    }
}

/// Placeholders of values that may be any text: names of files, commands, patterns, names that the user gives.
fn is_free(verb: &str, option: &str, value: &str) -> bool {
    let any = ["FILE", "DIR", "PATH", "CMD", "PROGRAM", "REGEX", "EARLIER"].iter().any(|free| value.contains(free));
    any || (value.contains("NAME") && (verb, option) != ("trim", "--allocator") && option != "--remedy")
}

struct Described {
    verb: String,
    option: String,
    /// As in the help, with its brackets.
    value: String,
}

/// All options that take a value, from the help of every subcommand.
fn described(verb: &[&str]) -> Vec<Described> {
    let mut words = verb.to_vec();
    words.push("--help");
    let help = common::succeed(&words);
    let mut all = Vec::new();
    for line in help.lines() {
        let listed = line.strip_prefix("  ").filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        if let (Some(listed), true) = (listed, verb.len() < 2) {
            let name = listed.split(' ').next().unwrap();
            if name != "help" {
                all.extend(described(&verb.iter().copied().chain([name]).collect::<Vec<_>>()));
            }
        }
        let Some((name, value)) = line.trim_start().rsplit_once("--").filter(|_| line.trim_start().starts_with('-'))
        else {
            continue;
        };
        if let Some((option, value)) = name_and_value(name, value) {
            all.push(Described { verb: verb.join(" "), option, value });
        }
    }
    all
}

/// `  -o, --output <DIR>` and `  --stop-timeout <TIME>`; nothing for a flag.
fn name_and_value(before: &str, rest: &str) -> Option<(String, String)> {
    let short = before.trim();
    let (name, value) = rest.trim_end().split_once(' ')?;
    let value = value.strip_prefix('<')?;
    (short.is_empty() || short.len() == 3).then(|| (format!("--{name}"), format!("<{value}")))
}

/// Runs it where nothing is; what holds of every command line: no panic, no work, a documented status.
fn answer(dir: &Path, words: &[&str], faults: &mut Vec<String>) -> Output {
    let output = fragbench().current_dir(dir).stdin(Stdio::null()).args(words).output().unwrap();
    let said = stderr(&output);
    let mut fault = |what: String| faults.push(format!("{words:?} {what}: {said}"));
    if !matches!(output.status.code(), Some(0..=2)) || said.contains("panicked") || said.contains("RUST_BACKTRACE") {
        fault(format!("ended by {}", output.status));
    }
    for made in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        fault(format!("made {}", made.display()));
        let _ = std::fs::remove_file(&made).or_else(|_| std::fs::remove_dir_all(&made));
    }
    output
}

/// Words of which a next step has one.
const STEPS: [&str; 19] = [
    "write ",
    "give ",
    "for instance",
    "possible values",
    "known are",
    "there are",
    "There are",
    "did you mean",
    "tip:",
    "try 'fragbench",
    "Usage:",
    "names them all",
    "lists",
    "shows all",
    "leave ",
    "goes with",
    "choose",
    "unpack",
    "as `fragbench",
];

fn has_step(said: &str) -> bool {
    STEPS.iter().any(|step| said.contains(step))
}

/// It ends with this status, names these, and gives a next step.
fn refused(dir: &Path, status: i32, words: &[&str], names: &[&str], faults: &mut Vec<String>) {
    let output = answer(dir, words, faults);
    let said = stderr(&output);
    if output.status.code() != Some(status) {
        faults.push(format!("{words:?} ended by {} and not {status}: {said}{}", output.status, stdout(&output)));
        return;
    }
    faults.extend(names.iter().filter(|n| !said.contains(**n)).map(|n| format!("{words:?} does not name {n}: {said}")));
    if !has_step(&said) || said.contains("use '-- ") {
        faults.push(format!("{words:?} gives no next step: {said}"));
    }
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Subcommand, what stands before and behind the option, and what it needs beside it.
fn line<'a>(described: &'a Described, given: &[&'a str]) -> Vec<&'a str> {
    let Described { verb, option, .. } = described;
    let (mut before, after) = harmless(verb);
    if option == "--output" && before.first() == Some(&"-o") {
        before.drain(..2);
    }
    let beside = companions(verb, option).iter().copied();
    let words = verb.split(' ').chain(before).chain(beside).chain(given.iter().copied());
    // An option without its value would take what stands behind.
    words.chain(after.iter().copied().filter(|_| given.len() != 1)).collect()
}

#[test]
fn every_option_answers_a_wrong_value_by_its_name_and_a_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let all = described(&[]);
    assert!(all.len() > 120, "the help was not understood: {} options", all.len());
    let mut faults = Vec::new();
    for each in &all {
        let option = each.option.as_str();
        // An empty value is a script's variable that was not set: an error wherever it stands.
        refused(dir.path(), 2, &line(each, &[option, ""]), &[option], &mut faults);
        refused(dir.path(), 2, &line(each, &[option]), &[option], &mut faults);
        for wrong in ["fivve", "-1", ABSURD] {
            let words = line(each, &[option, wrong]);
            if !is_free(&each.verb, option, &each.value) {
                refused(dir.path(), 2, &words, &[option, wrong], &mut faults);
                continue;
            }
            let output = answer(dir.path(), &words, &mut faults);
            if !output.status.success() && !has_step(&stderr(&output)) {
                faults.push(format!("{words:?} gives no next step: {}", stderr(&output)));
            }
        }
    }
    none(&faults);
}

#[test]
fn a_time_without_its_unit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut times, mut faults) = (0, Vec::new());
    for each in described(&[]) {
        let time = each.value.contains("<TIME>") || each.value.contains("<DURATION>");
        // Its name says the unit.
        if time && each.option != "--seconds" {
            times += 1;
            let words = line(&each, &[&each.option, "5"]);
            refused(dir.path(), 2, &words, &[&each.option, "5s", "5ms"], &mut faults);
        }
    }
    assert!(times > 20, "{times} options take a time");
    none(&faults);
}

#[test]
fn every_argument_without_a_name_answers_alike() {
    let dir = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    let mut check = |status, words: &[&str], names: &[&str]| refused(dir.path(), status, words, names, &mut faults);
    for verb in ["trim", "watch", "syscalls", "export"] {
        for wrong in ["abc", "-1", "0", ABSURD, "1.5"] {
            check(2, &[verb, wrong], &[wrong, "pidof"]);
        }
        check(2, &[verb, ""], &["PID"]);
        check(2, &[verb], &[]);
        check(1, &[verb, "999999999"], &["999999999"]);
    }
    for wrong in ["abc", "-1", "0", ABSURD] {
        check(2, &["inspect", wrong], &[wrong]);
    }
    for verb in ["inspect", "record", "replay", "compare", "merge", "report", "diff", "tune", "badcase"] {
        check(2, &[verb], &[]);
        check(2, &[verb, ""], &[]);
    }
    for verb in ["run", "list", "badcase", "tune"] {
        for wrong in ["fivve", "-1", ABSURD] {
            check(2, &[verb, wrong], &[wrong]);
        }
    }
    for verb in [&["replay"][..], &["report"], &["trace", "info"], &["trace", "stat"], &["trace", "leaks"]] {
        check(2, &verb.iter().copied().chain(["nowhere"]).collect::<Vec<_>>(), &["nowhere"]);
    }
    none(&faults);
}

#[test]
fn an_option_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    for each in described(&[]) {
        let typo = format!("{}x", each.option);
        refused(dir.path(), 2, &line(&each, &[&typo, "1"]), &[&typo], &mut faults);
    }
    none(&faults);
}
