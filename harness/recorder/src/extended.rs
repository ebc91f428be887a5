//! The functions that allocators have beside libc's: jemalloc's `mallocx` family, tcmalloc's `tc_…`, mimalloc's `mi_…`.
//!
//! They are not exported by this library: programs ask whether a name exists to find out which allocator they run on.
//! Instead, in a process whose malloc is not libc's, the entries through which loaded objects call these functions (of the
//! global offset table) are pointed at functions here, before the program starts. Each calls the one that was there.
//!
//! Refuses: calls from objects loaded later, through pointers looked up by `dlsym`, and from within the allocator's own
//! object.
//!
//! Source: jemalloc(3); gperftools/tcmalloc.h; mimalloc.h; ELF gABI, "Dynamic Section"; x86-64 and AArch64 psABI, relocations.

use core::ffi::{CStr, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use fragbench_trace::spool::SpoolKind;

use crate::elf::{Object, Slot, each_object};
use crate::{api, clock, raw, real};

/// A function's first four arguments and its result, all in registers.
type Function = unsafe extern "C-unwind" fn(usize, usize, usize, usize) -> usize;

/// What a function does, by its arguments.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    /// `(size)`.
    Make,
    /// `(count, size)`.
    MakeMany,
    /// `(size, alignment)`.
    MakeAligned,
    /// `(alignment, size)`.
    MakeAlignedTo,
    /// `(size, flags)`: jemalloc's, with the logarithm of the alignment in the low six bits.
    MakeFlags,
    /// `(&block, alignment, size)`, 0 for success.
    MakeInto,
    /// `(block, size)`.
    Resize,
    /// `(block, count, size)`.
    ResizeMany,
    /// `(block, size, extra, flags)`: in place, answers the size it has then.
    ResizeInPlace,
    /// `(block)`.
    Free,
}
use Does::{Free, Make, MakeAligned, MakeAlignedTo, MakeFlags, MakeInto, MakeMany, Resize, ResizeInPlace, ResizeMany};

const FUNCTIONS: [(&CStr, Does); 48] = [
    (c"mallocx", MakeFlags),
    (c"rallocx", Resize),
    (c"xallocx", ResizeInPlace),
    (c"dallocx", Free),
    (c"sdallocx", Free),
    (c"tc_malloc", Make),
    (c"tc_calloc", MakeMany),
    (c"tc_realloc", Resize),
    (c"tc_memalign", MakeAlignedTo),
    (c"tc_posix_memalign", MakeInto),
    (c"tc_valloc", Make),
    (c"tc_free", Free),
    (c"tc_free_sized", Free),
    (c"tc_cfree", Free),
    (c"tc_new", Make),
    (c"tc_newarray", Make),
    (c"tc_new_nothrow", Make),
    (c"tc_newarray_nothrow", Make),
    (c"tc_delete", Free),
    (c"tc_deletearray", Free),
    (c"tc_delete_sized", Free),
    (c"tc_deletearray_sized", Free),
    (c"tc_delete_nothrow", Free),
    (c"tc_deletearray_nothrow", Free),
    (c"mi_malloc", Make),
    (c"mi_malloc_small", Make),
    (c"mi_zalloc", Make),
    (c"mi_zalloc_small", Make),
    (c"mi_calloc", MakeMany),
    (c"mi_mallocn", MakeMany),
    (c"mi_malloc_aligned", MakeAligned),
    (c"mi_zalloc_aligned", MakeAligned),
    (c"mi_memalign", MakeAlignedTo),
    (c"mi_aligned_alloc", MakeAlignedTo),
    (c"mi_posix_memalign", MakeInto),
    (c"mi_realloc", Resize),
    (c"mi_reallocf", Resize),
    (c"mi_rezalloc", Resize),
    (c"mi_realloc_aligned", Resize),
    (c"mi_reallocn", ResizeMany),
    (c"mi_new", Make),
    (c"mi_new_nothrow", Make),
    (c"mi_new_aligned", MakeAligned),
    (c"mi_new_realloc", Resize),
    (c"mi_free", Free),
    (c"mi_free_size", Free),
    (c"mi_free_size_aligned", Free),
    (c"mi_free_aligned", Free),
];
pub(crate) const COUNT: usize = FUNCTIONS.len();

/// The allocator's functions behind those here.
static BEHIND: [AtomicPtr<c_void>; COUNT] = [const { AtomicPtr::new(ptr::null_mut()) }; COUNT];

