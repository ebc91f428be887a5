//! The recommendation and why it is given. What a rule found is data here; the sentences are made by `harness/report`, which
//! also writes them into `summary.json` as `reasons` and `doubts`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Allocator, Better, Contrast, Interval, Settings, label};

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
    /// Page faults relative to the baseline's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults_ratio: Option<Interval>,
    /// Longest allocation timed, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_ns: Option<f64>,
    /// And the baseline's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_longest_ns: Option<f64>,
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
    /// Workloads that the baseline ran; the figures are geometric means over them.
    #[serde(default)]
    pub workloads: usize,
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
    /// Why: first what is the finding, then what explains it.
    #[serde(skip)]
    pub reasons: Vec<Reason>,
    /// How sure it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// What keeps the confidence down.
    #[serde(skip)]
    pub doubts: Vec<Doubt>,
    /// Known risks of the recommended change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risks: Vec<Risk>,
    /// Other changes that are worth it, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
}

/// What a change was found to do over all workloads, each relative to the baseline.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// Geometric mean over the workloads and the memory figures of the ratio to the baseline.
    pub memory: Option<Contrast>,
    /// Of the throughput ratio; not weighed where `cost` is known.
    pub throughput: Option<Contrast>,
    /// Of the server's processor time relative to what it used, where a recording or a model tells that.
    pub cost: Option<Contrast>,
    /// Of the peak's ratio.
    pub peak: Option<Contrast>,
    /// Of the ratio of the 99th percentile of an allocation's latency; not weighed.
    pub p99: Option<Contrast>,
    /// Of page faults; not weighed.
    pub faults: Option<Contrast>,
    /// Of a command's processor time, which its throughput need not show; not weighed.
    pub cpu: Option<Contrast>,
    /// Longest allocation timed, nanoseconds, and the baseline's: the greatest medians over the workloads.
    pub longest_ns: Option<(f64, f64)>,
    /// Of the ratios of further figures that must not become worse, by name.
    pub others: BTreeMap<String, (Better, Contrast)>,
}

/// A change that was tried, with what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// Allocator's name.
    pub allocator: String,
    /// Its settings.
    pub settings: Settings,
    /// What it does.
    pub effects: Effects,
}

impl Tried {
    /// Name and settings.
    pub fn label(&self) -> String {
        label(&self.allocator, &self.settings)
    }
}

/// What a difference must pass to count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bars {
    /// Noise floor of memory: the baseline against itself; `None` where it was not run against itself.
    pub memory: Option<f64>,
    /// And of what time is weighed by.
    pub time: Option<f64>,
    /// Share from which on a difference is of practical consequence.
    pub relevant: f64,
}

/// A step of the way to a verdict.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// What the recommended change does.
    Recommended(Box<Tried>),
    /// Another one gains more, but this one comes close and is less trouble.
    LessTrouble {
        /// The one with the greatest gain.
        best: Box<Tried>,
        /// This one's gain as a share of that one's.
        share: f64,
    },
    /// What time was weighed by: the verdict's own [`Weighing`].
    WeighedBy,
    /// From where on differences count.
    Counted(Bars),
    /// A further change that is worth it.
    AlsoWorthIt(Box<Tried>),
    /// Nothing that was tried is better by more than this.
    NothingBetter(Bars),
    /// Some may be worth it, which more blocks would settle.
    Unsettled {
        /// Names and settings.
        labels: Vec<String>,
        /// Share from which on a difference is of practical consequence.
        relevant: f64,
    },
    /// The baseline's memory differs from itself by so much that a gain could hide in it.
    NoisyBaseline(f64),
    /// No run of the baseline succeeded.
    NoBaseline,
    /// Nothing else was run.
    OnlyBaseline,
    /// The baseline was not run against itself.
    NoCopy {
        /// Whether it is memory that lacks it, or what time is weighed by.
        of_memory: bool,
    },
    /// Too few blocks have both a cell and the baseline.
    TooFewPairs {
        /// The most that a cell has.
        most: u32,
        /// What is needed.
        least: u32,
    },
    /// Some runs of this one failed.
    Failed {
        /// Name and settings.
        label: String,
        /// So many.
        runs: usize,
    },
    /// Some workloads have no runs of this one.
    Lacking(String),
    /// It is not relevantly better.
    NotBetter(Box<Tried>),
    /// It costs what it gains.
    CostsItsGain {
        /// Which.
        tried: Box<Tried>,
        /// Whether it costs clearly more.
        more: bool,
    },
    /// The server would need more processor time than a change may cost.
    TooDear(Box<Tried>),
}

impl Reason {
    /// Whether it is part of the finding, and not of its explanation.
    pub fn is_finding(&self) -> bool {
        use Reason::*;
        !matches!(
            self,
            Counted(_) | AlsoWorthIt(_) | Failed { .. } | Lacking(_) | NotBetter(_) | CostsItsGain { .. } | TooDear(_)
        )
    }
}

/// Something that keeps the confidence down.
#[derive(Debug, Clone, PartialEq)]
pub enum Doubt {
    /// Too few blocks for chance to be excluded: the verdict is preliminary.
    TooFewBlocks {
        /// Those there are.
        blocks: u32,
        /// Those needed.
        needed: u32,
        /// Cells compared, which is what so many are needed for.
        compared: usize,
    },
    /// Intervals that still reach past the threshold of relevance, of these changes.
    Wide {
        /// Names and settings.
        labels: Vec<String>,
        /// Share from which on a difference is of practical consequence.
        relevant: f64,
    },
    /// The baseline differs from its own copy.
    BaselineDiffers {
        /// In memory.
        in_memory: bool,
        /// In what time is weighed by.
        in_time: bool,
    },
    /// This share of the runs was disturbed by other processes or the hypervisor.
    Disturbed(f64),
}
