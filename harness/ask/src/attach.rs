//! Bringing the recorder into a process that runs, telling it to begin, and, where its own end does not come, to end.
//!
//! Two visits. In the first the process's first thread loads the library, while all others run, since loading allocates
//! and takes the loader's locks. In the second, at a moment when nobody is inside malloc, the loader or the library, that
//! thread alone has the library begin, which waits for nobody; what the heap holds is surveyed before the others go on. So
//! every block is either among those surveyed or recorded.
//!
//! Refused, with the reason: a static program and another libc than glibc; an allocator that is part of the program, whose
//! calls were bound when it was linked; a filter of system calls, unless the user knows that it lets the recorder's pass; a
//! first thread that has ended, or that is on another stack than its own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fragbench_inspect::{Malloc, Survey, mallocs};
use fragbench_proc::{LiveTarget, Mapping, Part, Source, Target};

use crate::allocator::{ROOM, Room, code};
use crate::busy::Guard;
use crate::loader::{self, Loader};
use crate::process::{Thread, seccomp};
use crate::session::{Limits, Session, survey_within};
use crate::symbols::Symbols;
use crate::{AskError, rights};

/// Names under which glibc has had its `dlopen`: since 2.34 libc itself.
const DLOPEN: [&str; 2] = ["dlopen", "__libc_dlopen_mode"];
/// What the second asks for besides, to be given the flags of the first (`__RTLD_DLOPEN` of include/dlfcn.h).
const AS_DLOPEN: u64 = 0x8000_0000;
/// `RTLD_NOW`, `RTLD_NODELETE`; not `RTLD_GLOBAL`.
const FLAGS: u64 = 2 | 0x1000;
/// Longest message of the loader's that is read.
const MESSAGE: usize = 400;

/// What is to be recorded, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// The recorder's library, as it is here.
    pub library: PathBuf,
    /// The same, by the path that the process finds it by.
    pub library_there: PathBuf,
    /// Start of the spool's path, as the process finds it.
    pub spool_there: PathBuf,
    /// The file whose lock says that the recording is still wanted, as the process finds it.
    pub control_there: PathBuf,
    /// Most bytes of the spool.
    pub max_size: Option<u64>,
    /// Longest recording.
    pub duration: Option<Duration>,
    /// Frames of a stack; 0 for no stacks.
    pub stack_depth: u32,
    /// Whether to survey what is live at the start.
    pub survey: bool,
    /// Attach although a filter of system calls is on.
    pub filtered: bool,
}

/// A recording that has begun.
#[derive(Debug, Clone, PartialEq)]
pub struct Attached {
    /// Whose heap `malloc` is.
    pub allocator: String,
    /// Places that lead to the malloc API and now to the recorder.
    pub led: u64,
    /// Places of it that were not bound yet, and left alone since it is not certain to what they will be.
    pub unbound: u64,
    /// Places of it that lead to another allocator.
    pub foreign: u64,
    /// Places that could not be changed.
    pub sealed: u64,
    /// What was live at the start; `None` when that was not wanted, took too long, or the heap is not glibc's.
    pub survey: Option<Survey>,
    /// Time of the survey; `None` when none was begun.
    pub survey_time: Option<Duration>,
    /// Whether the library was in the process from an earlier recording.
    pub again: bool,
    /// Longest time in which all threads stood still.
    pub longest_stop: Duration,
    /// Times the process was stopped.
    pub stops: u64,
    /// Looks at whether a thread is inside malloc or the loader.
    pub looks: u64,
}

