//! What the runs amount to: `summary.json`, the form other programs rely on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Settings;

/// A median with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Median over the runs.
    pub median: f64,
    /// Lower end of the 95 % bootstrap interval of the median; equal to the least run when `n` < 3.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
    /// Runs.
    pub n: u32,
}

/// One workload under one allocator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellSummary {
    /// Workload's name.
    pub workload: String,
    /// Allocator's name.
    pub allocator: String,
    /// Its settings.
    pub settings: Settings,
    /// Runs that succeeded.
    pub runs: u32,
    /// Runs that failed.
    pub failed: u32,
    /// Metric name → median and interval.
    pub metrics: BTreeMap<String, Interval>,
    /// Distinct cautions of its runs.
    pub cautions: Vec<String>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Another allocator is better by more than noise and threshold.
    Switch,
    /// A setting of glibc gets most of the gain.
    Tune,
    /// Nothing is relevantly better.
    Leave,
    /// The runs do not allow a statement.
    NotEnoughData,
}

/// The recommendation with its expected effect relative to the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What to do.
    pub kind: VerdictKind,
    /// Allocator recommended; the baseline's own for `leave`.
    pub allocator: Option<String>,
    /// Settings recommended.
    pub settings: Settings,
    /// Resident memory relative to the baseline (below 1 is less).
    pub memory_ratio: Option<Interval>,
    /// Throughput relative to the baseline (above 1 is faster).
    pub throughput_ratio: Option<Interval>,
    /// Why, in sentences.
    pub reasons: Vec<String>,
}

/// `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`crate::SCHEMA`].
    pub schema: u32,
    /// Whether the plan was not finished.
    pub partial: bool,
    /// Spread of the baseline against itself, per metric: `|ratio − 1|` at the 95 % level.
    pub noise_floor: BTreeMap<String, f64>,
    /// One entry a cell, in the plan's order.
    pub cells: Vec<CellSummary>,
    /// The recommendation.
    pub verdict: Verdict,
}
