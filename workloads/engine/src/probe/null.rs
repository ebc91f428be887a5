//! The null allocator: it says how much it has mapped, and gives nothing back.

use std::collections::BTreeMap;
use std::sync::Arc;

use fragbench_model::{AllocatorKind, AllocatorStats};

use super::Family;
use super::sys::{NullFunctions, Object};

#[derive(Debug)]
struct Null(NullFunctions);

pub(super) fn recognise(object: &Object) -> Option<Arc<dyn Family>> {
    NullFunctions::of(object).map(|functions| Arc::new(Null(functions)) as Arc<dyn Family>)
}

impl Family for Null {
    fn kind(&self) -> AllocatorKind {
        AllocatorKind::Null
    }

    fn version(&self) -> String {
        self.0.version()
    }

    fn stats(&self) -> AllocatorStats {
        let mapped = self.0.mapped();
        AllocatorStats {
            system_bytes: mapped,
            own: mapped.map(|bytes| ("mapped".to_owned(), bytes)).into_iter().collect::<BTreeMap<_, _>>(),
            ..AllocatorStats::default()
        }
    }
}
