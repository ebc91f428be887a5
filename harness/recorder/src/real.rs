//! The functions this library stands in front of: the next ones in the search order, which are libc's or those of an
//! allocator the user preloads behind us.
//!
//! They are looked up at the first call. `dlsym` itself may allocate; what it asks for meanwhile comes from a small
//! arena and is never given back. An allocator that is not libc's may call its own exported functions, which are
//! ours too, or `mmap`: while it is at work the thread's buffer is put aside, so none of that is recorded.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::{attached, tls};

/// The functions in front of which this library stands.
#[derive(Clone, Copy)]
pub(crate) struct Real {
    pub(crate) malloc: unsafe extern "C" fn(usize) -> *mut c_void,
    pub(crate) calloc: unsafe extern "C" fn(usize, usize) -> *mut c_void,
    pub(crate) realloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    pub(crate) free: unsafe extern "C" fn(*mut c_void),
    pub(crate) memalign: unsafe extern "C" fn(usize, usize) -> *mut c_void,
    pub(crate) aligned_alloc: unsafe extern "C" fn(usize, usize) -> *mut c_void,
    pub(crate) posix_memalign: unsafe extern "C" fn(*mut *mut c_void, usize, usize) -> c_int,
    pub(crate) valloc: unsafe extern "C" fn(usize) -> *mut c_void,
    pub(crate) pvalloc: unsafe extern "C" fn(usize) -> *mut c_void,
    pub(crate) usable_size: unsafe extern "C" fn(*mut c_void) -> usize,
}

struct Table(UnsafeCell<Real>);
// SAFETY: changed once, before the program has a second thread; `pthread_create` allocates.
unsafe impl Sync for Table {}

static REAL: Table = Table(UnsafeCell::new(Real {
    malloc: first_malloc,
    calloc: first_calloc,
    realloc: first_realloc,
    free: first_free,
    memalign: first_memalign,
    aligned_alloc: first_aligned_alloc,
    posix_memalign: first_posix_memalign,
    valloc: first_valloc,
    pvalloc: first_pvalloc,
    usable_size: first_usable_size,
}));
/// Behind the functions below when the allocator is not libc's own.
static CHAINED: Table = Table(UnsafeCell::new(BOOT));

/// Whether blocks have libc's own headers, so that a block's size can be read in front of it.
static LIBC_BLOCKS: AtomicBool = AtomicBool::new(false);

/// The functions to call.
#[inline(always)]
pub(crate) fn real() -> &'static Real {
    // SAFETY: whole at any time; see `Table`.
    unsafe { &*REAL.0.get() }
}

/// Whether a block to be freed surely is smaller than `least` bytes. glibc keeps the size of a block, with three flags
/// in its low bits, in the word in front of it (`mchunk_size` of `malloc_chunk`, malloc/malloc.c), and `free` is about
/// to read it anyway.
///
/// # Safety
/// `p` is a live block.
#[inline(always)]
pub(crate) unsafe fn is_small(p: *mut c_void, least: u64) -> bool {
    // SAFETY: by the caller, and only where blocks have that header.
    LIBC_BLOCKS.load(Ordering::Relaxed) && unsafe { p.cast::<u64>().sub(1).read() } < least
}

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const i8) -> *mut c_void;
}

/// The next definition of a function after ours, or null. In a process that ran before we came, where nothing comes after
/// us, the one that the program has.
pub(crate) fn next(name: &CStr) -> *mut c_void {
    if attached::is_late() {
        return attached::definition(name) as *mut c_void;
    }
    // SAFETY: a terminated name; the handle stands for "the next after the caller".
    unsafe { dlsym(libc::RTLD_NEXT, name.as_ptr().cast()) }
}

/// An address as a function, or another function for none.
///
/// # Safety
/// There is a function of type `F`, a function pointer, at the address.
unsafe fn function<F: Copy>(address: *mut c_void, or: F) -> F {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: by the caller; both are of the size of a pointer.
    if address.is_null() { or } else { unsafe { core::mem::transmute_copy(&address) } }
}

