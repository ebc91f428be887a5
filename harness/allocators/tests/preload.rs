//! The C programs of `tests/programs` under every preload library, built ones and the distribution's, and under plain
//! glibc, whose behaviour is the yardstick.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

/// Who made a library: it decides how strictly odd arguments are checked.
#[derive(Clone, Copy, PartialEq)]
enum Maker {
    Glibc,
    Ours,
    Distribution,
}

fn environments() -> Vec<(Maker, Option<PathBuf>)> {
    let mut all = vec![(Maker::Glibc, None)];
    for name in ["jemalloc", "mimalloc", "null"] {
        all.push((Maker::Ours, Some(support::libraries().join(format!("libfragbench_{name}.so")))));
    }
    for file in ["libjemalloc.so.2", "libmimalloc.so.2", "libtcmalloc_minimal.so.4"] {
        all.extend(support::debian(file).map(|path| (Maker::Distribution, Some(path))));
    }
    all
}

fn run(program: &Path, maker: Maker, library: Option<&Path>, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(program);
    command.env_clear().envs(variables.iter().copied());
    if maker != Maker::Distribution {
        command.env("STRICT", "1");
    }
    if maker == Maker::Ours {
        command.env("OURS", "1");
    }
    if let Some(library) = library {
        command.env("LD_PRELOAD", library);
    }
    let output = command.output().unwrap();
    let name = library.map_or("glibc".into(), Path::to_string_lossy);
    assert!(
        output.status.success(),
        "{} under {name}: {}\n{}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    // A preload that failed leaves a line of the dynamic linker's here.
    assert!(output.stderr.is_empty(), "under {name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn passes_everywhere(name: &str) {
    let directory = tempfile::tempdir().unwrap();
    let program = support::program(name, directory.path());
    for (maker, library) in environments() {
        assert_eq!(run(&program, maker, library.as_deref(), &[]), "ok\n");
    }
}

#[test]
fn the_whole_api_keeps_its_rules() {
    passes_everywhere("api");
}

#[test]
fn threads_hand_blocks_to_each_other() {
    passes_everywhere("threads");
}

#[test]
fn fork_while_threads_allocate() {
    passes_everywhere("fork");
}

#[test]
fn allocation_before_main_and_after_it() {
    passes_everywhere("early");
}

/// What `prove.c` prints under a library and variables.
fn answers(library: &str, variables: &[(&str, &str)]) -> (PathBuf, String) {
    let directory = tempfile::tempdir().unwrap();
    let program = support::program("prove", directory.path());
    let path = support::libraries().join(library);
    let output = run(&program, Maker::Ours, Some(&path), variables);
    (path, output)
}

#[test]
fn jemalloc_answers_and_obeys_malloc_conf() {
    let (path, plain) = answers("libfragbench_jemalloc.so", &[]);
    assert!(plain.contains(&format!("malloc in {}\n", path.display())), "{plain}");
    assert!(plain.contains("jemalloc 5.3.1") && plain.contains("dirty_decay_ms:10000"), "{plain}");
    let set = [("MALLOC_CONF", "dirty_decay_ms:1234")];
    assert!(answers("libfragbench_jemalloc.so", &set).1.contains("dirty_decay_ms:1234"));
    let prefixed = [("_RJEM_MALLOC_CONF", "dirty_decay_ms:4321")];
    assert!(answers("libfragbench_jemalloc.so", &prefixed).1.contains("dirty_decay_ms:4321"));
}

#[test]
fn mimalloc_answers_and_obeys_its_variables() {
    let (path, plain) = answers("libfragbench_mimalloc.so", &[]);
    assert!(plain.contains(&format!("malloc in {}\n", path.display())), "{plain}");
    assert!(plain.contains("mimalloc 30302 purge_delay:1000"), "{plain}");
    let set = [("MIMALLOC_PURGE_DELAY", "77")];
    assert!(answers("libfragbench_mimalloc.so", &set).1.contains("purge_delay:77"));
}

#[test]
fn null_answers_and_counts_what_it_mapped() {
    let (path, plain) = answers("libfragbench_null.so", &[]);
    assert!(plain.contains(&format!("malloc in {}\n", path.display())), "{plain}");
    assert!(plain.contains(concat!("null ", env!("CARGO_PKG_VERSION"))), "{plain}");
}

/// All of libc's list: a function left out would hand glibc's blocks to another heap.
#[test]
fn every_function_of_the_api_is_exported() {
    for name in ["jemalloc", "mimalloc", "null"] {
        let path = support::libraries().join(format!("libfragbench_{name}.so"));
        let elf = fragbench_allocators::elf::parse(&std::fs::read(&path).unwrap()).unwrap();
        for symbol in [
            "malloc",
            "calloc",
            "realloc",
            "reallocarray",
            "free",
            "free_sized",
            "free_aligned_sized",
            "aligned_alloc",
            "memalign",
            "posix_memalign",
            "valloc",
            "pvalloc",
            "malloc_usable_size",
        ] {
            assert!(elf.exports(symbol), "{name} lacks {symbol}");
        }
    }
}
