//! What the integration tests share: target programs with a known heap.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Compiles one of `tests/programs` into the directory.
pub(crate) fn program(name: &str, flags: &[&str], into: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(format!("{name}.c"));
    let output = into.join(name);
    let base = ["-O1", "-g", "-Wall", "-Wextra", "-fno-builtin", "-pthread"];
    let result = Command::new("cc").args(base).args(flags).arg(source).arg("-o").arg(&output).output().unwrap();
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
    output
}

/// A target program, ended when dropped.
pub(crate) struct Subject {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Subject {
    pub(crate) fn start(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Subject {
        let mut child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Subject { child, said }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of `name=value` pairs.
    pub(crate) fn says(&mut self) -> BTreeMap<String, u64> {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
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
        self.child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
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

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
