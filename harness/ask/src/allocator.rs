//! jemalloc, mimalloc and tcmalloc in a live process: what they say of themselves, and having them give back what they do
//! not need, through gdb under the safeguards of [`crate::trim()`]. Their locks cannot be read: that nobody holds one is told
//! by where each thread is.
//!
//! Source: jemalloc(3) (`mallctl`, `stats.*`, `arena.<i>.purge` with `MALLCTL_ARENAS_ALL` 4096, `epoch`); mimalloc.h
//! (`mi_collect`, `mi_process_info`); gperftools malloc_extension_c.h.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use fragbench_inspect::mallocs;
use fragbench_proc::{LiveTarget, Part, Process, Source, Target};
use serde::Serialize;

use crate::AskError;
use crate::busy::Guard;
use crate::session::{Limits, Session};
use crate::symbols::Symbols;

/// jemalloc's own figures, by their names there.
const JEMALLOC: [&str; 6] =
    ["stats.allocated", "stats.active", "stats.metadata", "stats.resident", "stats.mapped", "stats.retained"];
/// tcmalloc's.
const TCMALLOC: [&str; 6] = [
    "generic.current_allocated_bytes",
    "generic.heap_size",
    "tcmalloc.pageheap_free_bytes",
    "tcmalloc.pageheap_unmapped_bytes",
    "tcmalloc.central_cache_free_bytes",
    "tcmalloc.current_total_thread_cache_bytes",
];
/// mimalloc's: `mi_process_info` writes eight numbers, of which these are about memory.
const MIMALLOC: [(usize, &str); 2] = [(5, "commit"), (6, "peak_commit")];

/// Names of jemalloc's `mallctl`, with the prefixes it is built with.
const MALLCTL: [&str; 4] = ["mallctl", "je_mallctl", "_rjem_mallctl", "jemalloc_mallctl"];

/// Whose heap a process's `malloc` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heap {
    /// `glibc`, `jemalloc` and so on; `unknown` for what is not known.
    pub allocator: String,
    /// Its file.
    pub object: PathBuf,
    /// Other allocators in the process, which `malloc` does not reach.
    pub others: Vec<String>,
}

/// What an allocator gave back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Purged {
    /// Process.
    pub pid: u32,
    /// Allocator.
    pub allocator: String,
    /// Its file.
    pub object: String,
    /// RSS right before the call, while the process stood still.
    pub rss_before_bytes: u64,
    /// RSS right after it, before the process went on.
    pub rss_after_bytes: u64,
    /// The difference; 0 when the other threads took more meanwhile.
    pub released_bytes: u64,
    /// The allocator's own figures before, by their names there; bytes.
    pub before: BTreeMap<String, u64>,
    /// And after.
    pub after: BTreeMap<String, u64>,
    /// Time of the calls, gdb's own part (about a millisecond each) included. Other threads run meanwhile.
    pub call_ms: f64,
    /// Time in which all threads stood still.
    pub stopped_ms: f64,
    /// What the call does not reach.
    pub reach: Option<String>,
}

/// Whose heap `malloc` is in a process.
///
/// # Errors
/// [`AskError`] when the process may not be read.
pub fn heap(pid: u32) -> Result<Heap, AskError> {
    let found = mallocs(&LiveTarget::open(pid)?)?;
    let owner = found.iter().position(|malloc| malloc.fact.takes_malloc);
    let Some(owner) = owner else {
        let why = "no file of it provides malloc: a program of another libc, or one without symbols".to_owned();
        return Err(AskError::NotAsked { pid, allocator: "nobody".into(), why });
    };
    let others = found.iter().enumerate().filter(|(i, malloc)| *i != owner && !malloc.fact.is_glibc());
    Ok(Heap {
        allocator: found[owner].fact.name.clone(),
        object: found[owner].path.clone(),
        others: others.map(|(_, malloc)| malloc.fact.name.clone()).collect(),
    })
}

/// Has the allocator of that name in a process (or, without one, the one that `malloc` is) give back what it does not need.
///
/// # Errors
/// [`AskError`]; the process runs on.
pub fn purge(pid: u32, allocator: Option<&str>, limits: &Limits) -> Result<Purged, AskError> {
    visit(pid, allocator, true, limits)
}

