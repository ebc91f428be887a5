//! Who takes part in the timeline, and which event comes next. Pure but for the wake-up of waits for conditions, which has to
//! happen under the lock.

use std::cmp::{Ordering as Order, Reverse};
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use super::{AWAKE, BLOCKED, sys};

/// A wait of one of the allocator's threads.
#[derive(Debug)]
pub(super) struct Wait {
    /// The kernel's number of the thread: it waits for one thing at a time.
    pub(super) thread: u32,
    /// End, as nanoseconds of `CLOCK_MONOTONIC`; `u64::MAX`: none.
    pub(super) until_ns: u64,
    /// Becomes [`AWAKE`] when the end has come.
    pub(super) word: Arc<AtomicU32>,
    pub(super) condition: Option<Condition>,
}

/// A condition and its mutex, by their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) cond: usize,
    pub(super) mutex: usize,
}

/// An operation of the work that has not come.
#[derive(Debug)]
struct Parked {
    at_ns: u64,
    /// Parts operations of one time, in the order of parking.
    number: u64,
    word: Arc<AtomicU32>,
}

impl Parked {
    fn key(&self) -> (u64, u64) {
        (self.at_ns, self.number)
    }
}

impl PartialEq for Parked {
    fn eq(&self, other: &Parked) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Parked {}

impl PartialOrd for Parked {
    fn partial_cmp(&self, other: &Parked) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for Parked {
    fn cmp(&self, other: &Parked) -> Order {
        self.key().cmp(&other.key())
    }
}

/// Who is to be woken after a move: the first apart, since often there is no other.
#[derive(Debug, Default)]
pub(super) struct Woken {
    pub(super) moved: bool,
    first: Option<Arc<AtomicU32>>,
    rest: Vec<Arc<AtomicU32>>,
}

impl Woken {
    fn push(&mut self, word: Arc<AtomicU32>) {
        match self.first {
            None => self.first = Some(word),
            Some(_) => self.rest.push(word),
        }
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &AtomicU32> {
        self.first.iter().chain(&self.rest).map(|word| &**word)
    }
}

#[derive(Debug)]
pub(super) struct State {
    /// Threads of the work neither parked nor gone nor left out.
    pub(super) running: usize,
    /// Threads of the work that were left out and have not come back.
    blocked: usize,
    /// The allocator's threads that were woken and have not waited again, by the kernel's number.
    awake: Vec<u32>,
    parked: BinaryHeap<Reverse<Parked>>,
    number: u64,
    waits: Vec<Wait>,
    seats: Vec<Weak<AtomicU32>>,
    pub(super) window_ns: u64,
    /// Recorded time at the last move.
    pub(super) elapsed_ns: u64,
    pub(super) horizon_ns: u64,
    /// The virtual clock at recorded time 0.
    pub(super) base_ns: u64,
    /// Times the horizon or the clock was moved.
    pub(super) moves: u64,
}

impl State {
    pub(super) const fn new() -> State {
        State {
            running: 0,
            blocked: 0,
            awake: Vec::new(),
            parked: BinaryHeap::new(),
            number: 0,
            waits: Vec::new(),
            seats: Vec::new(),
            window_ns: 0,
            elapsed_ns: 0,
            horizon_ns: 0,
            base_ns: 0,
            moves: 0,
        }
    }

    pub(super) fn open(&mut self, window_ns: u64) {
        self.window_ns = window_ns;
        (self.elapsed_ns, self.horizon_ns, self.moves) = (0, 0, 0);
    }

    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.running == 0 && self.blocked == 0 && self.parked.is_empty()
    }

    pub(super) fn allocator_runs(&self) -> bool {
        !self.awake.is_empty()
    }

    /// Whether somebody holds time, or is waited for without holding it.
    pub(super) fn somebody_runs(&self) -> bool {
        self.running > 0 || self.blocked > 0 || self.allocator_runs()
    }

    /// A thread of the work parks or leaves; `before` is what its word held.
    pub(super) fn stop_running(&mut self, before: u32) {
        if before == BLOCKED { self.blocked -= 1 } else { self.running -= 1 }
    }

    pub(super) fn park(&mut self, at_ns: u64, word: Arc<AtomicU32>) {
        self.number += 1;
        self.parked.push(Reverse(Parked { at_ns, number: self.number, word }));
    }

