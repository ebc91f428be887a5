//! Surveys of processes with a known heap against what their own malloc says, and predictions against what
//! `malloc_trim(0)` then does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use fragbench_inspect::{InspectError, Method, Survey, survey};
use fragbench_model::{HeapBytes, PinKind};
use fragbench_proc::{LiveTarget, ProcError, Process};
use support::{Subject, program};

/// Surveys the process; nothing it has or does may change by that.
fn look(subject: &Subject) -> Survey {
    subject.settle();
    let process = Process::live(subject.pid());
    let before = (process.times().unwrap(), subject.anonymous_bytes());
    let survey = survey(&LiveTarget::open(subject.pid()).unwrap()).unwrap();
    assert_eq!((process.times().unwrap(), subject.anonymous_bytes()), before, "the survey left a trace");
    survey
}

const CASES: [&str; 16] = [
    "nothing",
    "pinned-top",
    "tcache-pins-top",
    "interleaved-2",
    "interleaved-8",
    "interleaved-64",
    "fastbins",
    "fastbins-scattered",
    "mmapped",
    "churn",
    "threads-churn",
    "threads-tops",
    "threads-fastbins",
    "threads-heaps",
    "foreign-brk",
    "refused-brk",
];

#[test]
fn bytes_are_those_of_malloc_and_the_prediction_is_what_trimming_does() {
    let dir = tempfile::tempdir().unwrap();
    let heap = program("heap", &["-DSCALE=16"], dir.path());
    for case in CASES {
        let mut subject = Subject::start(&heap, &[case], &[]);
        let said = subject.says();
        let survey = look(&subject);
        let bytes = survey.bytes();
        assert_eq!(bytes.system_bytes, said["arena"] + said["mmapped"], "{case}: {bytes:?}");
        assert_eq!(bytes.free_bytes + bytes.top_bytes, said["free"], "{case}: {bytes:?}");
        assert_eq!(bytes.fast_bytes, said["fast"], "{case}: {bytes:?}");
        assert_eq!(bytes.mmapped_bytes, said["mmapped"], "{case}");
        assert_eq!(survey.mmapped.len() as u64, said["mmapped_count"], "{case}");
        let in_arenas = bytes.live_bytes - bytes.mmapped_bytes;
        let used = in_arenas + bytes.tcache_bytes + bytes.own_bytes + bytes.foreign_bytes + bytes.unknown_bytes;
        assert_eq!(used, said["used"], "{case}: {bytes:?}");
        assert_eq!(bytes.unknown_bytes, 0, "{case}");
        // What the program does not hold itself is libc's own: stacks' bookkeeping, about 300 bytes a thread.
        if case != "mmapped" {
            let rest = in_arenas.checked_sub(said["held"]).unwrap();
            assert!(rest <= 1000 + 500 * survey.arenas.len() as u64, "{case}: {rest} bytes more than held");
        }
        check_sums(&survey, &bytes, case);

        let trim = survey.trim();
        let before = subject.anonymous_bytes();
        subject.go_on();
        subject.says();
        subject.settle();
        let released = before - subject.anonymous_bytes();
        // What the program's own stack and data do in the meantime is a few pages.
        let off = trim.predicted_release_bytes.abs_diff(released);
        assert!(off <= 32 << 10, "{case}: predicted {trim:?}, released {released}");
        assert!(look(&subject).trim().predicted_release_bytes <= 8192, "{case}: nothing is left to trim");
    }
}

/// Figures that must agree whatever the heap.
fn check_sums(survey: &Survey, bytes: &HeapBytes, case: &str) {
    let parts = bytes.live_bytes
        + bytes.free_bytes
        + bytes.tcache_bytes
        + bytes.top_bytes
        + bytes.own_bytes
        + bytes.foreign_bytes
        + bytes.unknown_bytes;
    assert_eq!(parts, bytes.system_bytes, "{case}: the kinds are a partition");
    let trim = survey.trim();
    let kept: u64 = trim.kept.values().sum();
    assert_eq!(kept + trim.predicted_release_bytes, bytes.resident_bytes, "{case}: released or kept");
    for cells in [1, 80, 2000] {
        let map = survey.map(cells);
        let drawn: u64 = map.rows.iter().flat_map(|row| &row.cells).map(|cell| cell.bytes()).sum();
        assert_eq!(drawn, survey.segments.iter().map(|s| s.end - s.start).sum::<u64>(), "{case}: every byte is drawn");
        let count: usize = map.rows.iter().map(|row| row.cells.len()).sum();
        assert!(count <= cells.max(map.rows.len()), "{case}: {count} cells for {cells}");
    }
    let json = serde_json::to_string(survey).unwrap();
    assert_eq!(&serde_json::from_str::<Survey>(&json).unwrap(), survey, "{case}: survives being written");
}

