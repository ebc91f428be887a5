//! The C library's own clocks and waits, found past the worker's, which bear the same names; futexes; states of threads.

use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use libc::{clockid_t, pthread_cond_t, pthread_mutex_t, sem_t, timespec};

/// A function of the C library, looked up once.
struct Real {
    address: AtomicPtr<c_void>,
    name: &'static CStr,
    /// Version to prefer: of functions that glibc has kept in an older form beside.
    version: &'static CStr,
}

#[cfg(target_arch = "x86_64")]
const CONDITIONS: &CStr = c"GLIBC_2.3.2";
#[cfg(not(target_arch = "x86_64"))]
const CONDITIONS: &CStr = c"GLIBC_2.17";

static CLOCK_GETTIME: Real = Real::new(c"clock_gettime", c"");
static COND_WAIT: Real = Real::new(c"pthread_cond_wait", CONDITIONS);
static COND_TIMEDWAIT: Real = Real::new(c"pthread_cond_timedwait", CONDITIONS);
static COND_CLOCKWAIT: Real = Real::new(c"pthread_cond_clockwait", c"");
static COND_SIGNAL: Real = Real::new(c"pthread_cond_signal", CONDITIONS);
static COND_BROADCAST: Real = Real::new(c"pthread_cond_broadcast", CONDITIONS);
static SEM_WAIT: Real = Real::new(c"sem_wait", c"");
static SEM_TIMEDWAIT: Real = Real::new(c"sem_timedwait", c"");

unsafe extern "C" {
    /// dlfcn.h of glibc.
    fn dlvsym(handle: *mut c_void, name: *const libc::c_char, version: *const libc::c_char) -> *mut c_void;
}

impl Real {
    const fn new(name: &'static CStr, version: &'static CStr) -> Real {
        Real { address: AtomicPtr::new(std::ptr::null_mut()), name, version }
    }

    /// Its address; null where this C library has none.
    fn get(&self) -> *mut c_void {
        let known = self.address.load(Ordering::Acquire);
        if !known.is_null() {
            return known;
        }
        let mut found = std::ptr::null_mut();
        // SAFETY: C strings; the handle means: after the object that asks.
        unsafe {
            if !self.version.is_empty() {
                found = dlvsym(libc::RTLD_NEXT, self.name.as_ptr(), self.version.as_ptr());
            }
            if found.is_null() {
                found = libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr());
            }
        }
        self.address.store(found, Ordering::Release);
        found
    }
}

/// Looks up what would otherwise be looked up in the middle of the work.
pub(crate) fn prepare() {
    let all = [&CLOCK_GETTIME, &COND_WAIT, &COND_TIMEDWAIT, &COND_CLOCKWAIT, &COND_SIGNAL, &COND_BROADCAST];
    for function in all.into_iter().chain([&SEM_WAIT, &SEM_TIMEDWAIT]) {
        function.get();
    }
}

/// A moment of one of the system's clocks. Before [`prepare`] by a system call: an allocator that is being initialised may
/// ask, and looking a function up may allocate.
#[inline]
pub(crate) fn clock(id: clockid_t, time: &mut timespec) -> c_int {
    let real = CLOCK_GETTIME.address.load(Ordering::Acquire);
    // SAFETY: the clock is given a time to write to; the address is that of a function of this type.
    unsafe {
        if real.is_null() {
            return libc::syscall(libc::SYS_clock_gettime, id, time as *mut timespec) as c_int;
        }
        std::mem::transmute::<*mut c_void, extern "C" fn(clockid_t, *mut timespec) -> c_int>(real)(id, time)
    }
}

