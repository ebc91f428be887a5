//! A bad case of malloc as data: what happens, who reported it, and **what is expected to be seen**, by version of
//! glibc, so that a run can be checked against it.
//!
//! Figures are named `WHAT_PHASE_UNIT`: `rss_freed_bytes` is the heap RSS at the barrier of the phase `freed`. Every
//! phase of a recipe gives the same set; a recipe adds facts of its own, whose last word is a unit too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{GlibcRange, GlibcVersion, HeapStage, Settings};

/// Figures by name; a missing one could not be had.
pub type Figures = BTreeMap<String, f64>;

/// Everything there is to say of a case besides its recipe.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFact {
    /// Name on the command line.
    pub name: String,
    /// One line: what one sees.
    pub summary: String,
    /// What happens inside malloc, step by step, each naming the function it happens in.
    pub mechanism: Vec<String>,
    /// Where it was reported or can be read: bugs, commits, source files and symbols, articles.
    pub sources: Vec<String>,
    /// Settings of glibc that the recipe needs to be the same on every machine.
    pub settings: Settings,
    /// Whether transparent huge pages are allowed in its runs.
    pub thp: bool,
    /// Whether what its recipe does depends on the allocator's answers, so that ops, live bytes and checksum may differ
    /// between allocators; see [`crate::Done::adaptive`].
    pub adaptive: bool,
    /// Anonymous memory it takes at the most under glibc, roughly.
    pub memory_bytes: u64,
    /// Actions the recipe can carry out itself (see [`crate::Remedy::action`]).
    pub actions: Vec<String>,
    /// Figures its worker measures itself, with their meaning.
    pub figures: Vec<FigureFact>,
    /// What remedies are judged on.
    pub judged: Judged,
    /// What is expected; every version of glibc lies in exactly one.
    pub expectations: Vec<Expectation>,
    /// How it shows itself from outside.
    pub symptoms: Vec<Symptom>,
}

/// A figure that a recipe measures itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FigureFact {
    /// Name; its last word is the unit.
    pub name: String,
    /// One line.
    pub meaning: String,
}

/// The figure that tells how bad it is, and from where on it is bad.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// Less of it is better.
    pub figure: String,
    /// Its counterpart after the purge; `None` when a purge has no bearing on it.
    pub purged: Option<String>,
    /// What would be there without the case, of the same run: what lies above it is the excess.
    pub floor: Quantity,
}

/// A figure times a factor, or, without a figure, the factor alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantity {
    /// Factor.
    pub times: f64,
    /// Figure.
    pub figure: Option<String>,
}

/// What is expected in a range of glibc's versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The versions.
    pub glibc: GlibcRange,
    /// Whether the case exists there.
    pub present: bool,
    /// What the figures of an untreated run must keep to. Where the case is absent, they show that it is.
    pub bounds: Vec<Bound>,
    /// What each remedy is expected to do; of one that is not named nothing is claimed.
    pub effects: Vec<ExpectedEffect>,
}

/// Limits of one figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// What it says, in words.
    pub what: String,
    /// The figure.
    pub figure: String,
    /// Another figure of the run that it is a multiple of; without one the limits are absolute.
    pub of: Option<String>,
    /// Lower limit, in the figure's unit or as a multiple of `of`.
    pub least: Option<f64>,
    /// Upper limit.
    pub most: Option<f64>,
}

/// What a remedy does to the excess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Most of it is gone.
    Cures,
    /// A good part of it is gone.
    Helps,
    /// It is as it was.
    Nothing,
    /// There is more of it.
    Hurts,
}

/// The effects a remedy may have without surprise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedEffect {
    /// Name of the remedy.
    pub remedy: String,
    /// One, or two neighbours where the figure lies between them.
    pub effects: Vec<Effect>,
}

