//! Periodic `malloc_trim(0)` inside any program on glibc, as a preload library: `FRAGBENCH_TRIM_EVERY_MS=1000` has a
//! thread of its own call it once a second. The remedy of programs that cannot be changed, and what is measured is what
//! would be put under the server.
//!
//! The thread takes no signals (a server's own handlers keep theirs), allocates nothing once it runs, so no arena is made for it, and
//! counts its calls and their time for who asks: `fragbench_trim_totals`. With it a program has two threads from the
//! start, so malloc takes its locks even where the program itself has one.
//!
//! Refuses: to replace malloc (it is glibc's that is trimmed: under another allocator the calls find an empty heap); to do
//! anything without the variable or with one that is no number of milliseconds; to go on in a child after fork(2), where
//! starting a thread is not safe. A program that is started anew reads the variable anew.
//!
//! Source: malloc_trim(3); signal(7) on threads and masks; pthread_atfork(3) on what may be called after fork.

mod sys;

use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering};

/// Variable that holds the interval in milliseconds.
const VARIABLE: &core::ffi::CStr = c"FRAGBENCH_TRIM_EVERY_MS";
/// Longest interval: a day.
const MOST_MS: u64 = 86_400_000;

static CALLS: AtomicU64 = AtomicU64::new(0);
static TOTAL_NS: AtomicU64 = AtomicU64::new(0);
static LONGEST_NS: AtomicU64 = AtomicU64::new(0);

/// What the trimming has cost so far: number of calls, their time and the longest of them, in nanoseconds.
///
/// # Safety
/// `totals` must point to three writable values.
#[unsafe(no_mangle)]
unsafe extern "C" fn fragbench_trim_totals(totals: *mut u64) {
    for (i, value) in [&CALLS, &TOTAL_NS, &LONGEST_NS].into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { totals.add(i).write(value.load(Ordering::Relaxed)) };
    }
}

/// The interval in nanoseconds, from the variable's text.
fn interval_ns(text: &[u8]) -> Option<u64> {
    let ms: u64 = core::str::from_utf8(text).ok()?.parse().ok()?;
    (1..=MOST_MS).contains(&ms).then_some(ms * 1_000_000)
}

/// Runs when the library is loaded, before the program.
extern "C" fn start() {
    if let Some(interval) = sys::variable(VARIABLE).and_then(interval_ns) {
        // The thread takes a value, not a reference: nothing has to outlive this function.
        sys::start_thread(trim_for_ever, interval as usize as *mut c_void);
    }
}

extern "C" fn trim_for_ever(interval: *mut c_void) -> *mut c_void {
    let interval_ns = interval as usize as u64;
    let mut next = sys::now_ns() + interval_ns;
    loop {
        sys::sleep_until(next);
        let begun = sys::wall_ns();
        sys::malloc_trim();
        let took = sys::wall_ns() - begun;
        CALLS.fetch_add(1, Ordering::Relaxed);
        TOTAL_NS.fetch_add(took, Ordering::Relaxed);
        LONGEST_NS.fetch_max(took, Ordering::Relaxed);
        // From the end of the call: where trimming takes longer than the interval, the program still gets its turn.
        next = sys::now_ns() + interval_ns;
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;