/// Start of the loaded object a function lies in.
pub(crate) fn object_of(f: *mut c_void) -> *mut c_void {
    // SAFETY: all-zero bytes are a valid `Dl_info`; dladdr fills it in.
    unsafe {
        let mut info: libc::Dl_info = core::mem::zeroed();
        if libc::dladdr(f, &raw mut info) == 0 { ptr::null_mut() } else { info.dli_fbase }
    }
}

static RESOLVING: AtomicBool = AtomicBool::new(false);
static RESOLVED: AtomicBool = AtomicBool::new(false);

/// Looks the functions up. False while that is under way: the caller must do without.
fn resolve() -> bool {
    if RESOLVED.load(Ordering::Acquire) {
        return true;
    }
    if RESOLVING.swap(true, Ordering::AcqRel) {
        return false;
    }
    macro_rules! look_up {
        ($($name:ident: $symbol:literal or $other:expr),* $(,)?) => {
            // SAFETY: libc and every allocator give these names to functions of the types of these fields.
            Real { $($name: unsafe { function(next($symbol), $other) }),* }
        };
    }
    let found = look_up! {
        malloc: c"malloc" or no_memory,
        calloc: c"calloc" or no_memory_2,
        realloc: c"realloc" or no_realloc,
        free: c"free" or no_free,
        memalign: c"memalign" or no_memory_2,
        aligned_alloc: c"aligned_alloc" or no_memory_2,
        posix_memalign: c"posix_memalign" or no_posix_memalign,
        valloc: c"valloc" or no_memory,
        pvalloc: c"pvalloc" or no_memory,
        usable_size: c"malloc_usable_size" or no_size,
    };
    let libc_own = object_of(next(c"gnu_get_libc_version"));
    let is_libc = !libc_own.is_null() && object_of(found.malloc as *mut c_void) == libc_own;
    // SAFETY: see `Table`.
    unsafe {
        *CHAINED.0.get() = found;
        let mut table = if is_libc { found } else { THROUGH };
        if ARENA.used.load(Ordering::Relaxed) != 0 {
            table.free = free_but_arena;
            table.realloc = realloc_but_arena;
            BEHIND_ARENA.0.get().write(if is_libc { found } else { THROUGH });
        }
        *REAL.0.get() = table;
    }
    LIBC_BLOCKS.store(is_libc, Ordering::Relaxed);
    RESOLVED.store(true, Ordering::Release);
    true
}

/// Looks the functions up if that has not been done.
pub(crate) fn prepare() {
    resolve();
}

// The first calls.

