//! The ways out of a process image that run no exit handler: `_exit`, `quick_exit`, `abort`, `exec` and `daemon`, whose
//! original process ends within libc. What the buffers hold is written before they are taken.
//!
//! Some of these functions take any number of arguments, so each is a few instructions that keep all argument
//! registers, ask `leaving` for the real function, and jump there.

use core::ffi::CStr;
use core::sync::atomic::{AtomicPtr, Ordering};
use core::{arch, ptr};

use fragbench_trace::spool::format::Status;

use crate::process::PROCESS;
use crate::real;

const NAMES: [&CStr; 14] = [
    c"execve",
    c"execv",
    c"execvp",
    c"execvpe",
    c"execl",
    c"execlp",
    c"execle",
    c"fexecve",
    c"execveat",
    c"_exit",
    c"_Exit",
    c"quick_exit",
    c"abort",
    c"daemon",
];
const FIRST_EXIT: usize = 9;
const DAEMON: usize = 13;

static FOUND: [AtomicPtr<()>; NAMES.len()] = [const { AtomicPtr::new(ptr::null_mut()) }; NAMES.len()];

/// Looks the real functions up while that is easy; some are called where it is not.
pub(crate) fn prepare() {
    for (found, name) in FOUND.iter().zip(NAMES) {
        found.store(real::next(name).cast(), Ordering::Relaxed);
    }
}

/// Where there is no such function (`execveat` before glibc 2.34).
extern "C" fn absent() -> i32 {
    // SAFETY: the thread's own errno.
    unsafe { *libc::__errno_location() = libc::ENOSYS };
    -1
}

/// Writes what there is to write and returns the function to jump to.
extern "C" fn leaving(function: usize) -> *const () {
    match function {
        DAEMON => PROCESS.write_out(),
        f if f >= FIRST_EXIT => PROCESS.end(Status::Exited),
        _ => PROCESS.end(Status::Exec),
    }
    let known = FOUND[function].load(Ordering::Relaxed);
    let f = if known.is_null() { real::next(NAMES[function]).cast() } else { known };
    if f.is_null() { absent as *const () } else { f }
}

macro_rules! passage {
    ($($name:ident = $index:literal),* $(,)?) => {$(
        /// libc's function of this name, behind a look at the buffers.
        ///
        /// # Safety
        /// As libc's.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            #[cfg(target_arch = "x86_64")]
            arch::naked_asm!(
                "push rdi", "push rsi", "push rdx", "push rcx", "push r8", "push r9", "push rax",
                concat!("mov edi, ", $index),
                "call {leaving}",
                "mov r11, rax",
                "pop rax", "pop r9", "pop r8", "pop rcx", "pop rdx", "pop rsi", "pop rdi",
                "jmp r11",
                leaving = sym leaving,
            );
            #[cfg(target_arch = "aarch64")]
            arch::naked_asm!(
                "stp x0, x1, [sp, #-80]!",
                "stp x2, x3, [sp, #16]",
                "stp x4, x5, [sp, #32]",
                "stp x6, x7, [sp, #48]",
                "stp x29, x30, [sp, #64]",
                concat!("mov x0, #", $index),
                "bl {leaving}",
                "mov x16, x0",
                "ldp x2, x3, [sp, #16]",
                "ldp x4, x5, [sp, #32]",
                "ldp x6, x7, [sp, #48]",
                "ldp x29, x30, [sp, #64]",
                "ldp x0, x1, [sp], #80",
                "br x16",
                leaving = sym leaving,
            );
        }
    )*};
}
passage! {
    execve = 0, execv = 1, execvp = 2, execvpe = 3, execl = 4, execlp = 5, execle = 6, fexecve = 7, execveat = 8,
    _exit = 9, _Exit = 10, quick_exit = 11, abort = 12, daemon = 13,
}
