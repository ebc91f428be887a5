//! Every family of layouts on heaps built byte by byte, and damaged ones: whatever the memory holds, a survey ends,
//! reads only what is present, and accounts for every byte.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/synthetic.rs"]
mod synthetic;

use fragbench_inspect::{InspectError, Kind, Linking, Method, survey};
use fragbench_proc::{Mapping, Part, ProcError, ProcessFacts, Residency, Target, TargetKind};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use synthetic::{FAMILIES, Family, MAPPED, Made, PAGE, TOP, build, build_in};

const CHUNKS: [(u64, Made); 14] = [
    (0x40, Made::Live),
    (0x40, Made::Tcache),
    (0x40, Made::Live),
    (0x40, Made::Tcache),
    (0x410, Made::Tcache),
    (0x60, Made::Fast),
    (0x60, Made::Live),
    (0x60, Made::Fast),
    (0x30, Made::Fast),
    (0x90, Made::Free),
    (0x20, Made::Live),
    (6 * PAGE, Made::Free),
    (0x110, Made::Live),
    (0x3f0, Made::Free),
];

#[test]
fn every_family_is_recognised_and_read() {
    for family in &FAMILIES {
        let built = build(family, &CHUNKS);
        let s = survey(&built.memory).unwrap();
        let name = family.name;
        assert_eq!((s.libc.main_arena, s.libc.par), (built.main_arena, Some(built.par)), "{name}");
        assert_eq!(s.libc.method, Method::Sentinels, "{name}");
        assert_eq!(s.arenas.len(), 2, "{name}");
        assert_eq!(s.arenas[0].threads, family.attached.map(|_| 1), "{name}");
        let held = family.tcache.is_some() || family.fastbins.is_some();
        let linking = if family.safe { Linking::Safe } else { Linking::Plain };
        assert_eq!(s.libc.linking, held.then_some(linking), "{name}");
        let sum = |made: Made| 2 * CHUNKS.iter().filter(|c| c.1 == made).map(|c| c.0).sum::<u64>();
        let bytes = s.bytes();
        assert_eq!(bytes.unknown_bytes, 0, "{name}: {bytes:?}");
        assert_eq!(bytes.tcache_bytes, if family.tcache.is_some() { sum(Made::Tcache) } else { 0 }, "{name}");
        let fast = if family.fastbins.is_some() { sum(Made::Fast) } else { 0 };
        assert_eq!((bytes.fast_bytes, bytes.free_bytes), (fast, fast + sum(Made::Free)), "{name}");
        assert_eq!((bytes.top_bytes, bytes.mmapped_bytes), (2 * TOP, MAPPED), "{name}");
        assert_eq!(bytes.system_bytes, 2 * 64 * PAGE + MAPPED, "{name}");
        let unsorted = s.segments.iter().flat_map(|s| s.chunks()).filter(|c| c.2 == Kind::Unsorted).count();
        assert_eq!(unsorted, 6, "{name}: every free chunk is in the unsorted bin");
        assert_eq!(s.tcaches.len(), if family.tcache.is_some() { 2 } else { 0 }, "{name}");
    }
}

#[test]
fn the_ring_is_entered_through_a_thread_s_heap_when_all_bins_are_in_use() {
    let mut built = build(&FAMILIES[5], &CHUNKS);
    // The last bin's sentinel is what the search for sentinels looks at.
    let last = built.main_arena + FAMILIES[5].bins + 16 * 126;
    let chunk = 0x5555_5577_0000 + 0x290;
    built.memory.put(last, chunk);
    built.memory.put(last + 8, chunk);
    let s = survey(&built.memory).unwrap();
    assert_eq!((s.libc.method, s.libc.main_arena), (Method::Ring, built.main_arena));
    assert_eq!(s.bytes().unknown_bytes, 0);
}

/// aarch64 lays malloc's structures out as x86-64 does, word for word; its kernels may have pages of 16 or 64 KiB.
#[test]
fn every_family_is_read_in_larger_pages() {
    for (family, page) in FAMILIES.iter().flat_map(|family| [(family, 16 << 10), (family, 64 << 10)]) {
        let chunks = CHUNKS.map(|(size, made)| if size == 6 * PAGE { (6 * page, made) } else { (size, made) });
        let built = build_in(page, family, &chunks);
        let s = survey(&built.memory).unwrap();
        let (bytes, trim, name) = (s.bytes(), s.trim(), format!("{} in pages of {page}", family.name));
        assert_eq!((s.libc.main_arena, s.page_bytes, s.arenas.len()), (built.main_arena, page, 2), "{name}");
        assert_eq!(bytes.unknown_bytes, 0, "{name}: {bytes:?}");
        assert_eq!((bytes.top_bytes, bytes.mmapped_bytes), (2 * page, 3 * page), "{name}");
        assert_eq!(bytes.system_bytes, (2 * 64 + 3) * page, "{name}");
        assert_eq!((trim.interior_bytes, trim.main_top_bytes), (2 * 5 * page, 0), "{name}: {trim:?}");
    }
}

