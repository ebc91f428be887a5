//! What a search for settings amounts to: the front, its knee, and a recommendation or none.
//!
//! Only the finalists are judged, against the baseline of the same blocks, with the correction for their number. The rules:
//!
//! 1. A baseline and its A/A copy; otherwise nothing is recommended. With fewer blocks of the finalists than can exclude chance
//!    for that number of them what every block agrees on counts, and the recommendation is called preliminary.
//! 2. `gain`: memory must be less beyond noise and beyond the threshold of relevance. From that is taken what throughput,
//!    the peak or another figure of the user's loses, if it can be told from noise; what is left must be relevant. Latency is not weighed against memory
//!    (what a slower call in a hundred is worth the user knows): it stands in the price.
//! 3. `simplest`: of one allocator's settings with nearly the best gain, the one that sets least; of equally many the milder.
//! 4. A setting of glibc with most of the best gain is preferred to another allocator.

use std::cmp::{Ordering, Reverse};

use fragbench_model::{
    Better, Cell, Contrast, Plan, Recommendation, RunRecord, SCHEMA, Settings, Standing, Trimming, TunePoint, Tuning,
    metric,
};

use crate::compare::{aa, baseline_of};
use crate::figures::Figures;
use crate::finding::effect;
use crate::paired::{Aa, LogRatios, blocks_needed, effects};
use crate::runs::{CellRuns, cell_runs};
use crate::{BASELINE, Cost, MOST_OF_THE_GAIN, P99, PEAK, knee, median, pareto_front, risks, throughput_of};

/// The next step where the time was too short.
const LONGER: &str = "give it longer with --max-time";
/// Share of the best gain of an allocator's settings at which one that sets less is preferred.
const NEARLY_ALL: f64 = 0.9;
const CPU: &str = "cpu_s";
const RUNS: &str = "runs_per_s";

/// What each of the plan's cells costs so far relative to the baseline (`None` without a block that both have), and from
/// which difference on two of them are told apart: the noise of the baseline against itself, at least `relevant`.
pub fn costs(plan: &Plan, records: &[RunRecord], memory: &str, relevant: f64) -> (Vec<Option<Cost>>, Cost) {
    let cells = cell_runs(plan, records);
    let speed = plan.cells.first().map_or("", |cell| throughput_of(&cell.workload));
    let ratio = |cell: &CellRuns, metric| {
        let base = baseline_of(&cells, &cell.cell.workload.name())?;
        Some(LogRatios::of_cell(cell, base, metric)?.interval().median.ln())
    };
    let of_cell = |cell: &CellRuns| {
        // One that fails now and then is no candidate.
        if !cell.failed.is_empty() {
            return None;
        }
        Some(Cost {
            memory: ratio(cell, memory)?,
            time: -ratio(cell, speed)?,
            p99: ratio(cell, P99).unwrap_or_default(),
        })
    };
    let floor = |metric| {
        let workload = cells.first().map(|c| c.cell.workload.name()).unwrap_or_default();
        aa(&cells, &workload, metric).map_or(0.0, |aa| aa.floor).max(relevant)
    };
    let tolerance = Cost { memory: floor(memory), time: floor(speed), p99: floor(P99) };
    (cells.iter().map(of_cell).collect(), tolerance)
}

/// A finalist with what it gains.
struct Finalist<'a> {
    cell: &'a Cell,
    point: TunePoint,
    peak: Option<Contrast>,
    /// Processor time, where throughput is how often a command could be run: a thread of its own does not show in that.
    cpu: Option<Contrast>,
    /// The user's further figures.
    others: Vec<(&'a str, Better, Contrast)>,
}

