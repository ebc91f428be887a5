//! Lines of the counter page: one a thread, handed on when the thread ends, so that thousands of threads may come and
//! go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use fragbench_model::{CounterPage, CounterSums, MAX_THREAD_COUNTERS, ThreadCounters};

use crate::latency::Latency;
use crate::offheap;
use crate::timeline::timeline;

/// A line of the shared page and what belongs to it but is not for the sampler. On cache lines of its own (two: the
/// processor fetches them in pairs), since its thread writes to it with every call.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Line {
    pub(crate) shared: &'static ThreadCounters,
    /// Sum over all blocks ever made of the mix of identity and size: order-independent. One writer.
    pub(crate) checksum: AtomicU64,
    /// Locked once for each call timed, and when results are added up.
    pub(crate) latency: Mutex<Option<Latency>>,
}

/// All lines of the process.
#[derive(Debug)]
pub(crate) struct Lines {
    page: &'static CounterPage,
    timed: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    all: Vec<&'static Line>,
    free: Vec<&'static Line>,
}

/// What all threads have done so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    pub(crate) sums: CounterSums,
    pub(crate) checksum: u64,
    pub(crate) latency: fragbench_model::LatencySummary,
}

impl Lines {
    /// `timed` says whether lines need histograms. `None` when there is no memory for the page.
    pub(crate) fn new(timed: bool) -> Option<Lines> {
        let page = offheap::counter_page()?;
        timeline().show_on(page);
        Some(Lines { page, timed, state: Mutex::default() })
    }

    /// A line nobody writes to; `None` when all are taken.
    pub(crate) fn claim(&self) -> Option<&'static Line> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = state.free.pop() {
            return Some(line);
        }
        let index = state.all.len();
        if index == MAX_THREAD_COUNTERS {
            return None;
        }
        // Lines live as long as the page they stand for: to the end of the process.
        let line: &'static Line = Box::leak(Box::new(Line {
            shared: &self.page.threads[index],
            checksum: AtomicU64::new(0),
            latency: Mutex::new(self.timed.then(Latency::new)),
        }));
        state.all.push(line);
        self.page.used.store(state.all.len() as u32, Ordering::Release);
        Some(line)
    }

    /// Hands a line on. Its sums stay: the next thread adds to them.
    pub(crate) fn give_back(&self, line: &'static Line) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).free.push(line);
    }

    /// Adds up all lines; exact when all threads are quiet.
    pub(crate) fn totals(&self) -> Totals {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut latency = self.timed.then(Latency::new);
        let mut checksum = 0u64;
        for line in &state.all {
            checksum = checksum.wrapping_add(line.checksum.load(Ordering::Relaxed));
            let of_line = line.latency.lock().unwrap_or_else(PoisonError::into_inner);
            if let (Some(sum), Some(part)) = (&mut latency, &*of_line) {
                sum.add(part);
            }
        }
        Totals { sums: self.page.sums(), checksum, latency: latency.map(|l| l.summary()).unwrap_or_default() }
    }
}
