//! System calls without libc: they neither touch `errno` nor pass through functions this library replaces.

use core::arch::asm;
use libc::c_long;

/// A system call of up to six arguments; errors are `-errno`.
///
/// # Safety
/// As the call itself.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) unsafe fn syscall(n: c_long, a: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the kernel keeps all registers but rax, rcx and r11; the caller answers for the call.
    unsafe {
        asm!("syscall", inlateout("rax") n as isize => ret, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    ret
}

/// A system call of up to six arguments; errors are `-errno`.
///
/// # Safety
/// As the call itself.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(crate) unsafe fn syscall(n: c_long, a: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the kernel keeps all registers but x0; the caller answers for the call.
    unsafe {
        asm!("svc 0", in("x8") n, inlateout("x0") a[0] => ret, in("x1") a[1], in("x2") a[2], in("x3") a[3],
            in("x4") a[4], in("x5") a[5], options(nostack));
    }
    ret
}

/// Pages of shared memory: the kernel counts them as shmem, apart from the recorded program's anonymous memory.
pub(crate) fn map_shared(len: usize) -> Option<*mut u8> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping where the kernel chooses disturbs nothing.
    let p = unsafe { syscall(libc::SYS_mmap, [0, len, prot as usize, flags as usize, usize::MAX, 0]) };
    (p > 0).then_some(p as *mut u8)
}

/// # Safety
/// Nothing may refer to the mapping any more.
pub(crate) unsafe fn unmap(p: *mut u8, len: usize) {
    // SAFETY: by the caller.
    unsafe { syscall(libc::SYS_munmap, [p as usize, len, 0, 0, 0, 0]) };
}

pub(crate) fn madvise(p: *const u8, len: usize, advice: i32) -> bool {
    // SAFETY: called with DONTFORK and WIPEONFORK on memory of our own, which change nothing in this process.
    unsafe { syscall(libc::SYS_madvise, [p as usize, len, advice as usize, 0, 0, 0]) == 0 }
}

/// Sets the protection of a page.
///
/// # Safety
/// Nobody relies on what the page allowed before.
pub(crate) unsafe fn protect(page: usize, protection: i32) -> bool {
    // SAFETY: by the caller.
    unsafe { syscall(libc::SYS_mprotect, [page, 4096, protection as usize, 0, 0, 0]) == 0 }
}

pub(crate) fn getpid() -> u32 {
    // SAFETY: no arguments, no effects.
    unsafe { syscall(libc::SYS_getpid, [0; 6]) as u32 }
}

pub(crate) fn getppid() -> u32 {
    // SAFETY: no arguments, no effects.
    unsafe { syscall(libc::SYS_getppid, [0; 6]) as u32 }
}