#[test]
fn trimming_releases_present_pages_inside_free_chunks_only() {
    for family in &FAMILIES {
        let mut built = build(family, &CHUNKS);
        let whole = survey(&built.memory).unwrap().trim();
        // A free chunk of six pages holds five whole ones behind its header unless it begins on a page.s last bytes.
        assert_eq!(whole.interior_bytes, 2 * 5 * PAGE, "{}: {whole:?}", family.name);
        assert_eq!(whole.main_top_bytes, 0, "a top of one page keeps it");
        let s = survey(&built.memory).unwrap();
        let free = s.segments[0].chunks().find(|(_, size, kind)| kind.is_free() && *size == 6 * PAGE).unwrap();
        built.memory.absent.push((free.0 + 48).next_multiple_of(PAGE) + PAGE);
        let less = survey(&built.memory).unwrap();
        assert_eq!(less.trim().interior_bytes, 2 * 5 * PAGE - PAGE, "{}", family.name);
        assert_eq!(less.bytes().unknown_bytes, 0);
        assert_eq!(s.bytes().free_resident_bytes - less.bytes().free_resident_bytes, PAGE);
    }
}

#[test]
fn a_page_of_headers_that_is_gone_is_a_gap_and_nothing_more() {
    let chunks = [(0x50, Made::Live); 2000];
    let mut built = build(&FAMILIES[5], &chunks);
    built.memory.absent.push(0x5555_5577_0000 + 8 * PAGE);
    let s = survey(&built.memory).unwrap();
    let bytes = s.bytes();
    assert!((PAGE..PAGE + 0x400).contains(&bytes.unknown_bytes), "{bytes:?}");
    assert_eq!(s.segments[0].breaks, 1);
    assert!(bytes.coverage_ratio() < 1.0 && bytes.coverage_ratio() > 0.98);
}

#[test]
fn what_is_in_swap_is_counted_apart_and_headers_there_are_unknown() {
    let mut built = build(&FAMILIES[5], &CHUNKS);
    let whole = survey(&built.memory).unwrap();
    let free = whole.segments[0].chunks().find(|(_, size, kind)| kind.is_free() && *size == 6 * PAGE).unwrap();
    // Two pages inside the free chunk.
    let inside = (free.0 + 48).next_multiple_of(PAGE);
    built.memory.swapped.extend([inside + PAGE, inside + 2 * PAGE]);
    let s = survey(&built.memory).unwrap();
    let trim = s.trim();
    assert_eq!((trim.interior_bytes, trim.swapped_release_bytes), (2 * 5 * PAGE - 2 * PAGE, 2 * PAGE));
    assert_eq!(s.bytes().unknown_bytes, 0);
    assert_eq!(s.bytes().resident_bytes, whole.bytes().resident_bytes - 2 * PAGE);
    let last = whole.segments[0].chunks().rev().nth(1).unwrap();
    assert_eq!(last.2, Kind::Live);
    // The page with the first headers.
    built.memory.swapped.push(whole.segments[0].start & !(PAGE - 1));
    let s = survey(&built.memory).unwrap();
    assert!(s.bytes().unknown_bytes > 0 && s.segments.iter().any(|segment| segment.breaks > 0), "{:?}", s.bytes());
    let again = s.segments[0].chunks().rev().nth(1).unwrap();
    assert_eq!(again, last, "behind the page in swap headers are read again");
}

#[test]
fn no_glibc_is_an_answer() {
    let mut built = build(&FAMILIES[5], &CHUNKS);
    for piece in built.memory.pieces() {
        piece.fill(0);
    }
    assert!(matches!(survey(&built.memory), Err(InspectError::NoHeap)));
}

