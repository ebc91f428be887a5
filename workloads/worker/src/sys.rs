//! The calls by which a preloaded allocator reads time and waits, under the C library's names. A lookup by the dynamic linker
//! finds a program's own symbols before any library's, so these are what the allocator calls; what they answer is in
//! `fragbench_engine::timeline::calls`. The C library itself does not call itself by these names.
//!
//! The linker exports a symbol of the program that a library it links against defines too, which libc does. That each is
//! found by a preloaded library is tested in `workloads/replay/tests/clock.rs`.

use fragbench_engine::timeline::calls;
use libc::{c_int, clockid_t, pthread_cond_t, pthread_mutex_t, sem_t, time_t, timespec, timeval};

type Cond = *mut pthread_cond_t;
type Mutex = *mut pthread_mutex_t;

/// `clock_gettime(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: as the C library's, the caller gives a time to write to.
    calls::clock_gettime(clock, unsafe { &mut *time })
}

/// `gettimeofday(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn gettimeofday(time: *mut timeval, _zone: *mut libc::c_void) -> c_int {
    // SAFETY: the caller's time, or null.
    unsafe { time.as_mut() }.map_or(0, calls::gettimeofday)
}

/// `time(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn time(result: *mut time_t) -> time_t {
    let now = calls::time();
    // SAFETY: the caller's place for the result, or null.
    if let Some(result) = unsafe { result.as_mut() } {
        *result = now;
    }
    now
}

/// `nanosleep(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn nanosleep(request: *const timespec, left: *mut timespec) -> c_int {
    // SAFETY: the caller's time.
    calls::nanosleep(unsafe { &*request }, left)
}

/// `clock_nanosleep(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    request: *const timespec,
    left: *mut timespec,
) -> c_int {
    // SAFETY: the caller's time.
    calls::clock_nanosleep(clock, flags, unsafe { &*request }, left)
}

/// `usleep(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn usleep(us: libc::c_uint) -> c_int {
    calls::usleep(us)
}

/// `pthread_cond_wait(3p)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_cond_wait(cond: Cond, mutex: Mutex) -> c_int {
    calls::cond_wait(cond, mutex, None, None)
}

/// `pthread_cond_timedwait(3p)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_cond_timedwait(cond: Cond, mutex: Mutex, until: *const timespec) -> c_int {
    // SAFETY: the caller's time.
    calls::cond_wait(cond, mutex, None, Some(unsafe { &*until }))
}

/// `pthread_cond_clockwait`, of glibc since 2.30.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_cond_clockwait(
    cond: Cond,
    mutex: Mutex,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's time.
    calls::cond_wait(cond, mutex, Some(clock), Some(unsafe { &*until }))
}

/// `pthread_cond_signal(3p)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_cond_signal(cond: Cond) -> c_int {
    calls::cond_wake(cond, false)
}

/// `pthread_cond_broadcast(3p)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_cond_broadcast(cond: Cond) -> c_int {
    calls::cond_wake(cond, true)
}

/// `sem_wait(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn sem_wait(sem: *mut sem_t) -> c_int {
    calls::sem_wait(sem, None)
}

/// `sem_timedwait(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn sem_timedwait(sem: *mut sem_t, until: *const timespec) -> c_int {
    // SAFETY: the caller's time.
    calls::sem_wait(sem, Some(unsafe { &*until }))
}
