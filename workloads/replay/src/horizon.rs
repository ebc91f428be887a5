//! The window of recorded time within which all threads stay.
//!
//! A thread parks when its next operation is not below the horizon. When all have parked, the last moves the horizon
//! past the earliest of their operations by the window, and wakes those that now have something to do; so at each move
//! the replay is exactly where the recording was at that time. A thread that is alone moves the horizon by itself and
//! never sleeps.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::sys::{futex_wait, futex_wake};

/// A parked thread looks for the end of its wait this often before it sleeps, when there are processors for all.
const SPINS: u32 = 300;

const SPINNING: u32 = 0;
const ASLEEP: u32 = 1;
const AWAKE: u32 = 2;

#[derive(Debug)]
struct State {
    /// Threads neither parked nor gone.
    running: usize,
    /// Time of the next operation, and seat.
    parked: BinaryHeap<Reverse<(u64, usize)>>,
    /// Times the horizon was moved.
    moves: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Horizon {
    us: AtomicU64,
    window_us: u64,
    processors: usize,
    /// One a thread of the trace, in each copy.
    seats: Vec<AtomicU32>,
    state: Mutex<State>,
    quiet: Condvar,
}

impl Horizon {
    pub(crate) fn new(seats: usize, window_us: u64) -> Self {
        Self {
            us: AtomicU64::new(0),
            window_us,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            seats: (0..seats).map(|_| AtomicU32::new(AWAKE)).collect(),
            state: Mutex::new(State { running: 0, parked: BinaryHeap::new(), moves: 0 }),
            quiet: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations below this time may be done.
    pub(crate) fn us(&self) -> u64 {
        self.us.load(Ordering::Acquire)
    }

    /// A thread takes part from now on. Called before it runs, by who starts it.
    pub(crate) fn enter(&self) {
        self.lock().running += 1;
    }

    /// The thread has no further operation.
    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        state.running -= 1;
        let woken = self.advance(&mut state);
        if state.running == 0 {
            self.quiet.notify_all();
        }
        drop(state);
        self.wake(&woken);
    }

    /// Returns the horizon once an operation at `us` is below it.
    pub(crate) fn park(&self, seat: usize, us: u64) -> u64 {
        let mut state = self.lock();
        if us < self.us() {
            return self.us();
        }
        self.seats[seat].store(SPINNING, Ordering::Relaxed);
        state.parked.push(Reverse((us, seat)));
        state.running -= 1;
        let woken = self.advance(&mut state);
        let spin = state.running + state.parked.len() <= self.processors;
        drop(state);
        self.wake(&woken);
        self.sleep(seat, spin);
        self.us()
    }

    /// Moves the horizon if nobody runs any more, and takes those who may go on out of the heap.
    fn advance(&self, state: &mut State) -> Vec<usize> {
        let mut woken = Vec::new();
        let (0, Some(Reverse((least, _)))) = (state.running, state.parked.peek()) else { return woken };
        let horizon = least.saturating_add(self.window_us);
        self.us.store(horizon, Ordering::Release);
        state.moves += 1;
        while let Some(Reverse((us, seat))) = state.parked.peek().copied() {
            if us >= horizon {
                break;
            }
            state.parked.pop();
            state.running += 1;
            woken.push(seat);
        }
        woken
    }

    fn wake(&self, seats: &[usize]) {
        for &seat in seats {
            if self.seats[seat].swap(AWAKE, Ordering::AcqRel) == ASLEEP {
                futex_wake(&self.seats[seat]);
            }
        }
    }

    fn sleep(&self, seat: usize, spin: bool) {
        let word = &self.seats[seat];
        for _ in 0..if spin { SPINS } else { 1 } {
            if word.load(Ordering::Acquire) == AWAKE {
                return;
            }
            std::hint::spin_loop();
        }
        if word.compare_exchange(SPINNING, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return;
        }
        while word.load(Ordering::Acquire) != AWAKE {
            futex_wait(word, ASLEEP);
        }
    }

    /// Waits until every thread has left.
    pub(crate) fn wait_quiet(&self) {
        let busy = |s: &mut State| s.running > 0 || !s.parked.is_empty();
        drop(self.quiet.wait_while(self.lock(), busy).unwrap_or_else(PoisonError::into_inner));
    }

    /// Times the horizon was moved.
    pub(crate) fn moves(&self) -> u64 {
        self.lock().moves
    }
}
