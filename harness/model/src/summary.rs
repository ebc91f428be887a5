//! What the runs amount to: `summary.json`, the form other programs rely on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Allocator, Settings};

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

/// How sure a verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Chance is excluded and every run was undisturbed.
    High,
    /// Chance is excluded, but something about the runs or the machine is in doubt.
    Medium,
    /// Too few runs, or too much noise.
    Low,
}

/// Something a recommended change is known to do wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// Short name.
    pub name: String,
    /// What happens, when, and what to watch.
    pub text: String,
    /// Where it is described.
    pub source: String,
}

/// What a change's cost in time was weighed by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Weighing {
    /// Extra processor time as a share of what the server used, which the recording or the model tells.
    ServerTime {
        /// Processor time the server used, seconds; the sum over the workloads that tell it.
        cpu_s: f64,
        /// Time in which it did, seconds.
        span_s: f64,
        /// Workloads that tell it.
        workloads: usize,
    },
    /// Throughput of the user's own command.
    Command,
    /// Throughput of a loop of allocations, which weighs far more on the allocator than a server does.
    #[default]
    Loop,
}

impl Weighing {
    /// What is weighed, in a word or two.
    pub fn what(&self) -> &'static str {
        match self {
            Weighing::ServerTime { .. } => "processor time",
            Weighing::Command | Weighing::Loop => "throughput",
        }
    }
}

/// What a change costs the server, in its own processor time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// Processor time the server would use, relative to what it used: 1.08 is 8 % more.
    pub cpu_ratio: Interval,
    /// Noise floor of that: the baseline against itself.
    pub noise: Option<f64>,
    /// Extra processor time for the recorded span, seconds; negative where it is less.
    pub extra_cpu_s: f64,
}

/// A change that is worth it, beside the recommended one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// Allocator.
    pub allocator: String,
    /// Its settings.
    pub settings: Settings,
    /// Resident memory relative to the baseline.
    pub memory_ratio: Option<Interval>,
    /// Throughput relative to the baseline.
    pub throughput_ratio: Option<Interval>,
    /// Its cost in the server's processor time, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Its gain less its cost, as a share of the best one's.
    pub share_of_best: f64,
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
    /// The change as it is carried out: what is recommended, with the variables and libraries it is resolved to; `None` where
    /// nothing is to be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Allocator>,
    /// What everything is relative to; `None` in results of earlier versions, whose baseline is glibc with default settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Allocator>,
    /// Resident memory relative to the baseline (below 1 is less).
    pub memory_ratio: Option<Interval>,
    /// Throughput relative to the baseline (above 1 is faster).
    pub throughput_ratio: Option<Interval>,
    /// Noise floor of `memory_ratio`: the baseline against itself.
    #[serde(default)]
    pub memory_noise: Option<f64>,
    /// Of `throughput_ratio`.
    #[serde(default)]
    pub throughput_noise: Option<f64>,
    /// What the cost in time was weighed by.
    #[serde(default)]
    pub weighing: Weighing,
    /// What the change costs in the server's processor time, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Why, in sentences.
    pub reasons: Vec<String>,
    /// How many of the reasons, from the first, are the finding; the others explain it.
    #[serde(default = "one")]
    pub leading: usize,
    /// How sure it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// What keeps the confidence down, each with what would raise it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
    /// Known risks of the recommended change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risks: Vec<Risk>,
    /// Other changes that are worth it, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
}

fn one() -> usize {
    1
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
