//! C++'s `new` and `delete`. The usual ones call `malloc` and `free` and are recorded there; these functions only jump
//! to them. Preloaded allocators bring their own, which call nothing that could be recorded; for those, and only for
//! those, the operators themselves are.
//!
//! Being preloaded, these definitions are found before all others, also by a library that was loaded with a scope of its
//! own; where no next definition is in sight, that of the C++ runtime is taken, and without one `malloc`.

use core::arch::naked_asm;
use core::ffi::{CStr, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use fragbench_trace::spool::SpoolKind;

use crate::{api, real};

/// An operator's arguments, of which it has one to three, all passed in registers.
type Operator = unsafe extern "C-unwind" fn(usize, usize, usize) -> *mut c_void;

#[derive(Clone, Copy, PartialEq)]
enum Does {
    New,
    /// With the alignment as second argument.
    NewAligned,
    Delete,
}
use Does::{Delete, New, NewAligned};

/// The mangled names where `size_t` is `unsigned long`.
const OPERATORS: [(&CStr, Does); 20] = [
    (c"_Znwm", New),
    (c"_Znam", New),
    (c"_ZnwmRKSt9nothrow_t", New),
    (c"_ZnamRKSt9nothrow_t", New),
    (c"_ZnwmSt11align_val_t", NewAligned),
    (c"_ZnamSt11align_val_t", NewAligned),
    (c"_ZnwmSt11align_val_tRKSt9nothrow_t", NewAligned),
    (c"_ZnamSt11align_val_tRKSt9nothrow_t", NewAligned),
    (c"_ZdlPv", Delete),
    (c"_ZdaPv", Delete),
    (c"_ZdlPvm", Delete),
    (c"_ZdaPvm", Delete),
    (c"_ZdlPvSt11align_val_t", Delete),
    (c"_ZdaPvSt11align_val_t", Delete),
    (c"_ZdlPvmSt11align_val_t", Delete),
    (c"_ZdaPvmSt11align_val_t", Delete),
    (c"_ZdlPvRKSt9nothrow_t", Delete),
    (c"_ZdaPvRKSt9nothrow_t", Delete),
    (c"_ZdlPvSt11align_val_tRKSt9nothrow_t", Delete),
    (c"_ZdaPvSt11align_val_tRKSt9nothrow_t", Delete),
];
pub(crate) const COUNT: usize = OPERATORS.len();

/// Their names.
pub(crate) fn names() -> impl Iterator<Item = &'static CStr> {
    OPERATORS.into_iter().map(|(name, _)| name)
}

/// Where each operator leads; null until it is first called.
static LEADS_TO: [AtomicPtr<c_void>; COUNT] = [const { AtomicPtr::new(ptr::null_mut()) }; COUNT];
/// A preloaded allocator's operators, behind those that record.
static BEHIND: [AtomicPtr<c_void>; COUNT] = [const { AtomicPtr::new(ptr::null_mut()) }; COUNT];

