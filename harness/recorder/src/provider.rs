//! Who answers `malloc` and `operator new` in this process, by its own lookup: the library's file, build id and version,
//! and whether it is found before this library, which then sees none of it.
//!
//! Found out once, before the program runs, and kept for forked children: they may be forked while another thread holds
//! the loader's locks.
//!
//! Refuses: to call anything of an allocator but functions that return a constant. jemalloc has none that tells its version.
//!
//! Source: dlsym(3), dladdr(3) (`RTLD_DL_SYMENT`); mimalloc.h (`mi_version`), gperftools/tcmalloc.h (`tc_version`).

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use fragbench_trace::spool::format::{BLOCK_HEADER_LEN, BlockKind};
use fragbench_trace::spool::provider::{PROVIDER_MAX, Provided, put_provider};

use crate::process::{PROCESS, Process};
use crate::{attached, real, stacks};

/// What a provider takes, header included.
const ROOM: usize = BLOCK_HEADER_LEN + PROVIDER_MAX;

struct Kept {
    blocks: UnsafeCell<[[u8; ROOM]; Provided::COUNT]>,
    /// Lengths of the payloads; 0 for none.
    lens: [AtomicUsize; Provided::COUNT],
}
// SAFETY: filled in by the loader's thread before the program starts, read afterwards.
unsafe impl Sync for Kept {}
static KEPT: Kept = Kept {
    blocks: UnsafeCell::new([[0; ROOM]; Provided::COUNT]),
    lens: [const { AtomicUsize::new(0) }; Provided::COUNT],
};

unsafe extern "C" {
    fn dladdr1(address: *const c_void, info: *mut libc::Dl_info, extra: *mut *mut c_void, flags: c_int) -> c_int;
}
/// `RTLD_DL_SYMENT` of dlfcn.h.
const SYMBOL: c_int = 1;

/// The definition the process finds first, unless it is ours.
fn in_front(name: &CStr) -> *mut c_void {
    // SAFETY: a terminated name; the handle stands for the global search order.
    let first = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // By the object: our own `malloc`, named here, would be whatever the process finds first.
    if first.is_null() || real::object_of(first) == real::object_of(prepare as *mut c_void) {
        return ptr::null_mut();
    }
    // A program that takes the function's address has an entry of its own for it, which is no definition.
    // SAFETY: all-zero bytes are a valid `Dl_info`; dladdr1 fills in both, the symbol with a pointer into the object.
    unsafe {
        let (mut info, mut symbol): (libc::Dl_info, *mut c_void) = (core::mem::zeroed(), ptr::null_mut());
        let known = dladdr1(first, &raw mut info, &raw mut symbol, SYMBOL) != 0 && !symbol.is_null();
        let defined = known && (*symbol.cast::<libc::Elf64_Sym>()).st_shndx != 0;
        if defined { first } else { ptr::null_mut() }
    }
}

/// Looks them up. Before the program starts.
pub(crate) fn prepare() {
    // What the loader allocates for this, for a name it does not find, is not the program's.
    real::inside(|| {
        for (what, name) in [(Provided::Malloc, c"malloc"), (Provided::OperatorNew, c"_Znwm")] {
            let front = if attached::is_late() { ptr::null_mut() } else { in_front(name) };
            let f = if front.is_null() { real::next(name) } else { front };
            if !f.is_null() {
                keep(what, f, !front.is_null());
            }
        }
        if attached::is_late() {
            return;
        }
        // The first takes the message of a lookup that failed, the second lets it go.
        // SAFETY: no arguments.
        unsafe {
            libc::dlerror();
            libc::dlerror();
        }
    });
    // Constructors that ran before ours may have allocated, and begun the spool.
    PROCESS.write_providers();
}

fn keep(what: Provided, f: *mut c_void, before_recorder: bool) {
    // SAFETY: the loader's thread alone is running.
    let block = unsafe { &mut (*KEPT.blocks.get())[what as usize] };
    let mut version = [0; 32];
    let version = version_of(f, &mut version);
    let at = f as u64;
    stacks::each_code(&mut |object, [from, to]| {
        let here = (from..to).contains(&at);
        if here {
            let mut path = [0; 512];
            let path = stacks::path_of(object, &mut path);
            let payload = &mut block[BLOCK_HEADER_LEN..];
            let len = put_provider(before_recorder, version, stacks::build_id(object), path, payload);
            KEPT.lens[what as usize].store(len, Ordering::Release);
        }
        here
    });
}

/// The version that the function's library states of itself.
fn version_of(f: *mut c_void, out: &mut [u8; 32]) -> &[u8] {
    let of_same = |name: &CStr| {
        let g = real::next(name);
        (!g.is_null() && real::object_of(g) == real::object_of(f)).then_some(g)
    };
    // SAFETY: the functions of these names are of these types; they return constants.
    unsafe {
        let text = if let Some(g) = of_same(c"gnu_get_libc_version") {
            core::mem::transmute::<*mut c_void, extern "C" fn() -> *const c_char>(g)()
        } else if let Some(g) = of_same(c"tc_version") {
            type TcVersion = extern "C" fn(*mut c_int, *mut c_int, *mut *const c_char) -> *const c_char;
            let (mut major, mut minor, mut patch) = (0, 0, ptr::null());
            core::mem::transmute::<*mut c_void, TcVersion>(g)(&raw mut major, &raw mut minor, &raw mut patch)
        } else if let Some(g) = of_same(c"mi_version") {
            let n = core::mem::transmute::<*mut c_void, extern "C" fn() -> c_int>(g)();
            return mimalloc_version(n.max(0) as u32, out);
        } else {
            ptr::null()
        };
        if text.is_null() {
            return &[];
        }
        let text = CStr::from_ptr(text).to_bytes();
        let n = text.len().min(out.len());
        out[..n].copy_from_slice(&text[..n]);
        &out[..n]
    }
}

/// `mi_version` counts digits up to 2.1.9 (219) and pairs of digits since (30302 is 3.3.2).
fn mimalloc_version(n: u32, out: &mut [u8; 32]) -> &[u8] {
    let parts = if n < 1000 { [n / 100, n / 10 % 10, n % 10] } else { [n / 10_000, n / 100 % 100, n % 100] };
    let mut at = 0;
    for (i, part) in parts.into_iter().enumerate() {
        let mut push = |b: u8| {
            out[at] = b;
            at += 1;
        };
        if i > 0 {
            push(b'.');
        }
        if part >= 10 {
            push(b'0' + (part / 10 % 10) as u8);
        }
        push(b'0' + (part % 10) as u8);
    }
    &out[..at]
}

/// Writes them into a new spool. With signals blocked.
pub(crate) fn write(process: &Process) {
    for (number, len) in KEPT.lens.iter().enumerate() {
        let len = len.load(Ordering::Acquire);
        if len > 0 {
            // A copy: another process of the same memory, by vfork, writes its own header.
            // SAFETY: filled in before `len` was set, and not since.
            let mut block = unsafe { (*KEPT.blocks.get())[number] };
            process.write_once(BlockKind::Provider, number as u32, &mut block, len);
        }
    }
}
