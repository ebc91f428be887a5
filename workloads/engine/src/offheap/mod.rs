//! The harness's own memory: a heap, thread stacks and the counter page, all on shared mappings of memory files, which
//! the kernel counts as `RssShmem`. What is left in `RssAnon` is the heap under test.
//!
//! One lock guards the heap. Workloads use it for their tables, not in their inner loops.

mod mapping;
mod page;
mod stack;

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;
use mapping::MemoryFiles;

pub(crate) use page::counter_page;
pub(crate) use stack::Stack;

pub use mapping::{note_mapped, note_unmapped, vm_bytes};

/// Address space is taken from the kernel in steps of this many bytes.
const GRANULARITY: usize = 1 << 20;

const fn heap() -> Dlmalloc<MemoryFiles> {
    let mut heap = Dlmalloc::new_with_allocator(MemoryFiles);
    assert!(heap.set_granularity(GRANULARITY));
    heap
}

static HEAP: Mutex<Dlmalloc<MemoryFiles>> = Mutex::new(heap());

/// The `#[global_allocator]` of the worker.
#[derive(Debug, Default, Clone, Copy)]
pub struct OffHeap;

impl OffHeap {
    fn lock() -> MutexGuard<'static, Dlmalloc<MemoryFiles>> {
        // A panic inside the heap would be a bug of its own; its state is not made worse by going on.
        HEAP.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: dlmalloc gives out blocks of the size and alignment asked for, each to one owner, under one lock. The lock
// is a futex: it never allocates.
unsafe impl GlobalAlloc for OffHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout.
        unsafe { Self::lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout.
        unsafe { Self::lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's block and its layout.
        unsafe { Self::lock().free(ptr, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's block and its layout.
        unsafe { Self::lock().realloc(ptr, layout.size(), layout.align(), new_size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_many_threads_keep_their_contents_and_their_alignment() {
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                scope.spawn(move || {
                    let mut live = Vec::new();
                    for round in 0..2000usize {
                        let layout = Layout::from_size_align(1 + round * 37 % 5000, 1 << (round % 13)).unwrap();
                        // SAFETY: a non-zero size; each block is written within its layout and freed once.
                        unsafe {
                            let ptr = OffHeap.alloc(layout);
                            assert!(!ptr.is_null() && (ptr as usize).is_multiple_of(layout.align()));
                            ptr.write_bytes(thread ^ round as u8, layout.size());
                            live.push((ptr as usize, layout, round));
                            if round % 3 == 2 {
                                let (ptr, layout, made) = live.swap_remove(round % live.len());
                                let bytes = std::slice::from_raw_parts(ptr as *const u8, layout.size());
                                assert!(bytes.iter().all(|b| *b == thread ^ made as u8));
                                OffHeap.dealloc(ptr as *mut u8, layout);
                            }
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn large_blocks_grow_shrink_and_are_zero_when_asked() {
        let before = vm_bytes();
        let layout = Layout::from_size_align(8 << 20, 16).unwrap();
        // SAFETY: sizes and layouts belong together in each call.
        unsafe {
            let ptr = OffHeap.alloc_zeroed(layout);
            assert!(std::slice::from_raw_parts(ptr, layout.size()).iter().all(|b| *b == 0));
            assert!(vm_bytes() >= before.saturating_add(layout.size() as u64) || before > layout.size() as u64);
            ptr.write_bytes(7, layout.size());
            let ptr = OffHeap.realloc(ptr, layout, 24 << 20);
            assert!(std::slice::from_raw_parts(ptr, layout.size()).iter().all(|b| *b == 7));
            let grown = Layout::from_size_align(24 << 20, 16).unwrap();
            let ptr = OffHeap.realloc(ptr, grown, 100);
            assert_eq!(*ptr, 7);
            OffHeap.dealloc(ptr, Layout::from_size_align(100, 16).unwrap());
        }
    }
}
