//! Processes with a known trouble, each made by a small program: the verdict must name it, and the bad case it looks like.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::{Path, PathBuf};

use fragbench_inspect::{Depth, Inspected, inspect, verdict};
use fragbench_model::{HeapVerdictKind as K, PinKind};
use fragbench_proc::LiveTarget;
use fragbench_test_support::{compile_text, library};
use support::{Subject, program};

fn look(subject: &Subject) -> Inspected {
    subject.settle();
    let seen = inspect(&LiveTarget::open(subject.pid()).unwrap(), &Depth::default()).unwrap();
    let mut sums: Vec<u64> = Vec::new();
    // Steps of a depth add up to the step above them.
    for step in seen.inspection.waterfall.iter().rev() {
        let depth = usize::from(step.depth);
        sums.resize(sums.len().max(depth + 2), 0);
        if sums[depth + 1] > 0 {
            assert_eq!(step.bytes, sums[depth + 1], "{}: {:#?}", step.name, seen.inspection.waterfall);
        }
        sums[depth + 1] = 0;
        sums[depth] += step.bytes;
    }
    let (steps, vm) = (seen.inspection.waterfall[0].bytes, seen.inspection.vm_bytes);
    assert!(steps.abs_diff(vm) <= 1 << 20, "mappings add up to VIRT: {steps} and {vm}");
    let resident = seen.inspection.waterfall.iter().find(|step| step.name == "in memory").unwrap().bytes;
    let rss = seen.inspection.rss_bytes.unwrap();
    assert!(resident.abs_diff(rss) <= 2 << 20, "pages in memory add up to RSS: {resident} and {rss}");
    seen
}

/// Label of every process: case, verdict, the bad case it looks like; the third says whether glibc 2.43 has it too.
const LABELS: [(&str, K, Option<&str>, bool); 22] = [
    ("nothing", K::Healthy, None, true),
    ("live", K::Healthy, None, true),
    ("mmapped", K::Healthy, None, true),
    ("pinned-top", K::PinnedRetention, Some("pinned-top"), true),
    ("tcache-pins-top", K::TcacheRetention, Some("tcache-pins-top"), true),
    ("interleaved-2", K::Fragmentation, Some("interleaved-pins-page"), true),
    ("interleaved-64", K::Fragmentation, Some("interleaved-pins"), true),
    ("fastbins", K::FastbinRetention, Some("fastbin-hoard"), false),
    ("fastbins-scattered", K::FastbinRetention, Some("fastbin-hoard"), false),
    ("threads-fastbins", K::FastbinRetention, Some("fastbin-hoard-threads"), false),
    ("threads-tops", K::TcacheRetention, Some("tcache-pins-top"), true),
    ("threads-tail", K::TcacheRetention, Some("heap-tail-remainder"), false),
    ("threads-heaps", K::Fragmentation, Some("interleaved-pins"), true),
    ("threads-ratcheted", K::ThreadTopRetention, Some("ratcheted-top-threads"), true),
    ("threads-pinned", K::PinnedRetention, Some("serial-peaks"), true),
    ("burst-pinned", K::PinnedRetention, Some("thread-burst-pinned"), true),
    ("mmap-ratchet", K::MmapRatchet, Some("mmap-ratchet"), true),
    ("main-top", K::MainTopRetention, Some("mmap-ratchet"), true),
    ("huge-pinned", K::PinnedRetention, Some("pinned-top"), true),
    ("huge-interleaved", K::Fragmentation, Some("interleaved-pins"), true),
    ("anonymous", K::NotTheHeap, None, true),
    ("shared", K::NotTheHeap, None, true),
];

/// Allocators of Debian's that can take malloc's place.
const OTHERS: [(&str, &str); 3] =
    [("jemalloc", "libjemalloc.so.2"), ("mimalloc", "libmimalloc.so.2.0"), ("tcmalloc", "libtcmalloc_minimal.so.4")];

