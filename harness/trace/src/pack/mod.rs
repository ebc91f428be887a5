//! Turns a spool into a trace: threads merged in order of time, addresses turned into slots, order repaired.
//!
//! The recorder stamps an allocation after the call and a free before it, so the stamps of one address follow the
//! order in which it changed hands, up to the quantum of the stamps. Where they do not, alternation tells: an
//! allocation at an address that is still live waits for the free that must come ([`ALLOCATION_WAIT_NS`]), a free of
//! an address that is not live for the allocation ([`FREE_WAIT_NS`]). What does not come within that time is counted:
//! the former as *unresolved* (the old block is freed just before), the latter as *unseen*.
//!
//! Memory is bounded by the live blocks and the running threads of the recording, whatever its length.

mod blocks;
mod clock;
mod live;
mod merge;
mod start;
pub(crate) mod state;
mod swing;
mod sys;
mod table;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::TraceError;
use crate::info::{Provider, RecordedOn, Totals};
use crate::memory::MemorySeries;
use crate::spool::format::Status;
use crate::spool::provider::Provided;
use crate::spool::{Batches, ClockPair, Spool, SpoolEvent};
use crate::stacks::Symbols;
use blocks::Blocks;
use clock::Clock;
pub use live::LivePack;
use merge::Merge;
use start::Begun;
pub use start::{HOLE_ALIGN, PROLOGUE_NS, Start, StartBlock};

/// How long an allocation at a live address waits for the free. A thread may be off the processor for some time
/// between its stamp and the call.
const ALLOCATION_WAIT_NS: u64 = 20_000_000;
/// How long a free of an address that is not live waits for the allocation: only the stamps' quantum can be at fault.
const FREE_WAIT_NS: u64 = 10_000;

/// What to pack.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// Facts to keep with the trace.
    pub recorded_on: RecordedOn,
    /// What the process held over time, in time of the recording; what lies behind the trace's end is left out.
    pub memory: Option<MemorySeries>,
    /// End the trace after this many microseconds of the recording. Later events are still read for what they tell
    /// of blocks that live at the end: how much of them was resident.
    pub end_us: Option<u64>,
    /// Names the functions of recorded stacks; without it they are kept as offsets in files.
    pub symbols: Option<Symbols>,
    /// What the process held when it was attached to; [`pack_spool`] alone takes it. The trace then begins a second earlier, and
    /// so do times of `memory` and `end_us`.
    pub start: Option<Start>,
    /// Only the owner may read the trace: for what names functions, files or a command line.
    pub private: bool,
}

/// What was packed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PackReport {
    /// Distinct stacks of blocks never freed that are kept; none when stacks were not recorded.
    pub stacks: Option<u64>,
    /// Totals as they stand in the trace.
    pub totals: Totals,
    /// Length of the trace, bytes.
    pub bytes: u64,
    /// Length of the spool, bytes.
    pub spool_bytes: u64,
}

/// Anything that has threads with events: a spool, or a generator of test programs.
pub trait Source {
    /// Threads, ascending; the first is the program's first thread.
    fn threads(&self) -> Vec<u32>;
    /// A thread's events in program order.
    fn events(&self, thread: u32) -> Box<dyn Iterator<Item = SpoolEvent> + Send + '_>;
    /// The same by the handful.
    fn batches(&self, thread: u32) -> Box<dyn Batches + '_> {
        Box::new(OneByOne(self.events(thread)))
    }
    /// Two points of the line from counter to clock; the first is the recording's start.
    fn clocks(&self) -> (ClockPair, ClockPair);
    /// The spool that knows the stacks events name; none where none do.
    fn stacks(&self) -> Option<&Spool> {
        None
    }
}

struct OneByOne<'a>(Box<dyn Iterator<Item = SpoolEvent> + Send + 'a>);

impl Batches for OneByOne<'_> {
    fn more(&mut self, out: &mut Vec<SpoolEvent>) {
        out.extend(self.0.by_ref().take(64));
    }
}

impl Source for Spool {
    fn threads(&self) -> Vec<u32> {
        Spool::threads(self).collect()
    }

    fn events(&self, thread: u32) -> Box<dyn Iterator<Item = SpoolEvent> + Send + '_> {
        Box::new(Spool::events(self, thread))
    }

    fn batches(&self, thread: u32) -> Box<dyn Batches + '_> {
        Box::new(Spool::events(self, thread))
    }

    fn clocks(&self) -> (ClockPair, ClockPair) {
        Spool::clocks(self)
    }

    fn stacks(&self) -> Option<&Spool> {
        self.header().stacks.then_some(self)
    }
}

