//! Runs each target program under the recorder and checks that what was recorded is what the program does: the sizes
//! they use occur nowhere else, so the counts are exact.

#![allow(clippy::unwrap_used)] // in a test it is an assertion

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use fragbench_trace::spool::format::Status;
use fragbench_trace::spool::{Spool, SpoolKind};
use support::{Story, Target, story};

const NONE: [&str; 0] = [];

fn status(spool: &Spool) -> Status {
    spool.closing().unwrap().status
}

/// Runs a target that is one process and ends by returning 0.
fn recorded(file: &str) -> Option<(Spool, Story)> {
    let target = Target::new(file)?;
    target.run(&NONE);
    let spool = target.spool();
    assert!(spool.is_complete(), "{:?} {:?}", spool.closing(), spool.damage());
    let story = story(&spool);
    assert_eq!((story.overlaps, story.unseen_frees), (0, 0));
    Some((spool, story))
}

#[test]
fn each_function_of_the_malloc_api() {
    let Some((_, s)) = recorded("api.c") else { return };
    for size in 10007..10007 + 64 {
        assert_eq!(s.count(size), (1, 1));
    }
    assert_eq!(s.count(0), (1, 1));
    assert_eq!(s.count(7 * 1901), (1, 1));
    assert!(matches!(s.of(13307..=13307)[0].made.kind, SpoolKind::Calloc { .. }));
    assert!(matches!(s.of(10101..=10101)[0].made.kind, SpoolKind::Malloc { .. }));
    let realloc = |size| match s.of(size..=size)[..] {
        [b] => match b.made.kind {
            SpoolKind::Realloc { old, new, .. } => old == new,
            k => panic!("{k:?}"),
        },
        ref other => panic!("{other:?}"),
    };
    assert!(realloc(10102), "in place");
    assert!(!realloc(30303), "moved");
    realloc(60033);
    for size in [10101, 10102, 30303, 60033, 10103, 10104] {
        assert_eq!(s.count(size), (1, 1), "{size}");
    }
    for (align, size) in [(64, 6400), (128, 10105), (256, 10106), (4096, 10107), (4096, 12288)] {
        let [b] = s.of(size..=size)[..] else { panic!("{size}") };
        assert!(matches!(b.made.kind, SpoolKind::Aligned { align: a, .. } if a == align), "{:?}", b.made);
        assert!(b.freed_by.is_some());
    }
    assert_eq!(s.of(1 << 40..=u64::MAX).len(), 0, "a failed malloc is no event");
}

#[test]
fn threads_by_thousands_reuse_buffers() {
    let Some((spool, s)) = recorded("threads.c") else { return };
    assert_eq!(s.count(7777), (10_000, 10_000));
    assert_eq!(spool.threads().count(), 2001);
    assert_eq!(s.other(|k| *k == SpoolKind::ThreadStart), 2001);
    assert_eq!(s.other(|k| *k == SpoolKind::ThreadExit), 2000);
    let by_main = s.of(7777..=7777).iter().filter(|b| b.freed_by == Some(0)).count();
    assert_eq!(by_main, 2000);
    // Nine threads live at most, but a joined thread may still be on its way out: well below a buffer a thread.
    assert!(spool.own_bytes_peak() <= 64 * 65536, "{} bytes", spool.own_bytes_peak());
}

#[test]
fn a_forked_child_has_its_own_spool() {
    let Some(target) = Target::new("fork.c") else { return };
    target.run(&NONE);
    let spools = target.spools();
    let stories: Vec<Story> = spools.iter().map(story).collect();
    let of = |size| -> Vec<&Story> { stories.iter().filter(|s| s.count(size).0 > 0).collect() };
    // The child that did not touch the heap has none.
    assert_eq!(spools.len(), 3);
    assert!(spools.iter().all(|s| s.is_complete()));
    let [parent] = of(11111)[..] else { panic!() };
    assert_eq!(parent.count(11111), (200, 200));
    assert_eq!(parent.count(11110), (1, 1));
    let [child] = of(12222)[..] else { panic!() };
    assert_eq!(child.count(12222), (50, 50));
    assert!(child.unseen_frees >= 1);
    let [raw] = of(13333)[..] else { panic!() };
    assert_eq!(raw.count(13333), (25, 25));
    assert!([parent, child, raw].iter().all(|s| s.overlaps == 0));
}

