//! Statistics of a trace, as `fragbench trace stat` gives them.

use serde::{Deserialize, Serialize};

/// One bin of a histogram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistogramBin {
    /// Least value that falls in it.
    pub from: u64,
    /// First value past it.
    pub to: u64,
    /// Objects in it.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Bins in ascending order; empty ones are left out.
pub type Histogram = Vec<HistogramBin>;

/// Live bytes over recorded time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LiveCurve {
    /// Microseconds since the recording began.
    pub at_us: Vec<u64>,
    /// Live bytes at that time.
    pub live_bytes: Vec<u64>,
}

/// What a trace holds, in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceStat {
    /// [`crate::SCHEMA`].
    pub schema: u32,
    /// Events of the malloc API.
    pub events: u64,
    /// malloc, calloc and aligned allocations.
    pub allocations: u64,
    /// Of them calloc.
    pub callocs: u64,
    /// Of them with an alignment.
    pub aligned: u64,
    /// realloc of a live block.
    pub reallocs: u64,
    /// Of them in place.
    pub reallocs_in_place: u64,
    /// Frees.
    pub frees: u64,
    /// Frees on another thread than the one that allocated, as a share of all frees.
    pub cross_thread_free_ratio: f64,
    /// Frees of blocks whose allocation was not seen.
    pub unseen_frees: u64,
    /// Threads that made an event.
    pub threads: u64,
    /// Most threads at one time.
    pub threads_peak: u64,
    /// Bytes asked for in total.
    pub allocated_bytes: u64,
    /// Highest live bytes.
    pub live_peak_bytes: u64,
    /// When, microseconds since the start.
    pub live_peak_at_us: u64,
    /// Live bytes at the end.
    pub live_end_bytes: u64,
    /// Length of the recording, seconds.
    pub duration_s: f64,
    /// Objects by size asked for.
    pub sizes: Histogram,
    /// Freed objects by lifetime in microseconds; `bytes` are their bytes.
    pub lifetimes: Histogram,
    /// The sizes asked for most often, `from` = size, `to` = size + 1, most frequent first.
    pub top_sizes: Histogram,
    /// Live bytes over time.
    pub live: LiveCurve,
}
