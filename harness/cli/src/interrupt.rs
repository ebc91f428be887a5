//! Ctrl-C and friends as a flag: what was done so far stays valid, the run in progress is given up.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT, SIGTERM and SIGHUP set the flag that is returned.
pub(crate) fn flag() -> Result<&'static AtomicBool> {
    ctrlc::set_handler(|| {
        // Who asks twice means it.
        if INTERRUPTED.swap(true, Ordering::AcqRel) {
            std::process::exit(130);
        }
    })
    .context("signals cannot be handled")?;
    Ok(&INTERRUPTED)
}
