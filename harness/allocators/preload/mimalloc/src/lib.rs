//! The malloc API of libc on top of mimalloc, as a preload library.
//!
//! mimalloc is built by `libmimalloc-sys` in release mode with initial-exec thread-local storage. `MIMALLOC_*`
//! variables work as its manual says; `mi_option_get` shows what took effect. Page and huge page settings are
//! mimalloc's defaults. Its control functions (`mi_version`, `mi_collect`, `mi_stats_*`, `mi_option_*`,
//! `mi_process_info`) are exported by `build.rs`.
//!
//! Refuses: C++'s `operator new`, which reaches `malloc` through the C++ library. mimalloc registers no fork
//! handlers: a child forked while another thread is inside one of its rare locked sections inherits that lock.
//!
//! Source: `include/mimalloc.h` and `include/mimalloc-stats.h` of mimalloc for what each function of its does.

#[path = "../../shared/api.rs"]
mod api;

use core::ffi::c_void;

use api::{Heap, fail};
use libmimalloc_sys as mi;

struct Mimalloc;

/// Requests above this fail in every allocator; mimalloc itself does so without setting `errno`.
const MAX_SIZE: usize = isize::MAX as usize;

impl Heap for Mimalloc {
    #[inline(always)]
    unsafe fn malloc(size: usize) -> *mut c_void {
        if size > MAX_SIZE {
            return fail(libc::ENOMEM);
        }
        // SAFETY: no precondition.
        unsafe { mi::mi_malloc(size) }
    }
    #[inline(always)]
    unsafe fn calloc(count: usize, size: usize) -> *mut c_void {
        match count.checked_mul(size) {
            // SAFETY: no precondition.
            Some(size) if size <= MAX_SIZE => unsafe { mi::mi_zalloc(size) },
            _ => fail(libc::ENOMEM),
        }
    }
    #[inline(always)]
    unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        if size > MAX_SIZE {
            return fail(libc::ENOMEM);
        }
        // mimalloc gives a block for a size of 0; glibc frees.
        if size == 0 && !block.is_null() {
            // SAFETY: the block is this heap's.
            unsafe { mi::mi_free(block) };
            return core::ptr::null_mut();
        }
        // SAFETY: the block is null or this heap's.
        unsafe { mi::mi_realloc(block, size) }
    }
    #[inline(always)]
    unsafe fn aligned(align: usize, size: usize) -> *mut c_void {
        if size > MAX_SIZE || align > MAX_SIZE {
            return fail(libc::ENOMEM);
        }
        // SAFETY: the alignment is a power of two.
        unsafe { mi::mi_malloc_aligned(size, align) }
    }
    #[inline(always)]
    unsafe fn free(block: *mut c_void) {
        // SAFETY: the block is null or this heap's.
        unsafe { mi::mi_free(block) }
    }
    #[inline(always)]
    unsafe fn usable_size(block: *mut c_void) -> usize {
        // SAFETY: the block is null or this heap's.
        unsafe { mi::mi_usable_size(block) }
    }
}

api::export_malloc_api!(Mimalloc);
