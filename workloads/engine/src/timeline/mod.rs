//! The run's own time: a window of recorded time within which all threads stay, and, at the virtual pace, the clock that
//! the allocator reads.
//!
//! A thread of the work parks when its next operation is not below the horizon. When all have parked, the last moves the
//! horizon past the earliest of their operations by the window, and wakes those that now have something to do; so at each
//! move the work is exactly where the recording was at that time. A thread that is alone moves the horizon by itself and
//! never sleeps.
//!
//! # The virtual clock
//!
//! It shows the time of the earliest operation at the last move: no thread is behind it, and it never runs back. The
//! allocator's readings of time are answered with it, and the waits of threads that the allocator has started itself end
//! by it (`calls`). A wait's end is an event like an operation of the work: the horizon stops at it, the clock is set to
//! it, the thread is woken and counts as running until it waits again, and only then does time go on. A thread of the
//! allocator's that runs or waits for a lock holds the clock; one that waits for a condition without a limit does not.
//!
//! # Why it cannot dead-lock
//!
//! Time stands still while somebody counts as running. Whoever runs, ends or waits: an operation of the work ends in the
//! next park, a thread of the allocator's in its next wait. What is left are threads that wait for something that only
//! time brings: a lock whose owner sleeps until a moment that has not come. Every sleeper looks now and then; when twice in
//! a row nothing has moved and the kernel says that nobody else runs, those that count as running are left out until they
//! come back, and time goes on without them, as it would on a server. Threads that ended or sleep by a call that is not
//! answered here are found out in the same way, and so is a thread of the harness's that takes no part and waits for the
//! allocator. Only while the parent is waited for nothing is done: then nobody runs, and time stands still.

pub mod calls;
mod state;
pub(crate) mod sys;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use fragbench_model::CounterPage;
use state::{State, Woken};

/// A parked thread looks for the end of its wait this often before it sleeps, when there are processors for all.
const SPINS: u32 = 300;

/// A sleeper looks this often whether time stands still; one that nobody depends on, so often.
const LOOK_NS: u64 = 20_000_000;
const SLOW_LOOK_NS: u64 = 1_000_000_000;
/// Looks in a row that must agree before time goes on without those who count as running.
const LOOKS: u32 = 2;

/// Takes no part.
const OUT: u32 = 0;
const AWAKE: u32 = 1;
const SPINNING: u32 = 2;
const ASLEEP: u32 = 3;
/// Counts as running no more, since it waits for something that only time brings.
const BLOCKED: u32 = 4;

/// See the module. One a process: [`timeline`].
#[derive(Debug)]
pub struct Timeline {
    /// Operations below this time may be done, in nanoseconds of recorded time.
    horizon_ns: AtomicU64,
    /// The virtual clock, as nanoseconds of `CLOCK_MONOTONIC`; 0: the clock is the wall's.
    now_ns: AtomicU64,
    /// What `CLOCK_REALTIME` is ahead of `CLOCK_MONOTONIC`, from the moment the virtual clock began.
    real_offset_ns: AtomicU64,
    /// Somebody other than the harness has read a clock.
    read: AtomicBool,
    /// The harness waits for its parent: that nobody runs is as it should be.
    resting: AtomicBool,
    /// Waits of the allocator's threads for conditions, now.
    conditions: AtomicU32,
    state: Mutex<State>,
    quiet: Condvar,
    /// Where the parent reads the time.
    page: OnceLock<&'static CounterPage>,
}

/// A place in the timeline for one thread of the work.
#[derive(Debug)]
pub struct Seat(Arc<AtomicU32>);

static TIMELINE: Timeline = Timeline::new();

thread_local! {
    /// Whether this is a thread of the harness's.
    static HARNESS: Cell<bool> = const { Cell::new(false) };
}

/// The one timeline of this process.
pub fn timeline() -> &'static Timeline {
    &TIMELINE
}

/// The calling thread is one of the harness's: its waits are the wall's. Every thread started by a [`crate::Spawner`] is.
pub fn belongs_to_harness() {
    HARNESS.set(true);
}