/// What can be seen from outside without knowing the cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// Address space far above resident memory.
    VirtFarAboveRes,
    /// Memory stays after it was freed, and malloc says it is free.
    ResStaysFreeInBins,
    /// Memory stays after it was freed, and malloc says it is in use.
    ResStaysCountedInUse,
    /// Memory stays after it was freed, in fastbins.
    ResStaysInFastbins,
    /// `malloc_trim` gives back next to nothing although much is free.
    TrimGivesNothing,
    /// Memory grows in a process and its forked children, although none of them allocates.
    ResGrowsAfterFork,
    /// Resident memory grows with the number of threads, not with what they hold.
    ResGrowsWithThreads,
    /// Resident memory is a multiple of what is held, and grows as sizes change.
    ResMultipleOfLive,
    /// Allocation fails although there is memory.
    AllocationFails,
    /// Single calls take milliseconds.
    SlowCalls,
    /// malloc's own statistics contradict the kernel's.
    StatisticsLie,
}

/// One way a case shows itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Symptom {
    /// What is seen.
    pub sign: Sign,
    /// The command that tells this case from others with the same sign, and what it shows here.
    pub told_by: String,
}

/// All signs with what one sees, in the order of the table.
pub const SIGNS: &[(Sign, &str)] = &[
    (Sign::VirtFarAboveRes, "top: VIRT many times RES; /proc/PID/maps: many mappings of about 64 MiB, most of it ---p"),
    (Sign::ResGrowsWithThreads, "top: RES grows with the number of threads that were ever busy, not with the load"),
    (Sign::ResStaysFreeInBins, "top: RES stays high after the load is gone; malloc_info: `rest` about as large as RES"),
    (Sign::ResStaysInFastbins, "top: RES stays high after the load is gone; malloc_info: `fast` about as large as RES"),
    (
        Sign::ResStaysCountedInUse,
        "top: RES stays high after the load is gone; malloc_info: `system` large, `fast` and `rest` small",
    ),
    (Sign::TrimGivesNothing, "malloc_trim(0) changes RES by next to nothing, though malloc_info shows much as `rest`"),
    (Sign::ResMultipleOfLive, "top: RES is a multiple of what the program holds, and grows while sizes change"),
    (
        Sign::ResGrowsAfterFork,
        "top: the free memory of the machine falls as forked children run, though they allocate little",
    ),
    (
        Sign::AllocationFails,
        "malloc gives NULL (or the program ends with `out of memory`) though the machine has memory",
    ),
    (
        Sign::SlowCalls,
        "perf top: time in malloc's functions or in brk, mprotect, madvise; single calls take milliseconds",
    ),
    (Sign::StatisticsLie, "mallinfo or malloc_stats contradict /proc/PID/status"),
];

impl Quantity {
    /// Nothing: all of the judged figure is excess.
    pub const ZERO: Quantity = Quantity { times: 0.0, figure: None };

    /// A constant in the judged figure's unit.
    pub const fn constant(value: f64) -> Quantity {
        Quantity { times: value, figure: None }
    }

    /// Another figure of the same run.
    pub fn figure(name: &str) -> Quantity {
        Quantity { times: 1.0, figure: Some(name.to_owned()) }
    }

    /// Its value; `None` when the figure is missing.
    pub fn value(&self, figures: &Figures) -> Option<f64> {
        match &self.figure {
            None => Some(self.times),
            Some(name) => figures.get(name).map(|value| value * self.times),
        }
    }
}

impl Judged {
    /// Resident memory at the barrier of `phase`, above the live bytes there; after the purge for those that purge.
    pub fn rss(phase: &str) -> Judged {
        Judged {
            figure: format!("rss_{phase}_bytes"),
            purged: Some("rss_purged_bytes".into()),
            floor: Quantity::figure(&format!("live_{phase}_bytes")),
        }
    }

    /// Any figure of which all is too much.
    pub fn all_of(figure: &str) -> Judged {
        Judged { figure: figure.into(), purged: None, floor: Quantity::ZERO }
    }
}

impl Bound {
    fn new(figure: &str, of: Option<&str>, least: Option<f64>, most: Option<f64>, what: &str) -> Bound {
        Bound { what: what.into(), figure: figure.into(), of: of.map(str::to_owned), least, most }
    }

    /// `figure` is at least `least`.
    pub fn at_least(figure: &str, least: f64, what: &str) -> Bound {
        Bound::new(figure, None, Some(least), None, what)
    }

    /// `figure` is at most `most`.
    pub fn at_most(figure: &str, most: f64, what: &str) -> Bound {
        Bound::new(figure, None, None, Some(most), what)
    }