pub(crate) fn close(fd: i32) {
    // SAFETY: only descriptors this library opened are passed.
    unsafe { syscall(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// Writes all of `bytes` at `at`. Errors are errno values; a write that makes no progress is `ENOSPC`.
pub(crate) fn write_at(fd: i32, mut bytes: &[u8], mut at: u64) -> Result<(), i32> {
    while !bytes.is_empty() {
        let args = [fd as usize, bytes.as_ptr() as usize, bytes.len(), at as usize, 0, 0];
        // SAFETY: the slice is readable; the descriptor is checked by the kernel.
        match unsafe { syscall(libc::SYS_pwrite64, args) } {
            0 => return Err(libc::ENOSPC),
            n if n > 0 => {
                bytes = &bytes[n as usize..];
                at += n as u64;
            }
            e if e == -(libc::EINTR as isize) => {}
            e => return Err(-e as i32),
        }
    }
    Ok(())
}

/// Device and inode of an open file; none when the descriptor is not open.
pub(crate) fn identity(fd: i32) -> Option<(u64, u64)> {
    // SAFETY: all-zero bytes are a valid `stat`, and on 64-bit Linux the kernel's layout is libc's.
    unsafe {
        let mut st: libc::stat = core::mem::zeroed();
        let ok = syscall(libc::SYS_fstat, [fd as usize, &raw mut st as usize, 0, 0, 0, 0]) == 0;
        ok.then_some((st.st_dev, st.st_ino))
    }
}

/// Opens a file; `path` ends with a zero byte.
pub(crate) fn open(path: &[u8], flags: i32) -> Result<i32, i32> {
    debug_assert_eq!(path.last(), Some(&0));
    let args = [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags as usize, 0o600, 0, 0];
    // SAFETY: the path is readable and terminated.
    let fd = unsafe { syscall(libc::SYS_openat, args) };
    if fd < 0 { Err(-fd as i32) } else { Ok(fd as i32) }
}

/// A duplicate of `fd` numbered `least` or higher, closed on exec.
pub(crate) fn dup_above(fd: i32, least: i32) -> Option<i32> {
    // SAFETY: makes a new descriptor, touches no other.
    let n = unsafe { syscall(libc::SYS_fcntl, [fd as usize, libc::F_DUPFD_CLOEXEC as usize, least as usize, 0, 0, 0]) };
    (n >= 0).then_some(n as i32)
}

/// Whether somebody holds a lock on an open file (flock(2)).
pub(crate) fn is_locked(fd: i32) -> bool {
    let how = (libc::LOCK_SH | libc::LOCK_NB) as usize;
    // SAFETY: a lock of our own descriptor, which goes with it.
    unsafe { syscall(libc::SYS_flock, [fd as usize, how, 0, 0, 0, 0]) == -(libc::EWOULDBLOCK as isize) }
}

/// The thread's name, as the kernel shows it.
pub(crate) fn comm() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes.
    unsafe { syscall(libc::SYS_prctl, [libc::PR_GET_NAME as usize, name.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    name
}

/// Writes the path of the program's file; answers its length, 0 when it cannot be had.
pub(crate) fn program(path: &mut [u8]) -> usize {
    let name = c"/proc/self/exe";
    let args = [libc::AT_FDCWD as usize, name.as_ptr() as usize, path.as_mut_ptr() as usize, path.len(), 0, 0];
    // SAFETY: readlinkat writes at most as many bytes as it is told.
    usize::try_from(unsafe { syscall(libc::SYS_readlinkat, args) }).unwrap_or(0)
}

/// Writes the path of the working directory; answers its length, 0 when it cannot be had.
pub(crate) fn directory(path: &mut [u8]) -> usize {
    // SAFETY: getcwd writes at most as many bytes as it is told, and counts the terminating zero.
    let n = unsafe { syscall(libc::SYS_getcwd, [path.as_mut_ptr() as usize, path.len(), 0, 0, 0, 0]) };
    usize::try_from(n - 1).unwrap_or(0)
}

/// Nanoseconds of a clock.
pub(crate) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the struct; a vDSO call that neither allocates nor, for these clocks, fails.
    unsafe { libc::clock_gettime(clock, &raw mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Asks which pages from `page` on are resident: one byte each, the lowest bit. False when the kernel refuses.
pub(crate) fn mincore(page: usize, vec: &mut [u8]) -> bool {
    // SAFETY: mincore writes one byte a page asked about.
    unsafe { syscall(libc::SYS_mincore, [page, vec.len() * 4096, vec.as_mut_ptr() as usize, 0, 0, 0]) == 0 }
}

/// All signals blocked and `errno` kept, until dropped. Whoever holds a lock or rewrites a buffer holds this, so that
/// no signal handler of the same thread can come upon either.
pub(crate) struct Quiet {
    mask: u64,
    errno: i32,
}

impl Quiet {
    pub(crate) fn new() -> Self {
        let (all, mut mask) = (!0u64, 0u64);
        let args = [libc::SIG_SETMASK as usize, &raw const all as usize, &raw mut mask as usize, 8, 0, 0];
        // SAFETY: reads and writes eight bytes each; changes this thread's mask alone.
        unsafe {
            syscall(libc::SYS_rt_sigprocmask, args);
            Self { mask, errno: *libc::__errno_location() }
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let args = [libc::SIG_SETMASK as usize, &raw const self.mask as usize, 0, 8, 0, 0];
        // SAFETY: restores what `new` found.
        unsafe {
            *libc::__errno_location() = self.errno;
            syscall(libc::SYS_rt_sigprocmask, args);
        }
    }
}

/// Takes back the `SIGXFSZ` that a write beyond the program's file size limit has left pending for this thread.
pub(crate) fn drop_pending_xfsz() {
    let set = 1u64 << (libc::SIGXFSZ - 1);
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: reads eight bytes and a timespec.
    unsafe { syscall(libc::SYS_rt_sigtimedwait, [&raw const set as usize, 0, &raw const zero as usize, 8, 0, 0]) };
}
