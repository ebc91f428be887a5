//! A thread's way through recording: it is given a buffer at its first event and returns it at its end, and everything
//! the fast path will not decide is decided here.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use fragbench_trace::spool::SpoolKind;

use crate::buffer::{Buffer, Refusal};
use crate::process::{PROCESS, Phase};
use crate::raw::Quiet;
use crate::tls::{self, Being, Tls};
use crate::{clock, stacks};

/// The key whose destructor tells of a thread's end; its number plus one.
static KEY: AtomicU32 = AtomicU32::new(0);
/// The destructor puts itself off until libc's last round, so that it comes after those of other libraries, which free
/// memory.
const ROUNDS: u32 = 4;

/// Makes the key, once.
pub(crate) fn make_key() {
    let mut key = 0;
    // SAFETY: the destructor is a function of this library, which is never unloaded.
    if unsafe { libc::pthread_key_create(&raw mut key, Some(at_thread_exit)) } == 0 {
        KEY.store(key + 1, Ordering::Release);
    }
}

fn set_key(value: *mut c_void) {
    if let Some(key) = KEY.load(Ordering::Acquire).checked_sub(1) {
        // The first 32 keys have their room in the thread itself; only if the program's libraries made as many before
        // us does this allocate, which then finds the thread `Busy`.
        // SAFETY: the key exists.
        unsafe { libc::pthread_setspecific(key, value) };
    }
}

/// Makes the thread new: in a forked child, where its buffer does not exist.
///
/// # Safety
/// The thread has no buffer in this process.
pub(crate) unsafe fn forget() {
    // SAFETY: the thread's own words.
    unsafe {
        let tls = tls::get();
        // Calls that have not returned still will.
        tls.write(Tls { inside: (*tls).inside, ..tls::EMPTY });
    }
}

/// Records an event that the fast path would not.
#[cold]
#[inline(never)]
pub(crate) fn record(q: u64, kind: &SpoolKind) {
    // SAFETY: the thread's own words.
    if unsafe { (*tls::get()).inside } != 0 {
        return PROCESS.count_nested();
    }
    match PROCESS.phase() {
        Phase::Recording => {
            if q >= PROCESS.slow_until.load(Ordering::Relaxed) {
                PROCESS.check_time();
                if PROCESS.phase() != Phase::Recording {
                    return;
                }
            }
        }
        Phase::Unset => {
            PROCESS.set_up();
            if PROCESS.phase() != Phase::Recording {
                return;
            }
        }
        Phase::SettingUp => return PROCESS.count_early(),
        Phase::Paused | Phase::Stopped => return,
        Phase::Ending => {}
    }
    // SAFETY: the thread's own words; the buffer in them is its own.
    unsafe {
        let tls = tls::get();
        match (*tls).being {
            Being::Busy => PROCESS.count_nested(),
            Being::Refused => PROCESS.count_lost(),
            Being::Gone => record_late(&mut *tls, q, kind, stacks::of(tls, kind)),
            Being::New => {
                if let Some(buffer) = attach(tls, q) {
                    append(buffer, q, kind, stacks::of(tls, kind));
                }
            }
            Being::Live => append(&*(*tls).buffer, q, kind, stacks::of(tls, kind)),
        }
    }
}

/// Makes the calling thread known before its first event.
pub(crate) fn enter() {
    // SAFETY: the thread's own words.
    unsafe {
        let tls = tls::get();
        if (*tls).being == Being::New {
            attach(tls, clock::quantum());
        }
    }
}

