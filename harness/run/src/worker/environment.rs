//! The whole environment block of each cell's worker: a fixed base, what the allocator needs, and padding, so that
//! blocks of arguments and environment are of equal size and the stack starts at the same distance for all (Mytkowicz
//! et al., ASPLOS 2009).

use std::collections::BTreeMap;

use fragbench_model::Cell;

use super::binary::WorkerBinary;

/// Variables of this process that the worker inherits: where programs and libraries are found, nothing that could
/// change what an allocator does.
const INHERITED: &[&str] = &["PATH", "LD_LIBRARY_PATH"];

/// One environment a cell for this worker, in the plan's order.
pub(crate) fn environments(cells: &[Cell], worker: &WorkerBinary) -> Vec<BTreeMap<String, String>> {
    let base: BTreeMap<String, String> = INHERITED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .chain([("LC_ALL".to_owned(), "C".to_owned())])
        .collect();
    let bare: Vec<_> = cells
        .iter()
        .map(|Cell { allocator, .. }| {
            let environment = base.clone().into_iter().chain(fragbench_allocators::variables(allocator)).collect();
            (environment, fragbench_allocators::command(allocator, worker.path()))
        })
        .collect();
    let padding = fragbench_allocators::padding(&bare);
    bare.into_iter().zip(padding).map(|((bare, _), padding)| bare.into_iter().chain(padding).collect()).collect()
}
