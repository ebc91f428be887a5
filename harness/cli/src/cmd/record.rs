//! `fragbench record`: runs a program with the recorder preloaded and packs what it asked of its allocator into a
//! trace. The program runs as it would without: its own standard streams, environment and exit.

use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use fragbench_trace::spool::Spool;
use fragbench_trace::spool::stacks::DEPTH_MAX;
use fragbench_trace::{PackOptions, PackReport};

use crate::recording::conditions;
use crate::recording::memory::{MemoryLog, Observer};
use crate::recording::spools::SpoolDir;
use crate::sizes::{parse_duration, parse_size};
use crate::{Outcome, companions, interrupt, sys, usage};

/// Between two looks at the program.
const TICK: Duration = Duration::from_millis(20);

/// Record a program's allocations into a trace
///
/// Example: fragbench record -o sort.fbt -- sort big.txt
#[derive(Debug, Args)]
pub(crate) struct Record {
    /// Trace to write; those of child processes go into a directory beside it, FILE.children
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Stop recording after this time; the program goes on
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    duration: Option<Duration>,
    /// Stop recording when this much was written; the program goes on
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    max_size: Option<u64>,
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
    stacks: bool,
    /// Innermost frames of a stack that are kept
    #[arg(long, value_name = "N", default_value_t = 24, requires = "stacks",
          value_parser = clap::value_parser!(u32).range(1..=DEPTH_MAX as i64))]
    stack_depth: u32,
    /// Sample the program's memory while it runs into FILE: time, VIRT, RSS, and anonymous memory by use
    #[arg(long, value_name = "FILE")]
    memory: Option<PathBuf>,
    /// Time between two samples of --memory; each walks the program's page tables
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "50ms")]
    memory_interval: Duration,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Record {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let recorder = companions::recorder()?;
        let program = find_program(&self.command[0])?;
        check_recordable(&program)?;
        let spools = SpoolDir::create(&self.output)?;
        let interrupted = interrupt::flag()?;

        let mut child = self
            .prepare(&recorder, &spools)
            .spawn()
            .with_context(|| format!("{} could not be started", program.display()))?;
        let mut observer = Observer::default();
        let (status, told_at_ns) = self.attend(&mut child, &spools, &mut observer, interrupted)?;

        let packed = self.pack(&spools, child.id(), &observer, told_at_ns.filter(|_| self.end_at_signal))?;
        describe_end(&program, &status);
        let Some((trace, report)) = packed else {
            bail!(
                "nothing was recorded: {} left no spool. It may be statically linked in part, clear LD_PRELOAD, or have \
                 ended before its first allocation",
                program.display()
            );
        };
        eprintln!("{}", describe(&trace, &report));
        spools.remove();
        Ok(Outcome::Success)
    }

    fn prepare(&self, recorder: &Path, spools: &SpoolDir) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        // Ours first, so that a library the user preloads is what we call through to.
        let mut preload = recorder.as_os_str().to_owned();
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
        if self.stacks {
            command.env("FRAGBENCH_STACKS", self.stack_depth.to_string());
        }
        if let Some(signal) = self.signal.or(self.start_paused.then_some(libc::SIGUSR2)) {
            command.env("FRAGBENCH_SIGNAL", signal.to_string());
        }
        command
    }

    /// Waits for the program, sampling its memory if asked to and passing on the signal that should end it.
    /// Returns how it ended and when it was told to.
    fn attend(
        &self,
        child: &mut Child,
        spools: &SpoolDir,
        observer: &mut Observer,
        interrupted: &AtomicBool,
    ) -> Result<(ExitStatus, Option<u64>)> {
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
                // A Ctrl-C reached the program too; a SIGTERM to us did not.
                told = Some(sys::monotonic_ns());
                sys::signal(child.id(), libc::SIGTERM);
            }
            if let Some(log) = memory.as_mut().filter(|_| logged.elapsed() >= self.memory_interval) {
                log.sample();
                logged = Instant::now();
            }
            observer.sample(spools.list()?.into_iter().map(|(_, owner)| owner));
        }
        observer.last_look(child.id());
        if let Some(trouble) = memory.and_then(MemoryLog::finish) {
            eprintln!("the log of --memory has gaps: {trouble}");
        }
        Ok((child.wait()?, told))
    }

    /// Packs the program's spool into the trace and its children's beside it.
    fn pack(
        &self,
        spools: &SpoolDir,
        pid: u32,
        observer: &Observer,
        end_ns: Option<u64>,
    ) -> Result<Option<(PathBuf, PackReport)>> {
        let mut main = None;
        let spools = spools.list()?;
        if spools.iter().any(|(_, owner)| *owner != pid) {
            let dir = self.children();
            std::fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
        }
        for (spool, owner) in spools {
            let trace = self.trace_path(pid, owner);
            let retry = || {
                format!(
                    "{}; the spool is kept: `fragbench trace pack {} -o FILE` tries again",
                    trace.display(),
                    spool.display()
                )
            };
            let start_ns = Spool::open(&spool).with_context(retry)?.header().start_mono_ns;
            let observed = observer.of(owner);
            let options = PackOptions {
                recorded_on: conditions::recorded_on(observed, self.cmdline()),
                memory: observed.and_then(|observed| observed.series(start_ns)),
                end_us: end_ns.map(|end| end.saturating_sub(start_ns) / 1000),
                symbols: Some(fragbench_symbols::symbols),
            };
            let report = fragbench_trace::pack(&spool, &trace, &options).with_context(retry)?;
            if owner == pid {
                // Of a program that replaced itself by exec, the last image is the one that was asked for.
                main = Some((trace, report));
            } else if report.totals.events == 0 {
                std::fs::remove_file(&trace).with_context(|| format!("{}", trace.display()))?;
            }
        }
        Ok(main)
    }

    /// Where the trace of process `owner` goes, `pid` being the program itself.
    fn trace_path(&self, pid: u32, owner: u32) -> PathBuf {
        if owner == pid { self.output.clone() } else { self.children().join(format!("{owner}.fbt")) }
    }

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