    /// `figure` lies between, both included; equal ends ask for exactly that.
    pub fn within(figure: &str, least: f64, most: f64, what: &str) -> Bound {
        Bound::new(figure, None, Some(least), Some(most), what)
    }

    /// From now on the limits are multiples of another figure of the same run.
    #[must_use]
    pub fn of(mut self, figure: &str) -> Bound {
        self.of = Some(figure.to_owned());
        self
    }

    /// What the limits are compared with: the figure, or its ratio to the other. `None` when one is missing, or the
    /// other is zero.
    pub fn value(&self, figures: &Figures) -> Option<f64> {
        let value = *figures.get(&self.figure)?;
        match &self.of {
            None => Some(value),
            Some(of) => figures.get(of).filter(|of| **of != 0.0).map(|of| value / of),
        }
    }

    /// Whether a value keeps to it.
    pub fn holds(&self, value: f64) -> bool {
        self.least.is_none_or(|least| value >= least) && self.most.is_none_or(|most| value <= most)
    }
}

impl fmt::Display for Bound {
    /// Plain numbers, for programs and tests; people get units.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.least, self.most) {
            (Some(least), Some(most)) if least == most => write!(f, "= {least}")?,
            (Some(least), Some(most)) => write!(f, "{least} to {most}")?,
            (Some(least), None) => write!(f, ">= {least}")?,
            (None, Some(most)) => write!(f, "<= {most}")?,
            (None, None) => write!(f, "any")?,
        }
        match &self.of {
            Some(of) => write!(f, " x {of}"),
            None => Ok(()),
        }
    }
}

impl Effect {
    /// As tables show it.
    pub fn word(self) -> &'static str {
        match self {
            Effect::Cures => "cures",
            Effect::Helps => "helps",
            Effect::Nothing => "nothing",
            Effect::Hurts => "hurts",
        }
    }
}

impl Expectation {
    /// What is expected where the case exists.
    pub fn present(glibc: GlibcRange, bounds: Vec<Bound>, effects: &[(&[Effect], &str)]) -> Expectation {
        let effects = effects
            .iter()
            .flat_map(|(effects, remedies)| {
                remedies
                    .split_whitespace()
                    .map(|remedy| ExpectedEffect { remedy: remedy.to_owned(), effects: effects.to_vec() })
            })
            .collect();
        Expectation { glibc, present: true, bounds, effects }
    }

    /// What shows that the case does not exist in these versions.
    pub fn absent(glibc: GlibcRange, bounds: Vec<Bound>) -> Expectation {
        Expectation { glibc, present: false, bounds, effects: Vec::new() }
    }
}

impl CaseFact {
    /// What is expected of a version.
    pub fn expectation(&self, version: GlibcVersion) -> Option<&Expectation> {
        self.expectations.iter().find(|expectation| expectation.glibc.contains(version))
    }

    /// Figures that something is expected of: bounded, what they are compared with, and judged.
    pub fn telling(&self) -> BTreeSet<&str> {
        let bounds = self.expectations.iter().flat_map(|expectation| &expectation.bounds);
        let bounded = bounds.flat_map(|bound| std::iter::once(&bound.figure).chain(&bound.of));
        bounded.chain([&self.judged.figure]).chain(&self.judged.purged).map(String::as_str).collect()
    }

    /// Whether any of the telling figures is a time, as its unit says: those differ from run to run, all others come out
    /// the same.
    pub fn timed(&self) -> bool {
        self.telling().iter().any(|figure| matches!(figure.rsplit('_').next(), Some("ns" | "ms" | "s")))
    }

