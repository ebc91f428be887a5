//! Processes that live apart: in mount, process and user namespaces of their own, with libraries that are only there; and
//! memory that the kernel may take back at any time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{arg, compiled, json, program, succeed};
use fragbench_test_support::Subject;

/// Frees 16 MiB below a pin, leaves 32 MiB to the kernel, and waits.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int main(void) {
    static void *blocks[16384];
    for (int i = 0; i < 16384; i++)
        memset(blocks[i] = malloc(1000), 1, 1000);
    malloc(1100);
    for (int i = 0; i < 16384; i++)
        free(blocks[i]);
    char *lazy = mmap(0, 32 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(lazy, 1, 32 << 20);
    madvise(lazy, 32 << 20, MADV_FREE);
    puts("ready");
    fflush(stdout);
    pause();
}
"#;

#[test]
fn a_process_in_namespaces_of_its_own_is_inspected_with_its_own_libraries() {
    let Some(unshare) = program("unshare") else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = compiled(dir.path(), "apart", PROGRAM, &["-w"]) else { return };
    let own = dir.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let libc = format!("/usr/lib/{}-linux-gnu/libc.so.6", std::env::consts::ARCH);
    // Seen inside only: outside the directory stays empty.
    let script = format!(
        "mount -t tmpfs none {0} && cp {libc} {0}/ && LD_LIBRARY_PATH={0} exec {1}",
        own.display(),
        file.display()
    );
    let mut command = Command::new(unshare);
    command.args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", &script]);
    let mut subject = Subject::start(&mut command);
    if subject.line() != "ready" {
        common::skip("no namespaces can be made here");
        return;
    }
    let outer = subject.pid();
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
    let pid = children.trim();
    assert_eq!(std::fs::read_dir(&own).unwrap().count(), 0);
    let seen = json(&succeed(&["inspect", "--format", "json", pid]));
    let malloc = &seen["mallocs"][0];
    assert_eq!((malloc["name"].as_str(), malloc["object"].as_str()), (Some("glibc"), own.join("libc.so.6").to_str()));
    assert!(seen["heap"]["free_bytes"].as_u64().unwrap() > 15 << 20, "{seen}");
    assert!(seen["coverage_ratio"].as_f64().unwrap() > 0.99, "{seen}");
    assert!(seen["limits"]["default_arena_limit"].as_u64().unwrap() >= 8, "{}", seen["limits"]);
}

#[test]
fn memory_that_the_kernel_may_take_stands_apart() {
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = compiled(dir.path(), "lazy", PROGRAM, &["-w"]) else { return };
    let jemalloc = Path::new(env!("CARGO_BIN_EXE_fragbench")).parent().unwrap().join("libfragbench_jemalloc.so");
    let mut subject = Subject::start(Command::new(&file).env("LD_PRELOAD", arg(&jemalloc)));
    assert_eq!(subject.line(), "ready");
    let pid = subject.pid().to_string();
    let seen = json(&fragbench_says(&["inspect", "--format", "json", &pid]));
    let lazy = seen["lazy_free_bytes"].as_u64().unwrap_or_else(|| panic!("{seen}"));
    assert!((30 << 20..=33 << 20).contains(&lazy), "{lazy}");
    assert!(fragbench_says(&["inspect", &pid]).contains("lazily freed"));
}

/// What it prints, whatever it ends with: a heap that is not glibc's is not walked.
fn fragbench_says(words: &[&str]) -> String {
    common::stdout(&common::run(words))
}