#[test]
fn what_holds_the_heap_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let heap = program("heap", &["-DSCALE=16"], dir.path());
    let pins = |case: &str| {
        let mut subject = Subject::start(&heap, &[case], &[]);
        subject.says();
        let map = look(&subject).map(100);
        map.rows.into_iter().flat_map(|row| row.pins).collect::<Vec<_>>()
    };
    let [pin] = &pins("pinned-top")[..] else { panic!("one pin") };
    assert_eq!((pin.chunks, pin.bytes, pin.kind), (1, 1120, PinKind::Live));
    assert!(pin.holds_bytes > 15 << 20, "{pin:?}");
    let [pin] = &pins("tcache-pins-top")[..] else { panic!("one pin") };
    assert_eq!((pin.chunks, pin.bytes, pin.kind), (7, 7 * 1008, PinKind::Tcache));
    let [first, most] = &pins("interleaved-8")[..] else { panic!("two pins") };
    assert_eq!((first.chunks, first.holds_bytes), (1, 7 * 1008));
    assert!(most.chunks > 500 && most.holds_bytes > 6 << 20, "{most:?}");
}

#[test]
fn a_static_program_is_read_by_symbol_and_by_its_data_alike() {
    let dir = tempfile::tempdir().unwrap();
    let heap = program("heap", &["-DSCALE=4", "-static"], dir.path());
    let stripped = dir.path().join("stripped");
    let status = std::process::Command::new("strip").arg(&heap).arg("-o").arg(&stripped).status().unwrap();
    assert!(status.success());
    let look_at = |program| {
        let mut subject = Subject::start(program, &["interleaved-8"], &[]);
        let said = subject.says();
        let survey = look(&subject);
        assert_eq!(survey.bytes().system_bytes, said["arena"]);
        survey
    };
    let (with, without) = (look_at(&heap), look_at(&stripped));
    assert_eq!(with.libc.method, Method::Symbol);
    assert_eq!(without.libc.method, Method::InitialData);
    assert_eq!((with.libc.main_arena, with.libc.par), (without.libc.main_arena, without.libc.par));
}

#[test]
fn a_heap_that_changes_meanwhile_is_surveyed_and_its_gaps_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let heap = program("heap", &[], dir.path());
    let mut subject = Subject::start(&heap, &["restless"], &[]);
    subject.says();
    let target = LiveTarget::open(subject.pid()).unwrap();
    // Until all four threads have an arena with something in it.
    while survey(&target).unwrap().arenas.iter().filter(|a| a.system_bytes > 1 << 20).count() < 4 {}
    let mut coverage: Vec<f64> = (0..15)
        .map(|_| {
            let survey = survey(&target).unwrap();
            let bytes = survey.bytes();
            check_sums(&survey, &bytes, "restless");
            bytes.coverage_ratio()
        })
        .collect();
    coverage.sort_by(f64::total_cmp);
    println!("coverage {coverage:?}");
    assert!(coverage[0] > 0.95 && coverage[7] >= 0.999, "{coverage:?}");
}

#[test]
fn a_process_that_ends_is_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let heap = program("heap", &["-DSCALE=1"], dir.path());
    let mut subject = Subject::start(&heap, &["fastbins"], &[]);
    subject.says();
    let target = LiveTarget::open(subject.pid()).unwrap();
    survey(&target).unwrap();
    drop(subject);
    assert!(matches!(survey(&target), Err(InspectError::Proc(ProcError::Gone(_)))));
}

#[test]
fn a_static_program_that_is_relocated_is_read_however_its_relocations_are_packed() {
    let dir = tempfile::tempdir().unwrap();
    for flags in [&["-static-pie", "-s"][..], &["-static-pie", "-s", "-Wl,-z,pack-relative-relocs"]] {
        let heap = program("heap", &[&["-DSCALE=1"], flags].concat(), dir.path());
        let mut subject = Subject::start(&heap, &["pinned-top"], &[]);
        let said = subject.says();
        let survey = look(&subject);
        assert_eq!(
            (survey.libc.method, survey.bytes().system_bytes),
            (Method::InitialData, said["arena"]),
            "{flags:?}"
        );
    }
}
