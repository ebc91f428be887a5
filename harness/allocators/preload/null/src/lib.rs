//! The null allocator: the malloc API of libc over memory that is handed out once and never reused.
//!
//! It is a physical limit, not an allocator to use: the time of a program under it is the program's own cost plus
//! the page faults of everything it ever allocates. Each thread carves blocks off a chunk of its own, so there is
//! no lock and no shared counter on the way; `free` does nothing. A block is preceded by eight bytes that hold its
//! usable size, as glibc's is.
//!
//! Refuses: to give memory back. When the address space or memory ends, calls return null with `ENOMEM`.
//!
//! Source: `fragbench_null_version` and `fragbench_null_mapped_bytes` are this library's own.

mod bump;

#[path = "../../shared/api.rs"]
mod api;

use core::ffi::{c_char, c_void};
use core::sync::atomic::Ordering;

use api::{Heap, fail};

struct Null;

impl Heap for Null {
    #[inline(always)]
    unsafe fn malloc(size: usize) -> *mut c_void {
        bump::allocate(size)
    }
    #[inline(always)]
    unsafe fn calloc(count: usize, size: usize) -> *mut c_void {
        // Memory comes from the kernel zeroed and is never handed out twice.
        match count.checked_mul(size) {
            Some(size) => bump::allocate(size),
            None => fail(libc::ENOMEM),
        }
    }
    unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        if block.is_null() {
            // SAFETY: no precondition.
            return unsafe { Null::malloc(size) };
        }
        if size == 0 {
            return core::ptr::null_mut();
        }
        // SAFETY: the block is one of this heap's.
        let old = unsafe { bump::usable_size(block) };
        // SAFETY: as above.
        if size <= old || unsafe { bump::extend(block, size) } {
            return block;
        }
        // SAFETY: no precondition.
        let new = unsafe { Null::malloc(size) };
        if !new.is_null() {
            // SAFETY: the old block holds `old` bytes and the new one more than that; blocks never overlap.
            unsafe { core::ptr::copy_nonoverlapping(block.cast::<u8>(), new.cast::<u8>(), old) };
        }
        new
    }
    #[inline(always)]
    unsafe fn aligned(align: usize, size: usize) -> *mut c_void {
        bump::allocate_aligned(align, size)
    }
    #[inline(always)]
    unsafe fn free(_block: *mut c_void) {}
    #[inline(always)]
    unsafe fn usable_size(block: *mut c_void) -> usize {
        if block.is_null() {
            return 0;
        }
        // SAFETY: the block is one of this heap's.
        unsafe { bump::usable_size(block) }
    }
}

api::export_malloc_api!(Null);

/// The library's version as a C string; its presence tells that this library is in place.
#[unsafe(no_mangle)]
extern "C" fn fragbench_null_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Bytes of address space mapped so far, over all threads.
#[unsafe(no_mangle)]
extern "C" fn fragbench_null_mapped_bytes() -> u64 {
    bump::MAPPED_BYTES.load(Ordering::Relaxed)
}
