//! What every workload runs on inside the measured process: the heap under test and the measured calls into it,
//! the harness's own heap apart from it, threads, phases and barriers, and the questions put to the allocator.
//!
//! A workload is a [`Workload`]: it is built from a [`Request`], starts threads through a [`Spawner`] or a [`Crew`],
//! and allocates only through a [`Ledger`]. It never reads its own memory use, never prints and never looks at a clock
//! to decide what to do, so that two runs with one seed make the same blocks whatever the allocator.

pub mod adjust;
pub mod clock;
mod context;
mod counters;
mod crew;
mod epilogue;
mod failure;
pub mod heap;
mod latency;
mod ledger;
mod link;
mod monitor;
pub mod offheap;
mod parameters;
pub mod probe;
pub mod random;
mod sys;
mod threads;
pub mod timeline;
mod workload;

pub use context::{Context, Settings};
pub use crew::{Crew, Turn};
pub use epilogue::serve;
pub use failure::{fail, refuse};
pub use heap::{ALL_PAGES, Block};
pub use latency::Call;
pub use ledger::{Ledger, LoggedCall, Share};
pub use link::read_line;
pub use offheap::OffHeap;
pub use parameters::{Parameters, nearest, parse_size};
pub use random::Random;
pub use threads::{Spawner, Thread};
pub use timeline::timeline;
pub use workload::{Entry, Request, Workload};
