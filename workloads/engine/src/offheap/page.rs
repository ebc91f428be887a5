//! The counter page that the parent reads: inherited as a descriptor, or made here when the worker is driven by hand.

use std::sync::atomic::Ordering;

use fragbench_model::{COUNTERS_FD, COUNTERS_MAGIC, CounterPage};

use super::mapping;

const SIZE: usize = std::mem::size_of::<CounterPage>().next_multiple_of(4096);

/// The page for the rest of the process's life. A descriptor that is not a counter page is left alone, and a page
/// nobody reads is used; `None` when there is no memory for one.
pub(crate) fn counter_page() -> Option<&'static CounterPage> {
    if let Some(page) = inherited() {
        return Some(page);
    }
    let ptr = mapping::map(SIZE);
    if ptr.is_null() {
        return None;
    }
    // SAFETY: a fresh zeroed mapping of at least the page's size, page-aligned, never unmapped; all fields are
    // atomics, valid when zero.
    Some(unsafe { &*ptr.cast::<CounterPage>() })
}

fn inherited() -> Option<&'static CounterPage> {
    // SAFETY: fstat writes to a zeroed struct of the right type; mmap is checked; the mapping is never unmapped, large
    // enough for the page, and all fields are atomics.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        if libc::fstat(COUNTERS_FD, &mut stat) != 0 || (stat.st_size as usize) < std::mem::size_of::<CounterPage>() {
            return None;
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let ptr = libc::mmap(std::ptr::null_mut(), SIZE, protection, libc::MAP_SHARED, COUNTERS_FD, 0);
        if ptr == libc::MAP_FAILED {
            return None;
        }
        let page = &*ptr.cast::<CounterPage>();
        if page.magic.load(Ordering::Acquire) != COUNTERS_MAGIC {
            libc::munmap(ptr, SIZE);
            return None;
        }
        mapping::note_mapped(SIZE);
        Some(page)
    }
}
