//! Series of samples made ready for a chart: which run stands for a cell, all runs on one clock, thinned out.
//! Reading sample files is the caller's.

use std::collections::BTreeMap;

use fragbench_decide::{CellRuns, MEMORY, median};
use fragbench_model::{RunRecord, Sample};

/// Samples by the file name that [`RunRecord::samples`] gives.
pub type SampleFiles = BTreeMap<String, Vec<Sample>>;

/// A point of a curve: seconds, heap RSS, live bytes.
pub(crate) type Point = (f64, f64, f64);

/// The run that stands for a cell in a chart: of those with samples the one whose mean memory is nearest the median.
pub(crate) fn representative<'a>(runs: &CellRuns<'a>, files: &'a SampleFiles) -> Option<(&'a RunRecord, &'a [Sample])> {
    let centre = median(&runs.values(MEMORY));
    let distance = |r: &RunRecord| match (r.metrics.get(MEMORY), centre) {
        (Some(v), Some(c)) => (v - c).abs(),
        _ => f64::INFINITY,
    };
    runs.ok
        .iter()
        .filter_map(|r| Some((*r, files.get(r.samples.as_ref()?)?.as_slice())))
        .filter(|(_, samples)| !samples.is_empty())
        .min_by(|a, b| distance(a.0).total_cmp(&distance(b.0)))
}

/// A clock on which the phases of all runs coincide: every phase lasts the median of its durations, and within a
/// phase each run's time is stretched to that. A slow allocator's curve so lies above a fast one's of the same work.
#[derive(Debug, Default)]
pub(crate) struct PhaseClock {
    /// Name, start and end in seconds.
    pub(crate) bands: Vec<(String, f64, f64)>,
}

impl PhaseClock {
    /// The clock of these runs; the first with phases gives their names. Without any phase it has no bands, and
    /// every run keeps its own time.
    pub(crate) fn new(runs: &[&RunRecord]) -> Self {
        let Some(first) = runs.iter().find(|r| !r.phases.is_empty()) else { return PhaseClock::default() };
        let mut at = 0.0;
        let mut bands = Vec::new();
        for (i, phase) in first.phases.iter().enumerate() {
            let durations: Vec<f64> = runs
                .iter()
                .filter(|r| same_phases(r, first))
                .map(|r| r.phases[i].end_ns.saturating_sub(r.phases[i].start_ns) as f64 / 1e9)
                .collect();
            let lasts = median(&durations).unwrap_or(0.0);
            bands.push((phase.name.clone(), at, at + lasts));
            at += lasts;
        }
        PhaseClock { bands }
    }

    /// The curve of a run on this clock. Samples between two phases, while the worker waits at a barrier, are left
    /// out; a run with other phases keeps its own time.
    pub(crate) fn curve(&self, run: &RunRecord, samples: &[Sample]) -> Vec<Point> {
        let fits =
            run.phases.len() == self.bands.len() && run.phases.iter().zip(&self.bands).all(|(p, b)| p.name == b.0);
        samples
            .iter()
            .filter_map(|s| {
                let at =
                    if fits && !self.bands.is_empty() { self.stretch(run, s.at_ns)? } else { s.at_ns as f64 / 1e9 };
                Some((at, s.heap_rss_bytes as f64, s.live_bytes.max(0) as f64))
            })
            .collect()
    }

    fn stretch(&self, run: &RunRecord, at_ns: u64) -> Option<f64> {
        let (phase, (_, from, to)) =
            run.phases.iter().zip(&self.bands).find(|(p, _)| (p.start_ns..=p.end_ns).contains(&at_ns))?;
        let share = (at_ns - phase.start_ns) as f64 / (phase.end_ns - phase.start_ns).max(1) as f64;
        Some(from + share * (to - from))
    }
}

fn same_phases(a: &RunRecord, b: &RunRecord) -> bool {
    a.phases.len() == b.phases.len() && a.phases.iter().zip(&b.phases).all(|(x, y)| x.name == y.name)
}

/// At most about `most` points that keep every rise and fall: of each stretch its least and its greatest memory.
pub(crate) fn thinned(points: &[Point], most: usize) -> Vec<Point> {
    if points.len() <= most {
        return points.to_vec();
    }
    let stretch = (2 * points.len()).div_ceil(most).max(2);
    points
        .chunks(stretch)
        .flat_map(|chunk| {
            let by_memory = |a: &&Point, b: &&Point| a.1.total_cmp(&b.1);
            let ends = [chunk.iter().min_by(by_memory), chunk.iter().max_by(by_memory)];
            let mut ends: Vec<Point> = ends.into_iter().flatten().copied().collect();
            ends.sort_by(|a, b| a.0.total_cmp(&b.0));
            ends.dedup();
            ends
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_a_single_spike() {
        let mut points: Vec<Point> = (0..10_000).map(|i| (f64::from(i), 100.0, 50.0)).collect();
        points[7777].1 = 900.0;
        let thin = thinned(&points, 300);
        assert!(thin.len() <= 300 && thin.iter().any(|p| p.1 == 900.0));
        assert!(thin.windows(2).all(|w| w[0].0 <= w[1].0));
        assert!(thinned(&[], 300).is_empty());
    }
}
