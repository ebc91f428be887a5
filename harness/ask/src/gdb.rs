//! A gdb that is spoken to through its machine interface: no terminal, no start-up files, nothing loaded from the
//! process's libraries. Every command has a deadline.
//!
//! In batch mode gdb would end at the first error, in the middle of an interrupted call; here it stays until the process
//! is known to be sound. It ends, and lets go of the process, when its input closes, so also when this program is ended.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::AskError;
use crate::mi::{self, Answer};
use crate::sys::signal;

/// Set before the process is attached. An older gdb that lacks one says so, and can do without.
const SETTINGS: [&str; 12] = [
    "confirm off",
    "pagination off",
    "language c",
    "auto-solib-add off",
    "auto-load no",
    "auto-load safe-path",
    "libthread-db-search-path",
    "debuginfod enabled off",
    "debug-file-directory",
    // While one thread makes the call all others run.
    "scheduler-locking off",
    "unwindonsignal off",
    "detach-on-fork on",
];
/// How long gdb may take for what concerns no process.
const PREPARING: Duration = Duration::from_secs(30);

pub(crate) struct Gdb {
    child: Child,
    input: ChildStdin,
    answers: Receiver<Answer>,
    next: u64,
}

/// How a command ended.
pub(crate) enum Reply {
    /// gdb has answered.
    Answer(Answer),
    /// It has not yet; the command's number.
    Late(u64),
}

impl Gdb {
    /// Starts gdb and has it read the program's file, as far as it is stripped of what is not asked for.
    pub(crate) fn start(program: &str, pid: u32) -> Result<Gdb, AskError> {
        let mut child = Command::new(program)
            .args(["-nx", "-q", "--interpreter=mi2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C is for this program: gdb would take it as an order to stop the process.
            .process_group(0)
            .spawn()
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => AskError::NoGdb(program.to_owned()),
                _ => AskError::Io(e),
            })?;
        let lost = || std::io::Error::other("no pipe");
        let input = child.stdin.take().ok_or_else(lost)?;
        let output = child.stdout.take().ok_or_else(lost)?;
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if mi::answer(&line).is_some_and(|answer| sender.send(answer).is_err()) {
                    break;
                }
            }
        });
        let mut gdb = Gdb { child, input, answers, next: 1 };
        for setting in SETTINGS {
            gdb.finish(&format!("-gdb-set {setting}"), PREPARING)?;
        }
        // Signals of the process are its own.
        gdb.finish("-interpreter-exec console \"handle all nostop noprint pass\"", PREPARING)?;
        gdb.finish(&format!("-file-exec-and-symbols /proc/{pid}/exe"), PREPARING)?;
        Ok(gdb)
    }

    /// Gives a command and waits for its answer until the deadline.
    pub(crate) fn ask(&mut self, command: &str, deadline: Instant) -> Result<Reply, AskError> {
        let token = self.next;
        self.next += 1;
        writeln!(self.input, "{token}{command}")?;
        self.input.flush()?;
        self.wait(token, deadline)
    }

    /// Waits for the answer to an earlier command.
    pub(crate) fn wait(&mut self, token: u64, deadline: Instant) -> Result<Reply, AskError> {
        loop {
            match self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(answer) if answer.token == token => return Ok(Reply::Answer(answer)),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(Reply::Late(token)),
                Err(RecvTimeoutError::Disconnected) => return Err(std::io::Error::other("it ended unasked").into()),
            }
        }
    }

    /// Gives a command that must be answered within `limit`; an error is an answer too.
    pub(crate) fn finish(&mut self, command: &str, limit: Duration) -> Result<Answer, AskError> {
        match self.ask(command, Instant::now() + limit)? {
            Reply::Answer(answer) => Ok(answer),
            Reply::Late(_) => Err(AskError::Gdb { what: command.to_owned(), said: "no answer".to_owned() }),
        }
    }

    /// Makes gdb stop what it waits for.
    pub(crate) fn interrupt(&self) {
        signal(self.child.id(), libc::SIGINT);
    }
}

impl Drop for Gdb {
    /// Lets go of the process, if it is still held, and ends gdb. The caller has made sure that no call is under way.
    fn drop(&mut self) {
        let _ = writeln!(self.input, "-gdb-exit");
        let _ = self.input.flush();
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                _ => return,
            }
        }
        // The kernel lets go of what a tracer held when it ends.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