#[test]
fn every_process_of_the_corpus_is_told_what_is_the_matter() {
    let dir = tempfile::tempdir().unwrap();
    let heap = program("heap", &["-DSCALE=32"], dir.path());
    let mut wrong = Vec::new();
    let mut judge = |name: &str, program: &Path, case: &str, environment: &[(&str, &str)], label: (K, Option<&str>)| {
        let mut subject = Subject::start(program, &[case], environment);
        subject.says();
        let verdict = look(&subject).inspection.verdict;
        if (verdict.kind, verdict.resembles.as_deref()) != label {
            wrong.push(format!("{name}: {verdict:#?}"));
        }
        verdict.summary
    };
    let fast_bins = {
        let mut subject = Subject::start(&heap, &["nothing"], &[]);
        subject.says();
        look(&subject).survey.unwrap().libc.fast_bins
    };
    for (case, kind, resembles, _) in LABELS.into_iter().filter(|label| fast_bins || label.3) {
        judge(case, &heap, case, &[], (kind, resembles));
    }
    let tunables = |settings| [("GLIBC_TUNABLES", settings)];
    let many = tunables("glibc.malloc.arena_max=64");
    judge("threads-small", &heap, "threads-small", &many, (K::AddressSpace, Some("arena-explosion")));
    let cached = tunables("glibc.malloc.tcache_count=2000");
    judge("threads-cached", &heap, "threads-cached", &cached, (K::TcacheRetention, Some("tcache-hoard")));
    judge("threads-deep", &heap, "threads-deep", &[], (K::NotTheHeap, None));
    let whole = program("heap", &["-DSCALE=32", "-static"], dir.path());
    judge("static", &whole, "pinned-top", &[], (K::PinnedRetention, Some("pinned-top")));
    let dynamic = program("heap", &["-DSCALE=32"], dir.path());
    for (name, file) in OTHERS {
        let Some(library) = library(file) else { continue };
        let preload = [("LD_PRELOAD", library.to_str().unwrap())];
        let summary = judge(name, &dynamic, "live", &preload, (K::NotTheHeap, None));
        assert!(summary.contains(name), "{name}: {summary}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Cases that are run on every other version of glibc: one of each verdict that a heap can have.
const ELSEWHERE: [&str; 8] = [
    "live",
    "pinned-top",
    "tcache-pins-top",
    "interleaved-64",
    "fastbins",
    "threads-ratcheted",
    "mmap-ratchet",
    "huge-pinned",
];

/// The corpus on other versions of glibc, those of `FRAGBENCH_GLIBC_DIRS`, by their own loaders.
#[test]
fn the_corpus_on_other_versions_of_glibc() {
    let dirs = std::env::var_os("FRAGBENCH_GLIBC_DIRS").unwrap_or_default();
    if dirs.is_empty() {
        eprintln!("skipped: FRAGBENCH_GLIBC_DIRS names no other glibc");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for glibc in std::env::split_paths(&dirs) {
        let find = |name: &str| find(&glibc, name).unwrap_or_else(|| panic!("no {name} in {}", glibc.display()));
        let (loader, libc) = (find("ld-linux-x86-64.so.2"), find("libc.so.6"));
        let library = libc.parent().unwrap().to_str().unwrap();
        // Linked with that very libc, so that it asks for no symbol newer than there are; `mallinfo2` is of 2.33.
        let threads = find("libpthread.so.0");
        let files = [libc.to_str().unwrap(), threads.to_str().unwrap(), loader.to_str().unwrap()];
        let flags =
            ["-DSCALE=32", "-DOLD", "-Wno-deprecated-declarations", "-nodefaultlibs", "-Wl,--no-as-needed", "-lgcc"];
        let heap = program("heap", &[&flags[..], &files].concat(), dir.path());
        for (case, kind, resembles, always) in LABELS.into_iter().filter(|label| ELSEWHERE.contains(&label.0)) {
            let mut subject = Subject::start(&loader, &["--library-path", library, heap.to_str().unwrap(), case], &[]);
            subject.says();
            let seen = look(&subject);
            if always || seen.survey.unwrap().libc.fast_bins {
                let verdict = &seen.inspection.verdict;
                let said = (verdict.kind, verdict.resembles.as_deref());
                assert_eq!(said, (kind, resembles), "{case} on {:?}: {verdict:#?}", seen.inspection.glibc);
            }
        }
    }
}

/// Blocks of musl's malloc.
const MUSL: &str = r#"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    for (int i = 0; i < 160000; i++) {
        void *block = malloc(200);
        if (!block)
            return 1;
        memset(block, 1, 200);
    }
    if (write(1, "ok=1\n", 5) != 5)
        return 1;
    pause();
}
"#;

#[test]
fn a_program_on_musl_is_told_to_have_another_malloc() {
    let dir = tempfile::tempdir().unwrap();
    for linked in [&[][..], &["-static"]] {
        let Some(output) = compile_text("musl-gcc", dir.path(), "musl.c", MUSL, linked) else { return };
        let mut subject = Subject::start(&output, &[], &[]);
        subject.says();
        let seen = look(&subject).inspection;
        assert_eq!(seen.mallocs.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["musl"], "{linked:?}");
        assert!(seen.mallocs[0].takes_malloc && seen.heap.is_none() && seen.glibc.is_none());
        assert_eq!(seen.verdict.kind, K::NotTheHeap, "{linked:?}: {:#?}", seen.verdict);
        assert!(seen.verdict.summary.contains("musl"), "{:#?}", seen.verdict);
    }
}

/// A file below a directory.
fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).ok()?.map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir() && !path.is_symlink());
    let here = files.into_iter().find(|path| path.file_name().is_some_and(|file| file == name));
    here.or_else(|| dirs.iter().find_map(|dir| find(dir, name)))
}

