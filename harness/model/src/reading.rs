//! A process that is watched: its memory at a moment, and what happened between two moments.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::HeapBytes;

/// An arena at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArenaReading {
    /// Whether it is the main arena.
    pub main: bool,
    /// Threads attached; `None` before glibc 2.23.
    pub threads: Option<u64>,
    /// Its bytes by what they are.
    pub bytes: HeapBytes,
}

/// A process at a moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// When, seconds since 1970.
    pub unix_s: f64,
    /// Address space.
    pub vm_bytes: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Swapped memory.
    pub swap_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Minor faults since it started.
    pub minor_faults: u64,
    /// Major faults since it started.
    pub major_faults: u64,
    /// Whose malloc the process uses, as far as its files tell; `None` when they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub malloc: Option<String>,
    /// The heap; `None` when the process does not use glibc's malloc, or its memory may not be read.
    pub heap: Option<HeapBytes>,
    /// What `malloc_trim(0)` would release, bytes.
    pub predicted_release_bytes: Option<u64>,
    /// Arenas, the main one first.
    pub arenas: Vec<ArenaReading>,
    /// Why there is no heap.
    pub lacks: Option<String>,
    /// What the survey took, milliseconds.
    pub survey_ms: f64,
}

/// An event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Free memory went back to the kernel while what is live stayed: bytes. A trim, or a top that shrank.
    GivenBack(u64),
    /// So many threads more: at least 8 and a quarter.
    ThreadsStarted(u64),
    /// So many threads fewer.
    ThreadsEnded(u64),
    /// So many arenas more.
    ArenasMade(u64),
    /// Memory was read back from swap or disk: major faults.
    MajorFaults(u64),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::GivenBack(bytes) => write!(f, "{} MiB of free memory given back", bytes >> 20),
            Event::ThreadsStarted(n) => write!(f, "{n} threads started"),
            Event::ThreadsEnded(n) => write!(f, "{n} threads ended"),
            Event::ArenasMade(1) => write!(f, "1 arena made"),
            Event::ArenasMade(n) => write!(f, "{n} arenas made"),
            Event::MajorFaults(1) => write!(f, "1 major fault"),
            Event::MajorFaults(n) => write!(f, "{n} major faults"),
        }
    }
}

/// How memory went over a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrendKind {
    /// Resident memory stayed within 5 %.
    Steady,
    /// It fell.
    Falls,
    /// It rose, and live bytes by at least half as much: a leak, growth, or a program warming up.
    LiveRises,
    /// It rose, and at least half of that is heap that is not live: fragmentation or retention.
    HeldRises,
    /// It rose outside the heap.
    OutsideRises,
    /// It rose by live bytes, heap that is not live, and memory outside the heap, none of them the most of it.
    MixedRise,
    /// It rose; the heap was not seen.
    Rises,
}

/// The last fifth of a recording against its first, medians.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// What it comes to.
    pub kind: TrendKind,
    /// Change of resident memory, bytes.
    pub resident_bytes: f64,
    /// Of them in the heap; `None` where it was not seen.
    pub heap_bytes: Option<f64>,
    /// Change of live bytes.
    pub live_bytes: Option<f64>,
}