/// A clock in nanoseconds.
#[inline]
pub(crate) fn clock_ns(id: clockid_t) -> u64 {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    clock(id, &mut time);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The kernel's sleep; answers `errno`.
pub(crate) fn sleep(id: clockid_t, flags: c_int, time: &timespec, left: *mut timespec) -> c_int {
    // SAFETY: a valid time; `left` is the caller's, and may be null.
    let status = unsafe { libc::syscall(libc::SYS_clock_nanosleep, id, flags, time as *const timespec, left) };
    if status == 0 { 0 } else { errno() }
}

/// `errno` of this thread.
pub(crate) fn errno() -> c_int {
    // SAFETY: glibc gives the address of this thread's own value.
    unsafe { *libc::__errno_location() }
}

/// Sets `errno` and answers -1, as calls that fail do.
pub(crate) fn fail_with(error: c_int) -> c_int {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = error };
    -1
}

type Cond = *mut pthread_cond_t;
type Mutex = *mut pthread_mutex_t;

/// `pthread_cond_wait`.
pub(crate) fn cond_wait(cond: Cond, mutex: Mutex) -> c_int {
    let real = COND_WAIT.get();
    // SAFETY: the caller's condition and mutex; the address is that of this function.
    unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(Cond, Mutex) -> c_int>(real)(cond, mutex) }
}

/// `pthread_cond_timedwait`, or where the clock is named `pthread_cond_clockwait`.
pub(crate) fn cond_timedwait(cond: Cond, mutex: Mutex, named: Option<clockid_t>, until: &timespec) -> c_int {
    // SAFETY: as above, and a valid time.
    unsafe {
        match named {
            None => std::mem::transmute::<*mut c_void, extern "C" fn(Cond, Mutex, *const timespec) -> c_int>(
                COND_TIMEDWAIT.get(),
            )(cond, mutex, until),
            Some(_) if COND_CLOCKWAIT.get().is_null() => libc::EINVAL,
            Some(clock) => {
                type Wait = extern "C" fn(Cond, Mutex, clockid_t, *const timespec) -> c_int;
                std::mem::transmute::<*mut c_void, Wait>(COND_CLOCKWAIT.get())(cond, mutex, clock, until)
            }
        }
    }
}

/// Whether this C library has `pthread_cond_clockwait`: since glibc 2.30.
pub(crate) fn has_clockwait() -> bool {
    !COND_CLOCKWAIT.get().is_null()
}

/// `pthread_cond_signal`.
pub(crate) fn cond_signal(cond: Cond) -> c_int {
    // SAFETY: the caller's condition.
    unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(Cond) -> c_int>(COND_SIGNAL.get())(cond) }
}

/// `pthread_cond_broadcast`.
pub(crate) fn cond_broadcast(cond: Cond) -> c_int {
    // SAFETY: the caller's condition.
    unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(Cond) -> c_int>(COND_BROADCAST.get())(cond) }
}

/// Wakes who waits for a condition: if the mutex is free, with it held, so that no one is between registering his wait and
/// waiting.
pub(crate) fn kick(cond: usize, mutex: usize) {
    let cond: Cond = std::ptr::with_exposed_provenance_mut(cond);
    let mutex: Mutex = std::ptr::with_exposed_provenance_mut(mutex);
    // SAFETY: the waiter, whose both are, does not return before the lock that the caller holds is free.
    unsafe {
        let held = libc::pthread_mutex_trylock(mutex) == 0;
        cond_broadcast(cond);
        if held {
            libc::pthread_mutex_unlock(mutex);
        }
    }
}

/// `sem_wait`.
pub(crate) fn sem_wait(sem: *mut sem_t) -> c_int {
    // SAFETY: the caller's semaphore.
    unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(*mut sem_t) -> c_int>(SEM_WAIT.get())(sem) }
}

/// `sem_timedwait`.
pub(crate) fn sem_timedwait(sem: *mut sem_t, until: &timespec) -> c_int {
    type Wait = extern "C" fn(*mut sem_t, *const timespec) -> c_int;
    // SAFETY: the caller's semaphore and a valid time.
    unsafe { std::mem::transmute::<*mut c_void, Wait>(SEM_TIMEDWAIT.get())(sem, until) }
}