/// The outcome of a search on one workload; `finalists` are indices of the plan's cells.
pub fn tuning(
    plan: &Plan,
    records: &[RunRecord],
    finalists: &[usize],
    memory: &str,
    relevant: f64,
    partial: bool,
) -> Tuning {
    let cells = cell_runs(plan, records);
    let workload = cells.first().map(|c| c.cell.workload.name()).unwrap_or_default();
    let speed = plan.cells.first().map_or("", |cell| throughput_of(&cell.workload));
    let plain = |cell: &CellRuns| plain_point(cell, memory, speed);
    let was_run = |cell: &CellRuns| !cell.ok.is_empty() || !cell.failed.is_empty();
    let baseline = baseline_of(&cells, &workload).filter(|cell| was_run(cell)).map(plain);
    let judged: Vec<&CellRuns> = finalists.iter().filter_map(|&i| cells.get(i)).filter(|cell| was_run(cell)).collect();
    let contrasts = |metric| contrasts(&cells, &judged, metric, relevant);
    let (of_memory, of_speed, of_p99, of_peak) = (contrasts(memory), contrasts(speed), contrasts(P99), contrasts(PEAK));
    let of_cpu = contrasts(CPU);
    let own: Vec<(&str, Better, Vec<Option<Contrast>>)> =
        Figures::of(plan).others.into_iter().map(|(name, better)| (name, better, contrasts(name))).collect();
    let mut judged: Vec<Finalist> = judged
        .iter()
        .enumerate()
        .map(|(i, cell)| Finalist {
            cell: cell.cell,
            point: TunePoint { memory: of_memory[i], throughput: of_speed[i], p99: of_p99[i], ..plain(cell) },
            peak: of_peak[i],
            cpu: of_cpu[i].filter(|_| speed == RUNS),
            others: own.iter().filter_map(|(name, better, of)| Some((*name, *better, of[i]?))).collect(),
        })
        .collect();
    judged.sort_by(|a, b| by_memory(&a.point, &b.point));
    let candidates = || cells.iter().enumerate().filter(|(_, cell)| !cell.cell.aa && !cell.is_baseline());
    let untried: Vec<TunePoint> =
        candidates().filter(|(_, cell)| !was_run(cell)).map(|(_, cell)| plain(cell)).collect();
    let mut dropped: Vec<TunePoint> =
        candidates().filter(|(i, cell)| was_run(cell) && !finalists.contains(i)).map(|(_, cell)| plain(cell)).collect();
    dropped.sort_by(by_memory);
    let aa = aa(&cells, &workload, memory);
    let (recommendation, reasons) = recommend(baseline.as_ref(), &judged, aa.as_ref(), memory, relevant);
    let finalists: Vec<TunePoint> = judged.into_iter().map(|f| f.point).collect();
    let (front, knee) = front(baseline.iter().chain(&finalists).cloned().collect());
    Tuning {
        notes: Vec::new(),
        schema: SCHEMA,
        partial,
        workload,
        memory: memory.to_owned(),
        throughput: speed.to_owned(),
        relevant,
        tried: cells.iter().filter(|c| !c.cell.aa && was_run(c)).count() as u32,
        runs: records.len() as u32,
        baseline,
        front,
        knee,
        finalists,
        dropped,
        untried,
        recommendation,
        reasons,
    }
}

/// Those no other beats in memory and throughput, and their knee in the logarithms of both, in which equal ratios are equal
/// distances.
fn front(points: Vec<TunePoint>) -> (Vec<TunePoint>, Option<usize>) {
    let axes: Vec<(f64, f64)> = points
        .iter()
        .map(|p| (p.memory_bytes.unwrap_or(f64::INFINITY), p.ops_per_s.unwrap_or(f64::NEG_INFINITY)))
        .collect();
    let front = pareto_front(&axes);
    let costs: Vec<(f64, f64)> = front.iter().map(|&i| (axes[i].0.ln(), -axes[i].1.ln())).collect();
    (front.iter().map(|&i| points[i].clone()).collect(), knee(&costs))
}

fn by_memory(a: &TunePoint, b: &TunePoint) -> Ordering {
    let of = |p: &TunePoint| p.memory_bytes.unwrap_or(f64::INFINITY);
    of(a).total_cmp(&of(b))
}

/// A cell's medians, compared with nothing.
fn plain_point(cell: &CellRuns, memory: &str, speed: &str) -> TunePoint {
    let value = |name| median(&cell.values(name));
    TunePoint {
        allocator: cell.cell.allocator.name.clone(),
        settings: cell.cell.allocator.settings.clone(),
        runs: cell.ok.len() as u32,
        failed: cell.failed.len() as u32,
        memory_bytes: value(memory),
        ops_per_s: value(speed),
        p99_ns: value(P99),
        memory: None,
        throughput: None,
        p99: None,
        trimming: trimming(cell),
    }
}

/// From the last statistics of each run's work.
fn trimming(cell: &CellRuns) -> Option<Trimming> {
    let figure = |name: &str| {
        let values: Vec<f64> = cell
            .ok
            .iter()
            .filter_map(|run| run.phases.iter().filter_map(|phase| phase.stats.as_ref()).next_back())
            .filter_map(|stats| stats.own.get(name).map(|v| *v as f64))
            .collect();
        median(&values)
    };
    Some(Trimming {
        calls: figure("trim_calls")?,
        total_ms: figure("trim_total_ns")? / 1e6,
        longest_ms: figure("trim_longest_ns")? / 1e6,
    })
}

