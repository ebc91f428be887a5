//! `fragbench record`: runs a program with the recorder preloaded and packs what it asked of its allocator into a
//! trace. The program runs as it would without: its own standard streams, environment and exit. What it leaves behind in
//! the background is waited for as long as it records.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use fragbench_run::Program;
use fragbench_trace::spool::Spool;
use fragbench_trace::spool::provider::Provided;
use fragbench_trace::spool::stacks::DEPTH_MAX;
use fragbench_trace::{LivePack, PackOptions};

use super::record_attach::AttachOptions;
use crate::recording::conditions;
use crate::recording::ended::{self, Made, Told};
use crate::recording::follow::Following;
use crate::recording::memory::{MemoryLog, Observer};
use crate::recording::packing::{Packing, SWEEP_MS};
use crate::recording::spools::{SpoolDir, SpoolFile};
use crate::sizes::{parse_duration, parse_size};
use crate::{Outcome, companions, interrupt, sys, usage};

/// Between two looks at the program.
const TICK: Duration = Duration::from_millis(20);

/// Record a program's allocations into a trace
///
/// Ends with the program's own exit status; with 1 when nothing could be recorded, for the reason that is told.
///
/// With --attach it records a process that runs already, from what is live in its heap at that moment; the process goes on
/// as before when the recording ends, however it does.
///
/// Example: fragbench record -o sort.fbt -- sort big.txt
/// Example: fragbench record --attach $(pidof mariadbd) -o server.fbt --duration 5m
#[derive(Debug, Args)]
pub(crate) struct Record {
    /// Trace to write; those of child processes go into a directory beside it, FILE.children
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
    /// Stop recording after this time; the program goes on
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(super) duration: Option<Duration>,
    /// Stop recording when this much was written; the program goes on
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    pub(super) max_size: Option<u64>,
    /// Record nothing until the program gets the signal of --signal; the same signal stops it again
    #[arg(long)]
    start_paused: bool,
    /// Number of the signal that starts and stops recording [default: 12, SIGUSR2, with --start-paused]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=64))]
    signal: Option<i32>,
    /// Keep the command line in the trace (it may hold secrets)
    #[arg(long)]
    keep_cmdline: bool,
    /// End the trace when fragbench is told to stop (SIGTERM, Ctrl-C): what the program does to shut down is left out
    #[arg(long)]
    end_at_signal: bool,
    /// Record who makes each block, for `trace leaks`; the trace then holds names of functions and files. Slow
    #[arg(long)]
    pub(super) stacks: bool,
    /// Innermost frames of a stack that are kept
    #[arg(long, value_name = "N", default_value_t = 24, requires = "stacks",
          value_parser = clap::value_parser!(u32).range(1..=DEPTH_MAX as i64))]
    pub(super) stack_depth: u32,
    /// Sample the program's memory while it runs into FILE: time, VIRT, RSS, and anonymous memory by use
    #[arg(long, value_name = "FILE")]
    pub(super) memory: Option<PathBuf>,
    /// Time between two samples of --memory; each walks the program's page tables
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "50ms")]
    pub(super) memory_interval: Duration,
    /// Pack only when the program has ended: disturbs it least, and takes 3 to 8 bytes of disk an event until then
    #[arg(long)]
    spool_only: bool,
    /// Record this process, which runs already, instead of starting a program
    #[arg(long, value_name = "PID", conflicts_with_all = ["command", "start_paused", "signal", "end_at_signal", "keep_cmdline"])]
    attach: Option<u32>,
    #[command(flatten)]
    pub(super) attaching: AttachOptions,
    /// The program and its arguments
    #[arg(required_unless_present = "attach", trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// How the program ran.
struct Run {
    status: ExitStatus,
    /// When it was told to end, `CLOCK_MONOTONIC`, ns.
    told_at_ns: Option<u64>,
}

/// What was packed.
struct Packed {
    /// Of the program's last image, with what its spool tells besides.
    main: Option<(Made, Told)>,
    /// Of its earlier images and of its children, those with events.
    others: Vec<Made>,
}

