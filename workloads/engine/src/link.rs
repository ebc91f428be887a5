//! The two pipes to the parent: one JSON value a line.

use std::io::{Read, Write};

use fragbench_model::WorkerErrorKind;
use fragbench_model::{Command, Message};

use crate::{fail, refuse, sys};

/// Longest line accepted.
const LONGEST: usize = 1 << 20;

/// Reads one line from standard input, without its end; `None` when the parent has closed it.
pub fn read_line() -> Option<String> {
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LONGEST {
        match input.read(&mut byte) {
            Ok(0) if line.is_empty() => return None,
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(String::from_utf8_lossy(&line).into_owned())
}

/// Writes one message; a parent that is gone ends this process.
pub(crate) fn send(message: &Message) {
    let mut out = std::io::stdout().lock();
    let line = match serde_json::to_string(message) {
        Ok(line) => line,
        Err(error) => fail(refuse(WorkerErrorKind::Internal, format!("a message cannot be written: {error}"))),
    };
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        sys::exit_now(1);
    }
}

/// Waits for the next command. The end of the input ends this process: nobody is interested any more.
pub(crate) fn receive() -> Command {
    let Some(line) = read_line() else { sys::exit_now(1) };
    match serde_json::from_str(&line) {
        Ok(command) => command,
        Err(error) => fail(refuse(WorkerErrorKind::BadSpec, format!("not a command: {line:?}: {error}"))),
    }
}
