//! What a search for settings came to: `tuning.json`, the form other programs rely on.

use serde::{Deserialize, Serialize};

use crate::{Allocator, Contrast, Interval, Risk, Settings, label};

/// One allocator with one choice of settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TunePoint {
    /// Allocator's name.
    pub allocator: String,
    /// Its settings.
    pub settings: Settings,
    /// Runs with figures, one a block.
    pub runs: u32,
    /// Runs that failed.
    pub failed: u32,
    /// Median of the memory asked for: [`Tuning::memory`] names the metric.
    pub memory_bytes: Option<f64>,
    /// Median of the throughput: [`Tuning::throughput`] names the metric.
    pub ops_per_s: Option<f64>,
    /// Median of the 99th percentile of an allocation.
    pub p99_ns: Option<f64>,
    /// Memory relative to the baseline; `None` for the baseline itself.
    pub memory: Option<Contrast>,
    /// Throughput relative to the baseline.
    pub throughput: Option<Contrast>,
    /// 99th percentile relative to the baseline.
    pub p99: Option<Contrast>,
    /// Time that a thread of its own spent trimming in a run; `None` where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trimming: Option<Trimming>,
}

impl TunePoint {
    /// Name and settings.
    pub fn label(&self) -> String {
        label(&self.allocator, &self.settings)
    }
}

/// What periodic trimming cost in a run, until the end of its work: medians over the runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trimming {
    /// Calls.
    pub calls: f64,
    /// Time in them.
    pub total_ms: f64,
    /// Longest of them.
    pub longest_ms: f64,
}

/// A change worth making, with its price.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// Allocator.
    pub allocator: String,
    /// Settings.
    pub settings: Settings,
    /// The change as it is carried out: the variables and libraries that allocator and settings are resolved to.
    pub change: Allocator,
    /// Whether every block agrees, but there are too few of them to exclude chance.
    #[serde(default)]
    pub preliminary: bool,
    /// Memory relative to the baseline.
    pub memory_ratio: Interval,
    /// Memory saved: the baseline's median less this one's.
    pub saved_bytes: f64,
    /// Throughput relative to the baseline.
    pub throughput_ratio: Option<Interval>,
    /// What it costs, in sentences: throughput, latency, trimming.
    pub price: Vec<String>,
    /// What it is known to do wrong.
    pub risks: Vec<Risk>,
}

/// `tuning.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// glibc with default settings.
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untried: Vec<TunePoint>,
    /// What to do; `None` recommends nothing.
    pub recommendation: Option<Recommendation>,
    /// Why, in sentences.
    pub reasons: Vec<String>,
    /// What a reader must know of the server that was recorded or is modelled, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
