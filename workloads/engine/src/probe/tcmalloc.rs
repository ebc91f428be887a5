//! gperftools' tcmalloc: `MallocExtension` by its C names.
//!
//! Source: gperftools/malloc_extension.h, the list of properties.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::Arc;

use fragbench_model::{AllocatorKind, AllocatorStats};

use super::Family;
use super::sys::{Object, Tc};

#[derive(Debug)]
struct Tcmalloc(Tc);

pub(super) fn recognise(object: &Object) -> Option<Arc<dyn Family>> {
    Tc::of(object).map(|tc| Arc::new(Tcmalloc(tc)) as Arc<dyn Family>)
}

const PROPERTIES: [&CStr; 6] = [
    c"generic.current_allocated_bytes",
    c"generic.heap_size",
    c"tcmalloc.pageheap_free_bytes",
    c"tcmalloc.pageheap_unmapped_bytes",
    c"tcmalloc.central_cache_free_bytes",
    c"tcmalloc.current_total_thread_cache_bytes",
];

impl Family for Tcmalloc {
    fn kind(&self) -> AllocatorKind {
        AllocatorKind::Tcmalloc
    }

    fn version(&self) -> String {
        self.0.version()
    }

    fn stats(&self) -> AllocatorStats {
        let own: BTreeMap<String, u64> = PROPERTIES
            .iter()
            .filter_map(|name| Some((name.to_string_lossy().into_owned(), self.0.property(name)? as u64)))
            .collect();
        let heap = own.get("generic.heap_size").copied();
        let used = own.get("generic.current_allocated_bytes").copied();
        let unmapped = own.get("tcmalloc.pageheap_unmapped_bytes").copied().unwrap_or(0);
        AllocatorStats {
            system_bytes: heap,
            free_bytes: heap.zip(used).map(|(heap, used)| heap.saturating_sub(used).saturating_sub(unmapped)),
            own,
            ..AllocatorStats::default()
        }
    }

    fn purge_call(&self) -> Option<&'static str> {
        Some("MallocExtension_ReleaseFreeMemory")
    }

    fn purge(&self) {
        self.0.release();
    }
}
