//! `malloc_trim(0)` in a live process: what was predicted, what it released, what it cost.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use fragbench_model::{HeapBytes, Kept};
use fragbench_proc::{LiveTarget, Process};
use serde::Serialize;

use crate::AskError;
use crate::session::{Limits, Session, survey, survey_within};
use crate::symbols::Symbols;

/// Which survey a prediction was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Surveyed {
    /// The one taken while the process stood still, right before the call.
    Stopped,
    /// The one taken right before the stop, because a survey takes longer than the process may stand still for it.
    Running,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trimmed {
    /// Process.
    pub pid: u32,
    /// RSS right before the call, while the process stood still.
    pub rss_before_bytes: u64,
    /// RSS right after it, before the process went on.
    pub rss_after_bytes: u64,
    /// The difference; 0 when the other threads took more meanwhile.
    pub released_bytes: u64,
    /// What a survey said it would release.
    pub predicted_release_bytes: u64,
    /// Which survey.
    pub surveyed: Surveyed,
    /// Time of that survey.
    pub survey_ms: f64,
    /// How far the prediction was off, as a share of the RSS before.
    pub prediction_error_ratio: f64,
    /// Whether `malloc_trim` says that it gave memory back.
    pub returned: bool,
    /// Time of the call, gdb's own part (about a millisecond) included. Other threads run meanwhile.
    pub call_ms: f64,
    /// Time in which all threads stood still.
    pub stopped_ms: f64,
    /// Times the process was stopped.
    pub stops: u64,
    /// Looks at whether a thread is inside malloc.
    pub looks: u64,
    /// The heap before.
    pub before: HeapBytes,
    /// The heap after.
    pub after: HeapBytes,
    /// Resident bytes of the heap that stayed, by reason.
    pub kept: BTreeMap<Kept, u64>,
}

/// Calls `malloc_trim(0)` in a process.
///
/// # Errors
/// [`AskError`]; the process runs on.
pub fn trim(pid: u32, limits: &Limits) -> Result<Trimmed, AskError> {
    let target = LiveTarget::open(pid)?;
    let first = survey(&target)?;
    let symbols = Symbols::read(&target, first.libc.object.as_deref().unwrap_or(Path::new("?")))?;
    let address = symbols.address("malloc_trim")?;
    let process = Process::live(pid);
    // Of a process at work what was seen before the stop is no longer so at the stop. It serves where a survey takes
    // longer than the process may be held up for it.
    let (running, took) = (RefCell::new(first), Cell::new(Duration::ZERO));
    let mut session = Session::start(&target, symbols.guard(), limits)?;
    let ((had, has, returned, stopped), visit) = session.visit(
        || {
            let begun = Instant::now();
            running.replace(survey(&target)?);
            took.set(begun.elapsed());
            Ok(())
        },
        |session| {
            let begun = Instant::now();
            let quick = took.get() < limits.still;
            let stopped = if quick { survey_within(limits.still, &target)? } else { None };
            let stopped = stopped.map(|survey| (survey, begun.elapsed()));
            let had = process.status()?.rss_bytes;
            let returned = session.call("malloc_trim", address, &[0])?;
            Ok((had, process.status()?.rss_bytes, returned, stopped))
        },
    )?;
    let (before, survey_time, surveyed) = match stopped {
        Some((survey, time)) => (survey, time, Surveyed::Stopped),
        None => (running.into_inner(), took.get(), Surveyed::Running),
    };
    let after = survey(&target)?;
    let predicted = before.trim().predicted_release_bytes;
    let released = had.saturating_sub(has);
    Ok(Trimmed {
        pid,
        rss_before_bytes: had,
        rss_after_bytes: has,
        released_bytes: released,
        predicted_release_bytes: predicted,
        surveyed,
        survey_ms: survey_time.as_secs_f64() * 1e3,
        prediction_error_ratio: predicted.abs_diff(released) as f64 / had.max(1) as f64,
        returned: returned == 1,
        call_ms: visit.called.as_secs_f64() * 1e3,
        stopped_ms: visit.stopped.as_secs_f64() * 1e3,
        stops: visit.stops,
        looks: visit.looks,
        before: before.bytes(),
        after: after.bytes(),
        kept: after.trim().kept,
    })
}
