//! `fragbench record --attach`: records a process that runs already, and leaves it as it was.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use fragbench_ask::{Attached, Request};
use fragbench_proc::Process;
use fragbench_report::duration_ns;
use fragbench_trace::spool::Spool;
use fragbench_trace::spool::format::Status;
use fragbench_trace::spool::provider::Provided;
use fragbench_trace::{PackOptions, RecordedOn, Start};

use super::record::Record;
use super::trim::VisitOptions;
use crate::recording::conditions;
use crate::recording::ended::{self, Made, Told};
use crate::recording::memory::{MemoryLog, Observed, Observer};
use crate::recording::spools::{SpoolDir, SpoolFile};
use crate::recording::staging::Staging;
use crate::sizes::parse_duration;
use crate::{Outcome, companions, interrupt, usage};

/// Between two looks at the process.
const TICK: Duration = Duration::from_millis(20);
/// A process at work ends a recording by itself within this time.
const BY_ITSELF: Duration = Duration::from_secs(2);

/// How a process is attached to.
#[derive(Debug, Args)]
pub(crate) struct AttachOptions {
    #[command(flatten)]
    visit: VisitOptions,
    /// With --attach: longest time the process may stand still for the survey of what is live. Where that takes longer,
    /// the recording has no start
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "1s")]
    still: Duration,
    /// With --attach: leave out what is live at the start
    #[arg(long)]
    no_survey: bool,
    /// With --attach: directory for the spool and the recorder's library, as the process sees it [default: beside the
    /// trace where the process can get there, else its /var/tmp or /tmp]
    #[arg(long, value_name = "DIR")]
    spool_dir: Option<PathBuf>,
    /// With --attach: attach although a filter of system calls is on, since it refuses what it does not allow and ends
    /// nobody for it, as those of container runtimes do
    #[arg(long)]
    despite_seccomp: bool,
}

impl AttachOptions {
    /// What goes with --attach alone.
    pub(super) fn refuse_alone(&self) -> Result<()> {
        let given = [
            (self.no_survey, "--no-survey"),
            (self.spool_dir.is_some(), "--spool-dir"),
            (self.despite_seccomp, "--despite-seccomp"),
        ];
        match given.into_iter().find(|(given, _)| *given) {
            Some((_, option)) => Err(usage(format!("{option} goes with --attach PID, which is not given"))),
            None => Ok(()),
        }
    }
}

/// Attaches, waits, leaves, packs.
pub(super) fn attach(record: &Record, pid: u32) -> Result<Outcome> {
    let options = &record.attaching;
    let recorder = companions::recorder()?;
    let limits = fragbench_ask::Limits { still: options.still, ..options.visit.limits() };
    let process = Process::live(pid);
    let program = process.program().with_context(|| format!("process {pid}"))?;
    let environment = process.environment().ok().flatten().unwrap_or_default();
    let interrupted = interrupt::flag()?;
    let mut staging = Staging::create(pid, &record.output, options.spool_dir.as_deref(), &recorder)?;
    let request = Request {
        library_there: staging.there.join(recorder.file_name().unwrap_or_default()),
        library: recorder,
        spool_there: staging.there.join("p"),
        control_there: staging.control_there(),
        max_size: record.max_size,
        duration: record.duration,
        stack_depth: if record.stacks { record.stack_depth } else { 0 },
        survey: !options.no_survey,
        filtered: options.despite_seccomp,
    };
    let attached = match fragbench_ask::attach(pid, &request, &limits) {
        Ok(attached) => attached,
        Err(error) => {
            staging.give_up();
            staging.remove();
            return Err(error.into());
        }
    };
    let begun = Begun {
        held: process.status().ok().map(|status| status.rss_bytes),
        start: attached.survey.as_ref().map(crate::recording::start::start),
        why_no_start: why_no_start(&attached, options),
        attached: &attached,
    };
    begun.describe(pid);
    let spools = SpoolDir::at(staging.here.clone());
    let observer = follow(record, &process, pid, &spools, interrupted)?;
    staging.give_up();
    let by_itself = Instant::now();
    while is_open(&spools) && by_itself.elapsed() < BY_ITSELF && process.program().is_ok() {
        std::thread::sleep(TICK);
    }
    if is_open(&spools) && process.program().is_ok() {
        // Nothing has happened in it since.
        if let Err(error) = fragbench_ask::detach(pid, &request, &limits) {
            note!("the recording ends with the process's next event: {error}");
        }
    }
    let Some(file) = spools.list()?.into_iter().next() else { bail!("{} left no spool", program.display()) };
    let retry = || format!("{}; the spool is in {}", record.output.display(), staging.there.display());
    pack(record, begun, observer.of(pid), &environment, &file).with_context(retry)?;
    staging.remove();
    Ok(Outcome::Success)
}

/// What is known when the recording has begun.
struct Begun<'a> {
    attached: &'a Attached,
    /// What was live, and the holes between.
    start: Option<Start>,
    why_no_start: Option<String>,
    /// RSS of the process, bytes.
    held: Option<u64>,
}

