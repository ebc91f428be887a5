//! Answers to the calls by which a preloaded allocator reads time and waits. The worker exports them under the C library's
//! names; lookups of libraries find a program's symbols first.
//!
//! Readings are the virtual clock's, once there is one, on any thread: they are the allocator's, the harness reads the wall's
//! clock by other ways. Waits of the allocator's own threads end by the virtual clock. A thread of the harness's that waits
//! inside the allocator (for a lock, mostly) waits as long as is asked for by the wall's clock.
//!
//! Refuses: `sleep`, `poll` and other calls with a limit that are not here are the wall's; a thread of the allocator's that
//! waits so is found not to run, and time goes on without it. `CLOCK_BOOTTIME` is answered as `CLOCK_MONOTONIC`; clocks of
//! processor time and unknown ones are the kernel's. Signals do not end a sleep early.
//!
//! Source: clock_gettime(2), clock_nanosleep(2), pthread_cond_timedwait(3p), sem_timedwait(3).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{c_int, clockid_t, pthread_cond_t, pthread_mutex_t, sem_t, timespec, timeval};

use super::state::{Condition, Wait};
use super::{ASLEEP, AWAKE, LOOK_NS, Looks, TIMELINE, is_harness, sys, wake};

const S: u64 = 1_000_000_000;
/// A wait for a semaphore looks at the clock so often: nobody can wake it but a post.
const SEMAPHORE_NS: u64 = 1_000_000;
/// Moments above this many seconds are counted from 1970, not from the machine's start: thirty years.
const SINCE_1970_S: i64 = 1_000_000_000;

/// Where a clock's zero lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zero {
    /// Near the machine's start.
    Start,
    /// 1970.
    Epoch,
}

fn zero(clock: clockid_t) -> Option<Zero> {
    match clock {
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_BOOTTIME => {
            Some(Zero::Start)
        }
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => Some(Zero::Epoch),
        _ => None,
    }
}

fn ns(time: &timespec) -> u64 {
    (time.tv_sec.max(0) as u64).saturating_mul(S).saturating_add(time.tv_nsec as u64)
}

fn timespec_of(ns: u64) -> timespec {
    timespec { tv_sec: (ns / S) as _, tv_nsec: (ns % S) as _ }
}

fn is_valid(time: &timespec) -> bool {
    time.tv_sec >= 0 && (0..S as i64).contains(&time.tv_nsec)
}

/// The clock's reading if it is virtual.
fn virtual_ns(zero: Zero) -> Option<u64> {
    let now = TIMELINE.now_ns.load(Ordering::Acquire);
    let offset = match zero {
        Zero::Start => 0,
        Zero::Epoch => TIMELINE.real_offset_ns.load(Ordering::Relaxed),
    };
    (now != 0).then_some(now + offset)
}

fn note_reading() {
    if !TIMELINE.read.load(Ordering::Relaxed) {
        TIMELINE.read.store(true, Ordering::Relaxed);
    }
}

/// What the virtual or the wall's monotonic clock shows.
fn now_ns() -> u64 {
    virtual_ns(Zero::Start).unwrap_or_else(|| sys::clock_ns(libc::CLOCK_MONOTONIC))
}

/// `clock_gettime`.
pub fn clock_gettime(clock: clockid_t, time: &mut timespec) -> c_int {
    note_reading();
    match zero(clock).and_then(virtual_ns) {
        Some(now) => {
            *time = timespec_of(now);
            0
        }
        None => sys::clock(clock, time),
    }
}

/// `gettimeofday`; the time zone is not asked for by anyone since 1990.
pub fn gettimeofday(time: &mut timeval) -> c_int {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    let status = clock_gettime(libc::CLOCK_REALTIME, &mut now);
    *time = timeval { tv_sec: now.tv_sec, tv_usec: now.tv_nsec / 1000 };
    status
}

/// `time`.
pub fn time() -> libc::time_t {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    clock_gettime(libc::CLOCK_REALTIME, &mut now);
    now.tv_sec
}

