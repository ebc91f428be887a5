//! A visit to a live process: wait until nobody is inside malloc, stop it, look again, call, let it go, and make sure
//! that it runs.

use std::path::Path;
use std::time::{Duration, Instant};

use fragbench_inspect::{InspectError, Survey, arena_locks};
use fragbench_proc::{LiveTarget, ProcError, Target};

use crate::bounded::{Bounded, is_late};
use crate::busy::{Busy, Guard, busy, owner};
use crate::gdb::{Gdb, Reply};
use crate::mi::Answer;
use crate::process::{Thread, state, threads};
use crate::symbols::Symbols;
use crate::{AskError, rights, sys};

/// Between two looks at a process that is busy.
const PAUSE: Duration = Duration::from_millis(5);
/// How long gdb may take to stop what it waits for, and to let go.
const ENDING: Duration = Duration::from_secs(5);

/// What a visit may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The gdb to use.
    pub gdb: String,
    /// Longest stay in the process.
    pub timeout: Duration,
    /// How long to wait for a moment in which no thread is inside malloc.
    pub patience: Duration,
    /// Longest survey while the process stands still.
    pub still: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            gdb: "gdb".into(),
            timeout: Duration::from_secs(10),
            patience: Duration::from_secs(5),
            still: Duration::from_secs(1),
        }
    }
}

/// What a visit cost the process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Visit {
    /// Looks at whether a thread is inside malloc.
    pub looks: u64,
    /// Times it was stopped; more than once when a thread was inside malloc at the stop.
    pub stops: u64,
    /// Time in which all its threads stood still: an upper bound, from the order to stop to gdb's word that it runs.
    pub stopped: Duration,
    /// The longest of these stretches.
    pub longest: Duration,
    /// Time of the calls, gdb's own part (about a millisecond each) included. The first thread makes them; the others
    /// run meanwhile, but for what they need of malloc.
    pub called: Duration,
}

/// Calls a function of the C library that takes and gives back one integer, in the process's first thread.
///
/// # Errors
/// [`AskError`]; the process runs on.
pub fn call(pid: u32, function: &'static str, argument: u64, limits: &Limits) -> Result<(u64, Visit), AskError> {
    let target = LiveTarget::open(pid)?;
    let survey = survey(&target)?;
    let symbols = Symbols::read(&target, survey.libc.object.as_deref().unwrap_or(Path::new("?")))?;
    let address = symbols.address(function)?;
    let mut session = Session::start(&target, symbols.guard(), limits)?;
    session.visit(|| Ok(()), |session| session.call(function, address, &[argument]))
}

/// A survey; what may not be read is said with the one command that helps.
pub(crate) fn survey(target: &LiveTarget) -> Result<Survey, AskError> {
    fragbench_inspect::survey(target).map_err(|error| match error {
        InspectError::Proc(ProcError::Denied(_)) => rights::forbidden(target.pid()),
        other => other.into(),
    })
}