    /// The versions that have it, in words.
    pub fn affected(&self) -> String {
        let present = self.expectations.iter().filter(|e| e.present).map(|e| e.glibc).collect();
        GlibcRange::joined(present).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Name as a workload of the worker.
    pub fn workload(&self) -> String {
        format!("{CASE_FAMILY}{}", self.name)
    }
}

/// What stands before a case's name where workloads are named.
pub const CASE_FAMILY: &str = "badcase/";
/// Parameter of every case: the action that its recipe is asked to carry out.
pub const ACTION_PARAMETER: &str = "remedy";

/// How a case came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseStatus {
    /// All that is expected of this glibc was seen.
    Reproduced,
    /// This glibc does not have the case, and the figures show it.
    NotPresent,
    /// Something came out otherwise.
    Differs,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What, in words.
    pub what: String,
    /// The figure it is about.
    pub figure: String,
    /// The figure it is compared with, if the limits are multiples of one.
    pub of: Option<String>,
    /// Lower limit.
    pub least: Option<f64>,
    /// Upper limit.
    pub most: Option<f64>,
    /// The limits in words; of a remedy, what it is expected to do.
    pub bound: String,
    /// What was compared with them; of a remedy, the share of the excess that is gone. `None` when it could not be had.
    pub value: Option<f64>,
    /// Whether it is as expected.
    pub ok: bool,
}

/// What a remedy did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemedyOutcome {
    /// Its name.
    pub name: String,
    /// What it did; `None` when its run failed.
    pub effect: Option<Effect>,
    /// What was expected; empty where nothing is claimed.
    pub expected: Vec<Effect>,
    /// The figure it is judged on.
    pub judged: Option<f64>,
    /// Share of the excess that is gone: 1 all, 0 none, below 0 there is more.
    pub gone_ratio: Option<f64>,
    /// All figures of its run.
    pub figures: Figures,
    /// Why there are none.
    pub failure: Option<String>,
}

/// A case as it came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseOutcome {
    /// Its name.
    pub name: String,
    /// The verdict.
    pub status: CaseStatus,
    /// Why the untreated run gave no figures.
    pub failure: Option<String>,
    /// Figures of the untreated run; medians where there were several.
    pub figures: Figures,
    /// How far those that are bounded or judged lay apart over the repetitions: (largest − smallest) / median. Empty where
    /// there was one run only; a figure whose median is zero and that was not always zero is missing.
    #[serde(default, skip_serializing_if = "Figures::is_empty")]
    pub spread: Figures,
    /// Whether any of them is a time: see [`CaseFact::timed`].
    #[serde(default)]
    pub timed: bool,
    /// Every check, those of the remedies included.
    pub checks: Vec<Check>,
    /// Best first.
    pub remedies: Vec<RemedyOutcome>,
    /// The heap of an untreated run, stage by stage; empty where it was not asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heap: Vec<HeapStage>,
}

/// What `fragbench badcase --format json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseReport {
    /// glibc's version as it answered.
    pub glibc: String,
    /// One a case.
    pub cases: Vec<CaseOutcome>,
}

/// What `fragbench-worker --describe` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Everything it can run.
    pub workloads: Vec<crate::WorkloadFact>,
    /// Those that are bad cases.
    pub badcases: Vec<CaseFact>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_compares_a_figure_or_its_ratio_to_another() {
        let figures = Figures::from([("a_bytes".into(), 90.0), ("b_bytes".into(), 100.0), ("z_bytes".into(), 0.0)]);
        let bound = Bound::at_least("a_bytes", 0.9, "").of("b_bytes");
        assert_eq!(bound.value(&figures), Some(0.9));
        assert!(bound.holds(0.9) && !bound.holds(0.899));
        assert_eq!(Bound::at_most("a_bytes", 90.0, "").value(&figures), Some(90.0));
        assert_eq!(Bound::at_most("a_bytes", 1.0, "").of("z_bytes").value(&figures), None, "no ratio to nothing");
        assert_eq!(Bound::at_most("c_bytes", 1.0, "").value(&figures), None);
        let exact = Bound::within("a_bytes", 90.0, 90.0, "");
        assert!(exact.holds(90.0) && !exact.holds(90.1) && !exact.holds(89.9));
    }

    #[test]
    fn every_sign_has_its_line() {
        let all = serde_json::to_string(&SIGNS.iter().map(|(sign, _)| sign).collect::<Vec<_>>()).unwrap();
        assert!(all.contains("statistics_lie"));
        let distinct: std::collections::BTreeSet<Sign> = SIGNS.iter().map(|(sign, _)| *sign).collect();
        assert_eq!(distinct.len(), SIGNS.len());
    }
}
