//! What the rules of the verdict look at: every change that was tried, over all workloads, relative to the baseline.

use fragbench_model::{Allocator, Bars, Better, CautionKind, Contrast, Effects, RunRecord, Tried, Weighing, label};

use crate::compare::baseline_of;
use crate::figures::Figures;
use crate::paired::{Aa, LogRatios, block_ratios, effects};
use crate::price::{CPU, server_ratios, server_time, weighing};
use crate::runs::CellRuns;
use crate::{NULL, P99, PEAK, median};

/// Whether the machine disturbed a run.
pub(crate) fn was_disturbed(run: &RunRecord) -> bool {
    run.cautions.iter().any(|caution| matches!(caution.kind, CautionKind::ForeignCpu | CautionKind::Steal))
}

const FAULTS: &str = "minor_faults_count";
const LONGEST: &str = "malloc_max_ns";

/// One change over all workloads, relative to the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The change: an allocator with its settings, and what they are resolved to.
    pub change: Allocator,
    /// Workloads of the baseline it has figures for.
    pub workloads: usize,
    /// Runs that failed.
    pub failed: usize,
    /// What it does: over the workloads of the baseline and the memory figures ([`Figures`]).
    pub effects: Effects,
}

/// What the rules look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// What everything is relative to; `None` when it was not planned.
    pub baseline: Option<Allocator>,
    /// Workloads with runs of the baseline; none when it did not run.
    pub workloads: usize,
    /// The baseline against itself in memory, joined as in `Candidate::memory`.
    pub memory_aa: Option<Aa>,
    /// And in throughput.
    pub throughput_aa: Option<Aa>,
    /// And in the server's processor time.
    pub cost_aa: Option<Aa>,
    /// What costs in time are weighed by.
    pub weighing: Weighing,
    /// Share of the runs that the machine disturbed.
    pub disturbed: f64,
    /// Share from which on a difference is of practical consequence.
    pub relevant: f64,
    /// Whether less memory is all that is sought: less time is no gain then, more time is still a loss.
    pub memory_alone: bool,
    /// Every cell but the baseline and those on another C library, in the plan's order. A C library comes with the
    /// distribution: its cells are shown for comparison and never advised.
    pub candidates: Vec<Candidate>,
}

impl Candidate {
    /// Name and settings.
    pub fn label(&self) -> String {
        label(&self.change.name, &self.change.settings)
    }

    /// Whether it is the floor of time, which is never advised.
    pub fn is_null(&self) -> bool {
        self.change.name == NULL
    }

    /// The effect that costs in time are weighed by: the server's processor time, else throughput.
    pub(crate) fn weighed_time(&self) -> &Option<Contrast> {
        if self.effects.cost.is_some() { &self.effects.cost } else { &self.effects.throughput }
    }

    pub(crate) fn tried(&self) -> Tried {
        Tried {
            allocator: self.change.name.clone(),
            settings: self.change.settings.clone(),
            effects: self.effects.clone(),
        }
    }
}

impl Evidence {
    /// The baseline against itself in what costs are weighed by.
    pub(crate) fn time_aa(&self) -> Option<Aa> {
        match self.weighing {
            Weighing::ServerTime { .. } => self.cost_aa,
            Weighing::Command | Weighing::Loop => self.throughput_aa,
        }
    }

    /// What a difference must pass.
    pub(crate) fn bars(&self) -> Bars {
        let floor = |aa: Option<Aa>| aa.map(|aa| aa.floor);
        Bars { memory: floor(self.memory_aa), time: floor(self.time_aa()), relevant: self.relevant }
    }
}

/// Gathers the evidence: joins the cells of one change over the workloads of the baseline.
pub(crate) fn evidence(cells: &[CellRuns], figures: &Figures, relevant: f64) -> Evidence {
    let gathered = Gathered::new(cells);
    let memory = gathered.effects_in(&figures.memory, relevant);
    let throughput = gathered.effects_in(&[figures.throughput], relevant);
    let cost = gathered.costs(relevant);
    let peak = gathered.effects_in(&[PEAK], relevant);
    let p99 = gathered.effects_in(&[P99], relevant);
    let faults = gathered.effects_in(&[FAULTS], relevant);
    let cpu = gathered.effects_in(&[CPU], relevant);
    let others: Vec<(&str, Better, Vec<Option<Contrast>>)> =
        figures.others.iter().map(|(name, better)| (*name, *better, gathered.effects_in(&[name], relevant))).collect();
    let weighing = weighing(&gathered.workloads);
    let candidates = gathered
        .groups
        .iter()
        .enumerate()
        .map(|(i, group)| Candidate {
            change: group[0].cell.allocator.clone(),
            workloads: group.iter().filter(|c| !c.ok.is_empty()).count(),
            failed: group.iter().map(|c| c.failed.len()).sum(),
            effects: Effects {
                memory: memory[i],
                throughput: throughput[i],
                cost: cost[i],
                peak: peak[i],
                p99: p99[i],
                faults: faults[i],
                cpu: cpu[i].filter(|_| weighing == Weighing::Command),
                longest_ns: gathered.longest(group),
                others: others
                    .iter()
                    .filter_map(|(name, better, effects)| Some(((*name).to_owned(), (*better, effects[i]?))))
                    .collect(),
            },
        })
        .collect();
    let runs = || cells.iter().flat_map(|c| &c.ok);
    let disturbed = runs().filter(|r| was_disturbed(r)).count();
    let aa = |ratios: Option<LogRatios>| ratios.map(|copies| Aa::new(&copies));
    Evidence {
        baseline: cells.iter().find(|c| c.is_baseline()).map(|c| c.cell.allocator.clone()),
        workloads: gathered.workloads.len(),
        memory_aa: aa(gathered.joined(&gathered.copies, &figures.memory)),
        throughput_aa: aa(gathered.joined(&gathered.copies, &[figures.throughput])),
        cost_aa: aa(gathered.joined_cost(&gathered.copies)),
        weighing,
        disturbed: disturbed as f64 / runs().count().max(1) as f64,
        relevant,
        memory_alone: figures.memory_alone,
        candidates,
    }
}

