//! The worker as a child process: started under an allocator's environment, spoken to line by line.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command as Process, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fragbench_model::{
    Allocator, CaseFact, Cell, Command, Common, Description, Driver, Message, Pace, RunSpec, WorkerError, WorkloadFact,
    WorkloadSpec,
};

use super::binary::WorkerBinary;
use crate::sys::{self, Counters};

/// Asks the worker which workloads it has.
///
/// # Errors
/// When the worker cannot be started or does not answer.
pub fn describe(worker: &WorkerBinary) -> Result<Vec<WorkloadFact>> {
    Ok(description(worker)?.workloads)
}

/// Asks the worker which bad cases it has.
///
/// # Errors
/// When the worker cannot be started or does not answer.
pub fn describe_cases(worker: &WorkerBinary) -> Result<Vec<CaseFact>> {
    Ok(description(worker)?.badcases)
}

fn description(worker: &WorkerBinary) -> Result<Description> {
    let output = Process::new(worker.path())
        .arg("--describe")
        .output()
        .with_context(|| format!("{} could not be started", worker.path().display()))?;
    serde_json::from_slice(&output.stdout).with_context(|| {
        format!("{} --describe gave no description: build the whole workspace anew", worker.path().display())
    })
}

/// Asks the worker whether it would run `spec`: `None` if so, or what is wrong with it.
///
/// # Errors
/// When the worker cannot be started or gives no answer.
pub fn check(worker: &WorkerBinary, spec: &RunSpec) -> Result<Option<WorkerError>> {
    let mut child = Process::new(worker.path())
        .arg("--check")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} could not be started", worker.path().display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        writeln!(stdin, "{}", serde_json::to_string(spec)?)?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(None);
    }
    match serde_json::from_slice(&output.stdout) {
        Ok(Message::Error(error)) => Ok(Some(error)),
        _ => bail!("{} --check ended with {} and no reason", worker.path().display(), output.status),
    }
}

/// Version of an allocator as it says it in a worker; `None` when it cannot be put in place.
pub fn allocator_version(worker: &WorkerBinary, allocator: &Allocator) -> Option<String> {
    let workload = describe(worker).ok()?.into_iter().next()?;
    let workload = WorkloadSpec::Named { name: workload.name, parameters: BTreeMap::new(), pace: Pace::Fast };
    let common = Common { seed: 0, idle_ms: 0, driver: Some(Driver::default()) };
    let spec = common.spec(&workload, common.seed)?;
    let cell = Cell::new(workload, allocator.clone());
    let environment = super::environments(&[cell], worker).pop()?;
    let worker = Worker::start(worker, allocator, &environment, &spec).ok()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match worker.receive(deadline) {
            Ok(Some(Message::Hello(hello))) if hello.allocator.kind == allocator.kind => {
                return Some(hello.allocator.version);
            }
            Ok(None) => {}
            _ => return None,
        }
    }
}

/// Why no message came.
pub(crate) enum Silence {
    /// The time was up.
    TimedOut,
    /// The worker closed its output: it has ended.
    Ended,
    /// It wrote something that is no message.
    Garbled(String),
}

/// A running worker.
pub(crate) struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<std::io::Result<String>>,
    stderr: Option<std::thread::JoinHandle<String>>,
    pub(crate) counters: Arc<Counters>,
}

/// Bytes of the worker's standard error that are kept.
const STDERR_KEPT: u64 = 4096;

impl Worker {
    /// Starts it on the allocator's C library, under exactly `environment`, and hands it `spec`.
    pub(crate) fn start(
        binary: &WorkerBinary,
        allocator: &Allocator,
        environment: &BTreeMap<String, String>,
        spec: &RunSpec,
    ) -> Result<Self> {
        let counters = Arc::new(Counters::new().context("no shared memory for the counters")?);
        let words = fragbench_allocators::command(allocator, binary.path());
        let (program, arguments) = words.split_first().context("no program to start")?;
        let mut command = Process::new(program);
        command.args(arguments).env_clear().envs(environment);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        sys::prepare(&mut command, &counters);
        let mut child =
            command.spawn().with_context(|| format!("{} could not be started", Path::new(program).display()))?;
        let mut stdin = child.stdin.take().context("the worker has no standard input")?;
        let stdout = child.stdout.take().context("the worker has no standard output")?;
        let stderr = child.stderr.take().context("the worker has no standard error")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let mut kept = stderr.take(STDERR_KEPT);
            let _ = kept.read_to_end(&mut text);
            // What follows is read and dropped so that the worker never blocks on a full pipe.
            let _ = std::io::copy(&mut kept.into_inner(), &mut std::io::sink());
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let mut line = serde_json::to_string(spec)?;
        line.push('\n');
        // A worker that has already died shows in its exit status, not here.
        let _ = stdin.write_all(line.as_bytes());
        Ok(Self { child, stdin: Some(stdin), lines, stderr: Some(stderr), counters })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a command; a worker that has ended shows in the next message.
    pub(crate) fn send(&mut self, command: Command) {
        if let (Some(stdin), Ok(mut line)) = (self.stdin.as_mut(), serde_json::to_string(&command)) {
            line.push('\n');
            let _ = stdin.write_all(line.as_bytes());
        }
    }

    /// The next message, waited for until `deadline` or for one short turn, whichever ends first: `Ok(None)` is a
    /// turn without a message, which gives the caller the chance to look at other things.
    pub(crate) fn receive(&self, deadline: Instant) -> Result<Option<Message>, Silence> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Silence::TimedOut);
        }
        match self.lines.recv_timeout(left.min(Duration::from_millis(50))) {
            Ok(Ok(line)) => serde_json::from_str(&line).map(Some).map_err(|e| Silence::Garbled(format!("{e}: {line}"))),
            Ok(Err(error)) => Err(Silence::Garbled(error.to_string())),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Silence::Ended),
        }
    }

    /// Ends it now.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// How it ended, which is waited for.
    pub(crate) fn exit(&mut self) -> Option<std::process::ExitStatus> {
        self.stdin = None;
        self.child.wait().ok()
    }

    /// Waits for its end; gives what it wrote on standard error.
    pub(crate) fn wait(&mut self) -> String {
        self.exit();
        self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
