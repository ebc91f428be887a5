//! A server that answers scrapes and nothing else: HTTP/1.1 on one thread, every bound stated.
//!
//! It takes a request's head of at most 8 KiB and refuses bodies; it holds at most [`Limits::connections`]
//! connections, each with a time for its request and one for taking its answer, and hands the place of the one that has
//! said nothing for longest to the next that comes. Nothing that a client does ends it, nor does an accept that fails
//! (accept(2): ECONNABORTED, EMFILE, ENFILE). The page is made on a second thread, one at a time, and given to all who
//! wait for it: many scrapers cost no more than one.
//!
//! Source: RFC 9110 (semantics), RFC 9112 (messages; 9.6 for closing without losing the answer), accept(2), poll(2).

mod connection;
mod request;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::sys::{self, Interest};
use connection::{Connection, Next};

/// Bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections held at once.
    pub connections: usize,
    /// From accepting a connection to the end of its request, and again for taking the answer.
    pub time: Duration,
}

impl Limits {
    /// Those for the descriptors that this process may still open: each connection is one, and making a page needs some.
    pub fn of_this_process() -> Limits {
        let descriptors = sys::descriptor_limit().saturating_sub(64);
        Limits {
            connections: usize::try_from(descriptors / 2).unwrap_or(usize::MAX).clamp(8, 256),
            ..Limits::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 256, time: Duration::from_secs(5) }
    }
}

/// A connection that says nothing for so long gives its place to another when there is none left.
const GRACE: Duration = Duration::from_millis(100);
/// How long no connection is accepted after that has failed: it would fail at once again.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How soon the request to stop is noticed.
const TICK: Duration = Duration::from_millis(200);

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    limits: Limits,
}

/// The page when it was made last; `None` inside when making it failed.
type Made = Mutex<Option<Option<Arc<str>>>>;

impl Server {
    /// Listens at an address.
    ///
    /// # Errors
    /// When the address is not this machine's, or taken.
    pub fn bind(address: SocketAddr, limits: Limits) -> io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Server { listener, limits })
    }

    /// Where it listens: the port that was given for port 0.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop`. `page` makes what `/metrics` is answered with; `trouble` is told of an accept that failed,
    /// after which the server goes on.
    ///
    /// # Errors
    /// When the kernel refuses to wait for connections at all.
    pub fn serve(
        &self,
        stop: &AtomicBool,
        mut page: impl FnMut() -> String + Send,
        trouble: impl FnMut(&io::Error),
    ) -> io::Result<()> {
        let (mut wake, mut woken) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let made = Made::default();
        let (order, orders) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let made = &made;
            scope.spawn(move || {
                while orders.recv().is_ok() {
                    // A process can look like anything; a survey that trips over it costs this answer, not the server.
                    let page = catch_unwind(AssertUnwindSafe(&mut page)).ok().map(Arc::from);
                    *made.lock().unwrap_or_else(PoisonError::into_inner) = Some(page);
                    // The other end is gone when the server ends.
                    let _ = wake.write_all(&[1]);
                }
            });
            let connections = Vec::new();
            let mut serving = Serving { server: self, connections, not_before: None, order, making: false, trouble };
            while !stop.load(Ordering::Acquire) {
                serving.turn(&mut woken, made)?;
            }
            Ok(())
        })
    }
}

struct Serving<'a, T> {
    server: &'a Server,
    connections: Vec<Connection>,
    /// No connection is accepted before.
    not_before: Option<Instant>,
    order: mpsc::Sender<()>,
    /// Whether a page was ordered: who asks meanwhile waits for that one.
    making: bool,
    trouble: T,
}

impl<T: FnMut(&io::Error)> Serving<'_, T> {
    /// Waits until something can be done and does it.
    fn turn(&mut self, woken: &mut UnixStream, made: &Made) -> io::Result<()> {
        let now = Instant::now();
        self.not_before = self.not_before.filter(|at| *at > now);
        let full = self.connections.len() >= self.server.limits.connections;
        let accepting = self.not_before.is_none() && (!full || self.silent(now).is_some());
        let mut interests = vec![
            Interest::read(woken.as_raw_fd()),
            if accepting { Interest::read(self.server.listener.as_raw_fd()) } else { Interest::none() },
        ];
        interests.extend(self.connections.iter().map(Connection::interest));
        sys::poll(&mut interests, self.wait(now, full))?;

        if interests[0].ready {
            let mut sink = [0; 64];
            while woken.read(&mut sink).is_ok_and(|n| n > 0) {}
            if let Some(page) = made.lock().unwrap_or_else(PoisonError::into_inner).take() {
                self.making = false;
                self.connections.iter_mut().for_each(|connection| connection.give(page.as_ref()));
            }
        }
        let ready: Vec<bool> = interests[2..].iter().map(|interest| interest.ready).collect();
        let now = Instant::now();
        let mut asks = false;
        let mut index = 0;
        self.connections.retain_mut(|connection| {
            let next = connection.go_on(ready[index], now, self.server.limits.time);
            index += 1;
            asks |= matches!(next, Next::WantsPage);
            !matches!(next, Next::Over)
        });
        if asks && !self.making {
            self.making = self.order.send(()).is_ok();
        }
        if interests[1].ready {
            self.accept(now);
        }
        Ok(())
    }

    /// The longest that nothing needs doing.
    fn wait(&self, now: Instant, full: bool) -> Duration {
        let grace = full.then(|| self.connections.iter().filter_map(|c| c.silent_since()).min()).flatten();
        let ends = self.connections.iter().filter_map(|connection| connection.until);
        let next = ends.chain(self.not_before).chain(grace.map(|since| since + GRACE)).min();
        next.map_or(TICK, |at| at.saturating_duration_since(now).min(TICK))
    }

    /// The connection that has said nothing for longest, and for long enough to lose its place.
    fn silent(&self, now: Instant) -> Option<usize> {
        let since = self.connections.iter().enumerate().filter_map(|(i, c)| Some((c.silent_since()?, i))).min()?;
        (now.saturating_duration_since(since.0) >= GRACE).then_some(since.1)
    }

    /// Accepts what is there and has a place.
    fn accept(&mut self, now: Instant) {
        loop {
            if self.connections.len() >= self.server.limits.connections {
                let Some(oldest) = self.silent(now) else { return };
                self.connections.swap_remove(oldest).turn_away();
            }
            match self.server.listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_ok() {
                        self.connections.push(Connection::new(stream, now, now + self.server.limits.time));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The client went away while it waited.
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    (self.trouble)(&error);
                    // Where descriptors are short, a silent connection's is the one to do without.
                    if let Some(oldest) = self.silent(now) {
                        self.connections.swap_remove(oldest).turn_away();
                    }
                    self.not_before = Some(now + BACK_OFF);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
