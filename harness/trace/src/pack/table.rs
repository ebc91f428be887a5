//! The recorded program's live blocks by address: an open-addressed table that holds the block's name and size.
//!
//! Linear probing, at most half full, with removal that shifts back what follows (Knuth, The Art of Computer Programming,
//! volume 3, algorithm 6.4R), so that nothing is left behind by millions of blocks that come and go.

use super::state::{State, state};
use super::sys::prefetch;

/// Entries of an empty table.
const FIRST: usize = 1 << 10;
/// Lane of an entry that is none.
const NONE: u32 = u32::MAX;

/// A block by its address. The slot's generation is the lane's to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) addr: u64,
    pub(super) size: u64,
    pub(super) lane: u32,
    pub(super) slot: u32,
}

state!(Entry { addr, size, lane, slot });

const EMPTY: Entry = Entry { addr: 0, size: 0, lane: NONE, slot: 0 };

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    shift: u32,
    len: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self::with(FIRST)
    }
}

impl Table {
    /// `entries` is a power of two.
    fn with(entries: usize) -> Self {
        Self { entries: vec![EMPTY; entries], shift: 64 - entries.ilog2(), len: 0 }
    }

    /// Where an address would like to be: by the golden ratio (Knuth). Addresses come from the recorded program, not
    /// from an adversary; the lowest three bits of a block's are zero under every allocator.
    #[inline(always)]
    fn home(&self, addr: u64) -> usize {
        ((addr >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    /// An address is asked for soon.
    #[inline(always)]
    pub(super) fn ahead(&self, addr: u64) {
        prefetch(&self.entries[self.home(addr)]);
    }

    #[inline(always)]
    fn find(&self, addr: u64) -> Result<usize, usize> {
        let mask = self.entries.len() - 1;
        let mut at = self.home(addr);
        loop {
            let entry = &self.entries[at & mask];
            if entry.lane == NONE {
                return Err(at & mask);
            }
            if entry.addr == addr {
                return Ok(at & mask);
            }
            at += 1;
        }
    }

    #[inline]
    pub(super) fn contains(&self, addr: u64) -> bool {
        self.find(addr).is_ok()
    }

    /// Puts a block in; false, and nothing done, where there is one.
    #[inline]
    pub(super) fn insert(&mut self, entry: Entry) -> bool {
        let Err(at) = self.find(entry.addr) else { return false };
        self.entries[at] = entry;
        self.len += 1;
        if self.len * 2 > self.entries.len() {
            self.grow();
        }
        true
    }

    #[cold]
    fn grow(&mut self) {
        let mut larger = Self::with(self.entries.len() * 2);
        for entry in self.iter() {
            larger.insert(*entry);
        }
        *self = larger;
    }

    /// Takes a block out.
    #[inline]
    pub(super) fn remove(&mut self, addr: u64) -> Option<Entry> {
        let mut hole = self.find(addr).ok()?;
        let found = self.entries[hole];
        let mask = self.entries.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let entry = self.entries[at];
            if entry.lane == NONE {
                break;
            }
            // It may move back unless its home lies behind the hole.
            let from_home = at.wrapping_sub(self.home(entry.addr)) & mask;
            if from_home >= at.wrapping_sub(hole) & mask {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = EMPTY;
        self.len -= 1;
        Some(found)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.lane != NONE)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl State for Table {
    fn save(&self, out: &mut Vec<u8>) {
        (self.len as u64).save(out);
        self.iter().for_each(|entry| entry.save(out));
    }

    fn load(from: &mut &[u8]) -> Option<Self> {
        let mut table = Self::default();
        for _ in 0..u64::load(from)? {
            table.insert(Entry::load(from)?);
        }
        Some(table)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::synth::SplitMix64;

    #[test]
    fn holds_what_a_map_holds_through_growth_and_removal() {
        let (mut table, mut map, mut random) = (Table::default(), HashMap::new(), SplitMix64(3));
        for step in 0..200_000u64 {
            // Few enough addresses that they meet again; 0 and the greatest are addresses like others.
            let addr = match random.below(3_000 + step / 50) {
                0 => 0,
                1 => u64::MAX,
                n => n * 16,
            };
            if random.chance(550) {
                let entry = Entry { addr, size: step, lane: random.below(9) as u32, slot: step as u32 };
                assert_eq!(table.insert(entry), !map.contains_key(&addr));
                map.entry(addr).or_insert(entry);
            } else {
                assert_eq!(table.remove(addr), map.remove(&addr));
            }
            assert_eq!((table.len(), table.contains(addr)), (map.len(), map.contains_key(&addr)));
        }
        assert!(map.len() > FIRST, "it has grown");
        let mut bytes = Vec::new();
        table.save(&mut bytes);
        let table = Table::load(&mut &bytes[..]).unwrap();
        let mut all: Vec<Entry> = table.iter().copied().collect();
        all.sort_by_key(|e| e.addr);
        let mut expected: Vec<Entry> = map.into_values().collect();
        expected.sort_by_key(|e| e.addr);
        assert_eq!(all, expected);
    }
}
