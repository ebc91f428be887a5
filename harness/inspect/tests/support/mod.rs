//! What the integration tests share: target programs with a known heap.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use fragbench_test_support::compile;

/// Compiles one of `tests/programs` into the directory.
pub(crate) fn program(name: &str, flags: &[&str], into: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(format!("{name}.c"));
    let flags = [&["-Wall", "-Wextra"], flags].concat();
    compile("cc", &flags, &source, &into.join(name)).expect("the build needs a C compiler")
}

/// A program under inspection.
pub(crate) struct Subject(fragbench_test_support::Subject);

impl Subject {
    pub(crate) fn start(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Subject {
        let mut command = Command::new(program);
        Subject(fragbench_test_support::Subject::start(command.args(arguments).envs(environment.iter().copied())))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// The next line of `name=value` pairs.
    pub(crate) fn says(&mut self) -> BTreeMap<String, u64> {
        let line = self.0.line();
        let pair = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
        let pairs: BTreeMap<String, u64> = line.split_whitespace().filter_map(pair).collect();
        assert!(!pairs.is_empty(), "the program said {line:?}");
        pairs
    }

    /// Waits until every thread waits for something.
    pub(crate) fn settle(&self) {
        let waits = |task: &Path| {
            let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('S'))
        };
        let all =
            || std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().all(|t| waits(&t.unwrap().path()));
        while !all() {
            std::thread::yield_now();
        }
    }

    /// Lets it go on.
    pub(crate) fn go_on(&mut self) {
        self.0.go_on();
    }

    /// Exact anonymous memory: a walk of its page tables, which a test may.
    pub(crate) fn anonymous_bytes(&self) -> u64 {
        let mut text = String::new();
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        std::fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
        let kib = text.lines().find_map(|l| l.strip_prefix("Anonymous:")).unwrap();
        kib.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }
}
