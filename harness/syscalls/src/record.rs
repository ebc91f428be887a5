//! Recording: which tool the machine allows, running it over a process or a command, reading what it wrote.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fragbench_proc::{ProcError, Process};
use serde::Serialize;

use crate::call::Call;
use crate::regions::Regions;
use crate::{perf, strace, sys};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum SyscallsError {
    /// Neither tool can be used.
    #[error("system calls cannot be recorded here: perf: {perf}; strace: {strace}")]
    NoTool {
        /// What perf lacks.
        perf: String,
        /// What strace lacks.
        strace: String,
    },
    /// The tool that was asked for cannot be used.
    #[error("{} cannot be used: {why}", tool.text())]
    Unusable {
        /// Tool.
        tool: Tool,
        /// What it lacks.
        why: String,
    },
    /// The tool failed.
    #[error("{} failed: {said}", tool.text())]
    Failed {
        /// Tool.
        tool: Tool,
        /// Its last words.
        said: String,
    },
    /// The tool did not get hold of the process.
    #[error("{} could not attach to process {pid}: {said}", tool.text())]
    NoHold {
        /// Tool.
        tool: Tool,
        /// Process.
        pid: u32,
        /// Its last words.
        said: String,
    },
    /// The process cannot be read.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// A flame graph is made of stacks.
    #[error(
        "there are no stacks of calls that take address space, so there is no flame graph; record with --stacks, for longer, or with a smaller --min-size"
    )]
    NoStacks,
    /// A file or a program could not be used.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// `perf record` on tracepoints: filters in the kernel, a few microseconds a call.
    Perf,
    /// `strace -f`: two stops a call.
    Strace,
}

impl Tool {
    /// Name of the program.
    pub fn text(self) -> &'static str {
        match self {
            Tool::Perf => "perf",
            Tool::Strace => "strace",
        }
    }
}

/// What each tool lacks on this machine; `None` where it can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Of perf.
    pub perf_lacks: Option<String>,
    /// Of strace.
    pub strace_lacks: Option<String>,
}

impl Machine {
    /// The tool to use.
    ///
    /// # Errors
    /// [`SyscallsError::NoTool`] or [`SyscallsError::Unusable`].
    pub fn choose(&self, asked: Option<Tool>) -> Result<Tool, SyscallsError> {
        let usable = |tool, lacks: &Option<String>| match lacks {
            None => Ok(tool),
            Some(why) => Err(SyscallsError::Unusable { tool, why: why.clone() }),
        };
        match asked {
            Some(Tool::Perf) => usable(Tool::Perf, &self.perf_lacks),
            Some(Tool::Strace) => usable(Tool::Strace, &self.strace_lacks),
            None => match (&self.perf_lacks, &self.strace_lacks) {
                (None, _) => Ok(Tool::Perf),
                (_, None) => Ok(Tool::Strace),
                (Some(perf), Some(strace)) => Err(SyscallsError::NoTool { perf: perf.clone(), strace: strace.clone() }),
            },
        }
    }
}

/// Tries both tools on a program that does nothing.
pub fn machine() -> Machine {
    let attempt = |program: &str, arguments: &[&str], fix: &str| {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        match output {
            Err(_) => Some(format!("{program} is not installed (Debian: apt install {})", package(program))),
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(format!("{} ({fix})", last_line(&output.stderr))),
        }
    };
    let perf_fix =
        "it needs root or CAP_PERFMON and a mounted tracefs: sudo mount -t tracefs tracefs /sys/kernel/tracing";
    let strace_fix = "it needs the right to trace: root, or kernel.yama.ptrace_scope=0";
    Machine {
        perf_lacks: attempt(
            "perf",
            &["record", "-q", "-e", "syscalls:sys_enter_mmap", "-o", "/dev/null", "--", "true"],
            perf_fix,
        ),
        strace_lacks: attempt("strace", &["-f", "-q", "-o", "/dev/null", "-e", "trace=mmap", "true"], strace_fix),
    }
}

fn package(program: &str) -> &str {
    if program == "perf" { "linux-perf" } else { program }
}

fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it failed without a word").to_owned()
}

/// Attempts to get hold of all threads of a process.
const ATTEMPTS: u32 = 8;

/// What is recorded.
#[derive(Debug, Clone)]
pub enum Subject {
    /// A process that is there, for so long.
    Process(u32, Duration),
    /// A command, to its end.
    Command(Vec<OsString>),
}

/// What was recorded.
#[derive(Debug)]
pub struct Recording {
    /// In the order they were made.
    pub calls: Vec<Call>,
    /// What was mapped before.
    pub regions: Regions,
    /// Calls that were made and not recorded, because the tool could not keep up.
    pub lost: u64,
}