/// What the allocator says of itself: as [`purge`], without giving anything back.
///
/// # Errors
/// [`AskError`]; the process runs on.
pub fn words(pid: u32, allocator: Option<&str>, limits: &Limits) -> Result<Purged, AskError> {
    visit(pid, allocator, false, limits)
}

fn visit(pid: u32, allocator: Option<&str>, purge: bool, limits: &Limits) -> Result<Purged, AskError> {
    let target = LiveTarget::open(pid)?;
    let found = mallocs(&target)?;
    let chosen = found.iter().find(|malloc| match allocator {
        Some(name) => malloc.fact.name == name,
        None => malloc.fact.takes_malloc,
    });
    let name = chosen.map_or_else(|| allocator.unwrap_or("nobody").to_owned(), |malloc| malloc.fact.name.clone());
    let refused = |why: &str| AskError::NotAsked { pid, allocator: name.clone(), why: why.to_owned() };
    let chosen =
        chosen.ok_or_else(|| refused("it is not in this process (`fragbench inspect` names those that are)"))?;
    let symbols = Symbols::read(&target, &chosen.path)?;
    let libc = found.iter().find(|malloc| malloc.fact.is_glibc()).ok_or_else(|| refused("it runs without glibc"))?;
    let libc = Symbols::read(&target, &libc.path)?;
    let functions = Functions::find(&name, &symbols).ok_or_else(|| {
        refused("it does not export the functions by which it is asked (built without them, or stripped)")
    })?;
    let guard = Guard { code: code(&target, &chosen.path, &symbols)?, glibc: false, loader: Vec::new() };
    let (map, unmap) = (libc.address("mmap")?, libc.address("munmap")?);
    let process = Process::live(pid);
    let mut session = Session::start(&target, guard, limits)?;
    let (purged, visit) = session.visit(
        || Ok(()),
        |session| {
            let mut room = Room::take(session, &target, map)?;
            let before = functions.words(session, &mut room)?;
            let had = process.status()?.rss_bytes;
            if purge {
                functions.purge(session, &mut room)?;
            }
            let has = process.status()?.rss_bytes;
            let after = functions.words(session, &mut room)?;
            session.call("munmap", unmap, &[room.at, ROOM])?;
            Ok((before, had, has, after))
        },
    )?;
    let (before, had, has, after) = purged;
    Ok(Purged {
        pid,
        object: chosen.path.display().to_string(),
        rss_before_bytes: had,
        rss_after_bytes: has,
        released_bytes: had.saturating_sub(has),
        before,
        after,
        call_ms: visit.called.as_secs_f64() * 1e3,
        stopped_ms: visit.stopped.as_secs_f64() * 1e3,
        reach: (name == "mimalloc").then(|| {
            "mi_collect reaches the pages of the thread that calls it, here the first one, and what threads that have \
             ended left; pages of the other threads stay"
                .to_owned()
        }),
        allocator: name,
    })
}

/// An allocator's code: all of a library's, of a program's the stretch that its functions lie in.
pub(crate) fn code(target: &LiveTarget, path: &PathBuf, symbols: &Symbols) -> Result<Vec<Range<u64>>, AskError> {
    let mappings = target.mappings()?;
    let program = mappings.iter().find_map(|m| match &m.source {
        Source::File(file) => Some(file),
        _ => None,
    });
    if program == Some(path) {
        let words = ["mallctl", "je_", "_rjem_", "jemalloc", "mi_", "tcmalloc", "MallocExtension"];
        return Ok(symbols.stretch(&words).into_iter().collect());
    }
    let own = mappings.iter().filter(|m| !m.writable && matches!(&m.source, Source::File(file) if file == path));
    Ok(own.map(|m| m.start..m.end).collect())
}

/// Memory in the process for names and numbers.
pub(crate) struct Room<'t> {
    pub(crate) at: u64,
    target: &'t LiveTarget,
}

/// Its size: a name and eight numbers fit into a page.
pub(crate) const ROOM: u64 = 4096;
/// Where numbers begin; the name is before them.
const NUMBERS: u64 = 256;

