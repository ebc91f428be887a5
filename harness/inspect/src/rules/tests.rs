//! Every rule on an inspection made up for it, and just beside it.

use super::*;
use fragbench_model::{ArenaFigures, HeapBytes, HeapTrim, MallocFact, MappingClass, MappingKind, PinGroup, SizeClass};

const MIB: u64 = 1 << 20;

/// A process of 100 MiB whose heap is live.
fn quiet() -> Inspection {
    let heap = HeapBytes {
        system_bytes: 92 * MIB,
        resident_bytes: 92 * MIB,
        live_bytes: 90 * MIB,
        free_bytes: MIB,
        free_resident_bytes: MIB,
        top_bytes: MIB,
        top_resident_bytes: MIB,
        ..HeapBytes::default()
    };
    let trim = HeapTrim {
        kept: [(Kept::Live, 90 * MIB), (Kept::MainTop, MIB)].into(),
        residency_known: true,
        ..HeapTrim::default()
    };
    let class = |kind, vm: u64, resident: u64| MappingClass {
        kind,
        count: 1,
        vm_bytes: vm,
        resident_bytes: Some(resident),
        anonymous_bytes: Some(resident),
        swapped_bytes: Some(0),
    };
    let json = serde_json::json!({
        "schema": 1, "source": PinKind::Live, "pid": 42, "program": "server", "taken_unix_s": 0, "glibc": "2.36",
        "threads": 8, "arena_count": 2, "vm_bytes": 300 * MIB, "rss_bytes": 100 * MIB, "heap": heap, "trim": trim,
        "coverage_ratio": 1.0, "waterfall": [], "mappings": [
            class(MappingKind::MainArena, 92 * MIB, 92 * MIB), class(MappingKind::File, 20 * MIB, 8 * MIB)],
        "arenas": [
            ArenaFigures { index: 0, address: 0, threads: Some(1), system_bytes: 92 * MIB, resident_bytes: 92 * MIB,
                live_bytes: 90 * MIB, free_bytes: MIB, top_bytes: MIB, tcache_bytes: 0, resident_free_bytes: 2 * MIB,
                releasable_bytes: 0 },
            ArenaFigures { index: 1, address: 0, threads: Some(7), system_bytes: 0, resident_bytes: 0,
                live_bytes: 0, free_bytes: 0, top_bytes: 0, tcache_bytes: 0, resident_free_bytes: 0,
                releasable_bytes: 0 }],
        "sizes": [], "retained": [], "mallocs": [], "settings": {
            "mmap_threshold_bytes": THRESHOLD, "trim_threshold_bytes": THRESHOLD, "tcache_count": 7,
            "thresholds_move": true, "mmapped_count": 0},
        "found": null, "warnings": [], "lacks": [], "survey": null, "spread": {}, "smaps": {}, "stopped_ms": null,
        "verdict": say(K::NotEnoughData, 0, String::new()),
    });
    serde_json::from_value(json).unwrap()
}

/// 60 MiB of it made free, in one stretch of an arena, held by `chunks` chunks of a kind.
fn held(arena: usize, kind: PinKind, chunks: u64) -> Inspection {
    let mut case = quiet();
    let heap = case.heap.as_mut().unwrap();
    heap.live_bytes -= 60 * MIB;
    heap.free_bytes += 60 * MIB;
    heap.free_resident_bytes += 60 * MIB;
    let trim = case.trim.as_mut().unwrap();
    trim.kept.insert(Kept::Live, 30 * MIB);
    (trim.interior_bytes, trim.predicted_release_bytes) = (58 * MIB, 58 * MIB);
    case.retained.push(Retained {
        arena,
        start: 0x1000,
        free_resident_bytes: 60 * MIB,
        held_bytes: 60 * MIB,
        releasable_bytes: 58 * MIB,
        pin_chunks: chunks,
        mappable_chunks: 0,
        mappable_bytes: 0,
        kind: StretchKind::Top,
        pins: vec![PinGroup {
            kind,
            chunk_bytes: 1008,
            chunks,
            example: 0x2000,
            types: Default::default(),
            contents: None,
        }],
    });
    case
}

fn judged(case: &Inspection, kind: HeapVerdictKind, resembles: Option<&str>) -> HeapVerdict {
    let verdict = verdict(case, None);
    assert_eq!((verdict.kind, verdict.resembles.as_deref()), (kind, resembles), "{verdict:#?}");
    if let Some(case) = resembles {
        let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/../../workloads/badcase/src/cases");
        let file = std::path::Path::new(cases).join(format!("{}.rs", case.replace('-', "_")));
        assert!(file.exists(), "{case} is a bad case");
    }
    assert!(!verdict.summary.is_empty() && !verdict.evidence.is_empty() && !verdict.next.is_empty(), "{verdict:#?}");
    verdict
}