/// Each cell against the baseline in one figure, corrected for the number of cells.
fn contrasts(cells: &[CellRuns], judged: &[&CellRuns], metric: &str, relevant: f64) -> Vec<Option<Contrast>> {
    let (at, ratios): (Vec<usize>, Vec<_>) = judged
        .iter()
        .enumerate()
        .filter_map(|(i, cell)| {
            let workload = cell.cell.workload.name();
            let ratios = LogRatios::of_cell(cell, baseline_of(cells, &workload)?, metric)?;
            Some((i, (ratios, aa(cells, &workload, metric))))
        })
        .unzip();
    let mut contrasts = vec![None; judged.len()];
    for (i, effect) in at.into_iter().zip(effects(&ratios, relevant)) {
        contrasts[i] = Some(effect);
    }
    contrasts
}

fn recommend(
    baseline: Option<&TunePoint>,
    finalists: &[Finalist],
    aa: Option<&Aa>,
    memory: &str,
    relevant: f64,
) -> (Option<Recommendation>, Vec<String>) {
    let (Some(baseline), Some(aa)) = (baseline.filter(|b| b.runs > 0), aa) else {
        let reason = if baseline.is_none_or(|b| b.failed == 0) {
            format!(
                "The time did not suffice for a run of {BASELINE} with default settings and one of its copy: {LONGER}."
            )
        } else {
            format!("No run of {BASELINE} with default settings and of its copy succeeded.")
        };
        return (None, vec![reason]);
    };
    let blocks = finalists.iter().map(|f| f.point.runs).max().unwrap_or(0);
    let needed = blocks_needed(finalists.len());
    let too_few = (blocks < needed).then(|| {
        format!(
            "This is preliminary: the time sufficed for {blocks} blocks of the best settings, and {needed} are needed to exclude \
             chance; until then what every block agrees on counts. To settle it {LONGER}."
        )
    });
    let what = metric(memory).map_or(memory, |m| m.meaning);
    let mut worth: Vec<(&Finalist, f64)> = finalists
        .iter()
        .filter_map(|f| Some((f, gain(f, relevant)?)))
        .filter(|(f, gain)| f.point.failed == 0 && *gain >= relevant)
        .collect();
    worth.sort_by(|a, b| b.1.total_cmp(&a.1));
    let Some(&(best, most)) = worth.first() else {
        let reason = format!(
            "Nothing tried saves more than noise ({:.1} %: the baseline against itself) and {:.0} % of {what}, less what it costs: \
             nothing is recommended.",
            100.0 * aa.floor,
            100.0 * relevant
        );
        // So few blocks that nothing can be excluded come before what they did not show.
        return (None, too_few.into_iter().chain([reason]).collect());
    };
    let mut reasons: Vec<String> = too_few.clone().into_iter().collect();
    let mut chosen = simplest(&worth, &best.point.allocator);
    if best.point.allocator != BASELINE
        && worth.iter().any(|(f, gain)| f.point.allocator == BASELINE && *gain >= MOST_OF_THE_GAIN * most)
    {
        chosen = simplest(&worth, BASELINE);
        reasons.push(format!(
            "{} would save more, but this setting gets most of that without another allocator.",
            best.point.label()
        ));
    }
    let own = worth.iter().find(|(f, _)| f.point.allocator == chosen.point.allocator);
    if let Some((own, _)) = own.filter(|(own, _)| !std::ptr::eq(*own, chosen)) {
        reasons.push(format!(
            "{} would save a little more; of the settings with {:.0} % of that, this one sets least, and the mildest values.",
            own.point.label(),
            100.0 * NEARLY_ALL
        ));
    }
    for other in ["jemalloc", "mimalloc", BASELINE] {
        let rival = finalists.iter().filter(|f| f.point.allocator == other).max_by(|a, b| {
            let of = |f: &Finalist| gain(f, relevant).unwrap_or(f64::NEG_INFINITY);
            of(a).total_cmp(&of(b))
        });
        if let Some(rival) = rival.filter(|_| other != chosen.point.allocator) {
            reasons.push(format!("At its best settings {}.", against(&rival.point)));
        }
    }
    let Some(memory_contrast) = chosen.point.memory else { return (None, reasons) };
    let allocator = &chosen.cell.allocator;
    let recommendation = Recommendation {
        allocator: allocator.name.clone(),
        settings: allocator.settings.clone(),
        change: allocator.clone(),
        preliminary: too_few.is_some(),
        memory_ratio: memory_contrast.ratio,
        saved_bytes: baseline.memory_bytes.zip(chosen.point.memory_bytes).map_or(0.0, |(b, c)| b - c),
        throughput_ratio: chosen.point.throughput.map(|c| c.ratio),
        price: price(chosen),
        risks: risks(&allocator.name, &allocator.settings),
    };
    reasons.insert(0, format!("{}.", against(&chosen.point)));
    (Some(recommendation), reasons)
}