fn in_cxx_runtime(name: &CStr) -> *mut c_void {
    for library in [c"libstdc++.so.6", c"libc++.so.1"] {
        // SAFETY: only finds what is loaded already, and keeps it loaded.
        unsafe {
            let handle = libc::dlopen(library.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            if !handle.is_null() {
                return libc::dlsym(handle, name.as_ptr());
            }
        }
    }
    ptr::null_mut()
}

/// Finds out where an operator leads.
extern "C" fn find(index: usize) -> *mut c_void {
    let (name, does) = OPERATORS[index];
    let next = real::next(name);
    let f = if real::is_chained_allocators(next) {
        BEHIND[index].store(next, Ordering::Release);
        RECORDING[index] as *mut c_void
    } else if !next.is_null() {
        next
    } else {
        let runtime = in_cxx_runtime(name);
        match does {
            _ if !runtime.is_null() => runtime,
            New => plain_new as *mut c_void,
            NewAligned => plain_new_aligned as *mut c_void,
            Delete => plain_delete as *mut c_void,
        }
    };
    LEADS_TO[index].store(f, Ordering::Release);
    f
}

// Without a C++ runtime in sight. Nobody could catch an exception, so a `new` that fails ends the program.

fn or_abort(p: *mut c_void) -> *mut c_void {
    if p.is_null() {
        // SAFETY: ends the program.
        unsafe { libc::abort() }
    }
    p
}
unsafe extern "C" fn plain_new(size: usize, _: usize, _: usize) -> *mut c_void {
    // SAFETY: malloc may be called with any size.
    or_abort(unsafe { api::malloc(size) })
}
unsafe extern "C" fn plain_new_aligned(size: usize, align: usize, _: usize) -> *mut c_void {
    // SAFETY: C++ allows powers of two only.
    or_abort(unsafe { api::aligned_alloc(align, size) })
}
unsafe extern "C" fn plain_delete(p: *mut c_void, _: usize, _: usize) {
    // SAFETY: null or a block, by delete's contract.
    unsafe { api::free(p) }
}

// In front of a preloaded allocator's operators.

unsafe extern "C-unwind" fn recording<const I: usize>(a: usize, b: usize, c: usize) -> *mut c_void {
    // SAFETY: `find` has stored the operator before it led here; the caller's contract is that of the operator.
    let behind =
        || unsafe { core::mem::transmute::<*mut c_void, Operator>(BEHIND[I].load(Ordering::Acquire))(a, b, c) };
    if OPERATORS[I].1 == Delete {
        // SAFETY: null or a block, by delete's contract.
        unsafe { api::note_free(a as *mut c_void) };
        return real::inside(behind);
    }
    let p = real::inside(behind);
    if !p.is_null() {
        let (addr, size) = (p as u64, a as u64);
        api::note(match OPERATORS[I].1 {
            NewAligned => SpoolKind::Aligned { addr, size, align: b as u64 },
            _ => SpoolKind::Malloc { addr, size },
        });
    }
    p
}

macro_rules! operators {
    ($($index:literal $symbol:ident),* $(,)?) => {
        static RECORDING: [Operator; COUNT] = [$(recording::<$index>),*];
        $(
            /// The C++ operator of this mangled name.
            ///
            /// # Safety
            /// As the operator.
            #[allow(non_snake_case)]
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            pub unsafe extern "C" fn $symbol() {
                #[cfg(target_arch = "x86_64")]
                naked_asm!(
                    concat!("mov rax, qword ptr [rip + {leads_to} + 8 * ", $index, "]"),
                    "test rax, rax",
                    "je 2f",
                    "jmp rax",
                    "2:",
                    "push rdi", "push rsi", "push rdx",
                    concat!("mov edi, ", $index),
                    "call {find}",
                    "pop rdx", "pop rsi", "pop rdi",
                    "jmp rax",
                    leads_to = sym LEADS_TO, find = sym find,
                );
                #[cfg(target_arch = "aarch64")]
                naked_asm!(
                    "adrp x16, {leads_to}",
                    "add x16, x16, :lo12:{leads_to}",
                    concat!("ldr x16, [x16, #8 * ", $index, "]"),
                    "cbz x16, 2f",
                    "br x16",
                    "2:",
                    "stp x29, x30, [sp, #-48]!",
                    "stp x0, x1, [sp, #16]",
                    "str x2, [sp, #32]",
                    concat!("mov x0, #", $index),
                    "bl {find}",
                    "mov x16, x0",
                    "ldp x0, x1, [sp, #16]",
                    "ldr x2, [sp, #32]",
                    "ldp x29, x30, [sp], #48",
                    "br x16",
                    leads_to = sym LEADS_TO, find = sym find,
                );
            }
        )*
    };
}
operators! {
    0 _Znwm, 1 _Znam, 2 _ZnwmRKSt9nothrow_t, 3 _ZnamRKSt9nothrow_t, 4 _ZnwmSt11align_val_t,
    5 _ZnamSt11align_val_t, 6 _ZnwmSt11align_val_tRKSt9nothrow_t, 7 _ZnamSt11align_val_tRKSt9nothrow_t,
    8 _ZdlPv, 9 _ZdaPv, 10 _ZdlPvm, 11 _ZdaPvm, 12 _ZdlPvSt11align_val_t, 13 _ZdaPvSt11align_val_t,
    14 _ZdlPvmSt11align_val_t, 15 _ZdaPvmSt11align_val_t, 16 _ZdlPvRKSt9nothrow_t, 17 _ZdaPvRKSt9nothrow_t,
    18 _ZdlPvSt11align_val_tRKSt9nothrow_t, 19 _ZdaPvSt11align_val_tRKSt9nothrow_t,
}
