//! What happened, as the recorder saw it: one allocation event with the addresses it named.

/// One event of one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolEvent {
    /// Time-stamp counter (x86-64 `rdtsc`, aarch64 `cntvct_el0`), cut to the spool's quantum
    /// ([`format::QUANTUM_SHIFT`](super::format::QUANTUM_SHIFT)). Allocations are stamped after the real call
    /// returned, frees before the real call was made, so that the stamps of one address follow the order in which it
    /// changed hands. Never decreases within a thread.
    pub tsc: u64,
    /// What happened.
    pub kind: SpoolKind,
}

/// A thread's events in program order, a handful at a time: cheaper by the event than an iterator behind a pointer.
#[cfg(feature = "std")]
pub trait Batches: Send {
    /// Adds the next events to `out`, at least one; none when there are no more, or no more yet.
    fn more(&mut self, out: &mut Vec<SpoolEvent>);

    /// How far they have been handed out: the number of a block of the thread's, and events of it. None where that is not
    /// known.
    fn place(&self) -> Option<(u32, u64)> {
        None
    }
}

/// What happened. Addresses and lengths are in bytes, as passed to or returned by the call; calls that failed are
/// not events, nor is `free(NULL)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolKind {
    /// `malloc`, or `realloc` of a null pointer.
    Malloc {
        /// The block.
        addr: u64,
        /// Bytes asked for.
        size: u64,
    },
    /// `calloc`.
    Calloc {
        /// The block.
        addr: u64,
        /// Bytes asked for, the product of both arguments.
        size: u64,
    },
    /// `aligned_alloc`, `memalign`, `posix_memalign`, `valloc`, `pvalloc`.
    Aligned {
        /// The block.
        addr: u64,
        /// Bytes asked for (`pvalloc`: rounded up to whole pages, as it does).
        size: u64,
        /// Alignment asked for, in bytes.
        align: u64,
    },
    /// `realloc` of a block; moved unless `old == new`.
    Realloc {
        /// The block before.
        old: u64,
        /// The block after.
        new: u64,
        /// Bytes asked for.
        size: u64,
        /// Stamp taken before the real call, when `old` was still the program's; the event's own stamp is taken
        /// after it, when `new` was.
        began: u64,
        /// 4 KiB pages of the old block resident before the call; only for old blocks of
        /// [`RESIDENCY_MIN`](super::format::RESIDENCY_MIN) bytes and more.
        resident_pages: Option<u32>,
    },
    /// `free` (and C23's `free_sized`, `free_aligned_sized`, and a `realloc` to nothing).
    Free {
        /// The block.
        addr: u64,
    },
    /// `free` of a block of [`RESIDENCY_MIN`](super::format::RESIDENCY_MIN) bytes and more.
    FreeResident {
        /// The block.
        addr: u64,
        /// 4 KiB pages of the block that were resident when it was freed (`mincore`).
        resident_pages: u32,
    },
    /// The thread's first event: it was first seen allocating.
    ThreadStart,
    /// The thread ended. What libc frees on its behalf while it is being torn down may still follow.
    ThreadExit,
    /// The program's own `mmap` of anonymous memory.
    Mmap {
        /// Where it is.
        addr: u64,
        /// Length asked for.
        len: u64,
        /// `PROT_*` bits.
        prot: u32,
        /// `MAP_*` bits.
        flags: u32,
    },
    /// The program's own `munmap`. May name memory whose mapping is not in the spool (a file's, for one).
    Munmap {
        /// Start.
        addr: u64,
        /// Length.
        len: u64,
    },
    /// The program's own `mremap`; like `Munmap` it may name any memory.
    Mremap {
        /// Start before.
        old: u64,
        /// Length before.
        old_len: u64,
        /// Start after.
        new: u64,
        /// Length after.
        new_len: u64,
    },
    /// The program's own `madvise`; like `Munmap` it may name any memory.
    Madvise {
        /// Start.
        addr: u64,
        /// Length.
        len: u64,
        /// `MADV_*`.
        advice: u32,
    },
    /// The program's own `brk` or `sbrk`.
    Brk {
        /// The program break after the call.
        addr: u64,
    },
    /// The program's own `malloc_trim`, before it was made.
    Trim {
        /// Its argument: bytes to keep at the top.
        pad: u64,
    },
    /// The program's own `mallopt`, before it was made.
    Mallopt {
        /// `M_…` of malloc.h.
        param: i32,
        /// Its value.
        value: i32,
    },
    /// Who makes the thread's next allocation or realloc, which is its next event.
    Stack {
        /// Number of the stack.
        id: u32,
    },
}