#[test]
fn exec_begins_a_new_spool_and_loses_nothing() {
    let Some(target) = Target::new("exec.c") else { return };
    target.run(&NONE);
    let spools = target.spools();
    assert_eq!(spools.len(), 5);
    for (i, spool) in spools.iter().enumerate() {
        let left = 4 - i as u64;
        let s = story(spool);
        assert_eq!(s.count(14000 + left), (20, 20));
        assert_eq!(s.count(15000 + left), (3, 3));
        assert_eq!(status(spool), if left == 0 { Status::Exited } else { Status::Exec });
        assert_eq!(spool.header().pid, spools[0].header().pid);
        assert_eq!(spool.damage(), []);
    }
}

#[test]
fn children_that_share_memory_leave_the_parent_alone() {
    let Some(target) = Target::new("spawn.c") else { return };
    target.run(&NONE);
    let spools = target.spools();
    assert_eq!(spools.len(), 2);
    assert!(spools.iter().all(|s| s.is_complete()));
    let counts: Vec<_> = spools.iter().map(|s| (story(s).count(16111), story(s).count(16222))).collect();
    assert!(counts.contains(&((20, 20), (0, 0))), "{counts:?}");
    assert!(counts.contains(&((0, 0), (30, 30))), "{counts:?}");
}

#[test]
fn allocation_in_thread_destructors_is_recorded() {
    let Some((spool, s)) = recorded("destructors.cc") else { return };
    assert_eq!(s.count(17111), (50, 50));
    assert_eq!(s.count(17222), (50, 50));
    assert_eq!(s.count(17333), (200, 200));
    assert!(s.of(17111..=17333).iter().all(|b| b.freed_by == Some(b.thread) && b.thread > 0));
    assert_eq!(spool.threads().count(), 51);
}

#[test]
fn allocation_in_a_signal_handler_that_interrupts_the_recorder() {
    let Some(target) = Target::new("handler.c") else { return };
    let output = String::from_utf8(target.run(&NONE).stdout).unwrap();
    let numbers: Vec<usize> = output.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let spool = target.spool();
    let s = story(&spool);
    let [made, done] = numbers[..] else { panic!("{output}") };
    assert_eq!(s.overlaps, 0);
    assert_eq!(spool.closing().unwrap().lost_events, 0);
    assert_eq!(s.count(18111), (made, made));
    assert_eq!(s.of(18000..=18063).len(), done);
    assert!(made > 0, "no signal met the recorder in {done} pairs");
}

#[test]
fn libraries_that_come_and_go() {
    let Some(target) = Target::new("dlopen.c") else { return };
    target.run(&[target.library(&["library.c"])]);
    let spool = target.spool();
    assert!(spool.is_complete());
    let s = story(&spool);
    assert_eq!(s.count(19111), (100, 100));
    assert_eq!(s.count(19222), (100, 100));
    assert_eq!((s.overlaps, s.unseen_frees), (0, 0));
}

#[test]
fn longjmp_between_allocations() {
    let Some((_, s)) = recorded("longjmp.c") else { return };
    assert_eq!(s.count(20111), (500, 500));
    assert_eq!(s.count(20222), (100, 100));
}

#[test]
fn exceptions_through_frames_that_own_memory() {
    let Some((_, s)) = recorded("throw.cc") else { return };
    assert_eq!(s.count(21111), (300, 300));
}

#[test]
fn blocks_freed_on_another_thread() {
    let Some((spool, s)) = recorded("cross.c") else { return };
    let blocks = s.of(1000..=1099);
    assert_eq!(blocks.len(), 100_000);
    assert!(blocks.iter().all(|b| b.thread == 0 && b.freed_by == Some(1)));
    assert!(spool.len_bytes() <= 6 * 200_100, "{} bytes", spool.len_bytes());
}

#[test]
fn the_programs_own_mappings() {
    let Some((_, s)) = recorded("maps.c") else { return };
    let maps: Vec<SpoolKind> = s.others.iter().map(|e| e.kind).filter(|k| *k != SpoolKind::ThreadStart).collect();
    let [
        SpoolKind::Mmap { addr, len: 81920, prot: 3, flags },
        SpoolKind::Madvise { addr: advised, len: 40960, advice: 4 },
        SpoolKind::Mremap { old, old_len: 81920, new, new_len: 163_840 },
        SpoolKind::Munmap { addr: unmapped, len: 163_840 },
        SpoolKind::Brk { addr: up },
        SpoolKind::Brk { addr: down },
    ] = maps[..]
    else {
        panic!("{maps:?}")
    };
    assert_eq!(flags, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u32);
    assert_eq!((advised, old, unmapped), (addr, addr, new));
    assert_eq!(up, down + 8192);
}