/// Gives the thread a number and a buffer.
///
/// # Safety
/// `tls` is the calling thread's.
#[cold]
unsafe fn attach(tls: *mut Tls, q: u64) -> Option<&'static Buffer> {
    let _quiet = Quiet::new();
    // SAFETY: the thread's own words.
    unsafe {
        if (*tls).being == Being::Live {
            // A signal handler was here first.
            return Some(&*(*tls).buffer);
        }
        (*tls).being = Being::Busy;
        let Some(buffer) = PROCESS.pool.take() else {
            (*tls).being = Being::Refused;
            PROCESS.count_lost();
            return None;
        };
        (*tls).thread = PROCESS.number_thread();
        (*tls).seq = 0;
        (*tls).put_off = 0;
        buffer.begin((*tls).thread, 0, q);
        // Any value but null makes the destructor run.
        set_key(tls.cast());
        (*tls).buffer = (&raw const *buffer).cast_mut();
        (*tls).being = Being::Live;
        append(buffer, q, &SpoolKind::ThreadStart, None);
        Some(buffer)
    }
}

/// Appends to the thread's buffer, making room first if there is none.
///
/// # Safety
/// By the buffer's owner.
unsafe fn append(buffer: &Buffer, q: u64, kind: &SpoolKind, stack: Option<u32>) {
    // SAFETY: by the caller.
    unsafe {
        match buffer.append(q, kind, stack) {
            Ok(()) => {}
            Err(Refusal::Appending) => {
                if !buffer.set_aside(q, kind, stack) {
                    PROCESS.count_lost();
                }
                return;
            }
            Err(Refusal::Pending | Refusal::Full) => make_room(buffer, q, kind, stack),
        }
        if PROCESS.phase() == Phase::Ending {
            let _quiet = Quiet::new();
            PROCESS.flush(buffer);
        }
    }
}

/// # Safety
/// By the buffer's owner, not while appending.
#[cold]
#[inline(never)]
unsafe fn make_room(buffer: &Buffer, q: u64, kind: &SpoolKind, stack: Option<u32>) {
    let _quiet = Quiet::new();
    // SAFETY: by the caller; signals are blocked.
    unsafe {
        let append = |q, kind: &SpoolKind, stack| {
            if buffer.append(q, kind, stack) == Err(Refusal::Full) {
                PROCESS.flush(buffer);
                if buffer.append(q, kind, stack).is_err() {
                    PROCESS.count_lost();
                }
            }
        };
        buffer.take_aside(append);
        if buffer.is_asked() {
            PROCESS.flush(buffer);
        }
        append(q, kind, stack);
    }
}

/// What libc frees for a thread after its last destructor: written at once, in a buffer borrowed for it.
///
/// # Safety
/// `tls` is the calling thread's.
#[cold]
unsafe fn record_late(tls: &mut Tls, q: u64, kind: &SpoolKind, stack: Option<u32>) {
    let _quiet = Quiet::new();
    let Some(buffer) = PROCESS.pool.take() else {
        return PROCESS.count_lost();
    };
    tls.being = Being::Busy;
    buffer.begin(tls.thread, tls.seq, q);
    // SAFETY: nobody else has the buffer.
    unsafe {
        if buffer.append(q, kind, stack).is_err() {
            PROCESS.count_lost();
        }
        PROCESS.flush(buffer);
        tls.seq = buffer.seq();
        PROCESS.pool.give_back(buffer);
    }
    tls.being = Being::Gone;
}

/// Destructor of the key: the thread's end.
unsafe extern "C" fn at_thread_exit(value: *mut c_void) {
    // SAFETY: the thread's own words; called by libc in the thread.
    unsafe {
        let tls = tls::get();
        if PROCESS.phase() == Phase::Unset {
            // In a forked child that has recorded nothing yet.
            return forget();
        }
        if (*tls).being != Being::Live {
            return;
        }
        (*tls).put_off += 1;
        if (*tls).put_off < ROUNDS {
            return set_key(value);
        }
        let _quiet = Quiet::new();
        let buffer = &*(*tls).buffer;
        (*tls).buffer = ptr::null_mut();
        (*tls).being = Being::Gone;
        if matches!(PROCESS.phase(), Phase::Recording | Phase::Ending) {
            append(buffer, clock::quantum(), &SpoolKind::ThreadExit, None);
        }
        PROCESS.flush(buffer);
        (*tls).seq = buffer.seq();
        PROCESS.pool.give_back(buffer);
    }
}