impl<'t> Room<'t> {
    pub(crate) fn take(session: &mut Session<'_>, target: &'t LiveTarget, map: u64) -> Result<Self, AskError> {
        let access = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let kind = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        let at = session.call("mmap", map, &[0, ROOM, access, kind, u64::MAX, 0])?;
        if at == u64::MAX {
            return Err(AskError::Gdb { what: "mmap()".into(), said: "the call failed".into() });
        }
        Ok(Room { at, target })
    }

    fn number(&self, place: usize) -> u64 {
        self.at + NUMBERS + 8 * place as u64
    }

    fn name(&self, session: &mut Session<'_>, name: &str) -> Result<u64, AskError> {
        session.write(self.at, &[name.as_bytes(), b"\0"].concat())?;
        Ok(self.at)
    }

    fn read(&self, place: usize) -> Result<u64, AskError> {
        let mut bytes = [0; 8];
        self.target.read(&mut [Part::new(self.number(place), &mut bytes)])?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

/// Where an allocator's functions are.
enum Functions {
    Jemalloc { mallctl: u64 },
    Mimalloc { collect: u64, info: Option<u64> },
    Tcmalloc { release: u64, property: u64 },
}

impl Functions {
    fn find(allocator: &str, symbols: &Symbols) -> Option<Functions> {
        match allocator {
            "jemalloc" => Some(Functions::Jemalloc { mallctl: symbols.any(&MALLCTL)? }),
            "mimalloc" => Some(Functions::Mimalloc {
                collect: symbols.any(&["mi_collect"])?,
                info: symbols.any(&["mi_process_info"]),
            }),
            "tcmalloc" => Some(Functions::Tcmalloc {
                release: symbols.any(&["MallocExtension_ReleaseFreeMemory"])?,
                property: symbols.any(&["MallocExtension_GetNumericProperty"])?,
            }),
            _ => None,
        }
    }

    /// The allocator's own figures; those it does not know are left out.
    fn words(&self, session: &mut Session<'_>, room: &mut Room<'_>) -> Result<BTreeMap<String, u64>, AskError> {
        let mut figures = BTreeMap::new();
        match *self {
            Functions::Jemalloc { mallctl } => {
                // Figures are those of the last epoch.
                session.write(room.number(0), &1u64.to_ne_bytes())?;
                let name = room.name(session, "epoch")?;
                session.call("mallctl", mallctl, &[name, 0, 0, room.number(0), 8])?;
                for figure in JEMALLOC {
                    session.write(room.number(1), &8u64.to_ne_bytes())?;
                    let name = room.name(session, figure)?;
                    // An int: of the register only the lower half is said.
                    if session.call("mallctl", mallctl, &[name, room.number(0), room.number(1), 0, 0])? as u32 == 0 {
                        figures.insert(figure.to_owned(), room.read(0)?);
                    }
                }
            }
            Functions::Mimalloc { info, .. } => {
                if let Some(info) = info {
                    let places: Vec<u64> = (0..8).map(|place| room.number(place)).collect();
                    session.call("mi_process_info", info, &places)?;
                    for (place, figure) in MIMALLOC {
                        figures.insert(figure.to_owned(), room.read(place)?);
                    }
                }
            }
            Functions::Tcmalloc { property, .. } => {
                for figure in TCMALLOC {
                    let name = room.name(session, figure)?;
                    if session.call("GetNumericProperty", property, &[name, room.number(0)])? as u32 != 0 {
                        figures.insert(figure.to_owned(), room.read(0)?);
                    }
                }
            }
        }
        Ok(figures)
    }

    fn purge(&self, session: &mut Session<'_>, room: &mut Room<'_>) -> Result<(), AskError> {
        match *self {
            Functions::Jemalloc { mallctl } => {
                let name = room.name(session, "arena.4096.purge")?;
                let failed = session.call("mallctl", mallctl, &[name, 0, 0, 0, 0])? as u32;
                if failed != 0 {
                    let said = format!("error {failed} of jemalloc");
                    return Err(AskError::Gdb { what: "mallctl(\"arena.4096.purge\")".into(), said });
                }
            }
            Functions::Mimalloc { collect, .. } => drop(session.call("mi_collect", collect, &[1])?),
            Functions::Tcmalloc { release, .. } => drop(session.call("ReleaseFreeMemory", release, &[])?),
        }
        Ok(())
    }
}
