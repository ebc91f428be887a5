//! Allocation traces: what a program asked of its allocator, on which thread and when.
//!
//! A recording passes through two forms. The [`spool`] is what the recorder writes while the program runs: raw
//! addresses, one block a `write`, readable up to the last block whatever happens. [`pack()`] turns it into a trace
//! (`*.fbt`), which is what is kept, shipped and replayed: no addresses, each thread's operations in its own order,
//! at most 2.5 bytes an event. [`mod@format`] describes that file byte by byte; [`Trace`] reads it, damaged or not.
//! What traces hold is told by the crate `fragbench-trace-analysis`.
//!
//! Without the feature `std` only the spool's writing half is built, which never allocates.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod spool;

#[cfg(feature = "std")]
pub mod decode;
#[cfg(feature = "std")]
mod encode;
#[cfg(feature = "std")]
mod error;
#[cfg(feature = "std")]
pub mod format;
#[cfg(feature = "std")]
mod info;
#[cfg(feature = "std")]
pub mod memory;
#[cfg(feature = "std")]
mod operation;
mod order;
#[cfg(feature = "std")]
mod pack;
#[cfg(feature = "std")]
mod reader;
#[cfg(feature = "std")]
pub mod stacks;
#[cfg(feature = "std")]
mod store;
#[cfg(feature = "std")]
pub mod synth;
#[cfg(feature = "std")]
mod text;
#[cfg(feature = "std")]
mod varint;
#[cfg(feature = "std")]
mod write;

#[cfg(feature = "std")]
pub use error::{Damage, TraceError};
#[cfg(feature = "std")]
pub use info::{Provider, RecordedOn, Totals, TraceInfo};
#[cfg(feature = "std")]
pub use memory::{MemorySample, MemorySeries, MemorySummary};
#[cfg(feature = "std")]
pub use order::{Before, Event, EventKind, Events, SystemCall};
#[cfg(feature = "std")]
pub use pack::{
    HOLE_ALIGN, LivePack, PROLOGUE_NS, PackOptions, PackReport, Source, Start, StartBlock, pack, pack_source,
    pack_spool,
};
#[cfg(feature = "std")]
pub use reader::{BlockEntry, Scratch, Trace};
