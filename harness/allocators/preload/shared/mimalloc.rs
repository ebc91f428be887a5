//! mimalloc's heap behind the malloc API of libc, for each version that is built in: the including crate names the one it
//! links as `mi`.
//!
//! `MIMALLOC_*` variables work as mimalloc's manual says; `mi_option_get` shows what took effect. Page and huge page
//! settings are mimalloc's defaults. Its control functions (`mi_version`, `mi_collect`, `mi_stats_*`, `mi_option_*`,
//! `mi_process_info`) are exported by `build.rs`.
//!
//! Refuses: C++'s `operator new`, which reaches `malloc` through the C++ library. mimalloc registers no fork
//! handlers: a child forked while another thread is inside one of its rare locked sections inherits that lock.
//!
//! Source: `include/mimalloc.h` and `include/mimalloc-stats.h` of mimalloc for what each function of its does.

use core::ffi::c_void;

use crate::api::{Heap, fail};
use crate::mi;

pub(crate) struct Mimalloc;

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