/// Sleeps while `*word == expected`, for at most so long; may return early.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, most_ns: Option<u64>) {
    let most = most_ns.map(|ns| timespec { tv_sec: (ns / 1_000_000_000) as _, tv_nsec: (ns % 1_000_000_000) as _ });
    // SAFETY: word and time outlive the call, and the kernel only reads them. All errors mean: look again.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            most.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
        );
    }
}

/// Wakes one sleeper of `word`.
pub(crate) fn futex_wake(word: &AtomicU32) {
    // SAFETY: the kernel uses the address only to find sleepers.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1);
    }
}

/// The kernel's number of this thread.
pub(crate) fn thread_id() -> u32 {
    // By number: glibc has the function since 2.30 only. SAFETY: no arguments, no effects.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// Whether every thread of this process but the calling one sleeps in the kernel (states of proc_pid_stat(5)). `false` when
/// it cannot be told. By system calls alone: `opendir` allocates, and the lock of the heap under test may be what everybody
/// waits for.
pub(crate) fn all_others_sleep() -> bool {
    /// Where a name begins in `struct linux_dirent64`, and its length field (getdents64(2)).
    const NAME: usize = 19;
    const LENGTH: usize = 16;
    let own = thread_id();
    let Some(directory) = File::open(c"/proc/self/task") else { return false };
    let mut entries = [0u8; 4096];
    loop {
        let got = directory.entries(&mut entries);
        let Ok(got) = usize::try_from(got) else { return false };
        let mut rest = &entries[..got.min(entries.len())];
        if rest.is_empty() {
            return true;
        }
        while rest.len() > NAME {
            let length = usize::from(u16::from_ne_bytes([rest[LENGTH], rest[LENGTH + 1]]));
            let entry = &rest[..length.clamp(NAME, rest.len())];
            let digits = entry[NAME..].iter().take_while(|byte| byte.is_ascii_digit());
            let thread = digits.fold(0u32, |n, digit| n.wrapping_mul(10).wrapping_add(u32::from(digit - b'0')));
            if thread != 0 && thread != own && !sleeps(thread) {
                return false;
            }
            rest = &rest[entry.len()..];
        }
    }
}

/// Whether a thread sleeps, or has ended.
fn sleeps(thread: u32) -> bool {
    let mut path = [0u8; 64];
    let mut cursor = std::io::Cursor::new(&mut path[..]);
    if std::io::Write::write_fmt(&mut cursor, format_args!("/proc/self/task/{thread}/stat\0")).is_err() {
        return false;
    }
    let Ok(path) = CStr::from_bytes_until_nul(&path) else { return false };
    // One that has ended meanwhile does nothing either.
    let Some(file) = File::open(path) else { return true };
    let mut stat = [0u8; 256];
    let Ok(got) = usize::try_from(file.read(&mut stat)) else { return true };
    // The name, in brackets, may hold anything.
    let stat = &stat[..got.min(stat.len())];
    let state = stat.iter().rposition(|byte| *byte == b')').and_then(|at| stat.get(at + 2));
    matches!(state, Some(b'S' | b'Z' | b'X' | b't' | b'T'))
}

/// A file open for reading.
struct File(c_int);

impl File {
    fn open(path: &CStr) -> Option<File> {
        // SAFETY: a C string.
        let file = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        (file >= 0).then_some(File(file))
    }

    fn read(&self, buffer: &mut [u8]) -> isize {
        // SAFETY: the buffer is as long as it says.
        unsafe { libc::read(self.0, buffer.as_mut_ptr().cast(), buffer.len()) }
    }

    fn entries(&self, buffer: &mut [u8]) -> libc::c_long {
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_getdents64, self.0, buffer.as_mut_ptr(), buffer.len()) }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: opened here and closed once.
        unsafe { libc::close(self.0) };
    }
}