unsafe extern "C" fn first_malloc(size: usize) -> *mut c_void {
    // SAFETY: the caller's contract is that of the function called.
    if resolve() { unsafe { (real().malloc)(size) } } else { ARENA.take(size, 16) }
}
unsafe extern "C" fn first_calloc(n: usize, size: usize) -> *mut c_void {
    if resolve() {
        // SAFETY: the caller's contract is that of the function called.
        return unsafe { (real().calloc)(n, size) };
    }
    // The arena is zero and never reused.
    n.checked_mul(size).map_or(ptr::null_mut(), |bytes| ARENA.take(bytes, 16))
}
unsafe extern "C" fn first_realloc(p: *mut c_void, size: usize) -> *mut c_void {
    if resolve() {
        // SAFETY: the caller's contract is that of the function called.
        return unsafe { (real().realloc)(p, size) };
    }
    let new = ARENA.take(size, 16);
    // SAFETY: whatever is live now is from the arena.
    unsafe { ARENA.copy(p, new, size) };
    new
}
unsafe extern "C" fn first_free(p: *mut c_void) {
    if !ARENA.has(p) && resolve() {
        // SAFETY: the caller's contract is that of the function called.
        unsafe { (real().free)(p) }
    }
}
unsafe extern "C" fn first_memalign(align: usize, size: usize) -> *mut c_void {
    // SAFETY: the caller's contract is that of the function called.
    if resolve() { unsafe { (real().memalign)(align, size) } } else { ARENA.take(size, align) }
}
unsafe extern "C" fn first_aligned_alloc(align: usize, size: usize) -> *mut c_void {
    // SAFETY: the caller's contract is that of the function called.
    if resolve() { unsafe { (real().aligned_alloc)(align, size) } } else { ARENA.take(size, align) }
}
unsafe extern "C" fn first_posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if resolve() {
        // SAFETY: the caller's contract is that of the function called.
        return unsafe { (real().posix_memalign)(out, align, size) };
    }
    let p = ARENA.take(size, align);
    if p.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller's place for the result.
    unsafe { *out = p };
    0
}
unsafe extern "C" fn first_valloc(size: usize) -> *mut c_void {
    // SAFETY: the caller's contract is that of the function called.
    if resolve() { unsafe { (real().valloc)(size) } } else { ARENA.take(size, 4096) }
}
unsafe extern "C" fn first_pvalloc(size: usize) -> *mut c_void {
    // SAFETY: the caller's contract is that of the function called.
    if resolve() { unsafe { (real().pvalloc)(size) } } else { ARENA.take(size.next_multiple_of(4096), 4096) }
}
unsafe extern "C" fn first_usable_size(p: *mut c_void) -> usize {
    // SAFETY: the caller's contract is that of the function called.
    if !ARENA.has(p) && resolve() { unsafe { (real().usable_size)(p) } } else { 0 }
}

// Where there is no such function at all: out of memory.

unsafe extern "C" fn no_memory(_: usize) -> *mut c_void {
    ptr::null_mut()
}
unsafe extern "C" fn no_memory_2(_: usize, _: usize) -> *mut c_void {
    ptr::null_mut()
}
unsafe extern "C" fn no_realloc(_: *mut c_void, _: usize) -> *mut c_void {
    ptr::null_mut()
}
unsafe extern "C" fn no_free(_: *mut c_void) {}
unsafe extern "C" fn no_posix_memalign(_: *mut *mut c_void, _: usize, _: usize) -> c_int {
    libc::ENOMEM
}
unsafe extern "C" fn no_size(_: *mut c_void) -> usize {
    0
}

const BOOT: Real = Real {
    malloc: no_memory,
    calloc: no_memory_2,
    realloc: no_realloc,
    free: no_free,
    memalign: no_memory_2,
    aligned_alloc: no_memory_2,
    posix_memalign: no_posix_memalign,
    valloc: no_memory,
    pvalloc: no_memory,
    usable_size: no_size,
};

// Through to an allocator that is not libc's.

/// Puts the thread's buffer aside while `call` runs, and everything it calls in turn.
#[inline(always)]
pub(crate) fn inside<T>(call: impl FnOnce() -> T) -> T {
    /// Also when an exception leaves the call.
    struct Return(*mut tls::Tls);
    impl Drop for Return {
        fn drop(&mut self) {
            // SAFETY: the thread's own words.
            unsafe {
                (*self.0).inside -= 1;
                if (*self.0).inside == 0 {
                    (*self.0).buffer = (*self.0).aside;
                }
            }
        }
    }
    let tls = tls::get();
    // SAFETY: the thread's own words.
    unsafe {
        if (*tls).inside == 0 {
            (*tls).aside = (*tls).buffer;
            (*tls).buffer = ptr::null_mut();
        }
        (*tls).inside += 1;
    }
    let _return = Return(tls);
    call()
}

/// Whether a function belongs to an allocator preloaded behind us.
pub(crate) fn is_chained_allocators(f: *mut c_void) -> bool {
    // SAFETY: see `Table`.
    let malloc = unsafe { (*CHAINED.0.get()).malloc };
    resolve()
        && !LIBC_BLOCKS.load(Ordering::Relaxed)
        && !f.is_null()
        && object_of(f) == object_of(malloc as *mut c_void)
}

