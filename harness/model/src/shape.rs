//! What a trace looks like over a window of time, in figures that can be laid beside another trace's, and how far two
//! of them are apart. Plain data; `fragbench_trace` measures and compares.

use serde::{Deserialize, Serialize};

use crate::Histogram;

/// Equal slices of the window for which curves are given.
pub const SLICES: usize = 100;

/// The shape of a trace over a window. *Blocks* are those allocated within the window; what older blocks do shows only
/// in the live curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Start of the window, microseconds since the recording began.
    pub from_us: u64,
    /// Its end, not included.
    pub to_us: u64,
    /// Blocks: malloc, calloc and aligned allocations within the window.
    pub blocks: u64,
    /// Of them calloc.
    pub callocs: u64,
    /// Of them with an alignment.
    pub aligned: u64,
    /// Reallocs of blocks within the window.
    pub reallocs: u64,
    /// Frees of blocks within the window.
    pub frees: u64,
    /// Of them on another thread than the one that allocated or last reallocated the block.
    pub cross_thread_frees: u64,
    /// Sizes asked for: of each block when it is made, and again at each of its reallocs.
    pub sizes: Histogram,
    /// Lifetimes of freed blocks, microseconds from allocation (not the last realloc) to free.
    pub lifetimes_us: Histogram,
    /// The same in events of the malloc API, of all threads, from allocation to free; 1 when nothing came between.
    pub lifetimes_events: Histogram,
    /// Live bytes when the window begins, of all blocks that the trace knows.
    pub live_start_bytes: u64,
    /// Mean live bytes in each of [`SLICES`] equal slices of the window, less those at its start.
    pub live_growth_bytes: Vec<f64>,
    /// The same in [`SLICES`] slices of equally many events of the malloc API: the curve over work instead of time.
    /// Empty when not measured.
    #[serde(default)]
    pub live_growth_by_event_bytes: Vec<f64>,
    /// Threads that started in each slice.
    pub thread_starts: Vec<u64>,
    /// Threads that ended in each slice.
    pub thread_exits: Vec<u64>,
    /// Most threads at one time within the window.
    pub threads_peak: u64,
}

impl Shape {
    /// Length of the window, seconds.
    pub fn seconds(&self) -> f64 {
        self.to_us.saturating_sub(self.from_us) as f64 / 1e6
    }

    /// Reallocs among allocations and reallocs.
    pub fn realloc_ratio(&self) -> Option<f64> {
        ratio(self.reallocs, self.blocks + self.reallocs)
    }

    /// Frees on another thread among the frees of blocks.
    pub fn cross_thread_ratio(&self) -> Option<f64> {
        ratio(self.cross_thread_frees, self.frees)
    }

    /// Blocks that are not freed within the window.
    pub fn unfreed_ratio(&self) -> Option<f64> {
        ratio(self.blocks.saturating_sub(self.frees), self.blocks)
    }
}

fn ratio(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

/// How far a trace is from a reference. A value is `None` where one of the two has nothing to compare.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// Kolmogorov and Smirnov's distance of the size histograms, each request counting one: 0 equal, 1 disjoint.
    pub sizes_by_count_ks: Option<f64>,
    /// The same, each request counting its bytes.
    pub sizes_by_bytes_ks: Option<f64>,
    /// KS distance of lifetimes in microseconds.
    pub lifetimes_us_ks: Option<f64>,
    /// KS distance of lifetimes in events.
    pub lifetimes_events_ks: Option<f64>,
    /// Share of frees on another thread, less the reference's; percentage points.
    pub cross_thread_points: Option<f64>,
    /// Share of reallocs among requests, less the reference's; percentage points.
    pub realloc_points: Option<f64>,
    /// Share of blocks not freed, less the reference's; percentage points.
    pub unfreed_points: Option<f64>,
    /// Root mean square error of the live growth over normalised time, divided by the range of the reference's growth.
    pub live_nrmse: Option<f64>,
    /// The same of the curves over events: for work that does not keep the reference's time.
    pub live_events_nrmse: Option<f64>,
    /// KS distance of the starts of threads over normalised time.
    pub thread_starts_ks: Option<f64>,
    /// Threads started, as a multiple of the reference's.
    pub thread_starts_ratio: Option<f64>,
    /// Most threads at one time, as a multiple of the reference's.
    pub threads_peak_ratio: Option<f64>,
}
