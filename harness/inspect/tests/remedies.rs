//! The verdict's remedies, each applied to the program that was inspected: resident memory falls as the rule says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;

use fragbench_inspect::{Depth, Inspected, inspect};
use fragbench_model::{HeapRemedyKind as R, HeapVerdictKind as K};
use fragbench_proc::LiveTarget;
use support::{Subject, program};

/// The program at rest, and its anonymous memory.
fn idle(file: &Path, mode: &str, environment: &[(&str, &str)]) -> (Subject, u64) {
    let mut subject = Subject::start(file, &[mode], environment);
    subject.says();
    subject.settle();
    let bytes = subject.anonymous_bytes();
    (subject, bytes)
}

fn look(subject: &Subject) -> Inspected {
    inspect(&LiveTarget::open(subject.pid()).unwrap(), &Depth::default()).unwrap()
}

/// Mode, what it is started with, what the verdict is, and its remedies in their order.
type Row = (&'static str, &'static [(&'static str, &'static str)], K, &'static [R]);

const ROWS: [Row; 8] = [
    ("frames", &[], K::MmapRatchet, &[R::Trim, R::MmapThreshold]),
    ("pool", &[], K::PinnedRetention, &[R::Trim, R::ArenaLimit]),
    ("peaks", &[], K::Fragmentation, &[R::Trim, R::ArenaLimit]),
    ("handoff", &[], K::Fragmentation, &[R::Trim]),
    ("tiny", &[("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=64")], K::SmallMappings, &[R::MmapThreshold]),
    ("fast", &[], K::FastbinRetention, &[R::Trim, R::FastBins]),
    ("caches", &[], K::TcacheRetention, &[R::TcacheCount]),
    ("top", &[], K::MainTopRetention, &[R::Trim, R::TrimThreshold]),
];

#[test]
fn each_remedy_takes_away_what_the_verdict_says() {
    let dir = tempfile::tempdir().unwrap();
    let file = program("remedies", &[], dir.path());
    for (mode, environment, kind, remedies) in ROWS {
        let (mut subject, before) = idle(&file, mode, environment);
        let seen = look(&subject);
        let verdict = seen.inspection.verdict;
        if kind == K::FastbinRetention && !seen.survey.unwrap().libc.fast_bins {
            continue;
        }
        let kinds: Vec<R> = verdict.remedies.iter().map(|remedy| remedy.kind).collect();
        assert_eq!((verdict.kind, &kinds[..]), (kind, remedies), "{mode}: {verdict:#?}");
        assert_eq!(
            verdict.summary.starts_with("malloc_trim(0) would give back"),
            kinds.contains(&R::Trim),
            "{mode}: what can be had at once leads: {}",
            verdict.summary
        );
        // Those of what else was found would have to come true as well.
        let also = verdict.also.iter().flat_map(|also| &also.remedies).filter(|also| also.kind != R::Trim);
        for remedy in verdict.remedies.iter().chain(also) {
            let after = if remedy.kind == R::Trim {
                subject.go_on();
                subject.says();
                subject.settle();
                subject.anonymous_bytes()
            } else {
                let changed: Vec<(&str, &str)> =
                    remedy.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                assert!(!changed.is_empty(), "{mode}: {remedy:?}");
                idle(&file, mode, &changed).1
            };
            let (fell, said) = (before.saturating_sub(after), remedy.saves_bytes.unwrap());
            println!("{mode}, {:?}: said {said}, fell by {fell}", remedy.kind);
            assert!(fell.abs_diff(said) <= said / 5, "{mode}: {remedy:?}: fell by {fell}: {verdict:#?}");
        }
    }
}