#[test]
fn a_live_heap_is_healthy() {
    judged(&quiet(), K::Healthy, None);
    // And so is one with little to give back.
    let mut small = held(0, PinKind::Live, 1);
    small.retained[0].free_resident_bytes = 3 * MIB;
    judged(&small, K::Healthy, None);
}

#[test]
fn what_holds_free_memory_decides() {
    judged(&held(0, PinKind::Live, 1), K::PinnedRetention, Some("pinned-top"));
    judged(&held(0, PinKind::Tcache, 7), K::TcacheRetention, Some("tcache-pins-top"));
    judged(&held(0, PinKind::Own, 1), K::TcacheRetention, Some("lazy-tcache-pin"));
    judged(&held(0, PinKind::Live, 4000), K::Fragmentation, Some("interleaved-pins"));
    let mut pages = held(0, PinKind::Live, 40_000);
    pages.retained[0].releasable_bytes = MIB;
    judged(&pages, K::Fragmentation, Some("interleaved-pins-page"));
    let mut heaps = held(1, PinKind::Tcache, 3);
    heaps.retained[0].kind = StretchKind::Heap;
    judged(&heaps, K::TcacheRetention, Some("heap-tail-remainder"));
    let mut burst = held(1, PinKind::Live, 1);
    judged(&burst, K::PinnedRetention, Some("serial-peaks"));
    burst.arenas[1].threads = Some(0);
    judged(&burst, K::PinnedRetention, Some("thread-burst-pinned"));
}

#[test]
fn a_risen_threshold_counts_only_with_the_blocks_it_let_in() {
    let mut case = held(0, PinKind::Live, 8);
    case.settings.mmap_threshold_bytes = Some(32 * MIB);
    judged(&case, K::PinnedRetention, Some("pinned-top"));
    (case.retained[0].mappable_chunks, case.retained[0].mappable_bytes) = (8, 55 * MIB);
    judged(&case, K::MmapRatchet, Some("mmap-ratchet"));
    case.settings.thresholds_move = Some(false);
    judged(&case, K::PinnedRetention, Some("pinned-top"));
}

#[test]
fn tops_are_told_by_their_arena() {
    let mut case = quiet();
    let heap = case.heap.as_mut().unwrap();
    (heap.live_bytes, heap.top_bytes, heap.top_resident_bytes) = (30 * MIB, 61 * MIB, 61 * MIB);
    let mut main = case.clone();
    main.arenas[0].top_bytes = 61 * MIB;
    main.trim.as_mut().unwrap().main_top_bytes = 60 * MIB;
    judged(&main, K::MainTopRetention, None);
    case.arenas[1].top_bytes = 60 * MIB;
    case.trim.as_mut().unwrap().kept.insert(Kept::ThreadTop, 60 * MIB);
    let verdict = judged(&case, K::ThreadTopRetention, Some("ratcheted-top-threads"));
    assert!(!verdict.next.iter().any(|line| line.contains("fragbench trim")), "it would not help: {verdict:#?}");
}

#[test]
fn fast_bins_and_caches_come_before_what_they_hold() {
    let mut case = held(0, PinKind::Live, 4000);
    case.heap.as_mut().unwrap().fast_bytes = 59 * MIB;
    judged(&case, K::FastbinRetention, Some("fastbin-hoard"));
    case.trim.as_mut().unwrap().kept.insert(Kept::ThreadTop, 58 * MIB);
    judged(&case, K::FastbinRetention, Some("fastbin-hoard-threads"));
    let mut cached = quiet();
    cached.heap.as_mut().unwrap().tcache_bytes = 40 * MIB;
    cached.trim.as_mut().unwrap().kept.insert(Kept::Tcache, 40 * MIB);
    judged(&cached, K::TcacheRetention, Some("tcache-hoard"));
}

#[test]
fn what_is_not_in_the_heap_is_said_to_be_elsewhere() {
    let mut case = quiet();
    case.rss_bytes = Some(900 * MIB);
    case.mappings[1] =
        MappingClass { kind: MappingKind::OtherAnonymous, resident_bytes: Some(800 * MIB), ..case.mappings[1].clone() };
    judged(&case, K::NotTheHeap, None);
    case.mallocs.push(MallocFact {
        name: "jemalloc".into(),
        object: "lib".into(),
        takes_malloc: true,
        takes_new: true,
        holds_at_most_bytes: None,
    });
    assert!(judged(&case, K::NotTheHeap, None).summary.contains("jemalloc"));
    // But a heap that retains much answers for it.
    let mut both = held(0, PinKind::Live, 1);
    both.rss_bytes = Some(290 * MIB);
    judged(&both, K::PinnedRetention, Some("pinned-top"));
}

