//! One client from its first byte to its last. Nothing here waits.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::request::{self, Answer, Asked, HEAD_BYTES};
use crate::sys::{self, Interest};

/// What a refused client may still send before its connection is cut, bytes: closing with something unread resets the
/// connection, and the client would lose the answer (RFC 9112, 9.6).
const DRAINED_BYTES: usize = 256 << 10;

/// What comes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It stays.
    Stays,
    /// It has just asked for the page.
    WantsPage,
    /// It is over.
    Over,
}

#[derive(Debug)]
enum Stage {
    /// The head of the request, as far as it has come.
    Asking(Vec<u8>),
    /// Until the page is made.
    Waiting { head_only: bool },
    /// Head, body, and how many bytes of both were written.
    Answering { head: Vec<u8>, body: Arc<str>, written: usize },
    /// Everything was written; what the client still sends is dropped, up to so many bytes.
    Draining { left: usize },
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    since: Instant,
    /// When its patience ends; never while it waits for us.
    pub(super) until: Option<Instant>,
    stage: Stage,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, since: Instant, until: Instant) -> Connection {
        Connection { stream, since, until: Some(until), stage: Stage::Asking(Vec::new()) }
    }

    /// What it can go on with.
    pub(super) fn interest(&self) -> Interest {
        let descriptor = self.stream.as_raw_fd();
        match self.stage {
            Stage::Asking(_) | Stage::Draining { .. } => Interest::read(descriptor),
            Stage::Answering { .. } => Interest::write(descriptor),
            Stage::Waiting { .. } => Interest::hang_up(descriptor),
        }
    }

    /// Since when, if it has not finished its request.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        matches!(self.stage, Stage::Asking(_)).then_some(self.since)
    }

    /// Its place is given to another: it is told so, as far as that goes without waiting.
    pub(super) fn turn_away(mut self) {
        let _ = self.stream.write(&[Answer::BUSY.head().as_bytes(), Answer::BUSY.text.as_bytes()].concat());
    }

    /// The page was made, or could not be.
    pub(super) fn give(&mut self, page: Option<&Arc<str>>) {
        let Stage::Waiting { head_only } = self.stage else { return };
        match page {
            Some(page) => {
                let head = request::page_head(page.len()).into_bytes();
                let body = if head_only { Arc::from("") } else { Arc::clone(page) };
                self.stage = Stage::Answering { head, body, written: 0 };
            }
            None => self.answer(Answer::FAILED, head_only),
        }
    }

    fn answer(&mut self, answer: Answer, head_only: bool) {
        let body = if head_only { "" } else { answer.text };
        self.stage = Stage::Answering { head: answer.head().into_bytes(), body: body.into(), written: 0 };
    }

    /// Goes on as far as it can without waiting. `ready` is what [`Connection::interest`] asked for.
    pub(super) fn go_on(&mut self, ready: bool, now: Instant, time: Duration) -> Next {
        if self.until.is_some_and(|until| until <= now) {
            // Who has begun a request is told; the answer has the same time again.
            match &self.stage {
                Stage::Asking(head) if !head.is_empty() => {
                    self.answer(Answer::LATE, false);
                    self.until = Some(now + time);
                }
                _ => {
                    // What was not taken would stay in the kernel's hands.
                    sys::reset_on_close(self.stream.as_raw_fd());
                    return Next::Over;
                }
            }
        }
        match self.advance(ready, now, time) {
            Ok(next) => next,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Next::Stays,
            Err(_) => Next::Over,
        }
    }

    fn advance(&mut self, ready: bool, now: Instant, time: Duration) -> io::Result<Next> {
        if let Stage::Waiting { .. } = self.stage {
            // Ready means that the client has gone.
            return Ok(if ready { Next::Over } else { Next::Stays });
        }
        if let Stage::Asking(head) = &mut self.stage {
            if !ready {
                return Ok(Next::Stays);
            }
            let asked = ask(&mut self.stream, head)?;
            self.until = Some(now + time);
            match asked {
                None => return Ok(Next::Over),
                Some(Asked::Unfinished) => {
                    // Each byte does not buy new time.
                    self.until = Some(self.since + time);
                    return Ok(Next::Stays);
                }
                Some(Asked::Page { head_only }) => {
                    self.stage = Stage::Waiting { head_only };
                    self.until = None;
                    return Ok(Next::WantsPage);
                }
                Some(Asked::Other { answer, head_only }) => self.answer(answer, head_only),
            }
        }
        if let Stage::Answering { head, body, written } = &mut self.stage {
            if self.until.is_none() {
                self.until = Some(now + time);
            }
            while *written < head.len() + body.len() {
                let rest = match written.checked_sub(head.len()) {
                    None => &head[*written..],
                    Some(at) => &body.as_bytes()[at..],
                };
                match self.stream.write(rest)? {
                    0 => return Ok(Next::Over),
                    n => *written += n,
                }
            }
            self.stream.shutdown(Shutdown::Write)?;
            self.stage = Stage::Draining { left: DRAINED_BYTES };
        }
        if let Stage::Draining { left } = &mut self.stage {
            let mut sink = [0; 16 << 10];
            loop {
                let n = self.stream.read(&mut sink)?;
                if n == 0 || n >= *left {
                    return Ok(Next::Over);
                }
                *left -= n;
            }
        }
        Ok(Next::Stays)
    }
}

/// Takes what has come of a request; `None` when the client has closed before its end.
fn ask(stream: &mut TcpStream, head: &mut Vec<u8>) -> io::Result<Option<Asked>> {
    let mut piece = [0; 2048];
    loop {
        let room = piece.len().min(HEAD_BYTES.saturating_sub(head.len()));
        let n = match stream.read(&mut piece[..room]) {
            Ok(0) => return Ok(None),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Some(Asked::Unfinished)),
            Err(error) => return Err(error),
        };
        head.extend(&piece[..n]);
        match request::read(head) {
            Asked::Unfinished => {}
            asked => return Ok(Some(asked)),
        }
    }
}