/// Begins to record a process.
///
/// # Errors
/// [`AskError`]; the process runs on as it was, at most with the idle library in it.
pub fn attach(pid: u32, request: &Request, limits: &Limits) -> Result<Attached, AskError> {
    rights::check_free(pid)?;
    let target = LiveTarget::open(pid)?;
    let place = Place::find(&target, request.filtered)?;
    let mut session = Session::start(&target, place.guard()?, limits)?;
    let earlier = Library::find(&target, request)?;
    let again = earlier.is_some();
    let mut visits = Vec::new();
    let library = match earlier {
        Some(library) => library,
        None => {
            let (library, visit) = session.visit(|| Ok(()), |session| place.load(session, request))?;
            visits.push(visit);
            library
        }
    };
    session.avoid(library.code.clone());
    let ((found, survey, survey_time), visit) = session.visit(
        || Ok(()),
        |session| {
            place.check_first(session.first_thread())?;
            session.write(library.request, &words(request, place.loader.locks.first().copied()))?;
            session.alone(true)?;
            let begun = session.call("fragbench_recorder_attach", library.attach, &[]);
            session.alone(false)?;
            let begun = begun?.cast_signed();
            if begun != 0 {
                return Err(refusal(pid, -begun, request));
            }
            let begun = Instant::now();
            let wanted = request.survey && place.malloc.fact.is_glibc();
            let left = limits.still.saturating_sub(session.still());
            let survey = if wanted { survey_within(left, &target).unwrap_or(None) } else { None };
            Ok((library.answer(&target)?, survey, wanted.then(|| begun.elapsed())))
        },
    )?;
    visits.push(visit);
    let [led, unbound, foreign, sealed] = found;
    Ok(Attached {
        allocator: place.malloc.fact.name.clone(),
        led,
        unbound,
        foreign,
        sealed,
        survey,
        survey_time,
        again,
        longest_stop: visit.longest,
        stops: visit.stops,
        looks: visit.looks,
    })
}

/// Ends a recording that nobody's event has ended. The lock on the control file has been given up before.
///
/// # Errors
/// [`AskError`]; the process runs on, and its next event ends the recording.
pub fn detach(pid: u32, request: &Request, limits: &Limits) -> Result<(), AskError> {
    let target = LiveTarget::open(pid)?;
    let place = Place::find(&target, true)?;
    let mut session = Session::start(&target, place.guard()?, limits)?;
    let Some(library) = Library::find(&target, request)? else { return Ok(()) };
    session.avoid(library.code.clone());
    session.visit(
        || Ok(()),
        |session| {
            place.check_first(session.first_thread())?;
            session.call("fragbench_recorder_detach", library.detach, &[])
        },
    )?;
    Ok(())
}

/// Why the recorder did not begin.
fn refusal(pid: u32, errno: i64, request: &Request) -> AskError {
    let spool = request.spool_there.display();
    let (why, fix) = match i32::try_from(errno) {
        Ok(libc::EALREADY) => ("it is recorded already".to_owned(), "wait for the end of that recording".to_owned()),
        Ok(errno) => (
            format!("the recorder cannot write {spool}.*: {}", std::io::Error::from_raw_os_error(errno)),
            "name a directory that the process can write to with --spool-dir".to_owned(),
        ),
        Err(_) => (format!("the recorder answers {errno}"), "report this".to_owned()),
    };
    AskError::Unsuited { pid, why, fix }
}

/// The request as the recorder reads it.
fn words(request: &Request, lock: Option<u64>) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let [spool, control] = [&request.spool_there, &request.control_there].map(|path| path.as_os_str().as_bytes());
    let duration = request.duration.map_or(u64::MAX, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let lens = spool.len() as u64 | (control.len() as u64) << 32;
    let numbers = [request.max_size.unwrap_or(u64::MAX), duration, request.stack_depth.into(), lock.unwrap_or(0), lens];
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    bytes.extend(spool);
    bytes.extend(control);
    bytes
}

/// The process, as far as it matters to attaching.
struct Place<'t> {
    target: &'t LiveTarget,
    malloc: Malloc,
    libc: Symbols,
    dlopen: (u64, u64),
    dlerror: Option<u64>,
    loader: Loader,
    malloc_code: Vec<std::ops::Range<u64>>,
}

