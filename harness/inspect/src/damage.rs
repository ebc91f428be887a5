//! Heaps with damage: whatever the memory holds, a survey ends after work that the size of the heap bounds, reads only
//! what is present, and accounts for every byte. Bases are heaps built byte by byte in every family of layouts, and the
//! captures of real processes. The same entry is what `fuzz/` feeds.

#[path = "../tests/support/damage.rs"]
mod support;
#[allow(dead_code, reason = "the tests of layouts use the rest")]
#[path = "../tests/support/synthetic.rs"]
mod synthetic;

use std::path::Path;

use fragbench_proc::{CaptureTarget, Target};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use self::support::{Base, Damaged};
use self::synthetic::{Built, FAMILIES, Family, Made, PAGE, build};
use crate::pages::WORDS;
use crate::{InspectError, Kind, Survey, survey};

const CHUNKS: [(u64, Made); 9] = [
    (0x40, Made::Live),
    (0x40, Made::Tcache),
    (0x410, Made::Tcache),
    (0x60, Made::Fast),
    (0x60, Made::Fast),
    (0x90, Made::Free),
    (0x20, Made::Live),
    (6 * PAGE, Made::Free),
    (0x110, Made::Live),
];
/// Words looked at for each word of the address space, at most. Undamaged it is about one.
const WORK: u64 = 64;
/// Bytes read for each byte of the address space, at most.
const READ: u64 = 64;

/// Inspects a damaged heap and bounds the work of it.
fn bounded(base: &Base, damaged: &Damaged<'_>) -> Option<Survey> {
    let before = WORDS.get();
    let survey = damaged.inspect();
    let (words, read) = (WORDS.get() - before, damaged.bytes_read());
    assert!(words <= base.bytes() / 8 * WORK, "{words} words of {} bytes", base.bytes());
    assert!(read <= base.bytes() * READ, "{read} bytes read of {}", base.bytes());
    survey
}

/// Damages each base so many times, and says how many were still surveyed, and how many of those had unknown bytes.
/// `FRAGBENCH_DAMAGE_ROUNDS` asks for so many times more.
fn rounds(bases: &[Base], count: usize, seed: u64) -> (usize, usize) {
    let times = std::env::var("FRAGBENCH_DAMAGE_ROUNDS").map_or(1, |times| times.parse().expect("a number of rounds"));
    let count = count * times;
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let (mut surveyed, mut unknown) = (0, 0);
    for round in 0..count * bases.len() {
        let base = &bases[round % bases.len()];
        let records = rng.random_range(1..12);
        let bytes: Vec<u8> = (0..2 + 6 * records).map(|_| rng.random()).collect();
        if let Some(survey) = bounded(base, &base.damaged(&bytes)) {
            surveyed += 1;
            unknown += usize::from(survey.bytes().unknown_bytes > 0);
        }
    }
    (surveyed, unknown)
}

#[test]
fn built_heaps_with_damage_are_surveyed_in_bounded_work() {
    let bases: Vec<Base> = FAMILIES.iter().map(|f| Base::new(Box::new(build(f, &CHUNKS).memory))).collect();
    let (surveyed, unknown) = rounds(&bases, 100, 20);
    // Damage must be seen, and must not make the reader give up.
    assert!(surveyed > 200 && unknown > 100, "{surveyed} surveyed, {unknown} with unknown bytes");
}

#[test]
fn captures_with_damage_are_surveyed_in_bounded_work() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let open = |entry: std::io::Result<std::fs::DirEntry>| CaptureTarget::open(&entry.unwrap().path()).unwrap();
    let bases: Vec<Base> = std::fs::read_dir(dir).unwrap().map(|entry| Base::new(Box::new(open(entry)))).collect();
    assert!(bases.len() >= 8);
    let (surveyed, unknown) = rounds(&bases, 40, 21);
    assert!(surveyed > 80 && unknown > 40, "{surveyed} surveyed, {unknown} with unknown bytes");
}

/// A heap of 2.36, changed, and what a survey of it costs and says.
fn changed(change: impl FnOnce(&mut Built, &Family)) -> Result<Survey, InspectError> {
    let family = &FAMILIES[5];
    let mut built = build(family, &CHUNKS);
    let words: u64 = built.memory.mappings().unwrap().iter().map(|m| (m.end - m.start) / 8).sum();
    change(&mut built, family);
    let before = WORDS.get();
    let result = survey(&built.memory);
    let looked = WORDS.get() - before;
    assert!(looked <= words * WORK, "{looked} words looked at, of {words}");
    result
}

#[test]
fn lists_that_bite_their_tails_end() {
    let second = |built: &mut Built, family: &Family| {
        let whole = survey(&built.memory).unwrap();
        (whole.arenas[1].address, whole.segments[1].start, whole.arenas[1].address + family.next)
    };
    // The ring of arenas leads back to the second, never to the first.
    let ring = changed(|built, family| {
        let (arena, _, next) = second(built, family);
        built.memory.put(next, arena);
    });
    assert!(matches!(ring, Err(InspectError::NoHeap)), "{ring:?}");
    // A heap whose predecessor is itself.
    let heap = changed(|built, family| {
        let (_, heap, _) = second(built, family);
        built.memory.put(heap + 8, heap);
    });
    assert_eq!(heap.unwrap().segments.len(), 2);
    // The unsorted bin leads back to its last chunk.
    let bin = changed(|built, _| {
        let whole = survey(&built.memory).unwrap();
        let free = whole.segments[0].chunks().find(|chunk| chunk.2 == Kind::Unsorted).unwrap().0;
        built.memory.put(free + 16, free);
    });
    assert_eq!(bin.unwrap().bytes().unknown_bytes, 0);
}

#[test]
fn tcaches_as_long_as_counts_allow_are_followed_no_further_than_there_are_chunks() {
    // Every chunk of a tcache's size is one whose lists go round and round, as long as a count can say.
    let seen = changed(|built, family| {
        let (bins, size, width, entries, lists) = family.tcache.unwrap();
        built.memory.put(built.par + bins + 16, 0xffff);
        let whole = survey(&built.memory).unwrap();
        let live = |chunk: &(u64, u64, Kind)| chunk.2 == Kind::Live && chunk.1 > 0x8000;
        let (start, bytes, _) = whole.segments[0].chunks().find(live).unwrap();
        for at in (start..start + bytes - 2 * size).step_by(size as usize) {
            let left = start + bytes - at;
            built.memory.put(at + 8, size | 1);
            built.memory.put(at + size + 8, (left - size) | 1);
            for bin in (0..lists).step_by(4) {
                built.memory.put(at + 16 + bin * width, u64::MAX);
            }
            for bin in 0..lists {
                // Safe-linking of a link to itself.
                built.memory.put(at + 16 + entries + 8 * bin, at + 16);
            }
            built.memory.put(at + 16, u64::MAX);
        }
    });
    assert!(seen.is_ok(), "{seen:?}");
}