#[test]
fn sigkill_leaves_what_was_written() {
    let Some(target) = Target::new("kill.c") else { return };
    let killed = target.command().status().unwrap();
    assert_eq!(killed.signal(), Some(libc::SIGKILL));
    let spool = target.spool();
    assert_eq!(status(&spool), Status::Running);
    assert!(!spool.is_complete());
    assert_eq!(spool.damage(), []);
    // A buffer is 64 KiB of events of at least 5 bytes, so no more than 6,500 pairs can be in it.
    let n = story(&spool).of(22000..=22099).len();
    assert!((93_500..=100_001).contains(&n), "{n} of 100,001 pairs");
}

#[test]
fn every_way_to_exit_writes_all_threads() {
    let Some(target) = Target::new("exits.c") else { return };
    let ways = [
        ("return", true),
        ("exit", true),
        ("_exit", false),
        ("_Exit", false),
        ("quick_exit", false),
        ("abort", false),
        ("pthread_exit", true),
    ];
    for (how, runs_handlers) in ways {
        let ended = target.command().arg(how).status().unwrap();
        assert!(ended.success() || how == "abort", "{how}: {ended:?}");
        let spool = target.spool();
        assert!(spool.is_complete(), "{how}: {:?} {:?}", spool.closing(), spool.damage());
        let s = story(&spool);
        let handlers = if runs_handlers { (1, 1) } else { (0, 0) };
        assert_eq!(s.count(23111), (20, 20), "{how}");
        assert_eq!(s.count(23222), (30, 30), "{how}");
        assert_eq!(s.count(23333), handlers, "{how}");
        assert_eq!(s.count(23444), handlers, "{how}");
        for e in std::fs::read_dir(target.dir.path()).unwrap().map(|e| e.unwrap().path()) {
            if e.extension().is_some_and(|x| x == "spool") {
                std::fs::remove_file(e).unwrap();
            }
        }
    }
}

#[test]
fn the_original_of_a_daemon_is_recorded() {
    let Some(target) = Target::new("exits.c") else { return };
    target.run(&["daemon"]);
    // The daemon itself may still be running; its parent, which has the lower number, has ended within libc.
    let spools = target.spools();
    let original = spools.iter().find(|s| s.header().ppid == std::process::id()).unwrap();
    let s = story(original);
    assert_eq!((s.count(23111), s.count(23222)), ((20, 20), (30, 30)));
}

#[test]
fn a_signal_switches_recording_on_and_off() {
    let Some(target) = Target::new("toggle.c") else { return };
    let signal = libc::SIGUSR2.to_string();
    for (paused, recorded) in [("1", [0, 20, 0, 40]), ("0", [10, 0, 30, 0])] {
        let mut command = target.command();
        command.env("FRAGBENCH_START_PAUSED", paused).env("FRAGBENCH_SIGNAL", &signal).arg(&signal);
        assert!(command.status().unwrap().success());
        let spools = target.spools();
        let spool = spools.last().unwrap();
        let s = story(spool);
        for (bout, n) in recorded.into_iter().enumerate() {
            assert_eq!(s.count(24001 + bout as u64), (n, n), "started paused: {paused}, bout {bout}");
        }
        let gaps: Vec<_> = spool.gaps().iter().map(|g| (g.from_tsc.is_some(), g.to_tsc.is_some())).collect();
        let expected: &[_] = match paused {
            "1" => &[(false, true), (true, true), (true, false)],
            _ => &[(true, true), (true, true)],
        };
        assert_eq!(gaps, expected);
        assert!(spool.is_complete());
        for e in std::fs::read_dir(target.dir.path()).unwrap().map(|e| e.unwrap().path()) {
            if e.extension().is_some_and(|x| x == "spool") {
                std::fs::remove_file(e).unwrap();
            }
        }
    }
}

#[test]
fn the_size_limit_is_kept() {
    let Some(target) = Target::new("pairs.c") else { return };
    let ran = target.command().env("FRAGBENCH_MAX_SIZE", "500000").args(["2", "200000", "100"]).status().unwrap();
    assert!(ran.success());
    let spool = target.spool();
    assert_eq!(status(&spool), Status::SizeLimit);
    assert!((250_000..=500_000).contains(&spool.len_bytes()), "{}", spool.len_bytes());
    assert_eq!(spool.damage(), []);
    let s = story(&spool);
    assert_eq!(s.overlaps, 0);
    assert!(s.blocks.len() > 20_000);
}

