//! Memory system calls of a process (mmap, munmap, brk, mprotect, madvise, mremap): how many, of what size, made by
//! whom, and for what: an arena of glibc's, a thread's stack, a chunk that malloc maps by itself, a file, or something
//! the program maps on its own.
//!
//! It records with perf's tracepoints where the machine allows, which costs little and filters by length in the kernel,
//! and with strace elsewhere, which stops the process twice a call. It refuses to guess: what cannot be told from the
//! call, its stack or the mapping it works on is [`Use::Anonymous`] or [`Use::Unknown`].

mod call;
mod flame;
mod perf;
mod record;
mod regions;
mod strace;
mod summary;
mod sys;

pub use call::{Call, Name};
pub use flame::{draw_folded, flame_graph};
pub use record::{Machine, Recording, Subject, SyscallsError, Tool, machine, record};
pub use regions::{Regions, Use};
pub use summary::{Line, Stack, Summary, Timeline, summarize};