impl Begun<'_> {
    fn describe(&self, pid: u32) {
        note!("{}", described(self.attached, pid));
        match (&self.start, &self.why_no_start) {
            (Some(start), _) => {
                let ((blocks, bytes), (holes, _)) = (start.sum(true), start.sum(false));
                note!("it begins with {blocks} live blocks of {bytes} bytes and {holes} free chunks between them");
            }
            (None, Some(why)) => note!("it begins with nothing: {why}"),
            (None, None) => {}
        }
    }

    /// What a trace says of the recording.
    fn recorded_on(&self, spool: &Spool, observed: Option<&Observed>, environment: &[String]) -> RecordedOn {
        let variable = |name: &str| {
            let entry = environment.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
            entry.map(str::to_owned)
        };
        let mut on = conditions::of_environment(observed, None, variable);
        let provider = |of| spool.provider(of).map(conditions::provider);
        on.malloc = provider(Provided::Malloc);
        on.operator_new = provider(Provided::OperatorNew);
        if self.attached.allocator == "glibc" {
            on.glibc = on.malloc.as_ref().and_then(|malloc| malloc.version.clone()).or(on.glibc);
        }
        on.attached_s = Some(spool.header().start_real_ns / 1_000_000_000);
        on.start = Some(self.why_no_start.clone().unwrap_or_else(|| "complete".to_owned()));
        on.start_rss_bytes = self.held;
        on.start_heap_bytes = self.attached.survey.as_ref().map(|survey| {
            let bytes = survey.bytes();
            bytes.resident_bytes - bytes.top_resident_bytes
        });
        on.unreached = unreached(self.attached);
        on
    }
}

/// Looks at the process until the recording, the time or the process ends.
fn follow(
    record: &Record,
    process: &Process,
    pid: u32,
    spools: &SpoolDir,
    interrupted: &AtomicBool,
) -> Result<Observer> {
    let mut observer = Observer::default();
    let mut log = match &record.memory {
        Some(path) => Some((MemoryLog::create(path, pid)?, Instant::now())),
        None => None,
    };
    let begun = Instant::now();
    while process.program().is_ok()
        && !interrupted.load(Ordering::Acquire)
        && record.duration.is_none_or(|limit| begun.elapsed() < limit)
        && is_open(spools)
    {
        observer.sample([pid]);
        if let Some((log, at)) = log.as_mut().filter(|(_, at)| at.elapsed() >= record.memory_interval) {
            log.sample();
            *at = Instant::now();
        }
        std::thread::sleep(TICK.min(record.memory_interval));
    }
    observer.last_look(pid);
    if let Some(trouble) = log.and_then(|(log, _)| log.finish()) {
        note!("the log of --memory has gaps: {trouble}");
    }
    Ok(observer)
}

/// Makes the trace.
fn pack(
    record: &Record,
    begun: Begun<'_>,
    observed: Option<&Observed>,
    environment: &[String],
    file: &SpoolFile,
) -> Result<()> {
    let spool = Spool::open(&file.path)?;
    let recorded_on = begun.recorded_on(&spool, observed, environment);
    // The start is built in a time of its own.
    let prologue_ns = if begun.start.is_some() { fragbench_trace::PROLOGUE_NS } else { 0 };
    let begins_ns = spool.header().start_mono_ns.saturating_sub(prologue_ns);
    let options = PackOptions {
        recorded_on,
        memory: observed.and_then(|observed| observed.series(begins_ns)),
        end_us: None,
        start: begun.start,
        symbols: Some(fragbench_symbols::symbols),
        private: record.stacks,
    };
    let report = fragbench_trace::pack_spool(&spool, &record.output, &options)?;
    let made = Made { trace: record.output.clone(), report };
    note!("{}", ended::describe(&made));
    Told::of(&spool, false).describe(&made.trace);
    Ok(())
}

/// Whether the recording goes on.
fn is_open(spools: &SpoolDir) -> bool {
    let status = |spool: &SpoolFile| spool.head().and_then(|(_, closing)| closing).map(|closing| closing.status);
    let open = |spool: &SpoolFile| matches!(status(spool), None | Some(Status::Running));
    spools.list().is_ok_and(|spools| spools.iter().any(open))
}

/// What was done to the process.
fn described(attached: &Attached, pid: u32) -> String {
    let Attached { allocator, led, longest_stop, again, .. } = attached;
    let again = if *again { ", with the recorder of an earlier recording" } else { "" };
    let mut text = format!(
        "attached to process {pid}: {led} places that call {allocator}'s malloc lead to the recorder{again}; it stood still \
         for {} at most",
        duration_ns(longest_stop.as_nanos() as f64)
    );
    if let Some(unreached) = unreached(attached) {
        text += &format!("\nnot recorded: {unreached}");
    }
    text
}

/// What calls could not be led to the recorder, by number.
fn unreached(attached: &Attached) -> Option<String> {
    let kinds = [
        (attached.unbound, "that are not bound yet and may lead to another allocator"),
        (attached.foreign, "that lead to another allocator"),
        (attached.sealed, "that could not be changed"),
    ];
    let parts: Vec<String> =
        kinds.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("calls of {n} places {what}")).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Why a recording has no start.
fn why_no_start(attached: &Attached, options: &AttachOptions) -> Option<String> {
    if attached.survey.is_some() {
        return None;
    }
    Some(match attached.survey_time {
        _ if options.no_survey => "left out by --no-survey".to_owned(),
        None => format!("the heap is {}'s, whose live blocks cannot be seen from outside", attached.allocator),
        Some(_) => format!(
            "the survey of what is live took longer than the process may stand still (--still {})",
            duration_ns(options.still.as_nanos() as f64)
        ),
    })
}