#[test]
fn the_time_limit_is_kept() {
    let Some(target) = Target::new("pairs.c") else { return };
    let ran = target.command().env("FRAGBENCH_DURATION_MS", "20").args(["2", "3000000", "100"]).status().unwrap();
    assert!(ran.success());
    let spool = target.spool();
    assert_eq!(status(&spool), Status::TimeLimit);
    assert_eq!(spool.damage(), []);
    let (start, end) = spool.clocks();
    assert!(end.mono_ns - start.mono_ns >= 20_000_000, "stopped too early");
    let s = story(&spool);
    assert!(s.blocks.iter().all(|b| (start.tsc..=end.tsc).contains(&(b.made.tsc + 63))));
    assert!((1000..6_000_000).contains(&s.blocks.len()), "{} of 6 million pairs", s.blocks.len());
}

#[test]
fn a_failing_write_stops_recording_and_nothing_else() {
    let Some(target) = Target::new("fsize.c") else { return };
    assert_eq!(target.run(&NONE).stdout, b"unharmed\n");
    let spool = target.spool();
    assert_eq!(status(&spool), Status::WriteFailed);
    assert_eq!(spool.closing().unwrap().errno, libc::EFBIG as u32);
    assert!(story(&spool).of(25000..=25099).len() > 10_000);
}

#[test]
fn a_program_that_closes_all_descriptors() {
    let Some(target) = Target::new("descriptors.c") else { return };
    let own = target.dir.path().join("own");
    target.run(&[&own]);
    assert_eq!(std::fs::read(&own).unwrap(), b"mine");
    let spool = target.spool();
    assert!(spool.is_complete(), "{:?} {:?}", spool.closing(), spool.damage());
    assert_eq!(story(&spool).of(26000..=26099).len(), 90_000);
}

#[test]
fn touched_pages_of_large_blocks() {
    let Some((_, s)) = recorded("residency.c") else { return };
    let pages = |size| s.of(size..=size)[0].resident_pages;
    // Up to two more than were written: the first and the last page may hold headers of libc's.
    for (size, written) in [(2_000_001, 10), (3_000_002, 20), (5_000_003, 30), (400_004, 97), (400_005, 3)] {
        let pages = pages(size).unwrap();
        assert!((written..=written + 2).contains(&pages), "{pages} pages of {size} bytes");
    }
    assert_eq!(pages(16_000), None);
}

#[test]
fn an_allocator_preloaded_behind_the_recorder() {
    let Some(target) = Target::new("chain.c") else { return };
    let preload = format!("{}:{}", support::recorder().display(), target.library(&["chained.c"]).display());
    assert!(target.command().env("LD_PRELOAD", preload).status().unwrap().success());
    let spool = target.spool();
    assert!(spool.is_complete());
    let s = story(&spool);
    for size in [27110, 27112, 27113, 27136, 270_000] {
        assert_eq!(s.count(size), (1, 1), "{size}");
    }
    assert!(s.of(270_000..=270_000)[0].resident_pages.is_some());
    // Its calls of its own functions and of mmap are not the program's.
    assert_eq!(s.other(|k| matches!(k, SpoolKind::Mmap { .. })), 0);
    assert!(spool.closing().unwrap().nested_calls >= 5);
    assert_eq!((s.overlaps, s.unseen_frees), (0, 0));
}

/// What `operators.cc` does, whichever operators it gets.
fn check_operators(spool: &Spool, unseen_frees: usize) {
    assert!(spool.is_complete());
    let s = story(spool);
    for size in [28111, 28112, 28113, 28114, 28160] {
        assert_eq!(s.count(size), (1, 1), "{size}");
    }
    let wide = s.of(28160..=28160)[0];
    assert!(matches!(wide.made.kind, SpoolKind::Aligned { align: 256, .. }), "{:?}", wide.made);
    assert_eq!((s.overlaps, s.unseen_frees), (0, unseen_frees));
}

#[test]
fn the_operators_of_the_cxx_runtime() {
    let Some(target) = Target::new("operators.cc") else { return };
    target.run(&NONE);
    check_operators(&target.spool(), 0);
}

#[test]
fn the_operators_of_a_preloaded_allocator() {
    let Some(target) = Target::new("operators.cc") else { return };
    let allocator = target.library(&["chained_operators.cc", "chained.c"]);
    let preload = format!("{}:{}", support::recorder().display(), allocator.display());
    assert!(target.command().env("LD_PRELOAD", preload).status().unwrap().success());
    // The exception was allocated within the operator that threw it.
    check_operators(&target.spool(), 1);
}

