//! Whose malloc it is: the dynamic linker's order says, not which library is mapped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;

use fragbench_inspect::{Depth, inspect};
use fragbench_model::{Inspection, MallocFact};
use fragbench_proc::LiveTarget;
use fragbench_test_support::{compile_text, library};
use support::{Subject, program};

/// A malloc that nobody knows: it hands out memory and never takes any back.
const BUMP: &str = r#"
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
static char *at, *end;
void *malloc(size_t n) {
    n = (n + 31) / 16 * 16;
    if (at + n > end) {
        at = mmap(0, 256 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        end = at + (256 << 20);
    }
    char *block = at + 16;
    *(size_t *)at = n - 16;
    at += n;
    return block;
}
void free(void *p) { (void)p; }
void *calloc(size_t n, size_t m) { return malloc(n * m); }
void *realloc(void *old, size_t n) {
    void *block = malloc(n);
    return old ? memcpy(block, old, n < ((size_t *)old)[-2] ? n : ((size_t *)old)[-2]) : block;
}
"#;

fn look(file: &Path, preload: &[&Path]) -> Inspection {
    let list: Vec<&str> = preload.iter().map(|path| path.to_str().unwrap()).collect();
    let list = list.join(":");
    let environment: &[(&str, &str)] = if list.is_empty() { &[] } else { &[("LD_PRELOAD", &list)] };
    let mut subject = Subject::start(file, &["live"], environment);
    subject.says();
    inspect(&LiveTarget::open(subject.pid()).unwrap(), &Depth::default()).unwrap().inspection
}

/// Name, whether malloc goes to it, whether operator new does.
fn facts(inspection: &Inspection) -> Vec<(&str, bool, bool)> {
    let fact = |malloc: &MallocFact| (malloc.takes_malloc, malloc.takes_new);
    inspection.mallocs.iter().map(|malloc| (malloc.name.as_str(), fact(malloc).0, fact(malloc).1)).collect()
}

#[test]
fn what_is_mapped_first_is_not_what_is_looked_up_first() {
    let (Some(tcmalloc), Some(mimalloc)) = (library("libtcmalloc_minimal.so.4"), library("libmimalloc.so.2")) else {
        return;
    };
    let libc = library("libc.so.6").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let linked = program("heap", &["-DSCALE=8", "-Wl,--no-as-needed", tcmalloc.to_str().unwrap()], dir.path());
    let seen = look(&linked, &[]);
    assert_eq!(facts(&seen), [("glibc", false, false), ("tcmalloc", true, true)]);
    assert!(seen.heap.is_none_or(|heap| heap.live_bytes < 1 << 20), "{:?}", seen.heap);
    let over = look(&linked, &[&mimalloc]);
    assert!(facts(&over).contains(&("mimalloc", true, true)), "{:?}", over.mallocs);
    assert!(facts(&over).contains(&("tcmalloc", false, false)), "{:?}", over.mallocs);
    let back = look(&linked, &[&libc]);
    assert_eq!(facts(&back), [("glibc", true, false), ("tcmalloc", false, true)], "{:?}", back.mallocs);
    assert!(back.heap.unwrap().live_bytes > 1 << 20 && back.warnings.iter().any(|w| w.contains("operator new")));
}

#[test]
fn an_allocator_by_names_of_its_own_and_an_unknown_one_are_told() {
    let dir = tempfile::tempdir().unwrap();
    // What a Rust program has whose global allocator is jemalloc: its functions under a prefix, and malloc as it was.
    let prefixed = dir.path().join("prefixed.c");
    std::fs::write(&prefixed, "int _rjem_mallctl(void) { return 0; }\n").unwrap();
    let file = program("heap", &["-DSCALE=8", prefixed.to_str().unwrap()], dir.path());
    let seen = look(&file, &[]);
    assert_eq!(facts(&seen), [("glibc", true, false), ("jemalloc", false, false)]);
    let holds: Vec<Option<u64>> = seen.mallocs.iter().map(|malloc| malloc.holds_at_most_bytes).collect();
    assert_eq!(holds[0], Some(seen.heap.unwrap().resident_bytes));
    assert!(holds[1].is_some_and(|bytes| bytes < 4 << 20), "nothing is jemalloc's here: {holds:?}");
    assert!(seen.warnings.iter().any(|w| w.contains("jemalloc is in this process as well")), "{:?}", seen.warnings);

    let bump = compile_text("cc", dir.path(), "bump.c", BUMP, &["-shared", "-fPIC"]).unwrap();
    let plain = program("heap", &["-DSCALE=8"], dir.path());
    let seen = look(&plain, &[&bump]);
    assert_eq!(facts(&seen), [("glibc", false, false), ("unknown", true, false)]);
    assert!(seen.mallocs[1].object.ends_with("bump"));
    assert!(seen.warnings.iter().any(|w| w.contains("bump, which is no allocator known")), "{:?}", seen.warnings);
    assert!(seen.verdict.summary.contains("an unknown allocator"), "{}", seen.verdict.summary);
}
