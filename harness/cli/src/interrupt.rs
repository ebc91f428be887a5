//! Ctrl-C and friends as a flag: what was done so far stays valid, the run in progress is given up.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT, SIGTERM and SIGHUP set the flag that is returned.
pub(crate) fn flag() -> Result<&'static AtomicBool> {
    static HANDLED: OnceLock<Result<(), String>> = OnceLock::new();
    let handled = HANDLED.get_or_init(|| {
        ctrlc::set_handler(|| {
            // Who asks twice means it.
            if INTERRUPTED.swap(true, Ordering::AcqRel) {
                std::process::exit(130);
            }
        })
        .map_err(|error| format!("signals cannot be handled: {error}"))
    });
    handled.clone().map_err(anyhow::Error::msg)?;
    Ok(&INTERRUPTED)
}