/// A survey that is given up at the limit: `None`.
pub(crate) fn survey_within(limit: Duration, target: &LiveTarget) -> Result<Option<Survey>, AskError> {
    match fragbench_inspect::survey(&Bounded::new(target, limit)) {
        Ok(survey) => Ok(Some(survey)),
        Err(InspectError::Proc(error)) if is_late(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) struct Session<'a> {
    target: &'a LiveTarget,
    gdb: Gdb,
    guard: Guard,
    limits: &'a Limits,
    deadline: Instant,
    /// The first thread as it was found.
    found: Option<Thread>,
    /// Since when all threads stand still.
    still_since: Instant,
    /// Calls are made while all other threads stand still.
    alone: bool,
    visit: Visit,
}

impl<'a> Session<'a> {
    /// Gets gdb ready. The process is not touched.
    pub(crate) fn start(target: &'a LiveTarget, guard: Guard, limits: &'a Limits) -> Result<Session<'a>, AskError> {
        rights::check_free(target.pid())?;
        let gdb = Gdb::start(&limits.gdb, target.pid())?;
        let now = Instant::now();
        let visit = Visit::default();
        Ok(Session { target, gdb, guard, limits, deadline: now, found: None, still_since: now, alone: false, visit })
    }

    /// Stops the process at a moment when nobody is inside malloc, and lets it go after the calls. `prepare` is run
    /// shortly before each stop.
    pub(crate) fn visit<R>(
        &mut self,
        mut prepare: impl FnMut() -> Result<(), AskError>,
        ask: impl FnOnce(&mut Self) -> Result<R, AskError>,
    ) -> Result<(R, Visit), AskError> {
        let give_up = Instant::now() + self.limits.patience;
        loop {
            self.quiet_moment(give_up)?;
            prepare()?;
            self.attach()?;
            match self.look() {
                Ok(None) => break,
                Ok(Some(busy)) if Instant::now() < give_up => {
                    self.let_go()?;
                    drop(busy);
                }
                Ok(Some(busy)) => {
                    self.let_go()?;
                    return Err(AskError::Busy { busy, looks: self.visit.looks });
                }
                Err(error) => {
                    self.let_go()?;
                    return Err(error);
                }
            }
        }
        let result = ask(self);
        // What became of the process is more important than what became of the call.
        self.let_go()?;
        result.map(|result| (result, self.visit))
    }

    /// Waits, without stopping the process, until nobody is seen inside malloc.
    fn quiet_moment(&mut self, give_up: Instant) -> Result<(), AskError> {
        while let Some(busy) = self.look()? {
            if Instant::now() >= give_up {
                return Err(AskError::Busy { busy, looks: self.visit.looks });
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn look(&mut self) -> Result<Option<Busy>, AskError> {
        self.visit.looks += 1;
        match busy(self.target, self.target.pid(), &self.guard) {
            // It has a heap, or we would not be here: its arenas are being changed.
            Err(InspectError::NoHeap) => Ok(Some(Busy::Changing)),
            other => Ok(other?),
        }
    }

    fn attach(&mut self) -> Result<(), AskError> {
        let pid = self.target.pid();
        self.target.check()?;
        self.visit.stops += 1;
        self.still_since = Instant::now();
        self.deadline = self.still_since + self.limits.timeout;
        let answer = match self.gdb.ask(&format!("-target-attach {pid}"), self.deadline)? {
            Reply::Answer(answer) => answer,
            Reply::Late(token) => {
                self.gdb.interrupt();
                let _ = self.gdb.wait(token, Instant::now() + ENDING)?;
                self.let_go()?;
                return Err(self.timed_out("attaching", ""));
            }
        };
        if !answer.done {
            let said = answer.text("msg").unwrap_or_default();
            self.runs_again()?;
            return Err(match said {
                s if s.contains("not permitted") => rights::forbidden(pid),
                s if s.contains("No such process") => gone(pid),
                said => AskError::Gdb { what: "attaching".into(), said },
            });
        }
        // Answered when it is stopped and all threads are known.
        self.gdb.finish("-gdb-show confirm", self.limits.timeout)?;
        self.found = threads(pid).into_iter().find(|thread| thread.id == pid);
        Ok(())
    }

    /// Calls the function at `address` and gives back what it returns.
    pub(crate) fn call(&mut self, name: &str, address: u64, arguments: &[u64]) -> Result<u64, AskError> {
        let types = vec!["unsigned long"; arguments.len()].join(",");
        let values = arguments.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let command = format!("-data-evaluate-expression \"((long(*)({types})){address:#x})({values})\"");
        let begun = Instant::now();
        if !self.alone {
            self.end_still();
        }
        let reply = self.gdb.ask(&command, self.deadline)?;
        if !self.alone {
            self.still_since = Instant::now();
        }
        self.visit.called += begun.elapsed();
        match reply {
            Reply::Answer(answer) if answer.done => answer
                .value()
                .ok_or_else(|| AskError::Gdb { what: format!("{name}()"), said: format!("no number: {answer:?}") }),
            Reply::Answer(answer) => {
                let said = answer.text("msg").unwrap_or_default();
                Err(if state(self.target.pid()).is_none_or(|s| s.letter == 'Z') {
                    gone(self.target.pid())
                } else {
                    AskError::Gdb { what: format!("{name}()"), said }
                })
            }
            Reply::Late(token) => Err(self.end_call(name, token)),
        }
    }

    fn end_still(&mut self) {
        let stood = self.still_since.elapsed();
        self.visit.stopped += stood;
        self.visit.longest = self.visit.longest.max(stood);
    }

    /// How long the process has stood still by now.
    pub(crate) fn still(&self) -> Duration {
        self.still_since.elapsed()
    }

    /// Where the first thread is.
    pub(crate) fn first_thread(&self) -> Option<&Thread> {
        self.found.as_ref()
    }

    /// Whether calls are made while all other threads stand still: only of functions that wait for nobody.
    pub(crate) fn alone(&mut self, alone: bool) -> Result<(), AskError> {
        let answer =
            self.gdb.finish(&format!("-gdb-set scheduler-locking {}", if alone { "on" } else { "off" }), ENDING)?;
        if !answer.done {
            return Err(AskError::Gdb {
                what: "scheduler-locking".into(),
                said: answer.text("msg").unwrap_or_default(),
            });
        }
        self.alone = alone;
        Ok(())
    }

    /// Code in which no thread may be at a stop, besides malloc's.
    pub(crate) fn avoid(&mut self, code: impl IntoIterator<Item = std::ops::Range<u64>>) {
        self.guard.code.extend(code);
    }

    /// Writes bytes into the process: only into memory that a call has mapped for this, or that was made for it.
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), AskError> {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = self.gdb.finish(&format!("-data-write-memory-bytes {address:#x} {hex}"), ENDING)?;
        let said = || answer.text("msg").unwrap_or_default();
        if answer.done { Ok(()) } else { Err(AskError::Gdb { what: "writing".into(), said: said() }) }
    }

    /// Ends a call that has not come back: takes it back when it holds no lock, waits for it when it does.
    fn end_call(&mut self, name: &str, token: u64) -> AskError {
        let what = format!("{name}()");
        let mut awaited = token;
        loop {
            self.gdb.interrupt();
            match self.gdb.wait(awaited, Instant::now() + ENDING) {
                Ok(Reply::Answer(answer)) if answer.done && awaited == token => {
                    return self.timed_out(&what, "; the call came back at that moment");
                }
                Ok(Reply::Answer(_)) => {}
                Ok(Reply::Late(_)) => return self.unsound("gdb does not answer while a call is under way"),
                Err(error) => return error,
            }
            if self.at_home() {
                return self.timed_out(&what, "; the call was at work inside malloc and has come to its end");
            }
            if self.holds_nothing() {
                return match self.take_back() {
                    Ok(()) => self.timed_out(&what, "; the call was waiting and has been taken back"),
                    Err(error) => error,
                };
            }
            // At work with a lock in its hands. gdb reads the next command when the call is over.
            let went_on = self.gdb.finish("-exec-continue", ENDING);
            let over = went_on.and_then(|_| self.gdb.ask("-gdb-show confirm", Instant::now() + self.limits.timeout));
            match over {
                Ok(Reply::Answer(_)) => {
                    return self.timed_out(&what, "; the call was at work inside malloc and has come to its end");
                }
                Ok(Reply::Late(token)) => awaited = token,
                Err(error) => return error,
            }
        }
    }

    /// Whether the first thread is where it was found.
    fn at_home(&self) -> bool {
        self.caller().is_some() && self.caller() == self.found
    }

    fn caller(&self) -> Option<Thread> {
        threads(self.target.pid()).into_iter().find(|thread| thread.id == self.target.pid())
    }

    /// Whether the interrupted call holds no lock of malloc: none is held at all, or it waits for one. `malloc_trim` and
    /// `malloc_info` take one arena's lock at a time and wait for nothing while they hold it.
    fn holds_nothing(&self) -> bool {
        if self.guard.loader.iter().any(|lock| owner(self.target, *lock) == Some(self.target.pid())) {
            return false;
        }
        let waits = self.caller().is_some_and(|c| c.system_call == Some(libc::SYS_futex.cast_unsigned()));
        waits || self.guard.glibc && arena_locks(self.target).is_ok_and(|locks| locks.iter().all(|lock| !lock.held))
    }

    /// Gives the first thread back what it had before the call.
    fn take_back(&mut self) -> Result<(), AskError> {
        let frames = self.gdb.finish("-stack-list-frames", ENDING)?;
        let dummy = frames.dummy_frame().filter(|level| *level > 0);
        let Some(dummy) = dummy else { return Err(self.unsound("gdb does not find the way back from the call")) };
        self.gdb.finish(&format!("-stack-select-frame {}", dummy - 1), ENDING)?;
        let answer: Answer = self.gdb.finish("-exec-return", ENDING)?;
        if answer.done && self.at_home() {
            return Ok(());
        }
        Err(self.unsound(&format!("its first thread is not where it was: {answer:?}")))
    }

    /// Lets the process go and makes sure that it runs.
    fn let_go(&mut self) -> Result<(), AskError> {
        // An error means that nothing is held, which is what counts.
        let _ = self.gdb.finish("-target-detach", ENDING)?;
        self.end_still();
        self.runs_again()
    }

    /// Waits until the process is neither stopped nor traced. One that was left stopped is told to go on; one that has
    /// ended is an error.
    fn runs_again(&mut self) -> Result<(), AskError> {
        let pid = self.target.pid();
        let deadline = Instant::now() + ENDING;
        loop {
            let state = state(pid).filter(|state| !matches!(state.letter, 'Z' | 'X')).ok_or_else(|| gone(pid))?;
            if state.tracer == 0 && !matches!(state.letter, 't' | 'T') {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.unsound(&format!("it is in state {}, traced by {}", state.letter, state.tracer)));
            }
            if state.tracer == 0 && state.letter == 'T' {
                sys::signal(pid, libc::SIGCONT);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn timed_out(&self, what: &str, after: &'static str) -> AskError {
        AskError::Timeout { what: what.to_owned(), limit: self.limits.timeout, after }
    }

    fn unsound(&self, why: &str) -> AskError {
        AskError::Unsound { pid: self.target.pid(), why: why.to_owned() }
    }
}

fn gone(pid: u32) -> AskError {
    ProcError::Gone(Path::new("/proc").join(pid.to_string())).into()
}