/// The object of the allocator that is not libc's; none where malloc is libc's.
pub(crate) fn chained_object() -> Option<*mut c_void> {
    // SAFETY: see `Table`.
    let malloc = unsafe { (*CHAINED.0.get()).malloc };
    (resolve() && !LIBC_BLOCKS.load(Ordering::Relaxed)).then(|| object_of(malloc as *mut c_void))
}

macro_rules! through {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)?;)*) => {
        $(unsafe extern "C" fn $name($($arg: $type),*) $(-> $ret)? {
            // SAFETY: the caller's contract is that of the function called.
            inside(|| unsafe { ((*CHAINED.0.get()).$name)($($arg),*) })
        })*
        const THROUGH: Real = Real { $($name),* };
    };
}
through! {
    malloc(size: usize) -> *mut c_void;
    calloc(n: usize, size: usize) -> *mut c_void;
    realloc(p: *mut c_void, size: usize) -> *mut c_void;
    free(p: *mut c_void);
    memalign(align: usize, size: usize) -> *mut c_void;
    aligned_alloc(align: usize, size: usize) -> *mut c_void;
    posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int;
    valloc(size: usize) -> *mut c_void;
    pvalloc(size: usize) -> *mut c_void;
    usable_size(p: *mut c_void) -> usize;
}

// The arena of the first calls.

const ARENA_LEN: usize = 64 * 1024;

#[repr(C, align(16))]
struct Arena {
    bytes: UnsafeCell<[u8; ARENA_LEN]>,
    used: AtomicUsize,
}
// SAFETY: each part of it is handed out once.
unsafe impl Sync for Arena {}
static ARENA: Arena = Arena { bytes: UnsafeCell::new([0; ARENA_LEN]), used: AtomicUsize::new(0) };
/// The functions for what is not from the arena.
static BEHIND_ARENA: Table = Table(UnsafeCell::new(BOOT));

impl Arena {
    /// Bytes that are never given back; null when there are no more. The word in front of a block is zero, as if it
    /// were the header of a small one.
    fn take(&self, size: usize, align: usize) -> *mut c_void {
        let base = self.bytes.get() as usize;
        let align = align.max(16);
        let mut at = 0;
        let taken = self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
            at = (base + used + 16).checked_next_multiple_of(align)? - base;
            at.checked_add(size).filter(|end| *end <= ARENA_LEN)
        });
        if taken.is_err() { ptr::null_mut() } else { self.bytes.get().cast::<u8>().wrapping_add(at).cast() }
    }

    fn has(&self, p: *mut c_void) -> bool {
        (p as usize).wrapping_sub(self.bytes.get() as usize) < ARENA_LEN
    }

    /// Copies a block of the arena, whose length is not kept: up to the arena's end.
    ///
    /// # Safety
    /// `to` has room for `size` bytes, or is null.
    unsafe fn copy(&self, from: *mut c_void, to: *mut c_void, size: usize) {
        if self.has(from) && !to.is_null() {
            let left = self.bytes.get() as usize + ARENA_LEN - from as usize;
            // SAFETY: by the caller; `copy` allows the two to overlap.
            unsafe { ptr::copy(from.cast::<u8>(), to.cast::<u8>(), size.min(left)) };
        }
    }
}

unsafe extern "C" fn free_but_arena(p: *mut c_void) {
    if !ARENA.has(p) {
        // SAFETY: the caller's contract is that of the function called.
        unsafe { ((*BEHIND_ARENA.0.get()).free)(p) }
    }
}
unsafe extern "C" fn realloc_but_arena(p: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller's contract is that of the functions called.
    unsafe {
        if !ARENA.has(p) {
            return ((*BEHIND_ARENA.0.get()).realloc)(p, size);
        }
        let new = ((*BEHIND_ARENA.0.get()).malloc)(size);
        ARENA.copy(p, new, size);
        new
    }
}
