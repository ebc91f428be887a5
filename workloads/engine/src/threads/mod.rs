//! Threads of a workload: on memfd-backed stacks, started one at a time.
//!
//! glibc gives a thread its arena at its first allocation, by the history of the process. So a thread makes that
//! allocation, and warms its tcache, before the next one may start: thread → arena is then the same in every run.

use fragbench_model::WorkerErrorKind;
mod sys;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::counters::{Lines, Totals};
use crate::ledger::{Ledger, Share};
use crate::{fail, heap, refuse};
use sys::Posix;

/// Starts threads, from the main thread or from any other. Clones start threads of the same run.
#[derive(Debug, Clone)]
pub struct Spawner(Arc<Common>);

#[derive(Debug)]
struct Common {
    lines: Arc<Lines>,
    share: Share,
    /// Held from the creation of a thread until it has made its first allocation. Guards the number of threads so far.
    starting: Mutex<u32>,
    started: AtomicU32,
}

/// A thread that was started. Dropping it waits for its end.
#[derive(Debug)]
#[must_use = "dropping a thread waits for its end"]
pub struct Thread<T> {
    posix: Option<Posix>,
    result: Arc<Mutex<Option<T>>>,
}

#[derive(Debug, Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(open, |open| !*open).unwrap_or_else(PoisonError::into_inner));
    }
}

impl Spawner {
    /// For a run whose threads share these settings; fails the run when there is no memory for the counter page.
    pub fn new(share: Share) -> Spawner {
        let Some(lines) = Lines::new(share.latency_every > 0) else {
            fail(refuse(WorkerErrorKind::Internal, "no memory for the counter page"))
        };
        let common = Common { lines: Arc::new(lines), share, starting: Mutex::new(0), started: AtomicU32::new(0) };
        Spawner(Arc::new(common))
    }

    /// The main thread's books; opened before any thread starts. [`crate::Context`] has done so.
    pub fn main_ledger(&self) -> Ledger {
        heap::warm();
        Ledger::open(&self.0.lines, self.0.share, 0)
    }

    /// Threads started so far, the main thread not counted.
    pub fn started(&self) -> u32 {
        self.0.started.load(Ordering::Relaxed)
    }

    /// What all threads have done so far.
    pub(crate) fn totals(&self) -> Totals {
        self.0.lines.totals()
    }

    /// Starts a thread and waits until it has made its first allocation. Threads are numbered from 1 in the order of
    /// starting. A panic in `body` ends the run, as does a thread that cannot be started.
    ///
    /// `body` must not use `thread::current`, `thread::park` or channels of the standard library: their thread-local
    /// state would be registered with libc, which allocates for it from the heap under test.
    pub fn spawn<T, F>(&self, body: F) -> Thread<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Ledger) -> T + Send + 'static,
    {
        self.start(heap::warm, body)
    }

    /// As [`Self::spawn`], but the thread frees nothing before `body` does: its first block, of 8 bytes, is kept for
    /// ever. For work whose subject is the first free of a thread.
    pub fn spawn_cold<T, F>(&self, body: F) -> Thread<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Ledger) -> T + Send + 'static,
    {
        let attach = || {
            heap::malloc(8);
        };
        self.start(attach, body)
    }

    /// `attach` gives the thread its arena.
    fn start<T, F>(&self, attach: fn(), body: F) -> Thread<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Ledger) -> T + Send + 'static,
    {
        let result = Arc::new(Mutex::new(None));
        let gate = Arc::new(Gate::default());
        let mut starting = self.0.starting.lock().unwrap_or_else(PoisonError::into_inner);
        *starting += 1;
        let number = *starting;
        let (common, slot, ready) = (self.0.clone(), result.clone(), gate.clone());
        let run = move || {
            attach();
            let mut ledger = Ledger::open(&common.lines, common.share, number);
            ready.open();
            drop(ready);
            match catch_unwind(AssertUnwindSafe(|| body(&mut ledger))) {
                Ok(value) => *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value),
                Err(panic) => {
                    let said = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
                    let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                    fail(refuse(WorkerErrorKind::Internal, format!("thread {number} panicked: {said}")))
                }
            }
        };
        let posix = Posix::start(Box::new(run)).unwrap_or_else(|errno| {
            let error = std::io::Error::from_raw_os_error(errno);
            fail(refuse(
                WorkerErrorKind::Internal,
                format!("thread {number} could not be started: {error}; ask for fewer threads"),
            ))
        });
        self.0.started.store(number, Ordering::Relaxed);
        gate.pass();
        Thread { posix: Some(posix), result }
    }
}

impl<T> Thread<T> {
    /// Waits for the thread's end and gives what its body returned.
    pub fn join(mut self) -> T {
        self.wait();
        let value = self.result.lock().unwrap_or_else(PoisonError::into_inner).take();
        value.unwrap_or_else(|| unreachable!("a thread that ended without a value has ended the process"))
    }

    fn wait(&mut self) {
        if let Some(posix) = self.posix.take() {
            posix.join();
        }
    }
}

impl<T> Drop for Thread<T> {
    fn drop(&mut self) {
        self.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_count_on_lines_of_their_own_that_are_handed_on() {
        let spawner = Spawner::new(Share { latency_every: 1, ..Share::default() });
        let kept: Vec<_> = (0..8u64)
            .map(|i| {
                spawner.spawn(move |ledger| {
                    let id = ledger.next_id();
                    let block = ledger.malloc(id, 100 + i as usize);
                    (ledger.thread(), block)
                })
            })
            .map(Thread::join)
            .collect();
        assert_eq!(kept.iter().map(|(thread, _)| *thread).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
        let totals = spawner.totals();
        assert_eq!((totals.sums.live_blocks, totals.sums.live_bytes, totals.sums.ops), (8, 828, 8));
        assert_eq!(totals.latency.malloc.map(|p| p.count), Some(8));
        spawner.spawn(move |ledger| kept.into_iter().for_each(|(_, block)| ledger.free(block))).join();
        let totals = spawner.totals();
        assert_eq!((totals.sums.live_blocks, totals.sums.live_bytes, totals.sums.ops), (0, 0, 16));
        assert_ne!(totals.checksum, 0);
        assert_eq!(spawner.started(), 9);
    }

    #[test]
    fn several_hundred_threads_live_at_once_and_thousands_in_turn() {
        let spawner = Spawner::new(Share::default());
        let gate = Arc::new(Gate::default());
        let waiting: Vec<_> = (0..300)
            .map(|_| {
                let gate = gate.clone();
                spawner.spawn(move |_| gate.pass())
            })
            .collect();
        gate.open();
        waiting.into_iter().for_each(Thread::join);
        for _ in 0..2000 {
            let one = spawner.spawn(|ledger| {
                let id = ledger.next_id();
                let block = ledger.malloc(id, 64);
                ledger.free(block);
            });
            one.join();
        }
        assert_eq!(spawner.totals().sums.ops, 4000);
    }
}
