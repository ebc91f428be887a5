//! What the tests of all crates share: what they need that a machine may lack, sources compiled on the spot, and
//! processes that answer line by line. Nothing else depends on it.
//!
//! A test that lacks something says so and ends; with `FRAGBENCH_NO_SKIP` in the environment it fails instead.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test that cannot go on has failed")]

use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Whether nothing may be skipped.
pub fn strict() -> bool {
    std::env::var_os("FRAGBENCH_NO_SKIP").is_some()
}

/// Says why a test is skipped; panics where nothing may be.
pub fn skip(why: impl Display) {
    assert!(!strict(), "{why}, and nothing may be skipped");
    eprintln!("skipped: {why}");
}

/// Path of a program that users or daemons start, by `PATH` and the directories of root's.
pub fn program(name: &str) -> Option<PathBuf> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&places).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = places.map(|dir| dir.join(name)).find(|path| path.is_file());
    if found.is_none() {
        skip(format_args!("{name} is not installed"));
    }
    found
}

/// A file that a package brings.
pub fn file(path: impl Into<PathBuf>) -> Option<PathBuf> {
    let path = path.into();
    if !path.exists() {
        skip(format_args!("{} is not installed", path.display()));
        return None;
    }
    Some(path)
}

/// A shared library of Debian's, by its file name.
pub fn library(name: &str) -> Option<PathBuf> {
    file(Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH)).join(name))
}

/// Compiles `source` into `output`, flags last so that libraries follow what needs them. The compiler removes no pair of
/// malloc and free.
pub fn compile(compiler: &str, flags: &[&str], source: &Path, output: &Path) -> Option<PathBuf> {
    let compiler = program(compiler)?;
    let mut command = Command::new(compiler);
    command.args(["-O1", "-g", "-fno-builtin", "-pthread", "-o"]).arg(output).arg(source).args(flags);
    let built = command.output().unwrap();
    assert!(built.status.success(), "{command:?}: {}", String::from_utf8_lossy(&built.stderr));
    Some(output.to_owned())
}

/// Writes `text` as `file` (`freed.c`) into the directory and compiles it into the file without the ending.
pub fn compile_text(compiler: &str, dir: &Path, file: &str, text: &str, flags: &[&str]) -> Option<PathBuf> {
    let source = dir.join(file);
    std::fs::write(&source, text).unwrap();
    compile(compiler, flags, &source, &source.with_extension(""))
}

/// A process whose input and output are the test's; ended when dropped.
#[derive(Debug)]
pub struct Subject {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Subject {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line it writes, without its end; waits for it.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    /// Writes one byte to it, for which these programs wait.
    pub fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    }

    /// Nobody traces it and it is not stopped.
    pub fn assert_left_alone(&self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        assert!(status.contains("TracerPid:\t0\n"), "{status}");
        assert!(!status.contains("State:\tT") && !status.contains("State:\tt"), "{status}");
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
