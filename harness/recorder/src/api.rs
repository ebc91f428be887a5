//! The malloc API of libc, recorded. Each function calls the real one and notes what it did; results and `errno` are
//! the real one's.
//!
//! `malloc` and `free` decide the usual case by themselves: recording is on, the thread has a buffer with room, the
//! event has a short form, and, for `free`, the block is too small for its resident pages to be counted.

use core::ffi::{c_int, c_void};
use core::ptr;
use core::sync::atomic::Ordering;

use fragbench_trace::spool::SpoolKind;
use fragbench_trace::spool::format::RESIDENCY_MIN;

use crate::buffer::Buffer;
use crate::process::{PROCESS, Phase};
use crate::real::{is_small, real};
use crate::{clock, thread, tls, touch};

/// The thread's buffer and the time, if recording is on and the thread has one.
#[inline(always)]
fn usual() -> Option<(&'static Buffer, u64)> {
    let until = PROCESS.until.load(Ordering::Relaxed);
    if until == 0 {
        return None;
    }
    let q = clock::quantum();
    let buffer = tls::buffer();
    if q >= until || buffer.is_null() {
        return None;
    }
    // SAFETY: what the thread's words point to is its own until it ends or puts it aside.
    Some((unsafe { &*buffer }, q))
}

/// Whether an event would be dropped anyway. Cheaper than finding out with an event in hand.
#[inline(always)]
fn is_off() -> bool {
    PROCESS.until.load(Ordering::Relaxed) == 0 && matches!(PROCESS.phase(), Phase::Paused | Phase::Stopped)
}

/// Notes an event that has just happened.
#[inline(always)]
pub(crate) fn note(kind: SpoolKind) {
    if !is_off() {
        thread::record(clock::quantum(), &kind);
    }
}

#[cold]
#[inline(never)]
extern "C" fn malloc_unusual(p: *mut c_void, size: usize) {
    if !p.is_null() {
        if size as u64 >= RESIDENCY_MIN && !is_off() {
            // SAFETY: the block is fresh.
            unsafe { touch::mark(p as usize, (real().usable_size)(p)) };
        }
        note(SpoolKind::Malloc { addr: p as u64, size: size as u64 });
    }
}

#[inline(always)]
fn allocated(p: *mut c_void, size: usize) {
    if !p.is_null()
        && (size as u64) < RESIDENCY_MIN
        && let Some((buffer, q)) = usual()
        // SAFETY: the thread's own buffer.
        && unsafe { buffer.append_malloc(q, p as u64, size as u64) }
    {
        return;
    }
    malloc_unusual(p, size);
}

/// Pages of a block that the program touched, if it is large enough for them to matter.
///
/// # Safety
/// `p` is a live block.
#[inline]
pub(crate) unsafe fn pages_of(p: *mut c_void) -> Option<u32> {
    // SAFETY: by the caller.
    let size = unsafe { (real().usable_size)(p) };
    // SAFETY: the block's own length.
    (size as u64 >= RESIDENCY_MIN).then(|| unsafe { touch::pages(p as usize, size) })
}

/// # Safety
/// `p` is null or a live block.
#[cold]
#[inline(never)]
unsafe extern "C" fn free_unusual(p: *mut c_void) {
    // SAFETY: by the caller.
    unsafe { note_free(p) }
}

/// Notes that a block is about to be freed.
///
/// # Safety
/// `p` is null or a live block.
pub(crate) unsafe fn note_free(p: *mut c_void) {
    if p.is_null() || is_off() {
        return;
    }
    let addr = p as u64;
    // SAFETY: by the caller.
    let pages = unsafe { pages_of(p) };
    note(match pages {
        Some(resident_pages) => SpoolKind::FreeResident { addr, resident_pages },
        None => SpoolKind::Free { addr },
    });
}

/// libc's `malloc`, recorded.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: the caller's contract is that of the function called.
    let p = unsafe { (real().malloc)(size) };
    allocated(p, size);
    p
}

