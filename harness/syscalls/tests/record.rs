//! A program whose mappings are known, recorded with perf and with strace: both tell the same of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fragbench_syscalls::{Name, Subject, Summary, Tool, Use, flame_graph, machine, record, summarize};

fn program(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/maps.c");
    // Unwinding through the C library needs no frame pointers, and neither does this.
    fragbench_test_support::compile("cc", &["-Wall", "-Wextra"], &source, &dir.join("maps")).unwrap()
}

/// Tools that can be used here. Where nothing may be skipped, each must be, but for perf in a place that forbids it.
fn tools() -> Vec<Tool> {
    let machine = machine();
    let strict = fragbench_test_support::strict();
    let mut tools = Vec::new();
    for (tool, lacks) in [(Tool::Perf, &machine.perf_lacks), (Tool::Strace, &machine.strace_lacks)] {
        match lacks {
            None => tools.push(tool),
            // A container has no tracefs whoever asks: that is no missing program.
            Some(why) if !strict || tool == Tool::Perf && !why.contains("not installed") => eprintln!("skipped: {why}"),
            Some(why) => panic!("{why}, and nothing may be skipped"),
        }
    }
    assert!(!strict || !tools.is_empty());
    tools
}

fn calls(summary: &Summary, purpose: Use, name: Name) -> u64 {
    summary.lines.iter().filter(|l| (l.purpose, l.call) == (purpose, name)).map(|l| l.calls).sum()
}

#[test]
fn every_mapping_is_counted_as_what_it_is_for() {
    let dir = tempfile::tempdir().unwrap();
    let program = program(dir.path());
    for tool in tools() {
        let subject = Subject::Command(vec![program.clone().into()]);
        let recording = record(&subject, tool, 0, true, || false).unwrap();
        assert_eq!(recording.lost, 0, "{tool:?}");
        let summary = summarize(&recording.calls, recording.regions, 0);
        let count = |purpose, name| calls(&summary, purpose, name);
        // Four threads; the first fills a heap of 64 MiB and needs a second.
        assert!(count(Use::Arena, Name::Mmap) >= 5, "{tool:?}: {summary:#?}");
        assert_eq!(count(Use::ThreadStack, Name::Mmap), 4, "{tool:?}");
        assert_eq!(count(Use::MmappedChunk, Name::Mmap), 5, "{tool:?}: {:#?}", summary.lines);
        assert!(count(Use::Arena, Name::Mprotect) > 500, "{tool:?}: an arena grows by mprotect");
        assert!(count(Use::File, Name::Mmap) > 1, "{tool:?}: libraries");
        let own = |name| {
            let stacks =
                summary.stacks.iter().filter(|s| s.call == name && s.purpose == Use::Own && s.bytes == 5 << 20);
            stacks.map(|s| s.callers().next().unwrap().function.clone()).collect::<Vec<_>>()
        };
        for name in [Name::Mmap, Name::Madvise, Name::Munmap] {
            let callers = own(name);
            assert_eq!(callers.len(), 1, "{tool:?} {name:?}");
            // strace knows exported names only.
            assert!(tool == Tool::Strace || callers[0] == "own_mapping" || callers[0] == "main", "{callers:?}");
        }
        let grown: u64 = summary.lines.iter().filter(|l| l.purpose == Use::MainHeap).map(|l| l.bytes).sum();
        assert!((1 << 16..1 << 22).contains(&grown), "{tool:?}: {grown}");
        assert_eq!(summary.timeline.calls.values().flatten().sum::<u64>(), summary.calls, "{tool:?}");

        let mut svg = Vec::new();
        flame_graph(&summary, "maps", &mut svg).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        for word in ["<svg", "thread arena", "program&apos;s own", "mmapped chunk"] {
            assert!(svg.contains(word), "{tool:?}: {word}");
        }
    }
}

#[test]
fn only_large_ones_are_kept_when_asked_and_of_a_process_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let program = program(dir.path());
    for tool in tools() {
        let mut child = Command::new(&program).arg("wait").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let input = child.stdin.take();
        // It goes on once it is watched, which is when this is asked for the first time.
        let release = std::cell::Cell::new(input);
        let pid = child.id();
        let go_on = || {
            drop(release.take());
            false
        };
        let subject = Subject::Process(pid, Duration::from_secs(30));
        let recording = record(&subject, tool, 60_000_000, false, go_on).unwrap();
        child.wait().unwrap();
        let summary = summarize(&recording.calls, recording.regions, 60_000_000);
        assert!(calls(&summary, Use::Arena, Name::Mmap) >= 5, "{tool:?}: {:#?}", summary.lines);
        assert!(summary.lines.iter().all(|l| l.largest_bytes >= 60_000_000), "{tool:?}: {:#?}", summary.lines);
        assert_eq!(calls(&summary, Use::MmappedChunk, Name::Mmap), 0);
        assert!(summary.stacks.is_empty());
        assert!(flame_graph(&summary, "", Vec::new()).is_err_and(|e| e.to_string().contains("--stacks")));
    }
}
