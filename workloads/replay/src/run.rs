//! What all threads of a replay share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use fragbench_engine::timeline::Seat;

use crate::load::Loader;
use crate::pace::Paced;
use crate::peak::Peak;
use crate::slots::Lanes;
use crate::turns::Turns;

/// A replay under way.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) loader: Loader,
    /// Threads of the trace, ascending; a thread's place here is its seat within a copy.
    pub(crate) threads: Vec<u32>,
    /// Starts of all threads but the first, in order.
    pub(crate) starts: Vec<Start>,
    /// Slots of each copy of the trace.
    pub(crate) copies: Vec<Lanes>,
    /// One a thread of the trace, in each copy.
    pub(crate) seats: Vec<Seat>,
    pub(crate) turns: Turns,
    pub(crate) peak: Peak,
    pub(crate) paced: Option<Paced>,
    pub(crate) counts: Counts,
    /// Time at the begin in which is built what the process held when it was attached to, µs.
    pub(crate) prologue_us: u64,
    /// Free chunks between those blocks are left out.
    pub(crate) no_holes: bool,
    /// Opened when the threads that lived at the recording's end may end.
    pub(crate) gate: Gate,
}

/// The start of a thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// Number in the order of first operations and exits.
    pub(crate) turn: u64,
    /// Time of its first operation.
    pub(crate) us: u64,
    /// Its place in [`Run::threads`].
    pub(crate) place: usize,
}

/// Sums over all threads; each adds its own when its stream ends.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Frees of blocks the recording had not seen.
    pub(crate) unseen_frees: AtomicU64,
    /// The program's own calls that adjusted its allocator, done as it did.
    pub(crate) adjusts: AtomicU64,
    /// Those that this allocator has not.
    pub(crate) adjusts_left_out: AtomicU64,
    /// Waits for a block that another thread had yet to make.
    pub(crate) waits: AtomicU64,
    /// Waits for a slot that another thread had yet to empty.
    pub(crate) slot_waits: AtomicU64,
    /// Waits for a thread to begin or end.
    pub(crate) turn_waits: AtomicU64,
}

/// What one thread counted.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) unseen_frees: u64,
    pub(crate) adjusts: u64,
    pub(crate) adjusts_left_out: u64,
    pub(crate) waits: u64,
    pub(crate) slot_waits: u64,
    pub(crate) turn_waits: u64,
}

impl Counts {
    pub(crate) fn add(&self, tally: &Tally) {
        self.unseen_frees.fetch_add(tally.unseen_frees, Ordering::Relaxed);
        self.adjusts.fetch_add(tally.adjusts, Ordering::Relaxed);
        self.adjusts_left_out.fetch_add(tally.adjusts_left_out, Ordering::Relaxed);
        self.waits.fetch_add(tally.waits, Ordering::Relaxed);
        self.slot_waits.fetch_add(tally.slot_waits, Ordering::Relaxed);
        self.turn_waits.fetch_add(tally.turn_waits, Ordering::Relaxed);
    }
}

impl Run {
    /// Number of a turn among those of all copies, which go in step.
    pub(crate) fn turn(&self, copy: usize, number: u64) -> u64 {
        number.saturating_mul(self.copies.len() as u64).saturating_add(copy as u64)
    }

    /// Seat of a thread in the timeline; `None`: of a first thread without operations.
    pub(crate) fn seat(&self, copy: usize, place: Option<usize>) -> &Seat {
        // A trace whose first thread makes no event still has a first thread here: the last seat of the copy.
        &self.seats[copy * (self.threads.len() + 1) + place.unwrap_or(self.threads.len())]
    }
}

/// A door that is closed once and opened once.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    pub(crate) fn pass(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(open, |open| !*open).unwrap_or_else(PoisonError::into_inner));
    }
}
