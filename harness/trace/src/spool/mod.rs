//! The spool: what the recorder writes while the recorded program runs.
//!
//! A spool holds raw addresses and belongs on the machine it was made on; it is turned into a trace, which holds
//! none, when the program has ended. [`mod@format`] describes the file byte by byte, [`writer`] is the recorder's half
//! (no allocation, no I/O, `no_std`), [`reader`] (feature `std`) reads a spool back, damaged or not.

#[cfg(feature = "std")]
mod decode;
pub mod event;
pub mod format;
pub mod provider;
#[cfg(feature = "std")]
pub mod reader;
pub mod stacks;
#[cfg(feature = "std")]
pub(crate) mod tail;
#[cfg(feature = "std")]
mod thread_events;
pub mod writer;

#[cfg(feature = "std")]
pub use event::Batches;
pub use event::{SpoolEvent, SpoolKind};
#[cfg(feature = "std")]
pub use reader::{ClockPair, Damage, DamageKind, Gap, Spool, SpoolError};
#[cfg(feature = "std")]
pub use thread_events::ThreadEvents;