impl<'t> Place<'t> {
    fn find(target: &'t LiveTarget, filtered: bool) -> Result<Self, AskError> {
        let pid = target.pid();
        let unsuited = |why: &str, fix: &str| AskError::Unsuited { pid, why: why.into(), fix: fix.into() };
        let found = mallocs(target).map_err(|error| match error {
            fragbench_inspect::InspectError::Proc(fragbench_proc::ProcError::Denied(_)) => rights::forbidden(pid),
            other => other.into(),
        })?;
        let from_start = "record it from its start instead, built without it: fragbench record -- CMD";
        let libc = found.iter().find(|malloc| malloc.fact.is_glibc());
        let mappings = target.mappings()?;
        let (Some(libc), Some(loader)) = (libc, Loader::find(target, &mappings)) else {
            let why = "it is statically linked or runs on another C library than glibc";
            return Err(unsuited(why, "only programs that glibc's loader has loaded can be recorded"));
        };
        let malloc = found.iter().find(|malloc| malloc.fact.takes_malloc).unwrap_or(libc).clone();
        let program = mappings.iter().find_map(|m| match &m.source {
            Source::File(file) => Some(file),
            _ => None,
        });
        if program == Some(&malloc.path) {
            let why = format!(
                "its allocator ({}) is part of the program, whose calls cannot be led elsewhere",
                malloc.fact.name
            );
            return Err(unsuited(&why, from_start));
        }
        if seccomp(pid).is_some_and(|mode| mode != 0) && !filtered {
            return Err(unsuited(
                "a filter of system calls (seccomp) is on, which may end it for a call of the recorder's",
                "where the filter only refuses calls, as a container runtime's does, add --despite-seccomp; else run it \
                 without the filter (docker run --security-opt seccomp=unconfined)",
            ));
        }
        let malloc_symbols = Symbols::read(target, &malloc.path)?;
        let malloc_code = match malloc.fact.is_glibc() {
            true => malloc_symbols.malloc_code(),
            false => code(target, &malloc.path, &malloc_symbols)?,
        };
        let libc = Symbols::read(target, &libc.path)?;
        let dlopen = dlopen(target, &mappings, &libc)
            .ok_or_else(|| unsuited("no dlopen was found in its C library", "run it with a newer glibc"))?;
        let dlerror = libc.any(&["dlerror"]);
        Ok(Place { target, malloc, libc, dlopen, dlerror, loader, malloc_code })
    }

    fn guard(&self) -> Result<Guard, AskError> {
        let code = self.malloc_code.iter().chain(&self.loader.code).cloned().collect();
        Ok(Guard { code, glibc: self.malloc.fact.is_glibc(), loader: self.loader.locks.clone() })
    }

    /// Refuses a first thread that cannot make a call.
    fn check_first(&self, first: Option<&Thread>) -> Result<(), AskError> {
        let pid = self.target.pid();
        let unsuited =
            |why: &str| AskError::Unsuited { pid, why: why.into(), fix: "try again at another moment".into() };
        let first = first.ok_or_else(|| unsuited("its first thread, which is to make the call, has ended"))?;
        let mappings = self.target.mappings()?;
        let on_stack = mappings.iter().any(|m| m.source == Source::Stack && m.holds(first.stack_pointer));
        if !on_stack {
            return Err(unsuited(
                "its first thread is on another stack than its own, as in a signal handler or a coroutine",
            ));
        }
        Ok(())
    }

