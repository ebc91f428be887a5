//! Two results beside each other, A before and B after: what `fragbench diff` finds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Interval, Settings};

/// One figure of a cell in B relative to A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Chance is excluded and the whole interval is worse by more than the threshold of relevance: a regression.
    Worse,
    /// The same in the better direction.
    Better,
    /// Chance is excluded, but the difference is not clearly of consequence.
    Slight,
    /// Not told apart from chance.
    Noise,
    /// So few runs that no difference, however great, could exclude chance.
    TooFewRuns,
}

/// What two results amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiffOutcome {
    /// Nothing became relevantly worse.
    NoRegression,
    /// Something did, or a cell that succeeded in A has only failed runs in B.
    Regression,
    /// No regression was found, and something that was to be compared could not be.
    CannotCompare,
}

/// Which cell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CellName {
    /// Workload's name.
    pub workload: String,
    /// Allocator's name.
    pub allocator: String,
    /// Its settings.
    pub settings: Settings,
}

/// A figure of a cell in both results.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FigureDiff {
    /// In A.
    pub a: Interval,
    /// In B.
    pub b: Interval,
    /// Median of B over median of A with its 95 % interval (bootstrap, not widened for other comparisons); `n` is the
    /// smaller number of runs.
    pub ratio: Interval,
    /// Two-sided p of the rank-sum test, corrected (Holm) over all figures compared; `None` with too few runs.
    pub p: Option<f64>,
    /// What that means.
    pub change: Change,
}

/// A cell that both results have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellDiff {
    /// Which.
    #[serde(flatten)]
    pub cell: CellName,
    /// Runs that succeeded in A.
    pub runs_a: u32,
    /// In B.
    pub runs_b: u32,
    /// Runs that failed in A.
    pub failed_a: u32,
    /// In B.
    pub failed_b: u32,
    /// Why its figures are not compared: other work was done under the same name.
    pub refused: Option<String>,
    /// Metric name → figure.
    pub figures: BTreeMap<String, FigureDiff>,
    /// Figures that cannot be compared, by metric name, with the reason: one result lacks it, or it is zero.
    pub lacking: BTreeMap<String, String>,
}

/// A condition under which the results differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionDiff {
    /// What: `CPU`, `seed`, `worker`, …
    pub what: String,
    /// In A; `None` where it is not known.
    pub a: Option<String>,
    /// In B.
    pub b: Option<String>,
    /// Which figures it bears on, in words.
    pub bears_on: String,
}

/// What `fragbench diff --format json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    /// [`crate::SCHEMA`].
    pub schema: u32,
    /// What it amounts to.
    pub outcome: DiffOutcome,
    /// Why, in sentences.
    pub reasons: Vec<String>,
    /// Share from which on a difference is of practical consequence.
    pub relevant: f64,
    /// Whether figures are ratios to the baseline's run of the same block and result, not plain ones.
    pub to_baseline: bool,
    /// The figures asked for, in the order of the tables.
    pub metrics: Vec<String>,
    /// Number of figures compared, over which the p-values are corrected.
    pub comparisons: u32,
    /// Runs a cell needs in each result to exclude chance in so many comparisons.
    pub runs_needed: u32,
    /// Conditions that differ.
    pub conditions: Vec<ConditionDiff>,
    /// What else a reader must know.
    pub cautions: Vec<String>,
    /// Cells of both results, in the order of A's plan.
    pub cells: Vec<CellDiff>,
    /// Cells of A alone.
    pub only_in_a: Vec<CellName>,
    /// Cells of B alone.
    pub only_in_b: Vec<CellName>,
}
