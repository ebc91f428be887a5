//! Asking a process itself: calls a function of its C library in it, through gdb. The one room that touches its target.
//!
//! What a call needs is checked while the process is stopped and before anything is called in it: that no lock of
//! malloc is held and that no thread is inside malloc ([`Busy`]). It refuses otherwise, since a call made from a thread
//! that is inside malloc waits for itself for ever. While the call runs, all other threads run too, so a lock that one of
//! them takes meanwhile is given back. A call that has not come back at the time limit is taken back only when it
//! holds no lock: the thread goes on where it was, and gdb is gone. A call that is at work inside malloc is waited for;
//! ending it would leave the lock held.
//!
//! No symbols are needed: functions are found in the dynamic symbol table of the file that holds malloc, arenas as
//! [`fragbench_inspect`] finds them. gdb reads nothing but the program's own file, before the process is stopped.

mod allocator;
mod attach;
mod bounded;
mod busy;
mod error;
mod gdb;
mod loader;
mod malloc_info;
mod mi;
mod process;
mod rights;
mod session;
mod symbols;
mod sys;
mod trim;

pub use allocator::{Heap, Purged, heap, purge, words};
pub use attach::{Attached, Request, attach, detach};
pub use busy::Busy;
pub use error::AskError;
pub use malloc_info::{MallocInfo, malloc_info};
pub use session::{Limits, Visit, call};
pub use trim::{Surveyed, Trimmed, trim};
