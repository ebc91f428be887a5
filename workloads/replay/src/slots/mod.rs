//! Where the live blocks of a replay are: a table of slots a lane, written by the lane's owner and emptied by anybody.
//!
//! A slot holds address, size and generation, in 16 bytes. Only the owner fills a slot, and only when it is empty; so
//! its own accesses are plain loads and stores. Another thread that is to free generation g waits until the slot shows
//! g and then an address. Generations are what keeps it from taking the block before, or one too late.

mod sys;

pub(crate) use sys::Slot;

/// The tables of all lanes of one copy of the trace.
#[derive(Debug)]
pub(crate) struct Lanes(Vec<Box<[Slot]>>);

impl Lanes {
    /// Tables for lanes of so many slots each. Memory becomes resident when a slot is first used.
    pub(crate) fn new(slots: &[u32]) -> Self {
        Self(slots.iter().map(|n| Slot::table(*n as usize)).collect())
    }

    /// A lane's table; empty for a lane that does not exist.
    pub(crate) fn lane(&self, lane: u32) -> &[Slot] {
        self.0.get(lane as usize).map_or(&[], |t| t)
    }
}
