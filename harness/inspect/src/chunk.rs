//! A chunk of a heap as the survey keeps it: eight bytes. Chunks of a segment lie without gaps, so one ends where the
//! next begins.

use serde::{Deserialize, Serialize};

use crate::layout::LARGE_MIN;

/// What a stretch of a heap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Kind {
    /// In use by the program.
    Live = 0,
    /// In a thread's cache: free to that thread alone, in use to everybody else.
    Tcache = 1,
    /// In a fast bin: marked in use until it is consolidated.
    Fast = 2,
    /// Free, of a size below 1024 bytes.
    Small = 3,
    /// Free, of a size from 1024 bytes.
    Large = 4,
    /// Free, not yet sorted into a bin of its size.
    Unsorted = 5,
    /// The last chunk of an arena, which grows and shrinks.
    Top = 6,
    /// malloc's own: arenas, heap headers, fenceposts, the tcache structures.
    Own = 7,
    /// Between two stretches of the main arena, taken from `brk` by somebody else.
    Foreign = 8,
    /// Not understood: torn, damaged, swapped or not readable.
    Unknown = 9,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Kind; 10] = [
        Kind::Live,
        Kind::Tcache,
        Kind::Fast,
        Kind::Small,
        Kind::Large,
        Kind::Unsorted,
        Kind::Top,
        Kind::Own,
        Kind::Foreign,
        Kind::Unknown,
    ];

    /// Whether `malloc` can hand it to any thread of the arena, top aside.
    pub fn is_free(self) -> bool {
        matches!(self, Kind::Fast | Kind::Small | Kind::Large | Kind::Unsorted)
    }

    /// The kind of a binned chunk of that size.
    pub(crate) fn binned(size: u64) -> Kind {
        if size < LARGE_MIN { Kind::Small } else { Kind::Large }
    }
}

/// Address and kind of a chunk; addresses are multiples of 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chunk(u64);

impl Chunk {
    /// A chunk at an address, whose low four bits are dropped.
    pub fn new(address: u64, kind: Kind) -> Self {
        Chunk(address & !15 | kind as u64)
    }

    /// Address of its header.
    pub fn address(self) -> u64 {
        self.0 & !15
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        Kind::ALL.get((self.0 & 15) as usize).copied().unwrap_or(Kind::Unknown)
    }
}
