//! What a search for settings came to: `tuning.json`, the form other programs rely on; the report adds its sentences.

use serde::Serialize;

use crate::{Allocator, Contrast, Interval, Risk, Settings, Tried, Verdict, label};

/// One allocator with one choice of settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TunePoint {
    /// Allocator's name.
    pub allocator: String,
    /// Its settings.
    pub settings: Settings,
    /// Runs with figures, one a block.
    pub runs: u32,
    /// Runs that failed.
    pub failed: u32,
    /// Version of the allocator as it says it; `None` where no run answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Distinct cautions of its runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cautions: Vec<String>,
    /// What it is known to do wrong, recommended or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub risks: Vec<Risk>,
    /// Of those with figures, runs that other processes or the hypervisor disturbed.
    pub disturbed: u32,
    /// Median of the memory asked for over all its runs: [`Tuning::memory`] names the metric. Two settings that were run in
    /// different blocks are compared by their ratios to the baseline alone.
    pub memory_bytes: Option<f64>,
    /// Median of the throughput, likewise: [`Tuning::throughput`] names the metric.
    pub ops_per_s: Option<f64>,
    /// Median of the 99th percentile of an allocation, likewise.
    pub p99_ns: Option<f64>,
    /// Median of the page faults of a run, likewise.
    pub minor_faults_count: Option<f64>,
    /// Memory relative to the baseline, paired by block; `None` for the baseline itself.
    pub memory: Option<Contrast>,
    /// Throughput relative to the baseline.
    pub throughput: Option<Contrast>,
    /// The server's processor time relative to what it used, where that is known.
    pub cost: Option<Contrast>,
    /// 99th percentile relative to the baseline.
    pub p99: Option<Contrast>,
    /// Page faults relative to the baseline.
    pub faults: Option<Contrast>,
    /// Time that a thread of its own spent trimming in a run; `None` where none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trimming: Option<Trimming>,
}

impl TunePoint {
    /// Name and settings.
    pub fn label(&self) -> String {
        label(&self.allocator, &self.settings)
    }
}

/// What periodic trimming cost in a run, until the end of its work: medians over the runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Trimming {
    /// Calls.
    pub calls: f64,
    /// Time in them.
    pub total_ms: f64,
    /// Longest of them.
    pub longest_ms: f64,
}

/// A change worth making, with its price.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recommendation {
    /// Allocator.
    pub allocator: String,
    /// Settings.
    pub settings: Settings,
    /// The change as it is carried out: the variables and libraries that allocator and settings are resolved to.
    pub change: Allocator,
    /// Whether every block agrees, but there are too few of them to exclude chance.
    pub preliminary: bool,
    /// Memory relative to the baseline.
    pub memory_ratio: Interval,
    /// Memory saved: the baseline's median less this one's.
    pub saved_bytes: f64,
    /// Throughput relative to the baseline.
    pub throughput_ratio: Option<Interval>,
    /// What it does: the report makes its price of it, in sentences.
    #[serde(skip)]
    pub tried: Tried,
    /// Time that a thread of its own spent trimming in a run; `None` where none did.
    #[serde(skip)]
    pub trimming: Option<Trimming>,
    /// What it is known to do wrong.
    pub risks: Vec<Risk>,
}

/// `tuning.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuning {
    /// [`crate::SCHEMA`].
    pub schema: u32,
    /// Whether the search was stopped before its last rung was done.
    pub partial: bool,
    /// The work.
    pub workload: String,
    /// Name of the memory metric.
    pub memory: String,
    /// Name of the throughput metric: of a command the first of the user's own of which more is better, else runs a second.
    pub throughput: String,
    /// Share from which on a difference is of practical consequence.
    pub relevant: f64,
    /// Settings tried, the baseline included.
    pub tried: u32,
    /// Runs made.
    pub runs: u32,
    /// What everything is relative to.
    pub baseline: Option<TunePoint>,
    /// Of the finalists and the baseline those that no other beats in memory and throughput, by ascending memory.
    pub front: Vec<TunePoint>,
    /// Index in `front` of the point beyond which less memory begins to cost more; `None` where the front has no bend.
    pub knee: Option<usize>,
    /// What was measured to the end, by ascending memory.
    pub finalists: Vec<TunePoint>,
    /// What was dropped on the way, by ascending memory.
    pub dropped: Vec<TunePoint>,
    /// What the time did not suffice to run even once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub untried: Vec<TunePoint>,
    /// What the rules of every verdict say of the finalists.
    pub verdict: Verdict,
    /// What to do; `None` recommends nothing.
    pub recommendation: Option<Recommendation>,
    /// What a reader must know of the server that was recorded or is modelled, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
