//! What the runs amount to: `summary.json`, the form other programs rely on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Risk, Settings, Verdict};

/// Share of a figure below which a difference is of no practical consequence, unless the user says otherwise.
pub const DEFAULT_RELEVANT: f64 = 0.05;

/// For files that do not say.
pub(crate) fn default_relevant() -> f64 {
    DEFAULT_RELEVANT
}

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

/// How far a difference from the baseline can be told from chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Beyond noise: chance is excluded at the 5 % level, after the correction for many comparisons.
    Significant,
    /// Too few blocks to exclude chance, but every one of them lies beyond twice the noise floor on the same side.
    Preliminary,
    /// Not told apart from noise.
    Noise,
}

/// One figure of a cell relative to the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Contrast {
    /// Median of the paired ratios with its 95 % interval, not widened for other comparisons.
    pub ratio: Interval,
    /// Two-sided p of the signed-rank test, corrected (Holm) over the cells compared in this figure; `None` where too few
    /// blocks allow no statement.
    pub p: Option<f64>,
    /// Farther end of the interval of the baseline against itself, `|ratio − 1|`; `None` without an A/A pair.
    pub noise: Option<f64>,
    /// Whether it is beyond noise.
    pub standing: Standing,
    /// Whether the whole interval is beyond the threshold of relevance, on one side.
    pub relevant: bool,
}

/// One cell relative to the baseline of its workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Workload's name.
    pub workload: String,
    /// Allocator's name.
    pub allocator: String,
    /// Its settings.
    pub settings: Settings,
    /// Metric name → effect. A metric that is missing or not above zero on either side is left out.
    pub effects: BTreeMap<String, Contrast>,
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
    /// Version of the allocator as it says it in its runs; `None` where none answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What the allocator with these settings is known to do wrong, recommended or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risks: Vec<Risk>,
}

/// `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`crate::SCHEMA`].
    pub schema: u32,
    /// Whether the plan was not finished.
    pub partial: bool,
    /// Spread of the baseline against itself, per metric: farther end of the 95 % interval of `|ratio − 1|`, the greatest
    /// over the workloads.
    pub noise_floor: BTreeMap<String, f64>,
    /// Share from which on a difference is of practical consequence.
    #[serde(default = "default_relevant")]
    pub relevant: f64,
    /// One entry a cell, in the plan's order.
    pub cells: Vec<CellSummary>,
    /// Every cell relative to the baseline of its workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
    /// The recommendation.
    pub verdict: Verdict,
}
