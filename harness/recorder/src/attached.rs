//! Recording a process that runs already: this library was brought in by `dlopen` and does nothing until it is told to.
//!
//! `fragbench record --attach` writes a request into `fragbench_recorder_request` and has the process's first thread call
//! `fragbench_recorder_attach` while all others stand still outside of malloc, the loader and this library. From then on
//! the loaded objects' calls lead here (`redirect`) until recording stops, for whatever reason; then they lead
//! back. The library stays mapped, idle, and can be told to begin again. Forked children are not recorded.
//!
//! That its user still wants the recording is told by a lock on a file: when it is gone, because the user asked for the end
//! or was itself ended, the next event that comes after a quarter of a second ends the recording.
//!
//! The request: little-endian words of 64 bits (most bytes of the spool, milliseconds or all ones, frames of a stack,
//! address of the loader's lock or 0), the lengths of two paths as words of 32 bits (start of the spool's, the locked
//! file's), the paths. The answer: words of 64 bits, places of the malloc API led here, unbound, foreign, sealed.

use core::cell::UnsafeCell;
use core::ffi::c_long;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::config::PATH_MAX;
use crate::elf::{Object, each_object};
use crate::process::{PROCESS, Wanted};
use crate::raw::{self, Quiet};
use crate::redirect;

const HEAD: usize = 40;

/// Room for a request.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Request(UnsafeCell<[u8; HEAD + 2 * PATH_MAX]>);
// SAFETY: written from outside while all threads stand still, and read by the one that is told to.
unsafe impl Sync for Request {}

/// What is asked for.
#[unsafe(no_mangle)]
#[used]
pub static fragbench_recorder_request: Request = Request(UnsafeCell::new([0; HEAD + 2 * PATH_MAX]));

/// What was found.
#[unsafe(no_mangle)]
#[used]
pub static fragbench_recorder_answer: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

static LATE: AtomicBool = AtomicBool::new(false);
/// Bounds of this library in memory.
static OWN: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static LOADER_LOCK: AtomicUsize = AtomicUsize::new(0);

/// Whether this library came into a process that was running already.
pub(crate) fn is_late() -> bool {
    LATE.load(Ordering::Relaxed)
}

pub(crate) fn is_own(object: &Object) -> bool {
    object.extent.start == OWN[0].load(Ordering::Relaxed)
}

/// Finds that out: what is preloaded stands in front of libc in the loader's list, what is loaded later behind it.
pub(crate) fn look() {
    let here = look as *const () as usize;
    let mut libc_came = false;
    each_object(&mut |info| {
        let Some(object) = Object::of(info) else { return false };
        if object.holds(here) {
            OWN[0].store(object.extent.start, Ordering::Relaxed);
            OWN[1].store(object.extent.end, Ordering::Relaxed);
            LATE.store(libc_came, Ordering::Relaxed);
            return true;
        }
        libc_came |= object.defines(c"gnu_get_libc_version") != 0;
        false
    });
}

/// The first definition of a function in the program's own search order, this library left out.
pub(crate) fn definition(name: &core::ffi::CStr) -> usize {
    let mut found = 0;
    each_object(&mut |info| {
        if let Some(object) = Object::of(info).filter(|object| !is_own(object)) {
            found = object.defines(name);
        }
        found != 0
    });
    found
}

/// Whether nobody is loading or unloading an object. Asked while the loader's list stands still, it tells that all objects
/// in it are relocated. False where the lock is not known.
pub(crate) fn loader_is_idle() -> bool {
    let lock = LOADER_LOCK.load(Ordering::Relaxed);
    // SAFETY: the first word of the loader's mutex, as it was found from outside.
    lock != 0 && unsafe { (*(lock as *const core::sync::atomic::AtomicU32)).load(Ordering::Acquire) } == 0
}

/// The path of the file whose lock says that the recording is still wanted.
struct Control {
    path: UnsafeCell<[u8; PATH_MAX]>,
    len: AtomicUsize,
}
// SAFETY: written while all other threads stand still.
unsafe impl Sync for Control {}
static CONTROL: Control = Control { path: UnsafeCell::new([0; PATH_MAX]), len: AtomicUsize::new(0) };

/// Whether somebody still holds the lock.
pub(crate) fn is_wanted() -> bool {
    let len = CONTROL.len.load(Ordering::Acquire);
    // SAFETY: written before recording began.
    let path = unsafe { &(&*CONTROL.path.get())[..len] };
    let Ok(fd) = raw::open(path, libc::O_RDONLY | libc::O_CLOEXEC) else { return false };
    let held = raw::is_locked(fd);
    raw::close(fd);
    held
}

/// Begins to record, as the request says. 0, or an error number, negative: `EALREADY` when it is recording already, what
/// opening the spool gave otherwise.
#[unsafe(no_mangle)]
pub extern "C" fn fragbench_recorder_attach() -> c_long {
    let _quiet = Quiet::new();
    if !is_late() || PROCESS.is_recording() {
        return -c_long::from(libc::EALREADY);
    }
    // SAFETY: see `Request`.
    let request = unsafe { &*fragbench_recorder_request.0.get() };
    let (words, paths) = request.split_at(HEAD);
    let mut number = [0u64; 5];
    for (to, from) in number.iter_mut().zip(words.as_chunks::<8>().0) {
        *to = u64::from_le_bytes(*from);
    }
    let [max_size, duration_ms, stack_depth, loader_lock, lens] = number;
    let (prefix_len, control_len) = (lens as u32 as usize, (lens >> 32) as usize);
    let Some((prefix, control)) =
        paths.split_at_checked(prefix_len).and_then(|(prefix, rest)| Some((prefix, rest.get(..control_len)?)))
    else {
        return -c_long::from(libc::EINVAL);
    };
    if prefix_len + 64 > PATH_MAX || control_len >= PATH_MAX {
        return -c_long::from(libc::ENAMETOOLONG);
    }
    // SAFETY: see `Control`; what lies behind the path is zero.
    unsafe {
        let path = &mut *CONTROL.path.get();
        path.fill(0);
        path[..control_len].copy_from_slice(control);
    }
    CONTROL.len.store(control_len + 1, Ordering::Release);
    LOADER_LOCK.store(loader_lock as usize, Ordering::Relaxed);
    if let Err(errno) = PROCESS.begin(&Wanted { prefix, max_size, duration_ms, stack_depth: stack_depth as u32 }) {
        return -c_long::from(errno);
    }
    redirect::lead();
    tell();
    0
}

/// Puts what the last walk found into the answer.
pub(crate) fn tell() {
    let found = &redirect::FOUND;
    for (to, from) in fragbench_recorder_answer.iter().zip([&found.led, &found.unbound, &found.foreign, &found.sealed])
    {
        to.store(from.load(Ordering::Relaxed).into(), Ordering::Relaxed);
    }
}

/// Ends a recording that nobody's event ends. 0.
#[unsafe(no_mangle)]
pub extern "C" fn fragbench_recorder_detach() -> c_long {
    PROCESS.detach();
    0
}
