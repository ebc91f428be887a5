//! A target whose memory is damaged in ways that bytes choose, and what must hold of every inspection of it. The tests
//! feed it bytes of a fixed seed, the fuzz target whatever finds new paths.
//!
//! Damage falls where malloc keeps something: arenas, `mp_`, headers of heaps and chunks, links, tcaches. What is
//! written there is mostly something that makes sense elsewhere, since random words are refused at the first check.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use fragbench_inspect::{Depth, Kind, Survey, inspect, survey};
use fragbench_proc::{Mapping, Part, ProcError, ProcessFacts, Residency, Target, TargetKind};

/// Chunks of a heap whose words are damaged: from its start, and from its end.
const CHUNKS: usize = 48;
/// Bytes that tell one piece of damage.
const RECORD: usize = 6;

/// A whole heap: what it holds where.
pub(crate) struct Base {
    target: Box<dyn Target + Send + Sync>,
    mappings: Vec<Mapping>,
    /// Words worth damaging.
    sites: Vec<u64>,
    /// Words worth writing there.
    values: Vec<u64>,
}

impl Base {
    /// Of a heap that can be surveyed.
    pub(crate) fn new(target: Box<dyn Target + Send + Sync>) -> Base {
        let seen = survey(&*target).expect("the heap is whole");
        let mut sites: Vec<u64> = Vec::new();
        let mut words = |at: u64, bytes: u64| sites.extend((at..at + bytes).step_by(8));
        seen.arenas.iter().for_each(|arena| words(arena.address, 0x8a0));
        seen.libc.par.into_iter().for_each(|par| words(par, 0x90));
        seen.tcaches.iter().for_each(|tcache| words(tcache.address, 0x300));
        seen.mmapped.iter().for_each(|chunk| words(chunk.start, 16));
        let mut values = vec![0, 1, 2, 7, 0x20, 0x21, 0x25, 0x91, 0xffff, 1 << 20, 1 << 47, 1 << 63, u64::MAX];
        for segment in &seen.segments {
            words(segment.start, 0x30);
            words(segment.end - 64, 64);
            values.extend([segment.start, segment.end, segment.end - segment.start]);
            let listed = segment.chunks().filter(|(_, _, kind)| !matches!(kind, Kind::Live | Kind::Own)).take(CHUNKS);
            let chunks = segment.chunks().take(CHUNKS).chain(listed).chain(segment.chunks().rev().take(CHUNKS));
            for (at, size, _) in chunks {
                words(at, 32);
                values.extend([at, at + 16, size | 1, size | 5]);
            }
        }
        values.extend(seen.arenas.iter().map(|arena| arena.address));
        let mappings = target.mappings().expect("it has mappings");
        Base { target, mappings, sites, values }
    }

    /// Bytes of its address space.
    pub(crate) fn bytes(&self) -> u64 {
        self.mappings.iter().map(|m| m.end - m.start).sum()
    }

    /// The heap damaged as `bytes` say: what it passes for, how many readings it is whole for, then records.
    pub(crate) fn damaged(&self, bytes: &[u8]) -> Damaged<'_> {
        let [kind, whole_for, records @ ..] = bytes else { return self.damaged(&[0, 0]) };
        let mut damaged = Damaged {
            base: self,
            kind: [TargetKind::Core, TargetKind::Live, TargetKind::Capture][usize::from(*kind) % 3],
            mappings: self.mappings.clone(),
            words: BTreeMap::new(),
            absent: BTreeSet::new(),
            swapped: BTreeSet::new(),
            whole_for: Cell::new(u64::from(*whole_for % 32)),
            read: Cell::new(0),
        };
        records.as_chunks::<RECORD>().0.iter().for_each(|record| damaged.damage(record));
        damaged
    }
}

/// A heap with damage.
pub(crate) struct Damaged<'a> {
    base: &'a Base,
    kind: TargetKind,
    mappings: Vec<Mapping>,
    words: BTreeMap<u64, u64>,
    absent: BTreeSet<u64>,
    swapped: BTreeSet<u64>,
    /// Readings that still see no damaged word, as of a process that is changing.
    whole_for: Cell<u64>,
    /// Bytes that were read.
    read: Cell<u64>,
}

