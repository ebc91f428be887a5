//! What is said when a recording has ended: of the program's end, of the traces, and why there is nothing in them.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use std::os::unix::process::ExitStatusExt;

use fragbench_run::{OwnMalloc, Program};
use fragbench_trace::PackReport;
use fragbench_trace::spool::Spool;
use fragbench_trace::spool::format::Status;
use fragbench_trace::spool::provider::Provided;

use super::follow::Unrecorded;

/// Traces of children that are named one by one.
const NAMED: usize = 8;

/// A trace that was made.
pub(crate) struct Made {
    pub(crate) trace: PathBuf,
    pub(crate) report: PackReport,
}

/// What a spool's head tells that its trace does not.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The program's own malloc was found before the recorder: its file.
    pub(crate) own_malloc: Option<PathBuf>,
    /// Libraries loaded whose calls passed the recorder by.
    pub(crate) passing_loads: u32,
    /// Recording ended before a filter of system calls.
    pub(crate) filtered: bool,
    /// Recording was never switched on.
    pub(crate) never_on: bool,
}

impl Told {
    pub(crate) fn of(spool: &Spool, start_paused: bool) -> Self {
        let malloc = spool.provider(Provided::Malloc).filter(|found| found.before_recorder);
        Self {
            own_malloc: malloc.map(|found| found.path.clone()),
            passing_loads: spool.closing().map_or(0, |c| c.passing_loads),
            filtered: spool.closing().is_some_and(|c| c.status == Status::Filtered),
            never_on: start_paused && spool.gaps().is_empty() && spool.threads().next().is_none(),
        }
    }

    /// What to say of a recording that holds something.
    pub(crate) fn describe(&self, trace: &Path) {
        let shown = trace.display();
        if self.passing_loads > 0 {
            note!(
                "{shown}: {} libraries were loaded with a search order of their own (RTLD_DEEPBIND, dlmopen): what these \
                 allocate passes the recorder by, so the trace is marked as incomplete",
                self.passing_loads
            );
        }
        if self.filtered {
            note!(
                "{shown}: recording ended when the program installed a seccomp filter that would have ended it for a system \
                 call of the recorder's"
            );
        }
    }
}

/// Why a program's recording holds no event.
pub(crate) fn why_nothing(
    program: &Program,
    told: Option<&Told>,
    unrecorded: Option<&Unrecorded>,
    status: &ExitStatus,
    signal: i32,
) -> Option<String> {
    let shown = program.file.display();
    if let Some(file) = told.and_then(|told| told.own_malloc.as_ref()) {
        return Some(format!(
            "{} brings its own malloc, which the dynamic loader finds before the recorder's: use a build without it",
            file.display()
        ));
    }
    if let Some(Unrecorded { program, reason }) = unrecorded {
        return Some(format!("{}: {reason}", program.display()));
    }
    if program.is_musl() {
        return Some(format!("{shown} runs on musl: the recorder is made for glibc; use a build for glibc"));
    }
    if matches!(program.own_malloc, Some(OwnMalloc::Exported(_))) {
        return Some(format!("{shown} brings its own malloc, which comes before any preloaded one"));
    }
    if told.is_some_and(|told| told.never_on) {
        return Some(format!(
            "recording was never switched on: no signal {signal} reached the recorder in {shown}. Was it sent, and does the \
             program handle it itself (SigCgt in /proc/PID/status)? --signal takes another"
        ));
    }
    if status.signal() == Some(libc::SIGSYS) {
        return Some(format!("{shown} was ended by a filter of system calls (SIGSYS)"));
    }
    told.is_none().then(|| {
        format!(
            "{shown} left no spool. Its environment may have been cleared on the way, or it ended before its first allocation"
        )
    })
}

/// How the program ended, if not well.
pub(crate) fn describe_end(program: &Path, status: &ExitStatus) {
    let shown = program.display();
    match (status.code(), status.signal()) {
        (Some(0), _) => {}
        (Some(code), _) => note!("{shown} ended with exit status {code}"),
        (_, Some(libc::SIGSYS)) => note!(
            "{shown} was ended by SIGSYS: a filter of system calls (seccomp) does not allow one it made. If it runs without \
             fragbench, it was one of the recorder's (pwrite64, fstat, rt_sigprocmask, mincore, futex, mmap): allow these \
             while recording"
        ),
        (_, Some(signal)) => note!("{shown} was ended by signal {signal}"),
        _ => {}
    }
}

/// The exit status a shell would show.
pub(crate) fn exit_status(status: &ExitStatus) -> u8 {
    let number = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(number).unwrap_or(1)
}

/// The trace in one sentence.
pub(crate) fn describe(made: &Made) -> String {
    let Made { trace, report } = made;
    let totals = &report.totals;
    let per_event = if totals.events > 0 { report.bytes as f64 / totals.events as f64 } else { 0.0 };
    let whole = if totals.complete { "" } else { "; incomplete, see `fragbench trace info`" };
    let stacks = report.stacks.map_or_else(String::new, |n| {
        format!("\n{n} call stacks of blocks never freed are in it, with names of functions and files: not anonymous")
    });
    format!(
        "{}: {} events on {} threads in {:.1} s, {} bytes ({per_event:.2} an event){whole}; the recorder itself held at most {} KiB{stacks}",
        trace.display(),
        totals.events,
        totals.threads,
        totals.duration_us as f64 / 1e6,
        report.bytes,
        totals.recorder_peak_bytes >> 10
    )
}

/// The traces of children and of images before an exec, those with most events first.
pub(crate) fn describe_others(mut others: Vec<Made>) {
    others.sort_by_key(|made| std::cmp::Reverse(made.report.totals.events));
    for made in others.iter().take(NAMED) {
        let whole = if made.report.totals.complete { "" } else { "; incomplete" };
        note!("{}: {} events{whole}", made.trace.display(), made.report.totals.events);
    }
    if others.len() > NAMED {
        note!("and {} more there", others.len() - NAMED);
    }
}
