//! Blocks of a thread's stream, read one after the other. The large buffers that reading needs for a moment are shared
//! by all threads: a replay of hundreds of threads keeps as many of them as are reading at one time.

use fragbench_model::WorkerErrorKind;
use std::sync::{Mutex, PoisonError};

use fragbench_engine::{fail, refuse};
use fragbench_trace::decode::Block;
use fragbench_trace::{BlockEntry, Scratch, Trace};

/// A trace and the buffers for reading it.
#[derive(Debug)]
pub(crate) struct Loader {
    pub(crate) trace: Trace,
    scratch: Mutex<Vec<Scratch>>,
}

impl Loader {
    pub(crate) fn new(trace: Trace) -> Self {
        Self { trace, scratch: Mutex::new(Vec::new()) }
    }

    /// Reads a block; ends the run when it is damaged.
    pub(crate) fn load(&self, entry: &BlockEntry, block: &mut Block) {
        let spare = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = spare().pop().unwrap_or_default();
        if let Err(error) = self.trace.load(entry, block, &mut scratch) {
            fail(refuse(WorkerErrorKind::BadTrace, error.to_string()));
        }
        spare().push(scratch);
    }
}