    pub(super) fn add_seat(&mut self, word: &Arc<AtomicU32>) {
        if self.seats.len() == self.seats.capacity() {
            self.seats.retain(|seat| seat.strong_count() > 0);
        }
        self.seats.push(Arc::downgrade(word));
    }

    /// A thread of the allocator's begins to wait.
    pub(super) fn begin_wait(&mut self, wait: Wait) {
        self.awake.retain(|thread| *thread != wait.thread);
        self.waits.push(wait);
    }

    /// The wait is over, however it ended; with `counts` its thread holds time from now on.
    pub(super) fn end_wait(&mut self, thread: u32, counts: bool) {
        self.waits.retain(|wait| wait.thread != thread);
        if counts && !self.awake.contains(&thread) {
            self.awake.push(thread);
        }
    }

    /// Whether a thread that still sits in a wait was told that it is over.
    pub(super) fn was_woken(&self, thread: u32) -> bool {
        self.awake.contains(&thread)
    }

    /// Those that wait for `cond` hold time from now on: somebody is about to wake them.
    pub(super) fn signalled(&mut self, cond: usize) {
        let (over, still): (Vec<Wait>, Vec<Wait>) =
            self.waits.drain(..).partition(|wait| wait.condition.is_some_and(|c| c.cond == cond));
        self.waits = still;
        for wait in over {
            self.end_wait(wait.thread, true);
        }
    }

    /// Has every wait look at the clock again.
    pub(super) fn kick_all(&self) {
        for wait in &self.waits {
            match wait.condition {
                Some(condition) => sys::kick(condition.cond, condition.mutex),
                None => sys::futex_wake(&wait.word),
            }
        }
    }

    /// Those that count as running do so no more until they come back.
    pub(super) fn leave_out_running(&mut self) {
        self.awake.clear();
        for seat in self.seats.iter().filter_map(Weak::upgrade) {
            if seat.compare_exchange(AWAKE, BLOCKED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                self.running -= 1;
                self.blocked += 1;
            }
        }
    }

    /// The next event, if nobody runs: an operation of the work, and all others within the window; or the end of a wait,
    /// where waits are by this clock. Without operations to come, time goes on only for those who are left out, and where all
    /// are `stuck`.
    pub(super) fn advance(&mut self, waits_take_part: bool, stuck: bool) -> Woken {
        let mut woken = Woken::default();
        if self.running > 0 || self.allocator_runs() {
            return woken;
        }
        let next_ns = self.parked.peek().map(|Reverse(parked)| parked.at_ns);
        if next_ns.is_none() && self.blocked == 0 && !stuck {
            return woken;
        }
        let wait = if waits_take_part { self.next_wait() } else { None };
        match (next_ns, wait) {
            (next_ns, Some((i, at_ns))) if next_ns.is_none_or(|next_ns| at_ns <= next_ns) => {
                self.elapsed_ns = self.elapsed_ns.max(at_ns);
                woken.push(self.wake_wait(i));
            }
            (Some(next_ns), wait) => {
                self.elapsed_ns = self.elapsed_ns.max(next_ns);
                let until_ns = next_ns.saturating_add(self.window_ns.max(1));
                self.horizon_ns = self.horizon_ns.max(wait.map_or(until_ns, |(_, at_ns)| at_ns.min(until_ns)));
                while let Some(Reverse(parked)) = self.parked.peek()
                    && parked.at_ns < self.horizon_ns
                {
                    let Some(Reverse(parked)) = self.parked.pop() else { break };
                    self.running += 1;
                    woken.push(parked.word);
                }
            }
            (None, _) => return woken,
        }
        self.moves += 1;
        woken.moved = true;
        woken
    }

    /// The wait that ends first, and when, in recorded time.
    fn next_wait(&self) -> Option<(usize, u64)> {
        let ends = self.waits.iter().enumerate().filter(|(_, wait)| wait.until_ns != u64::MAX);
        let first = ends.min_by_key(|(_, wait)| wait.until_ns)?;
        Some((first.0, first.1.until_ns.saturating_sub(self.base_ns)))
    }

    fn wake_wait(&mut self, i: usize) -> Arc<AtomicU32> {
        let wait = self.waits.swap_remove(i);
        self.awake.push(wait.thread);
        if let Some(Condition { cond, mutex }) = wait.condition {
            // Before the wait can return, which takes this lock: the condition is still its thread's.
            wait.word.store(AWAKE, Ordering::Release);
            sys::kick(cond, mutex);
        }
        wait.word
    }
}
