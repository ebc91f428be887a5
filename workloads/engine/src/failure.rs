//! The end of a run that cannot go on: one [`Message::Error`] line, then the process is gone. Nothing is unwound,
//! since other threads may wait for the one that failed. Only the first failure is told.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use fragbench_model::{Message, WorkerError, WorkerErrorKind};

use crate::sys;

static FAILING: AtomicBool = AtomicBool::new(false);

/// A failure of the given kind as a value.
pub fn refuse(kind: WorkerErrorKind, text: impl Into<String>) -> WorkerError {
    WorkerError { kind, text: text.into() }
}

/// Tells the parent and ends the process with status 1.
#[cold]
pub fn fail(error: WorkerError) -> ! {
    if FAILING.swap(true, Ordering::SeqCst) {
        // Another thread is already saying why; this one only has to keep out of the way.
        loop {
            std::hint::spin_loop();
            crate::clock::sleep_ns(1_000_000);
        }
    }
    let line = serde_json::to_string(&Message::Error(error)).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    // The parent may be gone as well; there is nobody left to tell.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
    sys::exit_now(1)
}