/// What is saved less what it costs; `None` where nothing is saved beyond noise and relevance.
fn gain(f: &Finalist, relevant: f64) -> Option<f64> {
    let told = |c: &Contrast| c.standing != Standing::Noise;
    let memory = f.point.memory.filter(|c| told(c) && c.relevant && c.ratio.hi < 1.0 - relevant)?;
    let slower = f.point.throughput.filter(told).map_or(0.0, |c| (1.0 - c.ratio.median).max(0.0));
    let higher = f.peak.filter(told).map_or(0.0, |c| (c.ratio.median - 1.0).max(0.0));
    let worse = |(_, better, c): &(&str, Better, Contrast)| match better {
        Better::Less => c.ratio.median - 1.0,
        Better::More => 1.0 - c.ratio.median,
    };
    let others = f.others.iter().filter(|(.., c)| told(c)).map(worse).fold(0.0, f64::max);
    Some(1.0 - memory.ratio.median - slower.max(higher).max(others))
}

/// Of an allocator's settings that are worth it, the one that sets least with nearly the best gain. `worth` is sorted by
/// gain and not empty.
fn simplest<'a, 'c>(worth: &[(&'a Finalist<'c>, f64)], allocator: &str) -> &'a Finalist<'c> {
    let of: Vec<&(&Finalist, f64)> = worth.iter().filter(|(f, _)| f.point.allocator == allocator).collect();
    let most = of.first().map_or(0.0, |(_, gain)| *gain);
    let nearly = of.iter().filter(|(_, gain)| *gain >= NEARLY_ALL * most);
    let best = nearly.min_by_key(|(f, _)| (f.point.settings.len(), Reverse(mildness(&f.point.settings))));
    best.map_or(worth[0].0, |(f, _)| f)
}

/// The values in the order of their names. Limits, thresholds, counts and intervals are the milder the greater they are.
fn mildness(settings: &Settings) -> Vec<u64> {
    settings.values().map(|value| value.parse().unwrap_or(0)).collect()
}

/// A point against the baseline in words.
fn against(point: &TunePoint) -> String {
    let memory = point.memory.as_ref().map(|c| effect(c, "memory"));
    let speed = point.throughput.as_ref().map(|c| effect(c, "throughput"));
    let figures: Vec<String> = memory.into_iter().chain(speed).collect();
    format!("{} has {}", point.label(), figures.join(" and "))
}

/// What is known of the price of periodic trimming.
fn trimming_price(t: &Trimming) -> String {
    if t.calls < 1.0 {
        return "malloc_trim was not called while the work went on, which was over before the interval was, only in the quiet \
                stretch after it: what it costs a working server is not in these figures"
            .to_owned();
    }
    format!(
        "malloc_trim was called {:.0} times in a run, {:.0} ms in all, at most {:.0} ms at a time; a thread that needs the arena \
         being trimmed waits for so long. A replay at full speed does more work between two calls than the server will",
        t.calls, t.total_ms, t.longest_ms
    )
}

/// What a change costs, in sentences.
fn price(f: &Finalist) -> Vec<String> {
    let parts = [
        (f.point.throughput, "throughput"),
        (f.point.p99, "p99 of an allocation"),
        (f.peak, "memory at the peak"),
        (f.cpu, "processor time"),
    ];
    let others = f.others.iter().map(|(name, _, contrast)| (Some(*contrast), *name));
    let mut price: Vec<String> =
        parts.into_iter().chain(others).filter_map(|(contrast, what)| Some(effect(&contrast?, what))).collect();
    price.extend(f.point.trimming.map(|t| trimming_price(&t)));
    price
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trimming_that_never_met_work_has_no_price_that_is_known() {
        let called = |calls| trimming_price(&Trimming { calls, total_ms: 40.0, longest_ms: 12.0 });
        assert!(called(0.0).contains("not in these figures"));
        assert!(called(4.0).contains("4 times in a run, 40 ms in all, at most 12 ms"));
    }
}
