//! Allocators other than glibc's, asked and purged through a real gdb: as preloaded, and in a real Redis.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fragbench_ask::{AskError, Limits, heap, purge, words};

/// 64 MiB of small blocks, freed; then it answers every byte with a line, as it does when it is ready.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    static void *blocks[65536];
    for (int i = 0; i < 65536; i++)
        memset(blocks[i] = malloc(1000), 1, 1000);
    for (int i = 0; i < 65536; i++)
        if (i % 4096)
            free(blocks[i]);
    char byte;
    do {
        free(memset(malloc(5000), 1, 5000));
        if (write(1, "here\n", 5) != 5)
            return 1;
    } while (read(0, &byte, 1) == 1);
    return 0;
}
"#;

struct Subject(Child, BufReader<std::process::ChildStdout>);

impl Subject {
    fn start(file: &Path, preload: &Path, settings: &[(&str, &str)]) -> Subject {
        let mut command = Command::new(file);
        command.env("LD_PRELOAD", preload).envs(settings.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut subject = Subject(child, said);
        subject.answers();
        subject
    }

    fn answers(&mut self) {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        assert_eq!(line, "here\n");
    }

    /// Nobody traces it, and its allocator works.
    fn lives_on(&mut self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        assert!(status.contains("TracerPid:\t0\n") && !status.contains("State:\tT"), "{status}");
        self.0.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        self.answers();
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether all of it is here. Where nothing may be skipped, an absence is a failure.
fn here(what: &[PathBuf]) -> bool {
    let missing: Vec<_> = what.iter().filter(|path| !path.exists()).collect();
    assert!(missing.is_empty() || std::env::var_os("FRAGBENCH_NO_SKIP").is_none(), "{missing:?} are not installed");
    if !missing.is_empty() {
        eprintln!("skipped: {missing:?} are not installed");
    }
    missing.is_empty()
}

fn library(name: &str) -> PathBuf {
    Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH)).join(name)
}

fn compiled(dir: &Path) -> PathBuf {
    let (source, file) = (dir.join("freed.c"), dir.join("freed"));
    std::fs::write(&source, PROGRAM).unwrap();
    let built = Command::new("cc").args(["-O1", "-fno-builtin", "-o"]).arg(&file).arg(&source).status().unwrap();
    assert!(built.success());
    file
}

/// An allocator, its library, its variables and the figure that says what is in use.
type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

/// What each keeps when left alone.
const ROWS: [Row; 2] = [
    ("jemalloc", "libjemalloc.so.2", &[("MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1")], "stats.allocated"),
    ("tcmalloc", "libtcmalloc_minimal.so.4", &[("TCMALLOC_RELEASE_RATE", "0")], "generic.current_allocated_bytes"),
];

#[test]
fn an_allocator_gives_back_what_it_kept_and_says_what_it_holds() {
    if !here(&[PathBuf::from("/usr/bin/gdb"), library("libjemalloc.so.2"), library("libtcmalloc_minimal.so.4")]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = compiled(dir.path());
    for (name, preload, settings, live) in ROWS {
        let mut subject = Subject::start(&file, &library(preload), settings);
        let pid = subject.0.id();
        assert_eq!(heap(pid).unwrap().allocator, name);
        let said = words(pid, None, &Limits::default()).unwrap();
        assert_eq!(said.before, said.after, "{name}: asking changes nothing");
        assert!(said.before[live] < 8 << 20, "{name}: {said:?}");
        subject.lives_on();
        let purged = purge(pid, None, &Limits::default()).unwrap();
        assert_eq!((purged.allocator.as_str(), purged.reach.as_ref()), (name, None));
        assert!(purged.object.contains(name), "{purged:?}");
        assert!(purged.released_bytes > 40 << 20, "{name}: {purged:?}");
        subject.lives_on();
        let again = purge(pid, None, &Limits::default()).unwrap();
        assert!(again.released_bytes < 4 << 20, "{name}: {again:?}");
        subject.lives_on();
        let other = purge(pid, Some("mimalloc"), &Limits::default()).unwrap_err();
        assert!(
            matches!(other, AskError::NotAsked { .. }) && other.to_string().contains("not in this process"),
            "{other}"
        );
    }
}

#[test]
fn mimalloc_collects_and_its_reach_is_said() {
    if !here(&[PathBuf::from("/usr/bin/gdb"), library("libmimalloc.so.2")]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut subject = Subject::start(&compiled(dir.path()), &library("libmimalloc.so.2"), &[]);
    let purged = purge(subject.0.id(), None, &Limits::default()).unwrap();
    assert_eq!(purged.allocator, "mimalloc");
    assert!(purged.before["commit"] > 0 && purged.reach.unwrap().contains("thread that calls it"));
    subject.lives_on();
}

#[test]
fn a_real_redis_gives_back_what_its_keys_took() {
    let redis = ["/usr/bin/gdb", "/usr/bin/redis-server", "/usr/bin/redis-cli"].map(PathBuf::from);
    if !here(&redis) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let mut command = Command::new(&redis[1]);
    command.args(["--port", "0", "--save", "", "--dir"]).arg(dir.path()).arg("--unixsocket").arg(&socket);
    let child = command.env("MALLOC_CONF", "dirty_decay_ms:-1").stdout(Stdio::null()).spawn().unwrap();
    struct Server(Child);
    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let server = Server(child);
    while !socket.exists() {
        std::thread::yield_now();
    }
    let ask = |words: &[&str]| {
        let output = Command::new(&redis[2]).arg("-s").arg(&socket).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let script = "for i = 1, 60000 do redis.call('set', 'key:' .. i, string.rep('x', 1000)) end";
    ask(&["eval", script, "0"]);
    // FLUSHALL would purge by itself.
    ask(&["eval", "for i = 1, 60000 do redis.call('del', 'key:' .. i) end", "0"]);
    let pid = server.0.id();
    assert_eq!(heap(pid).unwrap().allocator, "jemalloc");
    let purged = purge(pid, None, &Limits::default()).unwrap();
    assert!(purged.released_bytes > 30 << 20, "{purged:?}");
    assert!(purged.before["stats.allocated"] < purged.before["stats.resident"], "{purged:?}");
    assert_eq!(ask(&["ping"]), "PONG\n");
}
