//! The first thread's other task: to start the threads when their first operations come. (In the recorded program some
//! other thread may have done so; what that costs is libc's few hundred bytes a thread, which then lie in another arena.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fragbench_engine::{Spawner, Thread, timeline};

use crate::player;
use crate::run::{Run, Start};

/// Starts the threads of one copy.
#[derive(Debug)]
pub(crate) struct Starter {
    run: Arc<Run>,
    spawner: Spawner,
    copy: usize,
    next: usize,
    running: Vec<Child>,
}

#[derive(Debug)]
struct Child {
    thread: Thread<()>,
    /// Its stream ended with the thread's exit.
    exited: Arc<AtomicBool>,
}

impl Starter {
    pub(crate) fn new(run: &Arc<Run>, spawner: &Spawner, copy: usize) -> Self {
        Self { run: run.clone(), spawner: spawner.clone(), copy, next: 0, running: Vec::new() }
    }

    /// The next thread to start.
    pub(crate) fn next(&self) -> Option<Start> {
        self.run.starts.get(self.next).copied()
    }

    /// Starts the next thread, whose turn has come.
    pub(crate) fn start(&mut self) {
        let Some(start) = self.next() else { return };
        self.next += 1;
        self.reap();
        let exited = Arc::new(AtomicBool::new(false));
        let (run, copy, ended) = (self.run.clone(), self.copy, exited.clone());
        timeline().enter(run.seat(copy, Some(start.place)));
        let thread = self.spawner.spawn(move |ledger| {
            if player::play(&run, copy, Some(start.place), ledger, None) {
                ended.store(true, Ordering::Release);
            } else {
                run.gate.pass();
            }
        });
        self.running.push(Child { thread, exited });
    }

    /// Joins those that have exited: their stacks are used again.
    pub(crate) fn reap(&mut self) {
        let mut i = 0;
        while i < self.running.len() {
            if self.running[i].exited.load(Ordering::Acquire) {
                self.running.swap_remove(i).thread.join();
            } else {
                i += 1;
            }
        }
    }
}
