//! The malloc API of libc over any heap, with glibc's rules for odd arguments.
//!
//! Every preload library includes this file and names its [`Heap`]; the exported functions are then the same
//! for all, so that allocators differ in nothing but the heap. What a heap does by itself is not wrapped:
//! `malloc` and `free` compile to a jump.
//!
//! Refuses: nothing. `malloc_trim`, `malloc_info`, `mallopt` and `mallinfo` stay glibc's and act on glibc's idle heap.
//!
//! Source: the GNU C Library manual, "Replacing malloc" (the list of functions), "Aligned Memory Blocks";
//! ISO C23 7.24.3 (`free_sized`, `free_aligned_sized`); `malloc/malloc.c` of glibc for `memalign` rounding its
//! alignment up and for `realloc(p, 0)` freeing.

use core::ffi::c_void;

/// A heap that can stand behind libc's malloc API.
///
/// Failures return null with `errno` = `ENOMEM`, as glibc's do. Blocks of 16 bytes and more are 16-byte aligned.
pub(crate) trait Heap {
    /// `malloc(size)`; `size` may be 0.
    unsafe fn malloc(size: usize) -> *mut c_void;
    /// `calloc(count, size)`; refuses a product that overflows.
    unsafe fn calloc(count: usize, size: usize) -> *mut c_void;
    /// `realloc(block, size)`; `block` may be null, and a `size` of 0 with a block frees it and returns null.
    unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void;
    /// A block at a multiple of `align`, a power of two.
    unsafe fn aligned(align: usize, size: usize) -> *mut c_void;
    /// `free(block)`; `block` may be null.
    unsafe fn free(block: *mut c_void);
    /// `malloc_usable_size(block)`; 0 for null.
    unsafe fn usable_size(block: *mut c_void) -> usize;
}

/// Sets `errno` and returns null.
#[cold]
pub(crate) fn fail(errno: i32) -> *mut c_void {
    // SAFETY: the C library returns the address of the calling thread's errno, which is always writable.
    unsafe { *libc::__errno_location() = errno };
    core::ptr::null_mut()
}

/// The kernel's page size in bytes.
pub(crate) fn page_size() -> usize {
    // SAFETY: sysconf has no preconditions.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// glibc's `memalign`: any alignment is accepted and rounded up to a power of two.
pub(crate) unsafe fn memalign<H: Heap>(align: usize, size: usize) -> *mut c_void {
    match align.checked_next_power_of_two() {
        // SAFETY: the alignment is a power of two.
        Some(align) => unsafe { H::aligned(align, size) },
        None => fail(libc::EINVAL),
    }
}

/// `pvalloc`: the size rounded up to whole pages, at a page boundary.
pub(crate) unsafe fn pvalloc<H: Heap>(size: usize) -> *mut c_void {
    let page = page_size();
    match size.checked_next_multiple_of(page) {
        // SAFETY: a page size is a power of two.
        Some(size) => unsafe { H::aligned(page, size) },
        None => fail(libc::ENOMEM),
    }
}

/// `posix_memalign`: the error is returned, `errno` and `*out` are left alone when it fails.
pub(crate) unsafe fn posix_memalign<H: Heap>(out: *mut *mut c_void, align: usize, size: usize) -> i32 {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*mut c_void>()) {
        return libc::EINVAL;
    }
    // SAFETY: errno of the calling thread is always readable and writable; the alignment was checked; `out` is
    // writable by the function's contract.
    unsafe {
        let errno = *libc::__errno_location();
        let block = H::aligned(align, size);
        *libc::__errno_location() = errno;
        if block.is_null() {
            return libc::ENOMEM;
        }
        *out = block;
    }
    0
}

/// Exports the malloc API of libc over the given [`Heap`].
macro_rules! export_malloc_api {
    ($heap:ty) => {
        // SAFETY (all): the caller keeps the contract libc's function of the same name asks for, and the heap's
        // functions ask for no more. The names are libc's on purpose: being found before libc's is what a
        // preload library is for.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
            // SAFETY: as above.
            unsafe { <$heap>::malloc(size) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
            // SAFETY: as above.
            unsafe { <$heap>::calloc(count, size) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
            // SAFETY: as above.
            unsafe { <$heap>::realloc(block, size) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void {
            match count.checked_mul(size) {
                // SAFETY: as above.
                Some(size) => unsafe { <$heap>::realloc(block, size) },
                None => $crate::api::fail(libc::ENOMEM),
            }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn free(block: *mut c_void) {
            // SAFETY: as above.
            unsafe { <$heap>::free(block) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn free_sized(block: *mut c_void, _size: usize) {
            // SAFETY: as above.
            unsafe { <$heap>::free(block) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn free_aligned_sized(block: *mut c_void, _align: usize, _size: usize) {
            // SAFETY: as above.
            unsafe { <$heap>::free(block) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
            if !align.is_power_of_two() {
                return $crate::api::fail(libc::EINVAL);
            }
            // SAFETY: as above; the alignment is a power of two.
            unsafe { <$heap>::aligned(align, size) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
            // SAFETY: as above.
            unsafe { $crate::api::memalign::<$heap>(align, size) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> i32 {
            // SAFETY: as above.
            unsafe { $crate::api::posix_memalign::<$heap>(out, align, size) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn valloc(size: usize) -> *mut c_void {
            // SAFETY: as above; a page size is a power of two.
            unsafe { <$heap>::aligned($crate::api::page_size(), size) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn pvalloc(size: usize) -> *mut c_void {
            // SAFETY: as above.
            unsafe { $crate::api::pvalloc::<$heap>(size) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
            // SAFETY: as above.
            unsafe { <$heap>::usable_size(block) }
        }
    };
}
pub(crate) use export_malloc_api;
