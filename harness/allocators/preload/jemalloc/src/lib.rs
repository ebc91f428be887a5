//! The malloc API of libc on top of jemalloc, as a preload library.
//!
//! jemalloc is built by `tikv-jemalloc-sys` with statistics and initial-exec thread-local storage, so a call costs
//! what it costs under a distribution's own library. `MALLOC_CONF` works as jemalloc's manual says (the crate's own
//! `_RJEM_MALLOC_CONF` is read when it is not set); `mallctl("opt.…")` shows what took effect. Page and huge page
//! settings are jemalloc's defaults.
//!
//! Refuses: profiling (`prof`), which is not compiled in, and C++'s `operator new`, which reaches `malloc` through
//! the C++ library.
//!
//! Source: jemalloc(3) for every exported name.

#[path = "../../shared/api.rs"]
mod api;

use core::ffi::{c_char, c_int, c_void};

use api::Heap;
use tikv_jemalloc_sys as je;

struct Jemalloc;

// SAFETY (all): each function forwards to jemalloc's own of the same contract.
impl Heap for Jemalloc {
    #[inline(always)]
    unsafe fn malloc(size: usize) -> *mut c_void {
        // SAFETY: no precondition.
        unsafe { je::malloc(size) }
    }
    #[inline(always)]
    unsafe fn calloc(count: usize, size: usize) -> *mut c_void {
        // SAFETY: no precondition.
        unsafe { je::calloc(count, size) }
    }
    #[inline(always)]
    unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        // On Linux jemalloc's `zero_realloc` option defaults to "free", glibc's rule.
        // SAFETY: the block is null or this heap's.
        unsafe { je::realloc(block, size) }
    }
    #[inline(always)]
    unsafe fn aligned(align: usize, size: usize) -> *mut c_void {
        // SAFETY: the alignment is a power of two.
        unsafe { je::aligned_alloc(align, size) }
    }
    #[inline(always)]
    unsafe fn free(block: *mut c_void) {
        // SAFETY: the block is null or this heap's.
        unsafe { je::free(block) }
    }
    #[inline(always)]
    unsafe fn usable_size(block: *mut c_void) -> usize {
        // SAFETY: the block is null or this heap's.
        unsafe { je::malloc_usable_size(block) }
    }
}

api::export_malloc_api!(Jemalloc);

/// Exports jemalloc's own functions under the names its manual gives them.
macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($arg: $type),*) $(-> $result)? {
            // SAFETY: the caller keeps the contract of jemalloc's function of the same name.
            unsafe { je::$name($($arg),*) }
        }
    )*};
}

forward! {
    mallctl(name: *const c_char, old: *mut c_void, old_len: *mut usize, new: *mut c_void, new_len: usize) -> c_int;
    mallctlnametomib(name: *const c_char, mib: *mut usize, mib_len: *mut usize) -> c_int;
    mallctlbymib(mib: *const usize, mib_len: usize, old: *mut c_void, old_len: *mut usize, new: *mut c_void, new_len: usize) -> c_int;
    malloc_stats_print(write: Option<unsafe extern "C" fn(*mut c_void, *const c_char)>, opaque: *mut c_void, options: *const c_char);
    mallocx(size: usize, flags: c_int) -> *mut c_void;
    rallocx(block: *mut c_void, size: usize, flags: c_int) -> *mut c_void;
    xallocx(block: *mut c_void, size: usize, extra: usize, flags: c_int) -> usize;
    sallocx(block: *const c_void, flags: c_int) -> usize;
    dallocx(block: *mut c_void, flags: c_int);
    sdallocx(block: *mut c_void, size: usize, flags: c_int);
    nallocx(size: usize, flags: c_int) -> usize;
}

unsafe extern "C" {
    fn __real_secure_getenv(name: *const c_char) -> *mut c_char;
}

/// What jemalloc's calls of `secure_getenv` are linked to (see `build.rs`): `MALLOC_CONF` first, then the name asked for.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_secure_getenv(name: *const c_char) -> *mut c_char {
    // SAFETY: both names are C strings; the linker binds `__real_secure_getenv` to libc's function.
    unsafe {
        if core::ffi::CStr::from_ptr(name) == c"_RJEM_MALLOC_CONF" {
            let conf = __real_secure_getenv(c"MALLOC_CONF".as_ptr());
            if !conf.is_null() {
                return conf;
            }
        }
        __real_secure_getenv(name)
    }
}
