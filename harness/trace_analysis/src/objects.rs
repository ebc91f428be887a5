//! Maps by the number of a block, or by other numbers.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Hash of numbers: for each one multiplication (Knuth's, by the golden ratio), its high half folded onto the low one, since
/// the table takes its bits from both ends. Numbers are given in order by the reader, not by an adversary.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct NumberHash(u64);

impl Hasher for NumberHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u64(u64::from(*b)));
    }

    fn write_u8(&mut self, v: u8) {
        self.write_u64(v.into());
    }

    fn write_u32(&mut self, v: u32) {
        self.write_u64(v.into());
    }

    fn write_usize(&mut self, v: usize) {
        self.write_u64(v as u64);
    }

    fn write_isize(&mut self, v: isize) {
        self.write_u64(v as u64);
    }

    fn write_u64(&mut self, v: u64) {
        let h = (self.0 ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = h ^ (h >> 32);
    }
}

/// A map by the number of a block.
pub(crate) type ByObject<V> = HashMap<u64, V, BuildHasherDefault<NumberHash>>;