impl Record {
    pub(crate) fn go(&self) -> Result<Outcome> {
        if let Some(pid) = self.attach {
            return super::record_attach::attach(self, pid);
        }
        self.attaching.refuse_alone()?;
        let recorder = companions::recorder()?;
        let program = Program::locate(&self.command[0].to_string_lossy()).map_err(usage)?;
        let spools = SpoolDir::create(&self.output)?;
        let interrupted = interrupt::flag()?;

        sys::adopt_orphans();
        let mut child = match self.prepare(&program, &recorder, &spools).spawn() {
            Ok(child) => child,
            Err(error) => {
                spools.remove();
                return Err(usage(format!("{} could not be started: {error}", program.file.display())));
            }
        };
        let packing = if self.spool_only { Packing::none() } else { Packing::start(&spools, self.is_private()) };
        let mut following = Following::new(&spools, &recorder, child.id());
        let run = self.attend(&mut child, &mut following, &packing, interrupted)?;
        let Following { observer, unrecorded, .. } = following;

        let end_ns = run.told_at_ns.filter(|_| self.end_at_signal);
        let packed = self.pack(&spools, packing, child.id(), &observer, end_ns)?;
        ended::describe_end(&program.file, &run.status);
        for (pid, it) in unrecorded.iter().filter(|(pid, _)| **pid != child.id()) {
            note!("not recorded: process {pid} ({}): {}", it.program.display(), it.reason);
        }
        let using = spools.remove();
        if !using.is_empty() {
            note!("processes {using:?} still record: the spools are kept");
        }

        let told = packed.main.as_ref().map(|(_, told)| told);
        let empty = packed.main.as_ref().is_none_or(|(made, _)| made.report.totals.events == 0);
        let why = || ended::why_nothing(&program, told, unrecorded.get(&child.id()), &run.status, self.signal());
        if empty && let Some(why) = why() {
            ended::describe_others(packed.others);
            if packed.main.is_some() {
                std::fs::remove_file(&self.output).with_context(|| format!("{}", self.output.display()))?;
            }
            bail!("nothing was recorded of {}: {why}", program.file.display());
        }
        if let Some((made, told)) = &packed.main {
            note!("{}", ended::describe(made));
            told.describe(&made.trace);
        }
        ended::describe_others(packed.others);
        if let Some(left) = unrecorded.get(&child.id()) {
            bail!(
                "the trace ends where it went on as {}, which is not recorded: {}",
                left.program.display(),
                left.reason
            );
        }
        // Ended by the signal that was passed on to it, it did what it was told.
        let as_told = run.told_at_ns.is_some() && run.status.code().is_none();
        Ok(if as_told { Outcome::Success } else { Outcome::Status(ended::exit_status(&run.status)) })
    }

    fn prepare(&self, program: &Program, recorder: &Path, spools: &SpoolDir) -> Command {
        let mut command = Command::new(&program.file);
        command.arg0(&self.command[0]).args(&self.command[1..]);
        // Ours first, so that a library the user preloads is what we call through to.
        let mut preload = spools.preload(recorder).into_os_string();
        if let Some(own) = std::env::var_os("LD_PRELOAD").filter(|own| !own.is_empty()) {
            preload.push(":");
            preload.push(own);
        }
        command.env("LD_PRELOAD", preload);
        command.env("FRAGBENCH_SPOOL", spools.prefix());
        if let Some(limit) = self.max_size {
            command.env("FRAGBENCH_MAX_SIZE", limit.to_string());
        }
        if let Some(duration) = self.duration {
            command.env("FRAGBENCH_DURATION_MS", duration.as_millis().to_string());
        }
        if self.start_paused {
            command.env("FRAGBENCH_START_PAUSED", "1");
        }
        if !self.spool_only {
            command.env("FRAGBENCH_SWEEP_MS", SWEEP_MS.to_string());
        }
        if self.stacks {
            command.env("FRAGBENCH_STACKS", self.stack_depth.to_string());
        }
        if self.signal.is_some() || self.start_paused {
            command.env("FRAGBENCH_SIGNAL", self.signal().to_string());
        }
        command
    }

    /// The signal that switches recording on and off.
    fn signal(&self) -> i32 {
        self.signal.unwrap_or(libc::SIGUSR2)
    }

    /// Waits for the program and for what it left behind, sampling memory and passing on the signal that should end it.
    fn attend(
        &self,
        child: &mut Child,
        following: &mut Following<'_>,
        packing: &Packing,
        interrupted: &AtomicBool,
    ) -> Result<Run> {
        let mut memory = match &self.memory {
            Some(path) => Some(MemoryLog::create(path, child.id())?),
            None => None,
        };
        let tick = if memory.is_some() { self.memory_interval.min(TICK) } else { TICK };
        let mut logged = Instant::now();
        let mut told = None;
        let end = sys::EndWatch::new(child.id()).context("the program cannot be watched")?;
        while !end.within(tick)? {
            if interrupted.load(Ordering::Acquire) && told.is_none() {
                if self.end_at_signal {
                    packing.hold();
                }
                // A Ctrl-C reached the program too; a SIGTERM to us did not.
                told = Some(sys::monotonic_ns());
                sys::signal(child.id(), libc::SIGTERM);
            }
            if let Some(log) = memory.as_mut().filter(|_| logged.elapsed() >= self.memory_interval) {
                log.sample();
                logged = Instant::now();
            }
            following.look()?;
        }
        following.observer.last_look(child.id());
        if let Some(trouble) = memory.and_then(MemoryLog::finish) {
            note!("the log of --memory has gaps: {trouble}");
        }
        let status = child.wait()?;
        let hold = || {
            if self.end_at_signal {
                packing.hold()
            }
        };
        attend_rest(following, hold, interrupted, &mut told)?;
        Ok(Run { status, told_at_ns: told })
    }