/// `clock_nanosleep`; answers an error's number.
pub fn clock_nanosleep(clock: clockid_t, flags: c_int, request: &timespec, left: *mut timespec) -> c_int {
    if !is_valid(request) {
        return libc::EINVAL;
    }
    let absolute = flags & libc::TIMER_ABSTIME != 0;
    let Some(zero) = zero(clock) else { return sys::sleep(clock, flags, request, left) };
    if is_harness() {
        // How far it is by the clock that the caller has read.
        return match virtual_ns(zero).filter(|_| absolute) {
            Some(now) => sys::sleep(libc::CLOCK_MONOTONIC, 0, &timespec_of(ns(request).saturating_sub(now)), left),
            None => sys::sleep(clock, flags, request, left),
        };
    }
    let until_ns = if absolute { monotonic(zero, ns(request)) } else { now_ns().saturating_add(ns(request)) };
    sleep_until(until_ns);
    0
}

/// `nanosleep`.
pub fn nanosleep(request: &timespec, left: *mut timespec) -> c_int {
    match clock_nanosleep(libc::CLOCK_MONOTONIC, 0, request, left) {
        0 => 0,
        error => sys::fail_with(error),
    }
}

/// `usleep`.
pub fn usleep(us: u32) -> c_int {
    nanosleep(&timespec_of(u64::from(us) * 1000), std::ptr::null_mut())
}

/// A moment of some clock on the monotonic one.
fn monotonic(zero: Zero, at_ns: u64) -> u64 {
    match (zero, TIMELINE.is_virtual()) {
        (Zero::Start, _) => at_ns,
        (Zero::Epoch, true) => at_ns.saturating_sub(TIMELINE.real_offset_ns.load(Ordering::Relaxed)),
        (Zero::Epoch, false) => {
            let left = at_ns.saturating_sub(sys::clock_ns(libc::CLOCK_REALTIME));
            sys::clock_ns(libc::CLOCK_MONOTONIC).saturating_add(left)
        }
    }
}

/// A wait of the calling thread, one of the allocator's; it holds time no more.
struct Waiting {
    thread: u32,
    word: Arc<AtomicU32>,
    looks: Looks,
    condition: bool,
}

impl Waiting {
    fn begin(until_ns: u64, condition: Option<Condition>) -> Waiting {
        let (thread, word) = (sys::thread_id(), Arc::new(AtomicU32::new(ASLEEP)));
        if condition.is_some() {
            TIMELINE.conditions.fetch_add(1, Ordering::AcqRel);
        }
        let mut state = TIMELINE.lock();
        state.begin_wait(Wait { thread, until_ns, word: word.clone(), condition });
        let woken = TIMELINE.advance(&mut state);
        drop(state);
        wake(woken);
        Waiting { thread, word, looks: Looks::default(), condition: condition.is_some() }
    }

    /// Whether the virtual clock has come to its end.
    fn is_over(&self) -> bool {
        self.word.load(Ordering::Acquire) == AWAKE
    }

    /// Whether somebody has said that it is over.
    fn was_woken(&self) -> bool {
        TIMELINE.lock().was_woken(self.thread)
    }

    fn look(&mut self) {
        TIMELINE.look(&mut self.looks);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.condition {
            TIMELINE.conditions.fetch_sub(1, Ordering::AcqRel);
        }
        TIMELINE.lock().end_wait(self.thread, TIMELINE.is_virtual());
    }
}

fn sleep_until(until_ns: u64) {
    if until_ns <= now_ns() {
        return;
    }
    let mut wait = Waiting::begin(until_ns, None);
    while !wait.is_over() {
        if TIMELINE.is_virtual() {
            sys::futex_wait(&wait.word, ASLEEP, Some(LOOK_NS));
            if !wait.is_over() {
                wait.look();
            }
        } else {
            let left = until_ns.saturating_sub(now_ns());
            if left == 0 {
                return;
            }
            sys::futex_wait(&wait.word, ASLEEP, Some(left));
        }
    }
}

