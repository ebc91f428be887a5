//! The calling thread's few words, in static thread-local storage reached by the initial-exec model: two loads, no call.
//! Rust's `thread_local!` would call `__tls_get_addr` in a shared library, which may allocate. A library preloaded at
//! start is always given static TLS.

use core::arch::{asm, global_asm};
use core::ptr;

use crate::buffer::Buffer;

/// What a thread is, when it has no buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Being {
    /// Has not allocated yet.
    New = 0,
    /// Has a buffer (which may be put aside, see `Tls::put_aside`).
    Live = 1,
    /// In the recorder's own code: what comes now is neither the program's nor to be recorded.
    Busy = 2,
    /// Its exit has been recorded; what comes now is libc tidying up.
    Gone = 3,
    /// No memory for a buffer.
    Refused = 4,
}

/// Zero at the start of a thread, which is `EMPTY`.
#[repr(C)]
pub(crate) struct Tls {
    /// Where the thread's events go; null sends every event to the slow path.
    pub(crate) buffer: *mut Buffer,
    /// The buffer while it is put aside because a preloaded allocator is at work.
    pub(crate) aside: *mut Buffer,
    pub(crate) being: Being,
    /// Number of the thread, and of its next block, for a thread without a buffer.
    pub(crate) thread: u32,
    pub(crate) seq: u32,
    /// Calls into a preloaded allocator that have not returned.
    pub(crate) inside: u32,
    /// How often the thread's destructor has put itself off.
    pub(crate) put_off: u32,
    /// Being unwound: what allocates now has no stack.
    pub(crate) unwinding: bool,
}

pub(crate) const EMPTY: Tls = Tls {
    buffer: ptr::null_mut(),
    aside: ptr::null_mut(),
    being: Being::New,
    thread: 0,
    seq: 0,
    inside: 0,
    put_off: 0,
    unwinding: false,
};

// The size is that of `Tls`, checked below.
global_asm!(
    ".pushsection .tbss,\"awT\",%nobits",
    ".balign 16",
    ".globl fragbench_recorder_tls",
    ".hidden fragbench_recorder_tls",
    ".type fragbench_recorder_tls, %object",
    ".size fragbench_recorder_tls, 48",
    "fragbench_recorder_tls:",
    ".zero 48",
    ".popsection",
);
const _: () = assert!(size_of::<Tls>() <= 48);

/// The calling thread's words.
#[inline(always)]
pub(crate) fn get() -> *mut Tls {
    let p: *mut Tls;
    // SAFETY: computes an address from the thread pointer and a constant of the link map.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!(
            "mov {p}, qword ptr fs:[0]",
            "add {p}, qword ptr [rip + fragbench_recorder_tls@GOTTPOFF]",
            p = out(reg) p, options(nostack, readonly, pure)
        );
        #[cfg(target_arch = "aarch64")]
        asm!(
            "mrs {p}, tpidr_el0",
            "adrp {t}, :gottprel:fragbench_recorder_tls",
            "ldr {t}, [{t}, :gottprel_lo12:fragbench_recorder_tls]",
            "add {p}, {p}, {t}",
            p = out(reg) p, t = out(reg) _, options(nostack, readonly, pure, preserves_flags)
        );
    }
    p
}

/// The calling thread's buffer, or null.
#[inline(always)]
pub(crate) fn buffer() -> *mut Buffer {
    let p: *mut Buffer;
    // SAFETY: as `get`, and loads its first word. Not `pure`: the word changes.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "mov {p}, qword ptr [rip + fragbench_recorder_tls@GOTTPOFF]",
            "mov {p}, qword ptr fs:[{p}]",
            p = out(reg) p, options(nostack, readonly, preserves_flags)
        );
    }
    // SAFETY: the thread's own words are always there.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        p = (&raw const (*get()).buffer).read_volatile();
    }
    p
}
