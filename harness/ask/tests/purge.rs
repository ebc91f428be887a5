//! Allocators other than glibc's, asked and purged through a real gdb: as preloaded, and in a real Redis.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

use fragbench_ask::{AskError, Limits, heap, purge, words};
use fragbench_test_support::{Subject, compile_text, library, program};

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

struct Asked(Subject);

impl Asked {
    fn start(file: &Path, preload: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(file);
        let mut asked = Self(Subject::start(command.env("LD_PRELOAD", preload).envs(settings.iter().copied())));
        assert_eq!(asked.0.line(), "here");
        asked
    }

    /// Nobody traces it, and its allocator works.
    fn lives_on(&mut self) {
        self.0.assert_left_alone();
        self.0.go_on();
        assert_eq!(self.0.line(), "here");
    }
}

fn compiled(dir: &Path) -> PathBuf {
    compile_text("cc", dir, "freed.c", PROGRAM, &[]).expect("the build needs a C compiler")
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
    if program("gdb").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = compiled(dir.path());
    for (name, preload, settings, live) in ROWS {
        let Some(preload) = library(preload) else { continue };
        let mut subject = Asked::start(&file, &preload, settings);
        let pid = subject.0.pid();
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
    let (Some(_), Some(mimalloc)) = (program("gdb"), library("libmimalloc.so.2")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut subject = Asked::start(&compiled(dir.path()), &mimalloc, &[]);
    let purged = purge(subject.0.pid(), None, &Limits::default()).unwrap();
    assert_eq!(purged.allocator, "mimalloc");
    assert!(purged.before["commit"] > 0 && purged.reach.unwrap().contains("thread that calls it"));
    subject.lives_on();
}

#[test]
fn a_real_redis_gives_back_what_its_keys_took() {
    let [Some(_), Some(redis), Some(client)] = ["gdb", "redis-server", "redis-cli"].map(program) else { return };
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let mut command = Command::new(&redis);
    command.args(["--port", "0", "--save", "", "--dir"]).arg(dir.path()).arg("--unixsocket").arg(&socket);
    let server =
        Subject::start(command.arg("--logfile").arg(dir.path().join("log")).env("MALLOC_CONF", "dirty_decay_ms:-1"));
    while !socket.exists() {
        std::thread::yield_now();
    }
    let ask = |words: &[&str]| {
        let output = Command::new(&client).arg("-s").arg(&socket).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let script = "for i = 1, 60000 do redis.call('set', 'key:' .. i, string.rep('x', 1000)) end";
    ask(&["eval", script, "0"]);
    // FLUSHALL would purge by itself.
    ask(&["eval", "for i = 1, 60000 do redis.call('del', 'key:' .. i) end", "0"]);
    let pid = server.pid();
    assert_eq!(heap(pid).unwrap().allocator, "jemalloc");
    let purged = purge(pid, None, &Limits::default()).unwrap();
    assert!(purged.released_bytes > 30 << 20, "{purged:?}");
    assert!(purged.before["stats.allocated"] < purged.before["stats.resident"], "{purged:?}");
    assert_eq!(ask(&["ping"]), "PONG\n");
}
