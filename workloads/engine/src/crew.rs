//! Threads with a state each that take turns of work together: the usual shape of a phase.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Ledger, Spawner, Thread};

type Job<S> = Arc<dyn Fn(usize, &mut S, &mut Ledger) + Send + Sync>;

struct Post<S> {
    state: Mutex<State<S>>,
    changed: Condvar,
}

struct State<S> {
    /// Raised with every job; a member runs each once.
    round: u64,
    job: Option<Job<S>>,
    /// Members still at the current job.
    busy: usize,
}

/// `n` threads, each owning an `S`, all waiting for the next job.
pub struct Crew<S> {
    post: Arc<Post<S>>,
    members: Vec<Thread<()>>,
}

/// A job under way; dropping it waits for its end.
#[must_use = "dropping a turn waits for its end"]
pub struct Turn<'a, S>(&'a Post<S>);

impl<S> fmt::Debug for Turn<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn")
    }
}

impl<S> fmt::Debug for Crew<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").field("members", &self.members.len()).finish()
    }
}

impl<S: Send + 'static> Crew<S> {
    /// Starts one thread for each state, in order.
    pub fn start(spawner: &Spawner, states: impl IntoIterator<Item = S>) -> Crew<S> {
        Self::assemble(states, |post, index, own| spawner.spawn(move |ledger| post.serve(index, own, ledger)))
    }

    /// As [`Self::start`] with [`Spawner::spawn_cold`]: the threads have freed nothing before their first job.
    pub fn start_cold(spawner: &Spawner, states: impl IntoIterator<Item = S>) -> Crew<S> {
        Self::assemble(states, |post, index, own| spawner.spawn_cold(move |ledger| post.serve(index, own, ledger)))
    }

    fn assemble(states: impl IntoIterator<Item = S>, spawn: impl Fn(Arc<Post<S>>, usize, S) -> Thread<()>) -> Crew<S> {
        let state = State { round: 0, job: None, busy: 0 };
        let post = Arc::new(Post { state: Mutex::new(state), changed: Condvar::new() });
        let members = states.into_iter().enumerate().map(|(index, own)| spawn(post.clone(), index, own)).collect();
        Crew { post, members }
    }

    /// Number of threads.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no threads.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// All threads run `job(index, state, ledger)` at the same time; returns when the last has ended.
    pub fn all(&self, job: impl Fn(usize, &mut S, &mut Ledger) + Send + Sync + 'static) {
        self.begin(job).wait();
    }

    /// As [`Self::all`], returning at once: several crews can work together.
    pub fn begin(&self, job: impl Fn(usize, &mut S, &mut Ledger) + Send + Sync + 'static) -> Turn<'_, S> {
        let mut state = self.post.lock();
        state.round += 1;
        state.busy = self.members.len();
        state.job = Some(Arc::new(job));
        self.post.changed.notify_all();
        Turn(&self.post)
    }

    /// The threads run `job` one after the other, in order: for work whose outcome depends on who comes first.
    pub fn in_turn(&self, job: impl Fn(usize, &mut S, &mut Ledger) + Send + Sync + 'static) {
        let turn = Mutex::new(0);
        let passed = Condvar::new();
        self.all(move |index, state, ledger| {
            let at = turn.lock().unwrap_or_else(PoisonError::into_inner);
            let mut at = passed.wait_while(at, |at| *at != index).unwrap_or_else(PoisonError::into_inner);
            job(index, state, ledger);
            *at += 1;
            passed.notify_all();
        });
    }

    /// Ends the threads; their states are dropped where they live.
    pub fn dismiss(self) {}
}

impl<S> Turn<'_, S> {
    /// Waits until the last thread has ended.
    pub fn wait(self) {}
}

impl<S> Drop for Turn<'_, S> {
    fn drop(&mut self) {
        let state = self.0.lock();
        let busy = |state: &mut State<S>| state.busy > 0;
        self.0.changed.wait_while(state, busy).unwrap_or_else(PoisonError::into_inner).job = None;
    }
}

impl<S> Drop for Crew<S> {
    fn drop(&mut self) {
        let mut state = self.post.lock();
        state.round = u64::MAX;
        self.post.changed.notify_all();
        drop(state);
        self.members.clear();
    }
}

impl<S> Post<S> {
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, index: usize, mut own: S, ledger: &mut Ledger) {
        let mut seen = 0;
        loop {
            let state = self.lock();
            let state = self.changed.wait_while(state, |s| s.round == seen).unwrap_or_else(PoisonError::into_inner);
            if state.round == u64::MAX {
                return;
            }
            seen = state.round;
            let job = state.job.clone();
            drop(state);
            if let Some(job) = &job {
                job(index, &mut own, ledger);
            }
            drop(job);
            let mut state = self.lock();
            state.busy -= 1;
            if state.busy == 0 {
                self.changed.notify_all();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Share;

    #[test]
    fn members_keep_their_state_and_take_turns_in_order() {
        let spawner = Spawner::new(Share::default());
        let crew = Crew::start(&spawner, vec![0u64; 5]);
        crew.all(|index, state, _| *state += index as u64);
        crew.all(|_, state, _| *state *= 10);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        crew.in_turn(move |_, state, _| log.lock().unwrap().push(*state));
        assert_eq!(*seen.lock().unwrap(), [0, 10, 20, 30, 40]);
        crew.dismiss();
        assert_eq!(spawner.started(), 5);
    }
}
