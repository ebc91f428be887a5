//! `malloc_info(0)` of a live process: what its own malloc says it holds.
//!
//! The text is written to a stream over memory that is mapped for it and unmapped afterwards (`fmemopen`): no file whose
//! name somebody could have prepared, no descriptor, and it works in every mount namespace and on a file system that
//! may not be written. The stream itself takes about a kibibyte of the heap it describes and gives it back.

use std::path::Path;

use fragbench_model::AllocatorStats;
use fragbench_proc::{LiveTarget, Part, Target};
use serde::Serialize;

use crate::AskError;
use crate::session::{Limits, Session, survey};
use crate::symbols::Symbols;

/// Room for the text: of one arena with all bins in use it is about 20 KiB.
const ROOM: u64 = 1 << 20;
const ROOM_ARENA: u64 = 32 << 10;
/// The mode of the stream stands before the text.
const MODE_ROOM: u64 = 64;

/// What the process said of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MallocInfo {
    /// Its figures.
    pub stats: AllocatorStats,
    /// The text, as malloc wrote it.
    pub xml: String,
    /// Time of all calls, gdb's own part (about a millisecond each) included. Other threads run meanwhile.
    pub call_ms: f64,
    /// Time in which all threads stood still.
    pub stopped_ms: f64,
}

/// Calls `malloc_info(0, …)` in a process.
///
/// # Errors
/// [`AskError`]; the process runs on.
pub fn malloc_info(pid: u32, limits: &Limits) -> Result<MallocInfo, AskError> {
    let target = LiveTarget::open(pid)?;
    let survey = survey(&target)?;
    let symbols = Symbols::read(&target, survey.libc.object.as_deref().unwrap_or(Path::new("?")))?;
    let functions = Functions {
        map: symbols.address("mmap")?,
        unmap: symbols.address("munmap")?,
        open: symbols.address("fmemopen")?,
        info: symbols.address("malloc_info")?,
        flush: symbols.address("fflush")?,
        tell: symbols.address("ftell")?,
        close: symbols.address("fclose")?,
    };
    let room = (ROOM + ROOM_ARENA * survey.arenas.len() as u64).next_multiple_of(survey.page_bytes);
    let mut session = Session::start(&target, symbols.guard(), limits)?;
    let (xml, visit) = session.visit(|| Ok(()), |session| functions.ask(session, &target, room))?;
    if !xml.contains("</malloc>") {
        return Err(AskError::Gdb { what: "malloc_info(0)".into(), said: format!("a text cut short: {xml:.200}") });
    }
    Ok(MallocInfo {
        stats: fragbench_glibc::malloc_info::parse(xml.as_bytes()).into(),
        xml,
        call_ms: visit.called.as_secs_f64() * 1e3,
        stopped_ms: visit.stopped.as_secs_f64() * 1e3,
    })
}

struct Functions {
    map: u64,
    unmap: u64,
    open: u64,
    info: u64,
    flush: u64,
    tell: u64,
    close: u64,
}

impl Functions {
    fn ask(&self, session: &mut Session<'_>, target: &LiveTarget, room: u64) -> Result<String, AskError> {
        let failed = |what: &str| AskError::Gdb { what: what.to_owned(), said: "the call failed".to_owned() };
        let (access, kind) =
            ((libc::PROT_READ | libc::PROT_WRITE) as u64, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64);
        let memory = session.call("mmap", self.map, &[0, room, access, kind, u64::MAX, 0])?;
        if memory == u64::MAX {
            return Err(failed("mmap()"));
        }
        session.write(memory, b"w\0")?;
        let stream = session.call("fmemopen", self.open, &[memory + MODE_ROOM, room - MODE_ROOM, memory])?;
        let text = if stream == 0 {
            Err(failed("fmemopen()"))
        } else {
            let text = self.text(session, target, stream, memory + MODE_ROOM, room);
            // After a call that was taken back the stream may be locked: it is left, a kibibyte.
            if !matches!(text, Err(AskError::Timeout { .. })) {
                session.call("fclose", self.close, &[stream])?;
            }
            text
        };
        if !matches!(text, Err(AskError::Timeout { .. })) {
            session.call("munmap", self.unmap, &[memory, room])?;
        }
        text
    }

    fn text(
        &self,
        session: &mut Session<'_>,
        target: &LiveTarget,
        stream: u64,
        memory: u64,
        room: u64,
    ) -> Result<String, AskError> {
        session.call("malloc_info", self.info, &[0, stream])?;
        session.call("fflush", self.flush, &[stream])?;
        let length = session.call("ftell", self.tell, &[stream])?;
        let mut bytes = vec![0; length.min(room) as usize];
        target.read(&mut [Part::new(memory, &mut bytes)])?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