/// The cells, by change.
struct Gathered<'c, 'a> {
    cells: &'c [CellRuns<'a>],
    /// The baseline's runs of each workload that has some.
    workloads: Vec<&'c CellRuns<'a>>,
    /// Their copies.
    copies: Vec<&'c CellRuns<'a>>,
    /// The cells of each change.
    groups: Vec<Vec<&'c CellRuns<'a>>>,
}

impl<'c, 'a> Gathered<'c, 'a> {
    fn new(cells: &'c [CellRuns<'a>]) -> Self {
        let workloads: Vec<&CellRuns> = cells.iter().filter(|c| c.is_baseline() && !c.ok.is_empty()).collect();
        let of = |same: &dyn Fn(&CellRuns) -> bool| -> Vec<&'c CellRuns<'a>> {
            let run = |c: &CellRuns| workloads.iter().any(|base| base.cell.workload.name() == c.cell.workload.name());
            cells.iter().filter(|c| same(c) && run(c)).collect()
        };
        let mut groups: Vec<Vec<&CellRuns>> = Vec::new();
        for cell in cells.iter().filter(|c| !c.cell.aa && !c.is_baseline() && c.cell.allocator.libc.is_none()) {
            let same = |c: &CellRuns| !c.cell.aa && !c.is_baseline() && c.cell.allocator.is(&cell.cell.allocator);
            if !groups.iter().any(|group| group.iter().any(|c| same(c))) {
                let group = of(&same);
                groups.push(if group.is_empty() { vec![cell] } else { group });
            }
        }
        let copies = of(&|c| c.cell.aa);
        Self { cells, workloads, copies, groups }
    }

    /// Pairs of these cells and their baseline.
    fn pairs(&self, same: &[&'c CellRuns<'a>]) -> Vec<(&'c CellRuns<'a>, &'c CellRuns<'a>)> {
        same.iter().filter_map(|c| Some((*c, baseline_of(self.cells, &c.cell.workload.name())?))).collect()
    }

    fn joined(&self, same: &[&'c CellRuns<'a>], metrics: &[&str]) -> Option<LogRatios> {
        let parts: Vec<_> = self
            .pairs(same)
            .into_iter()
            .flat_map(|(c, base)| metrics.iter().map(move |m| (c, base, m)))
            // A figure the baseline lacks too (no idle stretch was run) is no lack of the candidate.
            .filter(|(_, base, metric)| !base.values(metric).is_empty())
            .map(|(c, base, metric)| block_ratios(c, base, metric))
            .collect();
        LogRatios::joined(&parts)
    }

    /// Over the workloads whose server's processor time is known.
    fn joined_cost(&self, same: &[&'c CellRuns<'a>]) -> Option<LogRatios> {
        let known = self.pairs(same).into_iter().filter(|(_, base)| server_time(base).is_some());
        LogRatios::joined(&known.map(|(c, base)| server_ratios(c, base)).collect::<Vec<_>>())
    }

    fn effects_in(&self, metrics: &[&str], relevant: f64) -> Vec<Option<Contrast>> {
        let ratios = self.groups.iter().map(|group| self.joined(group, metrics)).collect();
        self.effects_of(ratios, self.joined(&self.copies, metrics), relevant)
    }

    fn costs(&self, relevant: f64) -> Vec<Option<Contrast>> {
        let ratios = self.groups.iter().map(|group| self.joined_cost(group)).collect();
        self.effects_of(ratios, self.joined_cost(&self.copies), relevant)
    }

    /// One correction a figure, over all candidates that may be advised.
    fn effects_of(
        &self,
        ratios: Vec<Option<LogRatios>>,
        copies: Option<LogRatios>,
        relevant: f64,
    ) -> Vec<Option<Contrast>> {
        let aa = copies.map(|copies| Aa::new(&copies));
        let advised = |group: &[&CellRuns]| group.iter().all(|c| c.cell.allocator.name != NULL);
        let (mut theirs, mut null): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
        for (group, ratios) in self.groups.iter().zip(&ratios) {
            if let Some(ratios) = ratios {
                if advised(group) { &mut theirs } else { &mut null }.push((ratios.clone(), aa));
            }
        }
        let (mut theirs, mut null) = (effects(&theirs, relevant).into_iter(), effects(&null, relevant).into_iter());
        self.groups
            .iter()
            .zip(&ratios)
            .map(|(group, ratios)| {
                ratios.as_ref()?;
                if advised(group) { theirs.next() } else { null.next() }
            })
            .collect()
    }

    fn longest(&self, group: &[&'c CellRuns<'a>]) -> Option<(f64, f64)> {
        let pairs = self.pairs(group);
        let most = |of: &dyn Fn(&(&CellRuns, &CellRuns)) -> Option<f64>| pairs.iter().filter_map(of).reduce(f64::max);
        let own = most(&|(cell, _)| median(&cell.values(LONGEST)))?;
        Some((own, most(&|(_, base)| median(&base.values(LONGEST)))?))
    }
}