fn is_harness() -> bool {
    HARNESS.get()
}

fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Looks up the C library's own functions, before the work.
pub fn prepare() {
    sys::prepare();
}

impl Timeline {
    pub(crate) const fn new() -> Timeline {
        Timeline {
            horizon_ns: AtomicU64::new(0),
            now_ns: AtomicU64::new(0),
            real_offset_ns: AtomicU64::new(0),
            read: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            conditions: AtomicU32::new(0),
            state: Mutex::new(State::new()),
            quiet: Condvar::new(),
            page: OnceLock::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows recorded time to the parent on this page.
    pub(crate) fn show_on(&self, page: &'static CounterPage) {
        // One process has one page.
        let _ = self.page.set(page);
    }

    /// Begins anew at time 0, with windows of this many nanoseconds. Nobody takes part.
    pub fn open(&self, window_ns: u64) {
        let mut state = self.lock();
        state.open(window_ns);
        self.horizon_ns.store(0, Ordering::Release);
    }

    /// From now on the allocator reads recorded time, which goes on from the wall's as it is now.
    pub fn begin_virtual(&self) {
        sys::prepare();
        let mut state = self.lock();
        if self.is_virtual() {
            return;
        }
        let wall_ns = sys::clock_ns(libc::CLOCK_MONOTONIC);
        let real_ns = sys::clock_ns(libc::CLOCK_REALTIME);
        self.real_offset_ns.store(real_ns.saturating_sub(wall_ns), Ordering::Relaxed);
        state.base_ns = wall_ns.saturating_sub(state.elapsed_ns);
        self.now_ns.store(wall_ns, Ordering::Release);
        // Who waited for the wall's clock waits for this one.
        state.kick_all();
    }

    /// Whether the clock is the recording's.
    pub fn is_virtual(&self) -> bool {
        self.now_ns.load(Ordering::Relaxed) != 0
    }

    /// Whether the allocator has read a clock through the C library since it was loaded.
    pub fn was_read(&self) -> bool {
        self.read.load(Ordering::Relaxed)
    }

    /// Operations below this time may be done.
    pub fn horizon_ns(&self) -> u64 {
        self.horizon_ns.load(Ordering::Acquire)
    }

    /// Recorded time at the last move: no thread that takes part is behind it.
    pub fn elapsed_ns(&self) -> u64 {
        self.lock().elapsed_ns
    }

    /// Times the horizon was moved.
    pub fn moves(&self) -> u64 {
        self.lock().moves
    }

    /// A place for a thread, which does not take part yet.
    pub fn seat(&self) -> Seat {
        let word = Arc::new(AtomicU32::new(OUT));
        self.lock().add_seat(&word);
        Seat(word)
    }

    /// A thread takes part from now on. Called before it runs, by who starts it.
    pub fn enter(&self, seat: &Seat) {
        let mut state = self.lock();
        seat.0.store(AWAKE, Ordering::Relaxed);
        state.running += 1;
    }

    /// The thread has no further operation.
    pub fn leave(&self, seat: &Seat) {
        let mut state = self.lock();
        state.stop_running(seat.0.swap(OUT, Ordering::AcqRel));
        let woken = self.advance(&mut state);
        if state.is_quiet() {
            self.quiet.notify_all();
        }
        drop(state);
        wake(woken);
    }

    /// Returns the horizon once an operation at `at_ns` is below it.
    pub fn park(&self, seat: &Seat, at_ns: u64) -> u64 {
        let state = self.lock();
        if at_ns < self.horizon_ns() {
            return self.horizon_ns();
        }
        self.wait(seat, at_ns, state);
        self.horizon_ns()
    }

    fn wait(&self, seat: &Seat, at_ns: u64, mut state: MutexGuard<'_, State>) {
        state.stop_running(seat.0.swap(SPINNING, Ordering::AcqRel));
        state.park(at_ns, seat.0.clone());
        let woken = self.advance(&mut state);
        let spin = state.running + state.parked() <= processors();
        let watch = state.allocator_runs();
        drop(state);
        wake(woken);
        self.sleep(&seat.0, spin, watch);
    }

    /// Waits for something that neither time nor the allocator brings.
    pub(crate) fn at_rest<R>(&self, wait: impl FnOnce() -> R) -> R {
        self.resting.store(true, Ordering::Release);
        let result = wait();
        self.resting.store(false, Ordering::Release);
        result
    }

    /// Lets `time_ns` pass for the calling thread and all who wait for time.
    pub fn pass(&self, time_ns: u64) {
        let seat = self.seat();
        self.enter(&seat);
        let state = self.lock();
        let at_ns = state.elapsed_ns.saturating_add(time_ns);
        self.wait(&seat, at_ns, state);
        self.leave(&seat);
    }

    /// As [`Self::pass`], or where the clock is the wall's, sleeps as long.
    pub fn pass_or_sleep(&self, time_ns: u64) {
        if self.is_virtual() { self.pass(time_ns) } else { crate::clock::sleep_ns(time_ns) }
    }

    /// Waits until every thread has left.
    pub fn wait_quiet(&self) {
        let busy = |s: &mut State| !s.is_quiet();
        drop(self.quiet.wait_while(self.lock(), busy).unwrap_or_else(PoisonError::into_inner));
    }

    /// Moves time on if nobody runs any more, to the next operation or end of a wait.
    fn advance(&self, state: &mut State) -> Woken {
        self.moved(state.advance(self.is_virtual(), false), state)
    }

    fn moved(&self, woken: Woken, state: &State) -> Woken {
        if woken.moved {
            if self.is_virtual() {
                self.now_ns.fetch_max(state.base_ns + state.elapsed_ns, Ordering::AcqRel);
            }
            self.horizon_ns.store(state.horizon_ns, Ordering::Release);
            if let Some(page) = self.page.get() {
                page.recorded_ns.store(state.elapsed_ns, Ordering::Relaxed);
            }
        }
        woken
    }

    /// A sleeper's look whether time stands still although nobody does anything: then it goes on without those who count
    /// as running.
    fn look(&self, looks: &mut Looks) {
        let state = self.lock();
        let moves = state.moves;
        let stuck = state.somebody_runs() || !self.resting.load(Ordering::Acquire);
        if !stuck || moves != looks.moves {
            *looks = Looks { moves, idle: 0 };
            return;
        }
        drop(state);
        looks.idle = if sys::all_others_sleep() { looks.idle + 1 } else { 0 };
        if looks.idle < LOOKS {
            return;
        }
        looks.idle = 0;
        let mut state = self.lock();
        if state.moves == moves {
            state.leave_out_running();
            let woken = state.advance(self.is_virtual(), true);
            let woken = self.moved(woken, &state);
            drop(state);
            wake(woken);
        }
    }
}

/// What a sleeper saw when it last looked.
#[derive(Debug, Default)]
struct Looks {
    moves: u64,
    /// Times in a row that nothing had moved and all others slept.
    idle: u32,
}

fn wake(woken: Woken) {
    for word in woken.words() {
        if word.swap(AWAKE, Ordering::AcqRel) == ASLEEP {
            sys::futex_wake(word);
        }
    }
}

impl Timeline {
    /// Sleeps until woken. `watch`: someone was woken who may never come back.
    fn sleep(&self, word: &AtomicU32, spin: bool, watch: bool) {
        for _ in 0..if spin { SPINS } else { 1 } {
            if word.load(Ordering::Acquire) == AWAKE {
                return;
            }
            std::hint::spin_loop();
        }
        if word.compare_exchange(SPINNING, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return;
        }
        let mut looks = Looks::default();
        let most_ns = self.is_virtual().then_some(if watch { LOOK_NS } else { SLOW_LOOK_NS });
        while word.load(Ordering::Acquire) == ASLEEP {
            sys::futex_wait(word, ASLEEP, most_ns);
            if most_ns.is_some() && word.load(Ordering::Acquire) == ASLEEP {
                self.look(&mut looks);
            }
        }
    }
}
