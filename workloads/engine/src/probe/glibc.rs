//! glibc's ptmalloc: `malloc_info(0)` for what it holds, `malloc_trim(0)` to give it back.
//!
//! Source: malloc/malloc.c, `__malloc_info` and `mtrim`, glibc 2.31 to 2.43.

use std::sync::{Arc, Mutex, PoisonError};

use fragbench_glibc::malloc_info::parse;
use fragbench_model::{AllocatorKind, AllocatorStats};

use super::Family;
use super::sys::{InfoStream, Object, TrimTotals, is_libc, malloc_trim, trim_totals};

#[derive(Debug)]
struct Glibc {
    info: Mutex<Option<InfoStream>>,
    /// Where a thread calls malloc_trim at an interval: what it says of that.
    trimmed: Option<TrimTotals>,
}

pub(super) fn recognise(object: &Object) -> Option<Arc<dyn Family>> {
    is_libc(object)
        .then(|| Arc::new(Glibc { info: Mutex::new(InfoStream::open()), trimmed: trim_totals() }) as Arc<dyn Family>)
}

impl Family for Glibc {
    fn kind(&self) -> AllocatorKind {
        AllocatorKind::Glibc
    }

    fn version(&self) -> String {
        crate::sys::libc_version()
    }

    fn stats(&self) -> AllocatorStats {
        let mut info = self.info.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stats: AllocatorStats = info.as_mut().and_then(InfoStream::read).map(parse).unwrap_or_default().into();
        if let Some(totals) = self.trimmed {
            let [calls, total_ns, longest_ns] = totals();
            stats.own.extend([
                ("trim_calls".to_owned(), calls),
                ("trim_total_ns".to_owned(), total_ns),
                ("trim_longest_ns".to_owned(), longest_ns),
            ]);
        }
        stats
    }

    fn purge_call(&self) -> Option<&'static str> {
        Some("malloc_trim(0)")
    }

    fn purge(&self) {
        malloc_trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_of_this_test_sums_to_whole_chunks_and_asking_twice_changes_nothing() {
        let mut info = InfoStream::open().unwrap();
        let first = AllocatorStats::from(parse(info.read().unwrap()));
        assert!(first.arena_count >= Some(1));
        assert!(first.system_bytes >= first.free_bytes);
        assert!(first.arena_free_bytes[0].is_multiple_of(16), "{first:?}");
    }
}
