//! The ways out of a process image that run no exit handler: `_exit`, `quick_exit`, `abort`, `exec` and `daemon`, whose
//! original process ends within libc. What the buffers hold is written before they are taken. And the ways out of the
//! recorder's sight: libraries loaded with a search order of their own (`RTLD_DEEPBIND`, `dlmopen`) are counted, and
//! before a filter that would end the program for the recorder's system calls recording ends instead.
//!
//! The loader's functions go by who calls them, and some of these functions take any number of arguments, so each is a few instructions that keep all argument
//! registers, ask `leaving` for the real function, and jump there.

use core::ffi::CStr;
use core::sync::atomic::{AtomicPtr, Ordering};
use core::{arch, ptr};

use fragbench_trace::spool::format::Status;

use crate::process::PROCESS;
use crate::{attached, filter, real};

pub(crate) const NAMES: [&CStr; 19] = [
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
    c"dlopen",
    c"dlmopen",
    c"prctl",
    c"syscall",
    // Of a process attached to alone: an object loaded later is called through what is looked up in it.
    c"dlsym",
];
const FIRST_EXIT: usize = 9;
const DAEMON: usize = 13;
const DLOPEN: usize = 14;
const DLMOPEN: usize = 15;
const PRCTL: usize = 16;
const SYSCALL: usize = 17;
const DLSYM: usize = 18;

/// `SECCOMP_MODE_STRICT` and `SECCOMP_MODE_FILTER` of prctl(2), `SECCOMP_SET_MODE_…` of seccomp(2).
const STRICT: usize = libc::SECCOMP_MODE_STRICT as usize;
const FILTER: usize = libc::SECCOMP_MODE_FILTER as usize;
const SET_STRICT: usize = libc::SECCOMP_SET_MODE_STRICT as usize;
const SET_FILTER: usize = libc::SECCOMP_SET_MODE_FILTER as usize;

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

/// Before a system call filter is installed. `filter` is what the kernel will be given.
fn filtering(strict: bool, filter: usize) {
    // SAFETY: the kernel would read it too, and refuse what cannot be read; a program that passes a wild pointer here
    // has a fault of its own.
    if strict || unsafe { filter::would_kill(filter as *const filter::Filter) } {
        PROCESS.stop_before_filter();
    }
}

/// Writes what there is to write and returns the function to jump to. After its number come the first arguments of the call,
/// as far as it has any.
extern "C" fn leaving(function: usize, a: usize, b: usize, c: usize, d: usize) -> *const () {
    if function == DLOPEN {
        PROCESS.look_soon();
    }
    match function {
        DAEMON => PROCESS.write_out(),
        // Attached, calls are led here by where they lead, whatever the order.
        DLOPEN
            if b & libc::RTLD_DEEPBIND as usize != 0 && b & libc::RTLD_NOLOAD as usize == 0 && !attached::is_late() =>
        {
            PROCESS.count_passing();
        }
        // `LM_ID_BASE` is the program's own search order.
        DLMOPEN if a != 0 => PROCESS.count_passing(),
        PRCTL if a as i32 == libc::PR_SET_SECCOMP && (b == STRICT || b == FILTER) => filtering(b == STRICT, c),
        SYSCALL if a as libc::c_long == libc::SYS_seccomp && (b == SET_STRICT || b == SET_FILTER) => {
            filtering(b == SET_STRICT, d);
        }
        DLSYM => PROCESS.follow(),
        DLOPEN..=SYSCALL => {}
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
                // r8 is the fifth argument of `leaving`: the fourth of this function.
                "mov r8, rcx", "mov rcx, rdx", "mov rdx, rsi", "mov rsi, rdi",
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
                "mov x4, x3",
                "mov x3, x2",
                "mov x2, x1",
                "mov x1, x0",
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
    dlopen = 14, dlmopen = 15, prctl = 16, syscall = 17, fragbench_recorder_dlsym = 18,
}
