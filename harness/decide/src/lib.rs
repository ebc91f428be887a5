//! Pure statistics and advice over run records: what the runs amount to, what differs from the baseline by more
//! than noise, and what to do about it. Data in, data out: no file, no clock, no process.
//!
//! Entry points: [`summarize`] makes `summary.json` of a plan and its records, [`tuning`] a search's; [`precision`] says whether more blocks are needed, [`pareto_front`] gives the cells nothing else
//! beats; [`diff`] lays two results side by side; [`judge_case`] checks a bad case against its fact sheet.

mod badcase;
mod baseline;
mod bootstrap;
mod compare;
mod conditions;
mod confidence;
mod diff;
mod evidence;
mod figures;
mod halving;
mod knee;
mod paired;
mod pareto;
mod price;
mod rank_sum;
mod ranks;
mod risk;
mod runs;
mod signed_rank;
mod summarize;
mod trend;
mod tuning;
mod verdict;

pub use badcase::{CURES, HELPS, HURTS, RemedyRun, judge_case};
pub use baseline::{baseline_of_plan, is_plain_glibc};
pub use bootstrap::{RESAMPLES, median, median_interval};
pub use compare::precision;
pub use diff::{DiffQuestion, diff, diff_metrics};
pub use evidence::{Candidate, Evidence};
pub use figures::{Figures, figure_names, throughput_of, user_metrics};
pub use halving::{Cost, Halving, joined, ranked, without_one};
pub use knee::knee;
pub use paired::{Aa, LEVEL, LogRatios, PRELIMINARY_FLOORS, blocks_needed};
pub use pareto::pareto_front;
pub use risk::risks;
pub use runs::{CellRuns, cell_runs};
pub use signed_rank::MIN_BLOCKS;
pub use summarize::{aa_spread, summarize};
pub use trend::{LEAST_READINGS, trend};
pub use tuning::{costs, tuning};
pub use verdict::{MAX_NOISE, MIN_REPETITIONS, MOST_OF_THE_SERVER, NEAR_THE_BEST, judge};

/// Heap RSS at its peak.
pub const PEAK: &str = "heap_rss_peak_bytes";
/// 99th percentile of an allocation's latency.
pub const P99: &str = "malloc_p99_ns";
/// Name of the allocator that is the baseline, with no settings.
pub const BASELINE: &str = "glibc";
/// Name of the cell of a command that is run as it is linked, with an allocator of its own.
pub const AS_LINKED: &str = "as-linked";
/// Name of the allocator that never reuses memory: a floor of time, never a recommendation.
pub const NULL: &str = "null";
