//! A process stopped for a moment that ends whatever happens: after the work, after a limit, and when this program is
//! interrupted or killed.
//!
//! A helper shell in a process group of its own waits for the end of our pipe to it, which comes with our own end at the
//! latest, and then continues the process. A process that was stopped before stays stopped.
//!
//! Source: signal(7) (SIGSTOP, SIGCONT), pipe(7).

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::sys;

/// How long the threads of a process may take to stop.
const STOPPING: Duration = Duration::from_secs(2);

/// A stopped process.
pub(crate) struct Frozen {
    pid: u32,
    since: Instant,
    helper: Child,
    limit: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Frozen {
    /// Stops a process for at most `limit`.
    ///
    /// # Errors
    /// When it may not be stopped, or has been already.
    pub(crate) fn stop(pid: u32, limit: Duration) -> Result<Frozen> {
        if states(pid)?.contains(&'T') {
            bail!(
                "process {pid} is stopped already: `fragbench inspect {pid}` sees it standing still without --freeze"
            );
        }
        let helper = Command::new("/bin/sh")
            .args(["-c", &format!("trap '' INT TERM HUP; read line; kill -CONT {pid}")])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("the helper that continues the process does not start")?;
        let (done, wait) = channel();
        let watch = std::thread::spawn(move || {
            if wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                sys::signal(pid, libc::SIGCONT);
            }
        });
        let frozen = Frozen { pid, since: Instant::now(), helper, limit: Some((done, watch)) };
        sys::signal(pid, libc::SIGSTOP);
        while !states(pid)?.iter().all(|state| matches!(state, 'T' | 'Z' | 'X')) {
            if frozen.since.elapsed() > STOPPING.min(limit) {
                bail!("process {pid} has not stopped: it may belong to another user, or wait in the kernel");
            }
            std::thread::yield_now();
        }
        Ok(frozen)
    }

    /// Lets it go on; how long it was stopped, and whether it still was at the end.
    pub(crate) fn go_on(self) -> (Duration, bool) {
        let still = states(self.pid).is_ok_and(|states| states.contains(&'T'));
        let since = self.since;
        drop(self);
        (since.elapsed(), still)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        sys::signal(self.pid, libc::SIGCONT);
        if let Some((done, watch)) = self.limit.take() {
            drop(done);
            // It ends at once, its channel being closed.
            let _ = watch.join();
        }
        drop(self.helper.stdin.take());
        let _ = self.helper.wait();
    }
}

/// States of all threads of a process.
fn states(pid: u32) -> io::Result<Vec<char>> {
    let mut states = Vec::new();
    for task in std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"))? {
        let Ok(stat) = std::fs::read(task?.path().join("stat")) else { continue };
        // The name in brackets need not be UTF-8.
        let stat = String::from_utf8_lossy(&stat);
        states.extend(stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()));
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn it_stands_still_and_goes_on() {
        let child = sleeper();
        let frozen = Frozen::stop(child.id(), Duration::from_secs(20)).unwrap();
        assert_eq!(states(child.id()).unwrap(), ['T']);
        assert!(Frozen::stop(child.id(), Duration::from_secs(1)).is_err(), "stopped already");
        assert!(frozen.go_on().1);
        while states(child.id()).unwrap() == ['T'] {
            std::thread::yield_now();
        }
        end(child);
    }

    #[test]
    fn it_goes_on_by_itself_at_the_limit() {
        let child = sleeper();
        let frozen = Frozen::stop(child.id(), Duration::from_millis(300)).unwrap();
        while states(child.id()).unwrap() == ['T'] {
            std::thread::yield_now();
        }
        assert!(!frozen.go_on().1);
        end(child);
    }

    #[test]
    fn the_helper_alone_continues_it() {
        let child = sleeper();
        let mut frozen = Frozen::stop(child.id(), Duration::from_secs(20)).unwrap();
        // As when this program is killed: its end of the pipe closes.
        drop(frozen.helper.stdin.take());
        while states(child.id()).unwrap() == ['T'] {
            std::thread::yield_now();
        }
        drop(frozen);
        end(child);
    }
}