#[test]
fn two_looks_tell_a_leak_from_retention() {
    let dir = tempfile::tempdir().unwrap();
    let heap = program("heap", &["-DSCALE=32"], dir.path());
    let twice = |case: &str| {
        let mut subject = Subject::start(&heap, &[case], &[]);
        subject.says();
        let before = look(&subject).inspection;
        subject.go_on();
        subject.says();
        let now = look(&subject).inspection;
        let json = serde_json::to_string(&before).unwrap();
        assert_eq!(serde_json::from_str::<fragbench_model::Inspection>(&json).unwrap(), before);
        verdict(&now, Some(&before))
    };
    let leak = twice("leak");
    assert_eq!(leak.kind, K::LeakOrGrowth);
    assert!(leak.bytes.abs_diff(32 << 20) < 1 << 20, "{leak:#?}");
    assert!(leak.evidence.iter().any(|line| line.contains("chunks of 193 to 224 bytes")), "{leak:#?}");
    assert_eq!(twice("peak").kind, K::PinnedRetention);
}

#[test]
fn an_inspection_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let heap = program("heap", &["-DSCALE=16"], dir.path());
    let mut subject = Subject::start(&heap, &["threads-tops"], &[]);
    subject.says();
    subject.settle();
    let process = fragbench_proc::Process::live(subject.pid());
    let before = (process.times().unwrap(), subject.anonymous_bytes());
    look(&subject);
    assert_eq!((process.times().unwrap(), subject.anonymous_bytes()), before);
}

/// Objects of a class with a vtable hold 16 MiB.
const OBJECTS: &str = r#"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>
namespace server {
struct Session {
    virtual ~Session() {}
    virtual int id() { return 7; }
    char body[1080];
};
}
int main() {
    static void *blocks[16384];
    for (void *&block : blocks)
        std::memset(block = std::malloc(1000), 1, 1000);
    auto *session = new server::Session;
    for (void *block : blocks)
        std::free(block);
    char line[32];
    int n = std::snprintf(line, sizeof line, "id=%d\n", session->id());
    if (write(1, line, n) != n)
        return 1;
    pause();
}
"#;

#[test]
fn the_type_of_what_holds_memory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let output = compile_text("c++", dir.path(), "objects.cc", OBJECTS, &[]).unwrap();
    let mut subject = Subject::start(&output, &[], &[]);
    subject.says();
    let seen = look(&subject).inspection;
    assert_eq!(seen.verdict.kind, K::PinnedRetention);
    let pin = &seen.retained[0].pins[0];
    assert_eq!((pin.chunks, pin.kind), (1, PinKind::Live), "{pin:?}");
    assert_eq!(pin.types.keys().next().map(String::as_str), Some("server::Session (objects)"), "{pin:?}");
    assert!(seen.verdict.evidence.iter().any(|line| line.contains("server::Session")), "{:#?}", seen.verdict);
}
