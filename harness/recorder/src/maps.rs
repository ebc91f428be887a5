//! The program's own calls on anonymous memory, and those that adjust glibc's allocator. libc's and its allocator's internal calls do not come here; a preloaded
//! allocator's do, and are told apart by being made from within it.

use core::ffi::{CStr, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use fragbench_trace::spool::SpoolKind;
use libc::off_t;

use crate::api::note;
use crate::real;

/// A function looked up at its first call.
struct Next {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Next {
    const fn new(name: &'static CStr) -> Self {
        Self { name, found: AtomicPtr::new(ptr::null_mut()) }
    }

    fn get(&self) -> *mut c_void {
        let known = self.found.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        let f = real::next(self.name);
        self.found.store(f, Ordering::Relaxed);
        f
    }
}

static MMAP: Next = Next::new(c"mmap");
static MUNMAP: Next = Next::new(c"munmap");
static MREMAP: Next = Next::new(c"mremap");
static MADVISE: Next = Next::new(c"madvise");
static BRK: Next = Next::new(c"brk");
static SBRK: Next = Next::new(c"sbrk");
static MALLOC_TRIM: Next = Next::new(c"malloc_trim");
static MALLOPT: Next = Next::new(c"mallopt");

/// Calls the next definition of a function, of the type given.
macro_rules! call {
    ($next:ident as fn($($type:ty),*) -> $ret:ty, $($arg:expr),*) => {{
        let f = $next.get();
        // SAFETY: libc's function of that name is of that type; the caller's contract is that of the function.
        unsafe { core::mem::transmute::<*mut c_void, unsafe extern "C" fn($($type),*) -> $ret>(f)($($arg),*) }
    }};
}

/// libc's `mmap`; recorded if it maps anonymous memory.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    let p = call!(
        MMAP as fn(*mut c_void, usize, c_int, c_int, c_int, off_t) -> *mut c_void,
        addr,
        len,
        prot,
        flags,
        fd,
        offset
    );
    if p != libc::MAP_FAILED && flags & libc::MAP_ANONYMOUS != 0 {
        note(SpoolKind::Mmap { addr: p as u64, len: len as u64, prot: prot as u32, flags: flags as u32 });
    }
    p
}

/// libc's `mmap64`, the same function where offsets are of 64 bits.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap64(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    // SAFETY: the caller's contract is that of the function called.
    unsafe { mmap(addr, len, prot, flags, fd, offset) }
}

/// libc's `munmap`, recorded.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn munmap(addr: *mut c_void, len: usize) -> c_int {
    // Before the call, like a free: afterwards another thread may have the same addresses.
    note(SpoolKind::Munmap { addr: addr as u64, len: len as u64 });
    call!(MUNMAP as fn(*mut c_void, usize) -> c_int, addr, len)
}

/// libc's `mremap`, recorded. Its fifth argument is passed on whether or not the caller gave one.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mremap(
    old: *mut c_void,
    old_len: usize,
    new_len: usize,
    flags: c_int,
    place: *mut c_void,
) -> *mut c_void {
    let p = call!(
        MREMAP as fn(*mut c_void, usize, usize, c_int, *mut c_void) -> *mut c_void,
        old,
        old_len,
        new_len,
        flags,
        place
    );
    if p != libc::MAP_FAILED {
        let (old_len, new_len) = (old_len as u64, new_len as u64);
        note(SpoolKind::Mremap { old: old as u64, old_len, new: p as u64, new_len });
    }
    p
}

/// libc's `madvise`, recorded.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn madvise(addr: *mut c_void, len: usize, advice: c_int) -> c_int {
    let result = call!(MADVISE as fn(*mut c_void, usize, c_int) -> c_int, addr, len, advice);
    if result == 0 {
        note(SpoolKind::Madvise { addr: addr as u64, len: len as u64, advice: advice as u32 });
    }
    result
}

/// libc's `brk`, recorded.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brk(addr: *mut c_void) -> c_int {
    let result = call!(BRK as fn(*mut c_void) -> c_int, addr);
    if result == 0 {
        note(SpoolKind::Brk { addr: addr as u64 });
    }
    result
}

/// libc's `sbrk`, recorded if it moves the break.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbrk(by: isize) -> *mut c_void {
    let before = call!(SBRK as fn(isize) -> *mut c_void, by);
    if by != 0 && before as isize != -1 {
        note(SpoolKind::Brk { addr: (before as usize).wrapping_add_signed(by) as u64 });
    }
    before
}

/// libc's `malloc_trim`, recorded before it is made.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_trim(pad: usize) -> c_int {
    note(SpoolKind::Trim { pad: pad as u64 });
    call!(MALLOC_TRIM as fn(usize) -> c_int, pad)
}

/// libc's `mallopt`, recorded before it is made.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mallopt(param: c_int, value: c_int) -> c_int {
    note(SpoolKind::Mallopt { param, value });
    call!(MALLOPT as fn(c_int, c_int) -> c_int, param, value)
}
