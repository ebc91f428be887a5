//! Pure statistics and advice over run records: what the runs amount to, what differs from the baseline by more
//! than noise, and what to do about it. Data in, data out: no file, no clock, no process.
//!
//! Entry points: [`summarize`] makes `summary.json` of a plan and its records, [`finding`] says it in a paragraph,
//! [`against_baseline`] gives the ratio of every cell to the baseline, [`pareto_front`] the cells nothing else beats;
//! [`judge_case`] checks a bad case against its fact sheet.

mod badcase;
mod bootstrap;
mod compare;
mod finding;
mod halving;
mod knee;
mod pareto;
mod runs;
mod summarize;
mod verdict;

pub use badcase::{CURES, HELPS, HURTS, RemedyRun, judge_case};
pub use bootstrap::{RESAMPLES, geometric_ratio_interval, median, median_interval, ratio_interval};
pub use compare::{Comparison, against_baseline};
pub use finding::{effect, finding};
pub use halving::{Cost, Halving, joined, ranked};
pub use knee::knee;
pub use pareto::pareto_front;
pub use runs::{CellRuns, cell_runs, is_baseline};
pub use summarize::{aa_spread, noise_floor, summarize};
pub use verdict::{
    Candidate, Evidence, MAX_NOISE, MIN_REPETITIONS, MOST_OF_THE_GAIN, RELEVANT, evidence, judge, memory_noise,
};

/// The memory figures advice is given on, joined by their geometric mean: heap RSS at its peak (what the machine must
/// have) and after a quiet stretch (what is kept). Neither depends on how long a phase took; a mean over time does,
/// and a run that was held up would shift it.
pub const MEMORY: [&str; 2] = [PEAK, "heap_rss_idle_bytes"];
/// Heap RSS at its peak.
pub const PEAK: &str = "heap_rss_peak_bytes";
/// The throughput figure advice is given on.
pub const THROUGHPUT: &str = "ops_per_s";
/// Name of the allocator that is the baseline, with no settings.
pub const BASELINE: &str = "glibc";
/// Name of the allocator that never reuses memory: a floor of time, never a recommendation.
pub const NULL: &str = "null";
