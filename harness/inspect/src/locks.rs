//! The locks of all arenas, without a survey.

use fragbench_proc::Target;

use crate::find::find;
use crate::pages::Pages;
use crate::survey::InspectError;

/// An arena and its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArenaLock {
    /// Address of the arena.
    pub arena: u64,
    /// Whether a thread holds it, or waits for it.
    pub held: bool,
}

/// Which arenas are locked at this moment.
///
/// # Errors
/// As [`crate::survey`].
pub fn arena_locks(target: &dyn Target) -> Result<Vec<ArenaLock>, InspectError> {
    let mut pages = Pages::new(target);
    let found = find(&mut pages, &target.mappings()?);
    if let Some(error) = pages.failure() {
        return Err(error.into());
    }
    // `mutex` is the first field in every layout, an int.
    let arenas = found.ok_or(InspectError::NoHeap)?.arenas;
    let locks = arenas.into_iter().filter_map(|arena| {
        let word = pages.word(arena)?;
        Some(ArenaLock { arena, held: word as u32 != 0 })
    });
    Ok(locks.collect())
}