    /// Has the first thread load the library.
    fn load(&self, session: &mut Session<'_>, request: &Request) -> Result<Library, AskError> {
        use std::os::unix::ffi::OsStrExt;
        self.check_first(session.first_thread())?;
        let (map, unmap) = (self.libc.address("mmap")?, self.libc.address("munmap")?);
        let room = Room::take(session, self.target, map)?;
        let path = [request.library_there.as_os_str().as_bytes(), b"\0"].concat();
        session.write(room.at, &path)?;
        let (dlopen, flags) = self.dlopen;
        let handle = session.call("dlopen", dlopen, &[room.at, flags])?;
        let why = match (handle, self.dlerror) {
            (0, Some(dlerror)) => Some(self.text(session.call("dlerror", dlerror, &[])?)),
            (0, None) => Some(None),
            _ => None,
        };
        session.call("munmap", unmap, &[room.at, ROOM])?;
        let pid = self.target.pid();
        if let Some(said) = why {
            let said = said.unwrap_or_else(|| "no reason is given".into());
            let fix = if said.contains("static TLS") {
                "its room for thread-local storage is used up: start it with \
                 GLIBC_TUNABLES=glibc.rtld.optional_static_tls=2048, or record it from its start"
            } else if said.contains("version `GLIBC_") {
                "fragbench was built for a newer glibc than the process has: use a release build"
            } else {
                "name a directory from which it can load libraries with --spool-dir"
            };
            return Err(AskError::Unsuited { pid, why: format!("its loader says: {said}"), fix: fix.into() });
        }
        Library::find(self.target, request)?
            .ok_or_else(|| AskError::Unsound { pid, why: "the library was loaded and is not to be seen".into() })
    }

    fn text(&self, at: u64) -> Option<String> {
        let mut bytes = vec![0; MESSAGE];
        let page = self.target.page_bytes();
        let most = (page - at % page).min(MESSAGE as u64) as usize;
        self.target.read(&mut [Part::new(at, &mut bytes[..most])]).ok()?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

/// Where `dlopen` is, and the flags to call it with.
fn dlopen(target: &LiveTarget, mappings: &[Mapping], libc: &Symbols) -> Option<(u64, u64)> {
    if let Some(at) = libc.any(&DLOPEN[..1]) {
        return Some((at, FLAGS));
    }
    let is_libdl = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libdl"));
    let libdl = mappings.iter().find_map(|m| match &m.source {
        Source::File(path) if is_libdl(path) => Some(path),
        _ => None,
    });
    let of_libdl = libdl.and_then(|path| Symbols::read(target, path).ok()?.any(&DLOPEN[..1]));
    of_libdl.map(|at| (at, FLAGS)).or_else(|| Some((libc.any(&DLOPEN[1..])?, FLAGS | AS_DLOPEN)))
}

/// The recorder's library in a process.
struct Library {
    code: Vec<std::ops::Range<u64>>,
    attach: u64,
    detach: u64,
    request: u64,
    answer: u64,
}

impl Library {
    /// `None` when it is not there.
    fn find(target: &LiveTarget, request: &Request) -> Result<Option<Library>, AskError> {
        let pid = target.pid();
        let mappings = target.mappings()?;
        let own = request.library.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // One whose file is gone is shown with a word behind its name.
        let is_it = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&own));
        let first = mappings.iter().find(|m| m.offset == 0 && matches!(&m.source, Source::File(path) if is_it(path)));
        let Some(first) = first else { return Ok(None) };
        let bytes = std::fs::read(&request.library)?;
        // Its first page holds the build id.
        let mut there = vec![0; (target.page_bytes() as usize).min(bytes.len())];
        target.read(&mut [Part::new(first.start, &mut there)])?;
        if there != bytes[..there.len()] {
            return Err(AskError::Unsuited {
                pid,
                why: "the recorder of another fragbench is in it, from an earlier recording".into(),
                fix: "use that fragbench, or restart the process".into(),
            });
        }
        let symbol = |name: &str| {
            let found = loader::symbol(&bytes, first, target.page_bytes(), name).map(|range| range.start);
            found.ok_or_else(|| AskError::Unsound { pid, why: format!("the recorder exports no {name}") })
        };
        Ok(Some(Library {
            code: loader::code(&mappings, &first.source),
            attach: symbol("fragbench_recorder_attach")?,
            detach: symbol("fragbench_recorder_detach")?,
            request: symbol("fragbench_recorder_request")?,
            answer: symbol("fragbench_recorder_answer")?,
        }))
    }

    fn answer(&self, target: &LiveTarget) -> Result<[u64; 4], AskError> {
        let mut bytes = [0; 32];
        target.read(&mut [Part::new(self.answer, &mut bytes)])?;
        let mut words = [0; 4];
        for (to, from) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *to = u64::from_le_bytes(*from);
        }
        Ok(words)
    }
}