impl Damaged<'_> {
    fn damage(&mut self, record: &[u8; RECORD]) {
        let [how, a0, a1, v0, v1, x] = record.map(usize::from);
        let (site, value) = (a0 | a1 << 8, v0 | v1 << 8);
        let site = self.base.sites[site % self.base.sites.len()];
        let value = self.base.values[value % self.base.values.len()];
        let page = site & !(self.page_bytes() - 1);
        match how % 8 {
            0..3 => drop(self.words.insert(site, value)),
            3 => {
                let mut word = [0; 8];
                let _ = self.base.target.read(&mut [Part::new(site, &mut word)]);
                self.words.insert(site, u64::from_le_bytes(word) ^ 1 << (x % 64));
            }
            4 => drop(self.words.insert(site, (v0 as u64) << 4 | x as u64 & 7)),
            5 if x % 2 == 0 => drop(self.absent.insert(page)),
            5 => drop(self.swapped.insert(page)),
            6 => {
                let place = (a0 | a1 << 8) % self.mappings.len();
                let half = (self.mappings[place].end - self.mappings[place].start) / 2;
                let half = half & !(self.page_bytes() - 1);
                match x % 4 {
                    _ if self.mappings.len() == 1 => {}
                    0 => drop(self.mappings.remove(place)),
                    1 if half > 0 => self.mappings[place].end -= half,
                    2 if half > 0 => self.mappings[place].start += half,
                    _ => self.mappings[place].writable = false,
                }
            }
            _ => drop(self.words.insert(site.wrapping_add(8 * x as u64), value.wrapping_mul(v1 as u64))),
        }
    }

    /// Bytes that were read of it.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.get()
    }

    /// Looks at it: there is an answer, every byte of the heap is accounted for, and what cannot be understood is said to
    /// be unknown. Gives the survey, where it came to one.
    pub(crate) fn inspect(&self) -> Option<Survey> {
        let survey = inspect(self, &Depth::default()).ok()?.survey?;
        let bytes = survey.bytes();
        let parts = bytes.live_bytes
            + bytes.free_bytes
            + bytes.tcache_bytes
            + bytes.top_bytes
            + bytes.own_bytes
            + bytes.foreign_bytes
            + bytes.unknown_bytes;
        assert_eq!(parts, bytes.system_bytes, "{bytes:?}");
        let trim = survey.trim();
        assert_eq!(trim.kept.values().sum::<u64>() + trim.predicted_release_bytes, bytes.resident_bytes, "{trim:?}");
        for segment in &survey.segments {
            assert_eq!(segment.chunks.first().map(|chunk| chunk.address()), Some(segment.start));
            assert!(segment.chunks.is_sorted_by(|a, b| a.address() < b.address()));
            assert!(segment.chunks.last().is_some_and(|chunk| chunk.address() < segment.end));
            // Of a page that is not there nothing is made up. Where a top begins its arena says.
            let read = |kind| !matches!(kind, Kind::Unknown | Kind::Foreign | Kind::Own | Kind::Top);
            for (at, _, kind) in segment.chunks().filter(|(_, _, kind)| read(*kind)) {
                assert!(!self.is_away((at + 8) & !(self.page_bytes() - 1)), "{at:#x} {kind:?}");
            }
        }
        let (cells, rows) = (200, survey.map(200).rows);
        assert!(rows.iter().map(|row| row.cells.len()).sum::<usize>() <= cells.max(rows.len()));
        Some(survey)
    }

    fn is_away(&self, page: u64) -> bool {
        self.absent.contains(&page) || self.swapped.contains(&page)
    }
}

impl Target for Damaged<'_> {
    fn kind(&self) -> TargetKind {
        self.kind
    }

    fn process(&self) -> Result<ProcessFacts, ProcError> {
        self.base.target.process()
    }

    fn mappings(&self) -> Result<Vec<Mapping>, ProcError> {
        Ok(self.mappings.clone())
    }

    fn page_bytes(&self) -> u64 {
        self.base.target.page_bytes()
    }

    fn residency(&self, range: Range<u64>) -> Result<Option<Residency>, ProcError> {
        let Some(mut residency) = self.base.target.residency(range.clone())? else { return Ok(None) };
        for page in self.absent.range(range.clone()).chain(self.swapped.range(range.clone())) {
            residency.present =
                residency.present.into_iter().flat_map(|run| without(run, *page, self.page_bytes())).collect();
        }
        if !self.swapped.is_empty() {
            residency.swapped = self.swapped.range(range).map(|page| *page..page + self.page_bytes()).collect();
        }
        Ok(Some(residency))
    }

    fn read(&self, parts: &mut [Part<'_>]) -> Result<(), ProcError> {
        self.base.target.read(parts)?;
        let whole = self.whole_for.get();
        self.whole_for.set(whole.saturating_sub(1));
        for part in parts {
            let range = part.address..part.address.saturating_add(part.into.len() as u64);
            let away = self.absent.range(range.clone()).chain(self.swapped.range(range.clone())).next();
            assert!(away.is_none(), "a page that is not present was read");
            self.read.set(self.read.get() + part.into.len() as u64);
            // A word that reaches over the end of the part is damaged in the next one.
            for (at, word) in self.words.range(range).filter(|_| whole == 0) {
                let place = (at - part.address) as usize;
                if let Some(bytes) = part.into.get_mut(place..place + 8) {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
            }
        }
        Ok(())
    }

    fn file(&self, mapping: &Mapping) -> Option<Vec<u8>> {
        self.base.target.file(mapping)
    }

    fn check(&self) -> Result<(), ProcError> {
        Ok(())
    }
}

/// A run of pages without one of them.
fn without(run: Range<u64>, page: u64, bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let parts = if run.contains(&page) { [run.start..page, page + bytes..run.end] } else { [run, 0..0] };
    parts.into_iter().filter(|part| part.start < part.end)
}