unsafe extern "C-unwind" fn recording<const I: usize>(a: usize, b: usize, c: usize, d: usize) -> usize {
    // SAFETY: stored before any call leads here; the caller's contract is that of the function.
    let call =
        || unsafe { core::mem::transmute::<*mut c_void, Function>(BEHIND[I].load(Ordering::Acquire))(a, b, c, d) };
    let made = |addr: usize, size: usize| {
        if addr != 0 {
            api::note(SpoolKind::Malloc { addr: addr as u64, size: size as u64 });
        }
        addr
    };
    let aligned = |addr: usize, align: usize, size: usize| {
        if addr != 0 {
            api::note(SpoolKind::Aligned { addr: addr as u64, size: size as u64, align: align as u64 });
        }
        addr
    };
    match FUNCTIONS[I].1 {
        Make => made(real::inside(call), a),
        MakeMany => made(real::inside(call), a.wrapping_mul(b)),
        MakeAligned => aligned(real::inside(call), b, a),
        MakeAlignedTo => aligned(real::inside(call), a, b),
        MakeFlags if b & 63 == 0 => made(real::inside(call), a),
        MakeFlags => aligned(real::inside(call), 1 << (b & 63), a),
        MakeInto => {
            let error = real::inside(call) as u32;
            if error == 0 {
                // SAFETY: the caller's place for the result, just written.
                aligned(unsafe { *(a as *const usize) }, b, c);
            }
            error as usize
        }
        Free => {
            // SAFETY: null or a block, by the function's contract.
            unsafe { api::note_free(a as *mut c_void) };
            real::inside(call)
        }
        Resize | ResizeMany | ResizeInPlace => {
            let size = if FUNCTIONS[I].1 == ResizeMany { b.wrapping_mul(c) } else { b };
            if a == 0 {
                return made(real::inside(call), size);
            }
            // SAFETY: a live block, by the function's contract.
            let resident_pages = unsafe { api::pages_of(a as *mut c_void) };
            let began = clock::quantum();
            let answer = real::inside(call);
            let (new, done) = match FUNCTIONS[I].1 {
                ResizeInPlace => (a, answer >= b),
                _ => (answer, answer != 0),
            };
            if done {
                api::note(SpoolKind::Realloc {
                    old: a as u64,
                    new: new as u64,
                    size: size as u64,
                    began,
                    resident_pages,
                });
            }
            answer
        }
    }
}

macro_rules! recordings {
    ($($index:literal)*) => { static RECORDING: [Function; COUNT] = [$(recording::<$index>),*]; };
}
recordings! {
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45
    46 47
}

/// Points the entries of all loaded objects at the functions here. Before the program starts.
pub(crate) fn prepare() {
    let Some(allocator) = real::chained_object() else { return };
    // What the loader allocates meanwhile is not the program's.
    real::inside(|| {
        let own = real::object_of(prepare as *mut c_void);
        each_object(&mut |info| {
            // Fully relocated: this is the last constructor before the program's own.
            if let Some(object) = Object::of(info)
                && !object.holds(own as usize)
                && !object.holds(allocator as usize)
            {
                patch(&object);
            }
            false
        });
    });
}

fn patch(object: &Object) {
    object.each_slot(|slot, name, entry| {
        if slot != Slot::Data
            && let Some(index) = index_of(name)
            && is_there(index)
            && object.holds(entry)
        {
            // SAFETY: an entry of the object's table, in use by it.
            unsafe { point(entry, RECORDING[index] as usize, object.is_sealed(entry)) };
        }
    });
}

/// Shows the functions that the process has, and those that record them.
pub(crate) fn each(show: &mut dyn FnMut(&'static CStr, *const c_void)) {
    for (index, (name, _)) in FUNCTIONS.into_iter().enumerate() {
        if is_there(index) {
            show(name, RECORDING[index] as *const c_void);
        }
    }
}

fn index_of(name: &CStr) -> Option<usize> {
    let bytes = name.to_bytes();
    // Most names are none of these, and most of those begin otherwise.
    if !matches!(bytes.first(), Some(b'm' | b'r' | b'x' | b'd' | b's' | b't')) {
        return None;
    }
    FUNCTIONS.iter().position(|(known, _)| known.to_bytes() == bytes)
}

/// Whether the process has the function; then it is known what to call.
fn is_there(index: usize) -> bool {
    if BEHIND[index].load(Ordering::Relaxed).is_null() {
        BEHIND[index].store(real::next(FUNCTIONS[index].0), Ordering::Release);
    }
    !BEHIND[index].load(Ordering::Relaxed).is_null()
}

/// # Safety
/// `entry` is one of a loaded object's table.
unsafe fn point(entry: usize, to: usize, sealed: bool) {
    let page = entry & !4095;
    // SAFETY: by the caller; the loader has made the page read-only and it is again afterwards.
    unsafe {
        if sealed && !raw::protect(page, libc::PROT_READ | libc::PROT_WRITE) {
            return;
        }
        (entry as *mut usize).write(to);
        if sealed {
            raw::protect(page, libc::PROT_READ);
        }
    }
}
