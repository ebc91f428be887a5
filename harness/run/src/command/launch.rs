//! A child process: started in a process group of its own, its output kept, its end told through a channel so that whoever
//! waits for it can look at other things meanwhile.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::sys::{self, Usage};

/// Bytes of output that are kept: the last ones.
const KEPT: usize = 8 << 20;

/// What a process wrote, both streams in the order in which they came.
#[derive(Debug, Default, Clone)]
pub(super) struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Its last lines, for a message.
    pub(super) fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        let tail = lines[lines.len().saturating_sub(4)..].join(" / ");
        let skip = tail.chars().count().saturating_sub(400);
        tail.chars().skip(skip).collect()
    }

    fn drain(&self, mut stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let kept = Arc::clone(&self.0);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(n) = stream.read(&mut buffer) {
                if n == 0 {
                    break;
                }
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&buffer[..n]);
                if kept.len() > KEPT {
                    let half = kept.len() - KEPT / 2;
                    kept.drain(..half);
                }
            }
        })
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) status: std::process::ExitStatus,
    /// What it and the descendants it waited for used.
    pub(super) usage: Usage,
    pub(super) at: Instant,
}

pub(super) struct Launched {
    child: Child,
    ended: Receiver<Instant>,
    readers: Vec<JoinHandle<()>>,
    end: Option<End>,
    pub(super) output: Output,
    pub(super) at: Instant,
}

impl Launched {
    /// Starts `words` under exactly `environment`.
    pub(super) fn start(words: &[OsString], environment: &BTreeMap<String, String>) -> Result<Self> {
        let (program, arguments) = words.split_first().context("no program to start")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(environment);
        Self::spawn(command, &program.to_string_lossy())
    }

    /// Starts a shell command in the caller's own environment, marked as no part of what is measured.
    pub(super) fn shell(text: &str) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(text).env(super::MARK, super::ASIDE);
        Self::spawn(command, "/bin/sh")
    }

    fn spawn(mut command: Command, name: &str) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        sys::die_with_parent(&mut command);
        let at = Instant::now();
        let mut child = command.spawn().with_context(|| format!("{name} could not be started"))?;
        let output = Output::default();
        let stdout = child.stdout.take().map(|stream| output.drain(stream));
        let stderr = child.stderr.take().map(|stream| output.drain(stream));
        let readers = stdout.into_iter().chain(stderr).collect();
        let (tell, ended) = channel();
        let pid = child.id();
        std::thread::spawn(move || {
            // Leaves it to be waited for, so that its number stays its own until we have taken note.
            sys::await_end(pid);
            let _ = tell.send(Instant::now());
        });
        Ok(Self { child, ended, readers, end: None, output, at })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its end, waited for up to `limit`.
    pub(super) fn ended_within(&mut self, limit: Duration) -> Option<End> {
        if self.end.is_none() {
            let at = match self.ended.recv_timeout(limit) {
                Ok(at) => at,
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => Instant::now(),
            };
            self.end = sys::wait_with_usage(self.child.id()).map(|(status, usage)| End { status, usage, at });
        }
        self.end
    }

    /// Asks it to end, and ends its whole process group when it has not after `grace`. Gives its end and whether force was
    /// needed.
    pub(super) fn stop(&mut self, grace: Duration) -> (Option<End>, bool) {
        if self.end.is_none() {
            sys::signal(self.pid(), libc::SIGTERM);
        }
        if let Some(end) = self.ended_within(grace) {
            return (Some(end), false);
        }
        self.kill();
        (self.ended_within(Duration::from_secs(10)), true)
    }

    /// Ends its whole process group now.
    pub(super) fn kill(&mut self) {
        // The leader is not yet waited for, so the group's number is still its own.
        if self.end.is_none() {
            sys::signal_group(self.pid(), libc::SIGKILL);
        }
    }

    /// Waits until what it wrote was read to the end; a descendant that keeps the stream open is not waited for.
    pub(super) fn drained(&mut self) {
        let until = Instant::now() + Duration::from_millis(500);
        while self.readers.iter().any(|reader| !reader.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.kill();
            let _ = self.ended_within(Duration::from_secs(10));
        }
    }
}