/// Damages a heap and surveys it: it must end, and what it says must add up. Whether there was a survey.
fn damage(family: &Family, rng: &mut Pcg64Mcg) -> bool {
    let mut built = build(family, &CHUNKS);
    let words = [0, 1, 0x20, 0x21, 0x25, u64::MAX, 1 << 63, 0x5555_5577_0010, 0x7eff_fc00_0030, built.main_arena];
    for _ in 0..rng.random_range(1..20) {
        let mut pieces = built.memory.pieces();
        let count = pieces.len();
        let piece = &mut pieces[rng.random_range(0..count)];
        // Most damage falls where structures are.
        let reach = if rng.random_bool(0.7) { 0x2000 } else { piece.len() - 8 };
        let at = rng.random_range(0..reach.min(piece.len() - 8)) & !7;
        let word: u64 = match rng.random_range(0..3) {
            0 => words[rng.random_range(0..words.len())],
            1 => rng.random(),
            _ => u64::from_le_bytes(piece[at..at + 8].try_into().unwrap()) ^ (1 << rng.random_range(0..64)),
        };
        piece[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    for _ in 0..rng.random_range(0..6) {
        let base = [0x5555_5577_0000, 0x7eff_fc00_0000, 0x7f00_0010_0000][rng.random_range(0..3)];
        built.memory.absent.push(base + PAGE * rng.random_range(0..64));
    }
    let Ok(s) = survey(&built.memory) else { return false };
    let bytes = s.bytes();
    let parts = bytes.live_bytes
        + bytes.free_bytes
        + bytes.tcache_bytes
        + bytes.top_bytes
        + bytes.own_bytes
        + bytes.foreign_bytes
        + bytes.unknown_bytes;
    assert_eq!(parts, bytes.system_bytes, "{bytes:?}");
    let trim = s.trim();
    assert_eq!(trim.kept.values().sum::<u64>() + trim.predicted_release_bytes, bytes.resident_bytes);
    assert!(s.segments.iter().all(|s| s.chunks.is_sorted_by(|a, b| a.address() < b.address())));
    assert!(s.map(100).rows.len() == s.segments.len());
    true
}

#[test]
fn damaged_heaps_never_stop_a_survey() {
    let mut rng = Pcg64Mcg::seed_from_u64(20);
    let surveyed = (0..700).filter(|round| damage(&FAMILIES[round % FAMILIES.len()], &mut rng)).count();
    // The seed is fixed: two in five leave a heap that can be surveyed, the others hit what it is found by.
    assert!((200..500).contains(&surveyed), "{surveyed} of 700");
}

/// A heap whose memory goes away after so many questions, as that of a process that unmaps or ends.
struct Vanishing {
    memory: synthetic::Memory,
    left: std::cell::Cell<usize>,
}

impl Vanishing {
    fn is_there(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }
}

impl Target for Vanishing {
    fn kind(&self) -> TargetKind {
        TargetKind::Live
    }

    fn process(&self) -> Result<ProcessFacts, ProcError> {
        Ok(ProcessFacts::default())
    }

    fn mappings(&self) -> Result<Vec<Mapping>, ProcError> {
        if self.is_there() { self.memory.mappings() } else { Ok(Vec::new()) }
    }

    fn page_bytes(&self) -> u64 {
        PAGE
    }

    fn residency(&self, range: std::ops::Range<u64>) -> Result<Option<Residency>, ProcError> {
        if self.is_there() { self.memory.residency(range) } else { Ok(Some(Residency::default())) }
    }

    fn read(&self, parts: &mut [Part<'_>]) -> Result<(), ProcError> {
        if self.is_there() { self.memory.read(parts) } else { Ok(()) }
    }

    fn file(&self, _: &Mapping) -> Option<Vec<u8>> {
        None
    }

    fn check(&self) -> Result<(), ProcError> {
        Ok(())
    }
}

#[test]
fn memory_that_goes_away_during_a_survey_is_unknown_and_no_crash() {
    let mut surveyed = 0;
    for left in 0..200 {
        let target = Vanishing { memory: build(&FAMILIES[5], &CHUNKS).memory, left: left.into() };
        let Ok(seen) = fragbench_inspect::inspect(&target, &Default::default()) else { continue };
        let Some(s) = seen.survey else { continue };
        surveyed += 1;
        let bytes = s.bytes();
        let trim = s.trim();
        assert_eq!(trim.kept.values().sum::<u64>() + trim.predicted_release_bytes, bytes.resident_bytes, "{left}");
    }
    assert!(surveyed > 100, "{surveyed}: most of these see the heap");
}

/// A process whose mappings and pages may be seen and whose memory may not be read, as Yama has it.
struct Closed(synthetic::Memory);

impl Target for Closed {
    fn kind(&self) -> TargetKind {
        TargetKind::Live
    }

    fn process(&self) -> Result<ProcessFacts, ProcError> {
        Ok(ProcessFacts::default())
    }

    fn mappings(&self) -> Result<Vec<Mapping>, ProcError> {
        self.0.mappings()
    }

    fn page_bytes(&self) -> u64 {
        PAGE
    }

    fn residency(&self, range: std::ops::Range<u64>) -> Result<Option<Residency>, ProcError> {
        self.0.residency(range)
    }

    fn read(&self, _: &mut [Part<'_>]) -> Result<(), ProcError> {
        Err(ProcError::Denied("/proc/1/mem".into()))
    }

    fn file(&self, _: &Mapping) -> Option<Vec<u8>> {
        None
    }

    fn check(&self) -> Result<(), ProcError> {
        Ok(())
    }
}

#[test]
fn without_the_right_to_memory_mappings_and_pages_are_still_said() {
    let seen = fragbench_inspect::inspect(&Closed(build(&FAMILIES[5], &CHUNKS).memory), &Default::default()).unwrap();
    let inspection = seen.inspection;
    assert!(seen.survey.is_none() && inspection.heap.is_none());
    assert_eq!(inspection.lacks, ["memory may not be read: the heap cannot be walked"]);
    let main = inspection.mappings.iter().find(|class| class.kind == fragbench_model::MappingKind::MainArena).unwrap();
    assert_eq!((main.vm_bytes, main.resident_bytes), (64 * PAGE, Some(64 * PAGE)));
    assert_eq!(inspection.verdict.kind, fragbench_model::HeapVerdictKind::NotEnoughData);
}