#[test]
fn a_dlsym_that_allocates() {
    let Some(target) = Target::new("chain.c") else { return };
    let preload = format!("{}:{}", support::recorder().display(), target.library(&["dlsym.c"]).display());
    assert!(target.command().env("LD_PRELOAD", preload).status().unwrap().success());
    let spool = target.spool();
    assert!(spool.is_complete());
    assert_eq!(story(&spool).count(27112), (1, 1));
}

#[test]
fn without_a_spool_nothing_is_recorded() {
    let Some(target) = Target::new("api.c") else { return };
    assert!(target.command().env_remove("FRAGBENCH_SPOOL").status().unwrap().success());
    assert_eq!(target.spools().len(), 0);
    let nowhere = target.command().env("FRAGBENCH_SPOOL", "/nonexistent/directory/s").status().unwrap();
    assert!(nowhere.success(), "a spool that cannot be created harms nobody");
}

#[test]
fn a_shell_and_what_it_starts() {
    let Some(target) = Target::new("api.c") else { return };
    let mut shell = Command::new("/bin/sh");
    shell.env("LD_PRELOAD", support::recorder()).env("FRAGBENCH_SPOOL", target.dir.path().join("spool"));
    let script = format!("{0} && ({0}; {0}) | cat && exec {0}", target.exe.display());
    assert!(shell.args(["-c", &script]).status().unwrap().success());
    let complete = target.spools().iter().filter(|s| story(s).count(30303) == (1, 1) && s.is_complete()).count();
    assert_eq!(complete, 4);
}

#[test]
fn who_answers_malloc_is_known_also_of_forked_children() {
    use fragbench_trace::spool::provider::Provided;
    let Some(target) = Target::new("fork.c") else { return };
    target.run(&NONE);
    for spool in target.spools() {
        let malloc = spool.provider(Provided::Malloc).unwrap();
        assert!(!malloc.before_recorder && malloc.version.starts_with("2."), "{malloc:?}");
        assert!(malloc.path.file_name().unwrap().to_str().unwrap().starts_with("libc"), "{malloc:?}");
        assert_eq!(spool.provider(Provided::OperatorNew), None, "a program in C");
        assert_eq!(spool.closing().unwrap().passing_loads, 0);
    }
    let Some(target) = Target::new("throw.cc") else { return };
    target.run(&NONE);
    let new = target.spool().provider(Provided::OperatorNew).cloned().unwrap();
    assert!(new.path.to_string_lossy().contains("libstdc++"), "{new:?}");
}

#[test]
fn what_allocators_have_beside_libcs_functions() {
    let Some(target) = Target::new("extended.c") else { return };
    // Without such an allocator the names do not come into being.
    assert!(target.command().arg("alone").status().unwrap().success());
    target.spools().iter().for_each(|spool| assert!(spool.is_complete()));
    for name in std::fs::read_dir(target.dir.path()).unwrap().map(|e| e.unwrap().path()) {
        if name.extension().is_some_and(|e| e == "spool") {
            std::fs::remove_file(name).unwrap();
        }
    }
    let allocator = target.library(&["extended_library.c"]);
    let preload = format!("{}:{}", support::recorder().display(), allocator.display());
    assert!(target.command().env("LD_PRELOAD", preload).status().unwrap().success());
    let spool = target.spool();
    assert!(spool.is_complete());
    let s = story(&spool);
    for size in [29111, 29112, 29113, 29114, 29115, 29116, 29120, 29184] {
        assert_eq!(s.count(size), (1, 1), "{size}");
    }
    assert!(matches!(s.of(29184..=29184)[0].made.kind, SpoolKind::Aligned { align: 256, .. }));
    assert!(matches!(s.of(29113..=29113)[0].made.kind, SpoolKind::Realloc { .. }));
    assert_eq!((s.overlaps, s.unseen_frees), (0, 0));
}

#[test]
fn what_a_program_does_to_its_allocator() {
    let Some((_, s)) = recorded("adjust.c") else { return };
    let adjusts: Vec<_> = s.others.iter().map(|e| e.kind).filter(|k| !matches!(k, SpoolKind::ThreadStart)).collect();
    assert_eq!(adjusts, [SpoolKind::Mallopt { param: -1, value: 12345 }, SpoolKind::Trim { pad: 54321 }]);
}
