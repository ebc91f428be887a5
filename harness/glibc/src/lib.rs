//! What is known of the GNU C Library's malloc and does not change with who asks: its versions and ranges of them, the size
//! of its heaps, the names of its functions, the text that `malloc_info` writes. Plain data and pure functions.
//!
//! `fetch.sh` and `worker.sh` beside it bring other versions and a worker that runs under them.

mod functions;
pub mod malloc_info;
mod version;

pub use functions::{EXPORTED, allocates};
pub use malloc_info::{Arena, MallocInfo};
pub use version::{GlibcRange, GlibcVersion, glibc};

/// `HEAP_MAX_SIZE` on 64-bit machines, in bytes: heaps of threads' arenas are aligned to it and no larger. Twice
/// `DEFAULT_MMAP_THRESHOLD_MAX` (malloc/arena.c).
pub const HEAP_MAX: u64 = 64 << 20;
