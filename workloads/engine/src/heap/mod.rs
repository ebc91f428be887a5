//! The heap under test: the malloc API of libc, called through its symbols, so that whatever library the dynamic
//! linker has put in front answers. Never Rust's `GlobalAlloc`, which is the harness's own heap ([`crate::offheap`]).

mod block;

pub use block::{ALL_PAGES, Block, PAGE};
pub(crate) use block::{Damage, TAG, mix};

/// Hides where a pointer comes from, at no cost: the compiler knows `malloc` and `free` and would drop pairs
/// whose block is not looked at.
#[inline(always)]
// The template is a comment: it follows no pointer.
#[allow(clippy::pointers_in_nomem_asm_block)]
fn opaque(mut ptr: *mut u8) -> *mut u8 {
    // SAFETY: an empty template that only claims to change the register.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) ptr, options(nomem, nostack, preserves_flags)) };
    ptr
}

/// `malloc(size)`; null when memory has run out.
#[inline(always)]
pub fn malloc(size: usize) -> *mut u8 {
    // SAFETY: malloc takes any size.
    opaque(unsafe { libc::malloc(size) }.cast())
}

/// `calloc(1, size)`.
#[inline(always)]
pub fn calloc(size: usize) -> *mut u8 {
    // SAFETY: calloc takes any size.
    opaque(unsafe { libc::calloc(1, size) }.cast())
}

/// `aligned_alloc(align, size)`; `align` is a power of two. glibc does not ask for a size that is a multiple of it.
#[inline(always)]
pub fn aligned(align: usize, size: usize) -> *mut u8 {
    debug_assert!(align.is_power_of_two());
    // SAFETY: aligned_alloc takes any size and answers a wrong alignment with null.
    opaque(unsafe { libc::aligned_alloc(align, size) }.cast())
}

/// `realloc(ptr, size)`.
///
/// # Safety
/// `ptr` is null or a live block of this heap, given up by the caller unless null is returned.
#[inline(always)]
pub unsafe fn realloc(ptr: *mut u8, size: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    opaque(unsafe { libc::realloc(opaque(ptr).cast(), size) }.cast())
}

/// `free(ptr)`.
///
/// # Safety
/// `ptr` is null or a live block of this heap that nobody uses any more.
#[inline(always)]
pub unsafe fn free(ptr: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { libc::free(opaque(ptr).cast()) }
}

/// One `malloc(size)` and its `free`, counted nowhere.
#[inline]
pub fn pair(size: usize) {
    // SAFETY: the block was just made and is used by nobody; null may be freed.
    unsafe { free(malloc(size)) }
}

/// Gives the calling thread its arena and its tcache: its first allocation, freed at once. glibc 2.43 makes the
/// tcache at the first *free*; a thread that fills its heap before would have it on top of everything.
pub fn warm() {
    pair(8);
}