/// libc's `free`, recorded.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(p: *mut c_void) {
    // SAFETY: the caller's contract is that of the functions called.
    unsafe {
        if !p.is_null()
            && is_small(p, RESIDENCY_MIN)
            && let Some((buffer, q)) = usual()
            && buffer.append_free(q, p as u64)
        {
            return (real().free)(p);
        }
        free_unusual(p);
        (real().free)(p);
    }
}

/// libc's `calloc`, recorded.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn calloc(n: usize, size: usize) -> *mut c_void {
    // SAFETY: the caller's contract is that of the function called.
    let p = unsafe { (real().calloc)(n, size) };
    if !p.is_null() {
        note(SpoolKind::Calloc { addr: p as u64, size: n.wrapping_mul(size) as u64 });
    }
    p
}

/// libc's `realloc`, recorded.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(p: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller's contract is that of the functions called.
    unsafe {
        if p.is_null() {
            let new = (real().realloc)(p, size);
            allocated(new, size);
            return new;
        }
        if is_off() {
            return (real().realloc)(p, size);
        }
        let old = p as u64;
        let resident_pages = if is_small(p, RESIDENCY_MIN) { None } else { pages_of(p) };
        let began = clock::quantum();
        let new = (real().realloc)(p, size);
        if !new.is_null() {
            note(SpoolKind::Realloc { old, new: new as u64, size: size as u64, began, resident_pages });
        } else if size == 0 {
            // glibc frees the block; an allocator that does not returns a block.
            thread::record(
                began,
                &match resident_pages {
                    Some(resident_pages) => SpoolKind::FreeResident { addr: old, resident_pages },
                    None => SpoolKind::Free { addr: old },
                },
            );
        }
        new
    }
}

/// libc's `reallocarray`, recorded.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarray(p: *mut c_void, n: usize, size: usize) -> *mut c_void {
    let Some(bytes) = n.checked_mul(size) else {
        // SAFETY: the thread's own errno.
        unsafe { *libc::__errno_location() = libc::ENOMEM };
        return ptr::null_mut();
    };
    // SAFETY: the caller's contract is that of the function called.
    unsafe { realloc(p, bytes) }
}

fn aligned(p: *mut c_void, align: usize, size: usize) -> *mut c_void {
    if !p.is_null() {
        note(SpoolKind::Aligned { addr: p as u64, size: size as u64, align: align as u64 });
    }
    p
}

/// libc's `aligned_alloc`, recorded.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    // SAFETY: the caller's contract is that of the function called.
    aligned(unsafe { (real().aligned_alloc)(align, size) }, align, size)
}

/// libc's `memalign`, recorded.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    // SAFETY: the caller's contract is that of the function called.
    aligned(unsafe { (real().memalign)(align, size) }, align, size)
}

/// libc's `posix_memalign`, recorded.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    // SAFETY: the caller's contract is that of the function called; after success `out` holds the block.
    unsafe {
        let error = (real().posix_memalign)(out, align, size);
        if error == 0 {
            aligned(*out, align, size);
        }
        error
    }
}

fn page_size() -> usize {
    // SAFETY: sysconf reads the auxiliary vector.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// libc's `valloc`, recorded.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn valloc(size: usize) -> *mut c_void {
    // SAFETY: the caller's contract is that of the function called.
    aligned(unsafe { (real().valloc)(size) }, page_size(), size)
}

/// libc's `pvalloc`, recorded with the size it rounds up to.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvalloc(size: usize) -> *mut c_void {
    let rounded = size.checked_next_multiple_of(page_size()).unwrap_or(size);
    // SAFETY: the caller's contract is that of the function called.
    aligned(unsafe { (real().pvalloc)(size) }, page_size(), rounded)
}

/// C23's `free_sized`: the size is a hint, and `free` does without.
///
/// # Safety
/// As C23's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_sized(p: *mut c_void, _size: usize) {
    // SAFETY: the caller's contract is that of the function called.
    unsafe { free(p) }
}

/// C23's `free_aligned_sized`: alignment and size are hints, and `free` does without.
///
/// # Safety
/// As C23's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_aligned_sized(p: *mut c_void, _align: usize, _size: usize) {
    // SAFETY: the caller's contract is that of the function called.
    unsafe { free(p) }
}
