//! What glibc's malloc has in force: the settings of `struct malloc_par`, read from outside, without a look at the heap.
//!
//! Not there: the greatest size of a fast bin (`global_max_fast`, a variable of its own), `perturb`, `check`.
//!
//! Source: glibc malloc/malloc.c, `struct malloc_par`, 2.26 to 2.44.

use std::collections::BTreeMap;

use fragbench_proc::Target;

use crate::find::find;
use crate::pages::Pages;
use crate::survey::InspectError;

/// Offsets of the words that lie at one place in all versions, by the tunable that sets them.
const WORDS: [(&str, u64); 5] =
    [("trim_threshold", 0), ("top_pad", 8), ("mmap_threshold", 0x10), ("arena_test", 0x18), ("arena_max", 0x20)];

/// The settings by the name of the tunable, without `glibc.malloc.`; `arena_max` and `arena_test` are 0 where nothing set
/// them. What this version's layout does not tell is missing.
///
/// # Errors
/// [`InspectError::NoHeap`] when there is no glibc heap; [`InspectError::Proc`] when the target may not be read.
pub fn malloc_parameters(target: &dyn Target) -> Result<BTreeMap<String, u64>, InspectError> {
    let mut pages = Pages::new(target);
    let mappings = target.mappings()?;
    let found = find(&mut pages, &mappings);
    if let Some(error) = pages.failure() {
        return Err(error.into());
    }
    let (at, layout) = found.and_then(|found| found.par).ok_or(InspectError::NoHeap)?;
    let mut values = BTreeMap::new();
    let mut keep = |name: &str, value: Option<u64>| {
        values.extend(value.map(|value| (name.to_owned(), value)));
    };
    for (name, offset) in WORDS {
        keep(name, pages.word(at + offset));
    }
    // An int; `n_mmaps` stands before it.
    keep("mmap_max", pages.half(at + layout.n_mmaps + 4).map(u64::from));
    if let Some(tcache) = layout.tcache {
        keep("tcache_max", pages.word(at + tcache + 8));
        keep("tcache_count", pages.word(at + tcache + 16));
    }
    Ok(values)
}