/// `pthread_cond_wait` (`until`: none), `pthread_cond_timedwait`, and `pthread_cond_clockwait` (with its clock).
pub fn cond_wait(
    cond: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    clock: Option<clockid_t>,
    until: Option<&timespec>,
) -> c_int {
    let Some(until) = until else {
        if is_harness() {
            return sys::cond_wait(cond, mutex);
        }
        // Without a clock to name, one slice on a condition that goes by the other is as good as endless.
        let named = sys::has_clockwait().then_some(libc::CLOCK_REALTIME);
        return wait_for_condition((cond, mutex), libc::CLOCK_REALTIME, named, u64::MAX, || {
            sys::cond_wait(cond, mutex)
        });
    };
    if !is_valid(until) {
        return libc::EINVAL;
    }
    // Which clock a condition goes by is known to the C library alone; but the two are decades apart.
    let by_size = if until.tv_sec > SINCE_1970_S { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC };
    let wall = clock.unwrap_or(by_size);
    let Some(zero) = zero(wall) else { return libc::EINVAL };
    if is_harness() {
        return match virtual_ns(zero) {
            None => sys::cond_timedwait(cond, mutex, clock, until),
            Some(now) => {
                let left = ns(until).saturating_sub(now);
                sys::cond_timedwait(cond, mutex, clock, &timespec_of(sys::clock_ns(wall).saturating_add(left)))
            }
        };
    }
    let until_ns = monotonic(zero, ns(until));
    if until_ns <= now_ns() {
        return libc::ETIMEDOUT;
    }
    wait_for_condition((cond, mutex), wall, clock, until_ns, || sys::cond_timedwait(cond, mutex, clock, until))
}

/// On a thread of the allocator's. `at_the_wall` is the wait as it is while there is no virtual clock.
fn wait_for_condition(
    (cond, mutex): (*mut pthread_cond_t, *mut pthread_mutex_t),
    wall: clockid_t,
    named: Option<clockid_t>,
    until_ns: u64,
    at_the_wall: impl FnOnce() -> c_int,
) -> c_int {
    let condition = Condition { cond: cond.expose_provenance(), mutex: mutex.expose_provenance() };
    let mut wait = Waiting::begin(until_ns, Some(condition));
    if !TIMELINE.is_virtual() {
        // When the virtual clock begins it is woken, as a condition's waits may be at any time.
        return at_the_wall();
    }
    loop {
        let slice = timespec_of(sys::clock_ns(wall) + LOOK_NS);
        let status = sys::cond_timedwait(cond, mutex, named, &slice);
        if wait.is_over() {
            return libc::ETIMEDOUT;
        }
        if status != libc::ETIMEDOUT || wait.was_woken() {
            return if status == libc::ETIMEDOUT { 0 } else { status };
        }
        wait.look();
    }
}

/// `pthread_cond_signal` and `pthread_cond_broadcast`. Where threads of the allocator's wait by the virtual clock all are
/// woken: they hold time from this moment, and which one a signal wakes is not known before.
pub fn cond_wake(cond: *mut pthread_cond_t, all: bool) -> c_int {
    if !TIMELINE.is_virtual() || TIMELINE.conditions.load(Ordering::Acquire) == 0 {
        return if all { sys::cond_broadcast(cond) } else { sys::cond_signal(cond) };
    }
    TIMELINE.lock().signalled(cond.expose_provenance());
    sys::cond_broadcast(cond)
}

/// `sem_wait` (`until`: none) and `sem_timedwait`.
pub fn sem_wait(sem: *mut sem_t, until: Option<&timespec>) -> c_int {
    if until.is_some_and(|until| !is_valid(until)) {
        return sys::fail_with(libc::EINVAL);
    }
    if is_harness() {
        return match (until, virtual_ns(Zero::Epoch)) {
            (None, _) => sys::sem_wait(sem),
            (Some(until), None) => sys::sem_timedwait(sem, until),
            (Some(until), Some(now)) => {
                let left = ns(until).saturating_sub(now);
                sys::sem_timedwait(sem, &timespec_of(sys::clock_ns(libc::CLOCK_REALTIME).saturating_add(left)))
            }
        };
    }
    let until_ns = until.map_or(u64::MAX, |until| monotonic(Zero::Epoch, ns(until)));
    let mut wait = Waiting::begin(until_ns, None);
    let mut looked = sys::clock_ns(libc::CLOCK_MONOTONIC);
    loop {
        // What is there is taken even when the time is up.
        let over = wait.is_over() || until_ns <= now_ns();
        let slice = if over { 0 } else { SEMAPHORE_NS };
        if sys::sem_timedwait(sem, &timespec_of(sys::clock_ns(libc::CLOCK_REALTIME) + slice)) == 0 {
            return 0;
        }
        if over || sys::errno() != libc::ETIMEDOUT {
            return -1;
        }
        let now = sys::clock_ns(libc::CLOCK_MONOTONIC);
        if now - looked >= LOOK_NS {
            looked = now;
            wait.look();
        }
    }
}
