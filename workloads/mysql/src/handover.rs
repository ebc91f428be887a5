//! Things that one session makes and its neighbour takes, some transactions later: how blocks come to be freed by
//! another thread than the one that allocated them.
//!
//! A server passes table instances between its threads as the scheduler has it. Here each session takes what the
//! session before it has put in, after a fixed number of turns: the same number of things is on the way and the same
//! share of frees is foreign, but which block is freed by whom does not depend on how threads happen to be scheduled.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use fragbench_engine::{Ledger, clock};

/// Turns that a session may be ahead of its successor beyond the depth: bounds what is live at one time.
const SLACK: usize = 8;

/// Where a member of a ring puts things, and where it takes them.
pub(crate) type Pair<T> = (Arc<Handover<T>>, Arc<Handover<T>>);

/// Things on their way from the session that makes them to the one that takes them.
#[derive(Debug)]
pub(crate) struct Handover<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    depth: usize,
}

#[derive(Debug)]
struct State<T> {
    things: VecDeque<T>,
    put: u64,
}

impl<T> Handover<T> {
    /// Holds `depth` things once it is full.
    pub(crate) fn new(depth: usize) -> Handover<T> {
        let things = VecDeque::with_capacity(depth + SLACK + 1);
        Handover { state: Mutex::new(State { things, put: 0 }), changed: Condvar::new(), depth }
    }

    /// For a ring of `members`: what each puts into the first of its pair, the next takes from the second of its own.
    pub(crate) fn ring(members: usize, depth: usize) -> Vec<Pair<T>> {
        let links: Vec<_> = (0..members).map(|_| Arc::new(Handover::new(depth))).collect();
        (0..members).map(|i| (links[i].clone(), links[(i + members - 1) % members].clone())).collect()
    }

    /// Puts a thing in, once a turn; waits when the successor lags too far behind.
    pub(crate) fn put(&self, ledger: &Ledger, thing: T) {
        let mut state = self.wait(ledger, |s| s.things.len() > self.depth + SLACK);
        state.things.push_back(thing);
        state.put += 1;
        self.changed.notify_all();
    }

    /// In its turn number `turn` (from 1) the successor takes what was put in `depth` turns before that; `None` while
    /// the first things are still on their way.
    pub(crate) fn take(&self, ledger: &Ledger, turn: u64) -> Option<T> {
        let due = turn.checked_sub(self.depth as u64).filter(|due| *due > 0)?;
        let mut state = self.wait(ledger, |s| s.put < due);
        self.changed.notify_all();
        state.things.pop_front()
    }

    /// Does `job` with each thing on its way; none may be put or taken meanwhile.
    pub(crate) fn each(&self, job: impl FnMut(&mut T)) {
        self.lock().things.iter_mut().for_each(job);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, ledger: &Ledger, mut blocked: impl FnMut(&State<T>) -> bool) -> MutexGuard<'_, State<T>> {
        let state = self.lock();
        if !blocked(&state) {
            return state;
        }
        let start = clock::monotonic_ns();
        let state = self.changed.wait_while(state, |s| blocked(s)).unwrap_or_else(PoisonError::into_inner);
        ledger.waited(clock::monotonic_ns() - start);
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::test_ledger;

    #[test]
    fn a_thing_is_taken_as_many_turns_later_as_the_handover_is_deep() {
        let ledger = test_ledger();
        let handover = Handover::new(2);
        for turn in 1..=5 {
            handover.put(&ledger, turn);
            assert_eq!(handover.take(&ledger, turn), turn.checked_sub(2).filter(|t| *t > 0));
        }
    }

    #[test]
    fn a_ring_leads_from_each_to_the_next() {
        let ledger = test_ledger();
        let ring = Handover::ring(3, 1);
        for (i, (puts, _)) in ring.iter().enumerate() {
            puts.put(&ledger, i);
            puts.put(&ledger, i);
        }
        let taken: Vec<_> = ring.iter().map(|(_, takes)| takes.take(&ledger, 2)).collect();
        assert_eq!(taken, [Some(2), Some(0), Some(1)]);
    }
}