/// Records the calls of `subject` that concern at least `min_bytes`. A command keeps its standard streams. `interrupted`
/// is asked again and again while a process is watched; true ends it.
///
/// # Errors
/// [`SyscallsError`].
pub fn record(
    subject: &Subject,
    tool: Tool,
    min_bytes: u64,
    stacks: bool,
    interrupted: impl Fn() -> bool,
) -> Result<Recording, SyscallsError> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("recorded");
    let mut regions = Regions::default();
    match subject {
        Subject::Process(pid, duration) => {
            regions = Regions::of(*pid, &mappings(*pid)?);
            // perf gives up when a thread ends while it takes hold of all of them.
            for last in (0..ATTEMPTS).rev() {
                let mut command = tool_command(tool, &file, min_bytes, stacks);
                command.stdin(Stdio::null()).stdout(Stdio::null());
                match for_a_while(&mut command, tool, *pid, *duration, &interrupted, dir.path()) {
                    Err(SyscallsError::NoHold { .. }) if last > 0 && Process::live(*pid).status().is_ok() => {}
                    Err(error) => return Err(error),
                    Ok(()) => break,
                }
            }
        }
        Subject::Command(words) => {
            let mut command = tool_command(tool, &file, min_bytes, stacks);
            // As ^C ends both the tool and the command.
            sys::end_with_us(&mut command, libc::SIGTERM);
            command.arg("--").args(words).status()?;
            if !file.exists() {
                let said = format!("{:?} was not run", words[0]);
                return Err(SyscallsError::Failed { tool, said });
            }
        }
    }
    let mut lost = 0;
    let mut calls = match tool {
        Tool::Perf => {
            let output = Command::new("perf").args(perf::SCRIPT).arg(&file).stdin(Stdio::null()).output()?;
            if !output.status.success() {
                return Err(SyscallsError::Failed { tool, said: last_line(&output.stderr) });
            }
            let text = String::from_utf8_lossy(&output.stdout);
            lost = perf::lost(&text);
            perf::parse(&text)
        }
        Tool::Strace => strace::parse(&String::from_utf8_lossy(&std::fs::read(&file)?), min_bytes),
    };
    if let (Tool::Strace, Subject::Process(pid, _)) = (tool, subject) {
        // strace does not say whose the threads are that were there before.
        calls.iter_mut().for_each(|call| call.pid = *pid);
    }
    Ok(Recording { calls, regions, lost })
}

fn tool_command(tool: Tool, file: &Path, min_bytes: u64, stacks: bool) -> Command {
    let mut command = Command::new(tool.text());
    match tool {
        Tool::Perf => command.args(perf::arguments(file, min_bytes, stacks)),
        Tool::Strace => command.args(strace::arguments(file, stacks)),
    };
    command
}

fn mappings(pid: u32) -> Result<Vec<fragbench_proc::Mapping>, ProcError> {
    Process::live(pid).maps()
}

/// Runs the tool until the time is over, which begins when it has hold of the process; until the process has ended, or
/// somebody interrupts.
fn for_a_while(
    command: &mut Command,
    tool: Tool,
    pid: u32,
    duration: Duration,
    interrupted: &impl Fn() -> bool,
    dir: &Path,
) -> Result<(), SyscallsError> {
    let words = dir.join("words");
    let mut gate = Gate::new(tool, pid, dir, command)?;
    // Both let go of the process on that signal, as they do on ^C.
    sys::end_with_us(command, libc::SIGTERM);
    let mut child = command.arg("-p").arg(pid.to_string()).stderr(File::create(&words)?).spawn()?;
    let mut end = None;
    let mut asked = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        match end {
            None if gate.open()? => end = Some(Instant::now() + duration),
            Some(end) if !asked && (interrupted() || Instant::now() >= end) => {
                sys::signal(child.id(), libc::SIGINT);
                asked = true;
            }
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    if asked || status.success() {
        return Ok(());
    }
    let said = last_line(&std::fs::read(&words)?);
    Err(if end.is_none() { SyscallsError::NoHold { tool, pid, said } } else { SyscallsError::Failed { tool, said } })
}

/// Tells when the tool has hold of a process. strace shows in the process; perf starts when it is told to, and says so
/// (`--control`, perf 5.10 and later).
enum Gate {
    Strace(u32),
    /// The order stays in its pipe only while somebody holds it.
    Perf {
        _orders: File,
        answers: File,
        answer: Vec<u8>,
    },
}

impl Gate {
    fn new(tool: Tool, pid: u32, dir: &Path, command: &mut Command) -> Result<Gate, SyscallsError> {
        if tool == Tool::Strace {
            return Ok(Gate::Strace(pid));
        }
        let pipe = |name: &str| -> Result<(PathBuf, File), SyscallsError> {
            let path = dir.join(name);
            // Of an attempt before.
            let _ = std::fs::remove_file(&path);
            sys::named_pipe(&path)?;
            // Open for both, so that opening does not wait for the other side.
            let file = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&path)?;
            Ok((path, file))
        };
        let ((orders_at, mut orders), (answers_at, answers)) = (pipe("orders")?, pipe("answers")?);
        let mut control = OsString::from("--control=fifo:");
        control.push(orders_at);
        control.push(",");
        control.push(answers_at);
        command.args(["-D", "-1"]).arg(control);
        // perf reads it when it is ready.
        orders.write_all(b"enable\n")?;
        Ok(Gate::Perf { _orders: orders, answers, answer: Vec::new() })
    }

    fn open(&mut self) -> Result<bool, SyscallsError> {
        match self {
            Gate::Strace(pid) => {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                Ok(!status.contains("TracerPid:\t0\n"))
            }
            Gate::Perf { answers, answer, .. } => {
                let mut bytes = [0; 64];
                match answers.read(&mut bytes) {
                    Ok(n) => answer.extend(&bytes[..n]),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(answer.windows(3).any(|word| word == b"ack"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_goes_before_strace_and_each_says_what_it_lacks() {
        let lacks = |text: &str| Some(text.to_owned());
        let both = Machine { perf_lacks: None, strace_lacks: None };
        assert_eq!(both.choose(None).unwrap(), Tool::Perf);
        assert_eq!(both.choose(Some(Tool::Strace)).unwrap(), Tool::Strace);
        let one = Machine { perf_lacks: lacks("no tracefs"), strace_lacks: None };
        assert_eq!(one.choose(None).unwrap(), Tool::Strace);
        assert!(one.choose(Some(Tool::Perf)).is_err_and(|e| e.to_string().contains("no tracefs")));
        let none = Machine { perf_lacks: lacks("no tracefs"), strace_lacks: lacks("no right") };
        let error = none.choose(None).unwrap_err().to_string();
        assert!(error.contains("no tracefs") && error.contains("no right"), "{error}");
    }
}
