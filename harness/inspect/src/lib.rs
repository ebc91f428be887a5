//! A glibc heap seen from outside: every arena, every chunk, what is in memory of it, and what `malloc_trim` would give
//! back. The target is neither written to nor stopped, nothing is called in it, and no page is brought into it.
//!
//! It refuses to guess: bytes that are not understood are counted as unknown. [`survey`] reads; everything else
//! ([`Survey::bytes`], [`Survey::trim`], [`Survey::map`]) is computed from what it has read. [`inspect`] puts a survey and
//! the rest of the address space together, with a [`verdict`].
//!
//! For a worker that stands at a barrier the figures are exact. Three surveys of one case, drawn to one scale:
//!
//! ```no_run
//! # fn main() -> Result<(), fragbench_inspect::InspectError> {
//! # let (pid, go_on, purge) = (1, || {}, || {});
//! let target = fragbench_proc::LiveTarget::open(pid)?;
//! let full = fragbench_inspect::survey(&target)?;
//! go_on(); // to the barrier after freeing
//! let freed = fragbench_inspect::survey(&target)?;
//! let predicted = freed.trim().predicted_release_bytes;
//! purge(); // malloc_trim(0) in the worker
//! let trimmed = fragbench_inspect::survey(&target)?;
//! assert!(trimmed.bytes().resident_bytes <= freed.bytes().resident_bytes - predicted);
//! let scale = full.map(800).cell_bytes;
//! let maps = [full, freed, trimmed].map(|survey| survey.map_to_scale(scale));
//! # let _ = maps; Ok(())
//! # }
//! ```

#[cfg(test)]
extern crate self as fragbench_inspect;

mod advice;
mod arena;
mod capture;
mod chunk;
#[cfg(test)]
mod damage;
mod figures;
mod find;
mod human;
mod image;
mod inspection;
mod layout;
mod linkmap;
mod lists;
mod locks;
mod map;
mod mmapped;
mod objects;
mod pages;
mod parameters;
mod retained;
mod rules;
mod runs;
mod sizes;
mod space;
mod stacks;
mod survey;
mod trim;
mod types;
mod walk;

pub use advice::advice;
pub use capture::capture;
pub use chunk::{Chunk, Kind};
pub use find::Method;
pub use inspection::{Depth, Inspected, inspect};
pub use linkmap::lookup as lookup_order;
pub use lists::{Linking, Tcache};
pub use locks::{ArenaLock, arena_locks};
pub use mmapped::Mmapped;
pub use objects::{Malloc, mallocs};
pub use parameters::malloc_parameters;
pub use rules::verdict;
pub use runs::{Runs, Sweep};
pub use survey::{ArenaSurvey, InspectError, Libc, Segment, Settings, Survey, survey};