    /// Packs the program's spool into the trace, and those of its earlier images and its children beside it.
    fn pack(
        &self,
        spools: &SpoolDir,
        packing: Packing,
        pid: u32,
        observer: &Observer,
        end_ns: Option<u64>,
    ) -> Result<Packed> {
        let mut begun = packing.end();
        let mut packed = Packed { main: None, others: Vec::new() };
        let spools = spools.list()?;
        // Of a program that replaced itself by exec, the last image is the one that was asked for.
        let main = spools.iter().rfind(|spool| spool.pid == pid).cloned();
        for file in spools {
            let is_main = Some(&file) == main.as_ref();
            let trace = if is_main { self.output.clone() } else { self.trace_beside(pid, &file)? };
            let retry = || {
                format!(
                    "{}; the spool is kept: `fragbench trace pack {} -o FILE` tries again",
                    trace.display(),
                    file.path.display()
                )
            };
            let describe =
                |spool: &Spool| (self.pack_options(spool, &file, observer, end_ns), Told::of(spool, self.start_paused));
            let live = match begun.remove(&file.path) {
                None if LivePack::is_begun(&file.path) => {
                    LivePack::open(&file.path, self.is_private()).with_context(retry)?
                }
                begun => begun,
            };
            let (report, told) = match live {
                Some(live) => {
                    let (options, told) = live.recording(describe).with_context(retry)?;
                    (live.finish(&trace, &options).with_context(retry)?, told)
                }
                None => {
                    let spool = Spool::open(&file.path).with_context(retry)?;
                    let (options, told) = describe(&spool);
                    (fragbench_trace::pack_spool(&spool, &trace, &options).with_context(retry)?, told)
                }
            };
            let made = Made { trace, report };
            if is_main {
                packed.main = Some((made, told));
            } else if report.totals.events == 0 {
                std::fs::remove_file(&made.trace).with_context(|| format!("{}", made.trace.display()))?;
            } else {
                packed.others.push(made);
            }
        }
        // Fails where it holds something, or was not needed.
        let _ = std::fs::remove_dir(self.children());
        Ok(packed)
    }

    fn pack_options(&self, spool: &Spool, file: &SpoolFile, observer: &Observer, end_ns: Option<u64>) -> PackOptions {
        let start_ns = spool.header().start_mono_ns;
        let observed = observer.of(file.pid);
        let mut recorded_on = conditions::recorded_on(observed, self.cmdline());
        let provider = |of| spool.provider(of).map(conditions::provider);
        recorded_on.malloc = provider(Provided::Malloc);
        recorded_on.operator_new = provider(Provided::OperatorNew);
        PackOptions {
            recorded_on,
            memory: observed.and_then(|observed| observed.series(start_ns)),
            end_us: end_ns.map(|end| end.saturating_sub(start_ns) / 1000),
            symbols: Some(fragbench_symbols::symbols),
            start: None,
            private: self.is_private(),
        }
    }

    /// Whether the traces hold names or a command line.
    fn is_private(&self) -> bool {
        self.stacks || self.keep_cmdline
    }

    /// Where the trace of another process or of an earlier image goes, `pid` being the program itself.
    fn trace_beside(&self, pid: u32, spool: &SpoolFile) -> Result<PathBuf> {
        let dir = self.children();
        let made = std::fs::DirBuilder::new().mode(if self.is_private() { 0o700 } else { 0o777 }).create(&dir);
        match made {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("{}", dir.display()));
            }
            _ => {}
        }
        let image = if spool.pid == pid || spool.image > 0 { format!(".{}", spool.image) } else { String::new() };
        Ok(dir.join(format!("{}{image}.fbt", spool.pid)))
    }

    /// Where traces beside the program's own go.
    fn children(&self) -> PathBuf {
        let mut name = self.output.file_name().unwrap_or_default().to_owned();
        name.push(".children");
        self.output.with_file_name(name)
    }

    /// The command line, if it is to be kept.
    fn cmdline(&self) -> Option<String> {
        let words: Vec<String> = self.command.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        self.keep_cmdline.then(|| words.join(" "))
    }
}

/// Waits for processes that the program left behind and that still record.
fn attend_rest(
    following: &mut Following<'_>,
    hold: impl Fn(),
    interrupted: &AtomicBool,
    told: &mut Option<u64>,
) -> Result<()> {
    let (mut said, mut passed_on) = (false, false);
    loop {
        let rest = following.recording()?;
        let Some(first) = rest.first() else { return Ok(()) };
        if !said {
            let names: Vec<String> = rest.iter().map(u32::to_string).collect();
            note!(
                "the program has ended; processes it left behind are still recorded ({}). Waiting for them; Ctrl-C ends them",
                names.join(", ")
            );
            said = true;
        }
        if interrupted.load(Ordering::Acquire) && !passed_on {
            passed_on = true;
            hold();
            told.get_or_insert_with(sys::monotonic_ns);
            rest.iter().for_each(|pid| sys::signal(*pid, libc::SIGTERM));
        }
        // Not where it has just ended.
        if let Ok(end) = sys::EndWatch::new(*first) {
            end.within(TICK)?;
        }
        following.look()?;
    }
}