#[test]
fn reserved_addresses_are_no_memory() {
    let mut case = quiet();
    case.vm_bytes = 8000 * MIB;
    case.mappings.push(MappingClass {
        kind: MappingKind::ArenaReserve,
        count: 127,
        vm_bytes: 7500 * MIB,
        resident_bytes: Some(0),
        anonymous_bytes: Some(0),
        swapped_bytes: Some(0),
    });
    judged(&case, K::AddressSpace, Some("arena-explosion"));
}

#[test]
fn too_little_seen_is_no_verdict() {
    let mut case = quiet();
    case.coverage_ratio = Some(0.5);
    assert_eq!(verdict(&case, None).kind, K::NotEnoughData);
    let mut blind = quiet();
    (blind.heap, blind.trim, blind.coverage_ratio) = (None, None, None);
    blind.lacks.push("memory may not be read".into());
    let seen = verdict(&blind, None);
    assert_eq!(seen.kind, K::NotEnoughData);
    assert!(seen.summary.contains("memory may not be read"));
    // That there is no glibc heap is something else.
    blind.lacks = vec![InspectError::NoHeap.to_string()];
    judged(&blind, K::NotTheHeap, None);
}

#[test]
fn two_inspections_tell_growth_from_retention() {
    let before = quiet();
    let mut leak = quiet();
    leak.heap.as_mut().unwrap().live_bytes += 30 * MIB;
    leak.rss_bytes = Some(131 * MIB);
    let class = SizeClass {
        from_bytes: 113,
        to_bytes: 128,
        live_count: 30 * 8192,
        live_bytes: 30 * MIB,
        ..SizeClass::default()
    };
    leak.sizes.push(class);
    let growth = verdict(&leak, Some(&before));
    assert_eq!((growth.kind, growth.bytes), (K::LeakOrGrowth, 30 * MIB));
    assert!(growth.evidence[1].contains("113 to 128 bytes: 245760 more"), "{growth:#?}");
    // Resident memory that rises while live memory does not is none.
    let mut retained = held(0, PinKind::Live, 1);
    retained.heap.as_mut().unwrap().live_bytes = 90 * MIB;
    retained.rss_bytes = Some(160 * MIB);
    assert_eq!(verdict(&retained, Some(&before)).kind, K::PinnedRetention);
    assert_eq!(verdict(&before, Some(&before)).kind, K::Healthy);
}

#[test]
fn a_steady_process_is_said_to_be_steady_with_both_looks() {
    let (mut before, mut now) = (quiet(), quiet());
    (before.taken_unix_s, now.taken_unix_s) = (Some(100), Some(160));
    now.heap.as_mut().unwrap().live_bytes += 1000;
    let seen = verdict(&now, Some(&before));
    assert!(seen.summary.starts_with("No growth in 60 s: no sign of a leak. "), "{seen:#?}");
    assert_eq!(seen.evidence[0], "live 90.0 MiB → 90.0 MiB, resident 100 MiB → 100 MiB in 60 s");
    let looks = seen.growth.unwrap();
    assert_eq!((looks.seconds, looks.grows, looks.live_bytes[1]), (Some(60), false, 90 * MIB + 1000));
    assert!(verdict(&now, None).growth.is_none());
}

#[test]
fn what_trimming_gives_back_leads_whatever_the_finding_is() {
    let mut case = quiet();
    let heap = case.heap.as_mut().unwrap();
    (heap.live_bytes, heap.top_bytes, heap.top_resident_bytes) = (30 * MIB, 41 * MIB, 41 * MIB);
    (heap.free_bytes, heap.free_resident_bytes) = (18 * MIB, 18 * MIB);
    case.arenas[1].top_bytes = 40 * MIB;
    case.settings.trim_threshold_bytes = Some(64 * MIB);
    let trim = case.trim.as_mut().unwrap();
    trim.kept.insert(Kept::ThreadTop, 40 * MIB);
    trim.predicted_release_bytes = 18 * MIB;
    let seen = verdict(&case, None);
    assert_eq!(seen.kind, K::ThreadTopRetention);
    assert!(seen.summary.starts_with("malloc_trim(0) would give back 18.0 MiB of 100 MiB now. "), "{seen:#?}");
    assert!(seen.next[0].contains("`fragbench trim 42` gives back 18.0 MiB now"), "{seen:#?}");
    assert!(seen.next[1].contains("trim_threshold=131072") && seen.next[1].contains("price:"), "{seen:#?}");
    assert!(seen.next[1].contains("fragbench compare"), "{seen:#?}");
}
