//! What a block of a trace holds: operations, who is handed them, and what can be wrong with them.

/// What cannot be decoded in a block whose checksum holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a block with {0}")]
pub struct Fault(pub(crate) &'static str);

impl Fault {
    /// What is wrong, as the end of "a block with …".
    pub fn what(&self) -> &'static str {
        self.0
    }
}

/// How a block was allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alloc {
    /// `malloc`.
    Malloc,
    /// `calloc`.
    Calloc,
    /// With an alignment in bytes, a power of two.
    Aligned(u64),
    /// By a `realloc` of a block whose own allocation was not seen.
    ReallocUnseen,
}

/// What a program does to glibc's allocator itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adjust {
    /// `malloc_trim`.
    Trim {
        /// Its argument: bytes to keep at the top.
        pad: u64,
    },
    /// `mallopt`.
    Mallopt {
        /// `M_…` of malloc.h.
        param: i32,
        /// Its value.
        value: i32,
    },
}

/// An operation other than the two frequent ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// An allocation into `slot`.
    Allocate {
        /// Slot of the own lane.
        slot: u32,
        /// Bytes asked for.
        size: u64,
        /// By which call.
        by: Alloc,
        /// 4 KiB pages resident when it was freed; none if below the least size or not known.
        resident_pages: Option<u32>,
    },
    /// A free of a block of the own lane.
    Free {
        /// Its slot.
        slot: u32,
    },
    /// A free of another lane's block.
    FreeOther {
        /// Its lane.
        lane: u32,
        /// Its slot.
        slot: u32,
        /// Its generation.
        generation: u32,
    },
    /// A free of a block whose allocation was not seen.
    FreeUnseen,
    /// A realloc of a block of the own lane, which stays in its slot.
    Realloc {
        /// Its slot.
        slot: u32,
        /// Bytes asked for.
        size: u64,
        /// Whether its address changed in the recording.
        moved: bool,
        /// As in [`Op::Allocate`], for the new block.
        resident_pages: Option<u32>,
    },
    /// A realloc of another lane's block into `slot` of the own lane.
    ReallocOther {
        /// Slot it goes to.
        slot: u32,
        /// Bytes asked for.
        size: u64,
        /// Lane it comes from.
        from_lane: u32,
        /// Slot it comes from.
        from_slot: u32,
        /// Its generation there.
        generation: u32,
        /// Whether its address changed in the recording.
        moved: bool,
        /// As in [`Op::Allocate`], for the new block.
        resident_pages: Option<u32>,
    },
    /// The thread's turn in the order of first operations and exits.
    Turn {
        /// Its number.
        number: u64,
    },
    /// The program adjusts its allocator.
    Adjust(Adjust),
    /// The thread's end.
    Exit {
        /// Its number in the order of first operations and exits.
        number: u64,
    },
}

/// What [`crate::decode::Block::visit`] tells of a block, in order.
pub trait Visitor {
    /// Why a visit ends early.
    type Stop: From<Fault>;

    /// Time has come to `us`; the operations that follow happen then. Called before a block's first operation too.
    ///
    /// # Errors
    /// Ends the visit.
    fn at(&mut self, us: u64) -> Result<(), Self::Stop>;

    /// `malloc` of `size` bytes, less than 16 KiB, into `slot` of the own lane.
    ///
    /// # Errors
    /// Ends the visit.
    fn malloc(&mut self, slot: u32, size: u32) -> Result<(), Self::Stop>;

    /// Free of `slot` of the own lane.
    ///
    /// # Errors
    /// Ends the visit.
    fn free(&mut self, slot: u32) -> Result<(), Self::Stop>;

    /// Anything else.
    ///
    /// # Errors
    /// Ends the visit.
    fn other(&mut self, op: Op) -> Result<(), Self::Stop>;

    /// Whether [`Self::ahead`] wants to be called.
    const LOOKS_AHEAD: bool = false;

    /// Called before each free, with a slot of the own lane that is freed soon (slot 0 where there is no such free): a
    /// chance to fetch what the visitor itself keeps of it.
    #[inline(always)]
    fn ahead(&mut self, _soon: u32) {}
}
