//! Series of samples made ready for a chart: which run stands for a cell, all runs on one clock, thinned out.
//! Reading sample files is the caller's.

use std::collections::BTreeMap;

use fragbench_decide::{CellRuns, PEAK, median};
use fragbench_model::{RunRecord, Sample};

/// Samples by the file name that [`RunRecord::samples`] gives.
pub type SampleFiles = BTreeMap<String, Vec<Sample>>;

/// Calls in a phase above which it is work, not rest.
const MANY_CALLS: u64 = 1000;

/// A point of a curve: seconds, heap RSS, live bytes.
pub(crate) type Point = (f64, f64, f64);

/// The run that stands for a cell in a chart: of those with samples the one whose peak is nearest the median; only runs of
/// `recording`, where one is named.
pub(crate) fn representative<'a>(
    runs: &CellRuns<'a>,
    files: &'a SampleFiles,
    recording: Option<&str>,
) -> Option<(&'a RunRecord, &'a [Sample])> {
    let centre = median(&runs.values(PEAK));
    let distance = |r: &RunRecord| match (r.metrics.get(PEAK), centre) {
        (Some(v), Some(c)) => (v - c).abs(),
        _ => f64::INFINITY,
    };
    runs.ok
        .iter()
        .filter(|r| recording.is_none() || r.recording.as_deref() == recording)
        .filter_map(|r| Some((*r, files.get(r.samples.as_ref()?)?.as_slice())))
        .filter(|(_, samples)| !samples.is_empty())
        .min_by(|a, b| distance(a.0).total_cmp(&distance(b.0)))
}

/// A clock on which the phases of all runs coincide: every phase is as wide as the median of its durations, and within
/// a phase a run advances with the share of the phase's calls it has completed, so that the same work lies above
/// itself whatever held a run up. In a phase without calls (idle) it advances with time.
#[derive(Debug, Default)]
pub(crate) struct PhaseClock {
    /// Name, start and end in seconds.
    pub(crate) bands: Vec<(String, f64, f64)>,
}

impl PhaseClock {
    /// The clock of these runs; the first of those with most phases gives their names. Without any phase it has no
    /// bands, and every run keeps its own time. A run may lack phases at the end, as those of the null allocator do.
    pub(crate) fn new(runs: &[&RunRecord]) -> Self {
        let most = runs.iter().map(|r| r.phases.len()).max().unwrap_or(0);
        let Some(first) = runs.iter().find(|r| r.phases.len() == most) else { return PhaseClock::default() };
        let mut at = 0.0;
        let mut bands = Vec::new();
        for (i, phase) in first.phases.iter().enumerate() {
            let durations: Vec<f64> = runs
                .iter()
                .filter(|r| i < r.phases.len() && begins_like(r, first))
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
        let point = |at: f64, s: &Sample| (at, s.heap_rss_bytes as f64, s.live_bytes.unwrap_or_default().max(0) as f64);
        let fits =
            run.phases.len() <= self.bands.len() && run.phases.iter().zip(&self.bands).all(|(p, b)| p.name == b.0);
        if !fits || run.phases.is_empty() {
            return samples.iter().map(|s| point(s.at_ns as f64 / 1e9, s)).collect();
        }
        let mut points = Vec::with_capacity(samples.len());
        for (phase, (_, from, to)) in run.phases.iter().zip(&self.bands) {
            let inside = || samples.iter().filter(|s| (phase.start_ns..=phase.end_ns).contains(&s.at_ns));
            let Some(first) = inside().next().map(|s| s.ops.unwrap_or_default()) else { continue };
            let done = phase.snapshot.ops.saturating_sub(first);
            let lasts = phase.end_ns.saturating_sub(phase.start_ns);
            points.extend(inside().map(|s| {
                let share = if done >= MANY_CALLS {
                    s.ops.unwrap_or_default().saturating_sub(first) as f64 / done as f64
                } else {
                    (s.at_ns - phase.start_ns) as f64 / lasts.max(1) as f64
                };
                point(from + share.min(1.0) * (to - from), s)
            }));
        }
        points
    }

    /// Where recorded time lies on this clock, by a run that tells it: pairs of recorded microseconds and seconds here.
    pub(crate) fn recorded(&self, run: &RunRecord, samples: &[Sample]) -> Vec<(f64, f64)> {
        let told: Vec<Sample> = samples.iter().filter(|s| s.recorded_ns.is_some()).copied().collect();
        let places = self.curve(run, &told);
        let inside = told
            .iter()
            .filter(|s| run.phases.is_empty() || run.phases.iter().any(|p| (p.start_ns..=p.end_ns).contains(&s.at_ns)));
        let mut pairs: Vec<(f64, f64)> =
            inside.zip(places).map(|(s, place)| (s.recorded_ns.unwrap_or_default() as f64 / 1e3, place.0)).collect();
        // In the quiet after the work its time stands.
        pairs.dedup_by(|later, earlier| later.0 <= earlier.0);
        pairs
    }
}

/// Interpolates between neighbouring pairs; `None` outside them.
pub(crate) fn between(pairs: &[(f64, f64)], at: f64) -> Option<f64> {
    let next = pairs.partition_point(|pair| pair.0 < at);
    let to = pairs.get(next)?;
    if to.0 == at {
        return Some(to.1);
    }
    let from = pairs.get(next.checked_sub(1)?)?;
    Some(from.1 + (at - from.0) / (to.0 - from.0) * (to.1 - from.1))
}

/// Whether the phases of `a` are those of `b` as far as they go.
fn begins_like(a: &RunRecord, b: &RunRecord) -> bool {
    a.phases.len() <= b.phases.len() && a.phases.iter().zip(&b.phases).all(|(x, y)| x.name == y.name)
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
    fn what_lies_between_two_moments_is_interpolated() {
        let pairs = [(10.0, 1.0), (20.0, 2.0), (40.0, 6.0)];
        assert_eq!(
            (between(&pairs, 10.0), between(&pairs, 30.0), between(&pairs, 40.0)),
            (Some(1.0), Some(4.0), Some(6.0))
        );
        assert_eq!((between(&pairs, 9.0), between(&pairs, 41.0), between(&[], 1.0)), (None, None, None));
    }

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