/// Packs the spool at `spool` into a trace at `out`, in place of what is there.
///
/// # Errors
/// The spool is none, or a file cannot be read or written. Damage of the spool is no error: it is counted, and the
/// trace is marked as incomplete.
pub fn pack(spool: &Path, out: &Path, options: &PackOptions) -> Result<PackReport, TraceError> {
    // A part of it may have been given back by somebody who packed while it grew.
    if LivePack::is_begun(spool) {
        return LivePack::pack_again(spool, out, options);
    }
    pack_spool(&Spool::open(spool)?, out, options)
}

/// The same from an opened spool.
///
/// # Errors
/// As [`pack`].
pub fn pack_spool(spool: &Spool, out: &Path, options: &PackOptions) -> Result<PackReport, TraceError> {
    let mut known = known(spool);
    known.damaged_stretches = spool.damage().len() as u64;
    known.complete &= known.damaged_stretches == 0;
    let mut options = learn_from(spool, options);
    let mut report = match options.start.take() {
        Some(start) => {
            let begun = Begun::new(spool, &start);
            options.end_us.get_or_insert(begun.end_us());
            let on = &mut options.recorded_on;
            let ((blocks, bytes), (holes, hole_bytes)) = (start.sum(true), start.sum(false));
            on.prologue_us = Some(PROLOGUE_NS / 1000);
            (on.start_blocks, on.start_bytes) = (Some(blocks), Some(bytes));
            (on.start_holes, on.start_hole_bytes) = (Some(holes), Some(hole_bytes));
            on.start_arenas = Some(start.arenas.len() as u64);
            pack_source(&begun, out, &options, known)?
        }
        None => pack_source(spool, out, &options, known)?,
    };
    report.spool_bytes = spool.len_bytes();
    Ok(report)
}

/// What a spool tells of the recording besides events and damage.
fn known(spool: &Spool) -> Totals {
    let mut known = Totals {
        complete: match spool.closing() {
            // A recording that ended at its time limit is as long as it was meant to be.
            Some(c) => {
                matches!(c.status, Status::Exited | Status::Exec | Status::TimeLimit | Status::Detached)
                    && c.lost_events == 0
                    && c.passing_loads == 0
            }
            None => false,
        },
        recorder_peak_bytes: spool.own_bytes_peak(),
        pauses: spool.gaps().len() as u64,
        ..Totals::default()
    };
    if let Some(closing) = spool.closing() {
        known.lost_events = closing.lost_events;
        known.early_calls = closing.early_calls;
    }
    known
}

/// The options with what the spool knows and they do not.
fn learn_from(spool: &Spool, options: &PackOptions) -> PackOptions {
    let mut options = options.clone();
    let on = &mut options.recorded_on;
    on.page_size = on.page_size.or(Some(spool.header().page_size));
    if on.architecture.is_none() {
        on.architecture = Some(if spool.header().architecture == 1 { "aarch64" } else { "x86_64" }.to_owned());
    }
    let provider = |of| spool.provider(of).map(Provider::from);
    on.malloc = on.malloc.take().or_else(|| provider(Provided::Malloc));
    on.operator_new = on.operator_new.take().or_else(|| provider(Provided::OperatorNew));
    options
}

/// Packs any source; `known` holds what is known of the recording besides its events. The trace is written under another
/// name beside `out` and takes its place when it is whole: until then, and when that fails, what is there stays.
///
/// # Errors
/// The trace cannot be written, or the recording is larger than the format can hold.
pub fn pack_source(
    source: &impl Source,
    out: &Path,
    options: &PackOptions,
    known: Totals,
) -> Result<PackReport, TraceError> {
    let part = part_of(out)?;
    // Made new, so that no link is followed that somebody else has put there.
    let mode = if options.private { 0o600 } else { 0o666 };
    let file = File::options().read(true).write(true).create_new(true).mode(mode).open(&part)?;
    let done = merge(source, file, options, known).and_then(|report| {
        std::fs::rename(&part, out)?;
        Ok(report)
    });
    if done.is_err() {
        // Its end is the error's; what is left of it is of no use.
        let _ = std::fs::remove_file(&part);
    }
    done
}

/// Under which name a trace lies beside `out` until it is whole.
fn part_of(out: &Path) -> Result<PathBuf, TraceError> {
    let mut name = out.file_name().ok_or(std::io::ErrorKind::InvalidInput).map_err(std::io::Error::from)?.to_owned();
    name.push(format!(".{}.part", std::process::id()));
    Ok(out.with_file_name(name))
}

fn merge(source: &impl Source, file: File, options: &PackOptions, known: Totals) -> Result<PackReport, TraceError> {
    let clocks = source.clocks();
    let mut merge = Merge::new(source, Clock::new(clocks), Blocks::new(file, &options.recorded_on)?);
    merge.end_at(options.end_us);
    source.threads().into_iter().for_each(|thread| merge.add(thread));
    merge.run(None)?;
    merge.finish(options, known, clocks.1.tsc, source.stacks())
}