/// The program's file, as the shell would find it.
pub(crate) fn find_program(name: &OsString) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.components().count() > 1 {
        return path.canonicalize().map_err(|e| usage(format!("{}: {e}", path.display())));
    }
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .map(|dir| dir.join(path))
        .find(|file| file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
        .ok_or_else(|| usage(format!("{}: no such program in PATH", path.display())))
}

/// Refuses programs in which a preloaded library cannot take effect, before they are started.
fn check_recordable(program: &Path) -> Result<()> {
    let shown = program.display();
    let metadata = program.metadata().with_context(|| format!("{shown}"))?;
    if metadata.mode() & 0o6000 != 0 && metadata.uid() != sys::effective_uid() {
        return Err(usage(format!(
            "{shown} is setuid or setgid: the dynamic loader ignores LD_PRELOAD in it; run fragbench as its owner"
        )));
    }
    let Ok(bytes) = std::fs::read(program) else { return Ok(()) };
    // A script is read by an interpreter, which is what gets recorded.
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(());
    }
    let elf = fragbench_allocators::elf::parse(&bytes).map_err(|e| usage(format!("{shown}: {e}")))?;
    if elf.is_static_program() {
        return Err(usage(format!(
            "{shown} is statically linked: nothing can be preloaded into it; use a dynamically linked build"
        )));
    }
    fragbench_allocators::elf::check_native(&elf).map_err(|e| usage(format!("{shown}: {e}")))
}

fn describe_end(program: &Path, status: &ExitStatus) {
    match (status.code(), status.signal()) {
        (Some(0), _) => {}
        (Some(code), _) => eprintln!("{} ended with exit status {code}", program.display()),
        (_, Some(signal)) => eprintln!("{} was ended by signal {signal}", program.display()),
        _ => {}
    }
}

fn describe(trace: &Path, report: &PackReport) -> String {
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
