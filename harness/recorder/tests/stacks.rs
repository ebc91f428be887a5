//! Runs target programs under the recorder with call stacks: what is recorded otherwise stays the same, and each
//! allocation has a stack whose frames lie in the files they should.

#![allow(clippy::unwrap_used)] // in a test it is an assertion
#![allow(dead_code, reason = "the support is shared with the other tests")]

mod support;

use std::collections::BTreeSet;

use fragbench_trace::spool::{Spool, SpoolKind};
use support::{Story, Target, story};

const DEPTH: usize = 16;

fn run(file: &str, args: &[&str]) -> Option<(Target, Vec<Spool>)> {
    let target = Target::new(file)?;
    let status = target.command().env("FRAGBENCH_STACKS", DEPTH.to_string()).args(args).status().unwrap();
    assert!(status.success(), "{status:?}");
    let spools = target.spools();
    assert!(spools.iter().all(|s| s.is_complete() && s.header().stacks));
    Some((target, spools))
}

/// Stacks of all allocations: none where one has none.
fn stacks(spool: &Spool) -> Vec<Option<u32>> {
    let mut all = Vec::new();
    for thread in spool.threads() {
        let mut stack = None;
        for event in spool.events(thread) {
            match event.kind {
                SpoolKind::Stack { id } => stack = Some(id),
                SpoolKind::Malloc { .. }
                | SpoolKind::Calloc { .. }
                | SpoolKind::Aligned { .. }
                | SpoolKind::Realloc { .. } => all.push(stack.take()),
                _ => assert_eq!(stack, None, "a stack stands right before its allocation"),
            }
        }
    }
    all
}

/// Each allocation has a stack that is known, of at most as many frames as asked for, none of them in the recorder.
fn check(spool: &Spool) {
    for id in stacks(spool) {
        let frames = spool.stack(id.unwrap()).unwrap();
        assert!((1..=DEPTH).contains(&frames.len()), "{frames:?}");
        for (module, _) in frames {
            let path = &spool.modules()[&module.unwrap()].path;
            assert!(!path.to_string_lossy().contains("fragbench_recorder"), "{frames:?}");
        }
    }
    let distinct: BTreeSet<_> = stacks(spool).into_iter().collect();
    assert!(distinct.len() < 200, "{} stacks of a program that has few", distinct.len());
}

#[test]
fn threads_by_thousands() {
    let Some((target, spools)) = run("threads.c", &[]) else { return };
    let [spool] = &spools[..] else { panic!() };
    check(spool);
    let s = story(spool);
    assert_eq!((s.count(7777), s.overlaps, s.unseen_frees), ((10_000, 10_000), 0, 0));
    let exe = target.exe.canonicalize().unwrap();
    let program = spool.modules().values().find(|m| m.path == exe).unwrap();
    assert!(!program.build_id.is_empty() || cfg!(not(target_os = "linux")));
}

#[test]
fn exceptions_and_destructors() {
    for (file, size, count) in [("throw.cc", 21111, 300), ("destructors.cc", 17333, 200)] {
        let Some((_, spools)) = run(file, &[]) else { return };
        check(&spools[0]);
        assert_eq!(story(&spools[0]).count(size), (count, count), "{file}");
    }
}

#[test]
fn children_have_stacks_of_their_own() {
    let Some((_, spools)) = run("fork.c", &[]) else { return };
    assert_eq!(spools.len(), 3);
    spools.iter().for_each(check);
    let made = |size| spools.iter().map(story).map(|s: Story| s.count(size).0).sum::<usize>();
    assert_eq!([made(11111), made(12222), made(13333)], [200, 50, 25]);
}

#[test]
fn a_signal_handler_that_interrupts_the_recorder() {
    let Some(target) = Target::new("handler.c") else { return };
    let output = target.command().env("FRAGBENCH_STACKS", "16").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<usize> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let [made, done] = numbers[..] else { panic!("{text}") };
    let spool = target.spool();
    let s = story(&spool);
    assert_eq!((s.overlaps, spool.closing().unwrap().lost_events), (0, 0));
    assert_eq!((s.count(18111), s.of(18000..=18063).len()), ((made, made), done));
    assert!(made > 0, "no signal met the recorder in {done} pairs");
    // Those that came while the thread was being unwound have none; the program's own all have.
    let without = stacks(&spool).iter().filter(|id| id.is_none()).count();
    assert!(without <= made, "{without} of {made}");
    assert!(stacks(&spool).into_iter().flatten().all(|id| spool.stack(id).is_some()));
}

#[test]
fn without_being_asked_for_there_are_none() {
    let Some(target) = Target::new("api.c") else { return };
    target.run::<&str>(&[]);
    let spool = target.spool();
    assert!(!spool.header().stacks && spool.modules().is_empty());
    assert!(stacks(&spool).iter().all(Option::is_none));
}
