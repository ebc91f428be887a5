//! A cell against the baseline, block by block: the two runs of a block lie close in time, so what hit the machine then
//! hit both, and their ratio is free of it.

use std::collections::BTreeMap;

use fragbench_model::{Contrast, Interval, RunRecord, Standing};

use crate::median_interval;
use crate::ranks::holm;
use crate::runs::CellRuns;
use crate::signed_rank::{MIN_BLOCKS, signed_rank};

/// Level at which chance is excluded.
pub const LEVEL: f64 = 0.05;
/// With fewer than [`blocks_needed`] blocks: how many noise floors away every one of them must lie to be taken for more than
/// chance, preliminarily.
pub const PRELIMINARY_FLOORS: f64 = 2.0;

/// The natural logarithm of each block's ratio to the baseline.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogRatios(Vec<f64>);

impl LogRatios {
    /// Of `(value, baseline)` pairs; `None` of no pair, or of values not above zero.
    pub fn of_pairs(pairs: &[(f64, f64)]) -> Option<Self> {
        let positive = |&(a, b): &(f64, f64)| a.is_finite() && b.is_finite() && a > 0.0 && b > 0.0;
        (!pairs.is_empty() && pairs.iter().all(positive))
            .then(|| Self(pairs.iter().map(|(a, b)| (a / b).ln()).collect()))
    }

    /// Of a cell's runs in one metric; `None` when no block has both.
    pub(crate) fn of_cell(cell: &CellRuns, base: &CellRuns, metric: &str) -> Option<Self> {
        let by_block = block_ratios(cell, base, metric)?;
        Some(Self(by_block.into_values().collect()))
    }

    /// Joined over several figures and workloads: in each block the mean, which makes the ratio a geometric mean. Blocks
    /// that lack one are left out; `None` when none is left or one could not be formed at all.
    pub(crate) fn joined(parts: &[Option<BTreeMap<u32, f64>>]) -> Option<Self> {
        let parts: Vec<&BTreeMap<u32, f64>> = parts.iter().map(Option::as_ref).collect::<Option<_>>()?;
        let first = parts.first()?;
        let joined: Vec<f64> = first
            .keys()
            .filter_map(|block| {
                let sum: f64 = parts.iter().map(|part| part.get(block).copied()).sum::<Option<f64>>()?;
                Some(sum / parts.len() as f64)
            })
            .collect();
        (!joined.is_empty()).then_some(Self(joined))
    }

    /// Median of the ratios with its 95 % percentile-bootstrap interval (the range below three blocks).
    pub fn interval(&self) -> Interval {
        let ratios: Vec<f64> = self.0.iter().map(|r| r.exp()).collect();
        let none = Interval { median: f64::NAN, lo: f64::NAN, hi: f64::NAN, n: 0 };
        median_interval(&ratios).unwrap_or(none)
    }

    /// Whether every single block lies farther than `share` from 1, all on one side.
    fn all_beyond(&self, share: f64) -> bool {
        let (below, above) = ((1.0 - share).max(f64::MIN_POSITIVE).ln(), (1.0 + share).ln());
        self.0.iter().all(|r| *r < below) || self.0.iter().all(|r| *r > above)
    }

    /// Two-sided p of "no difference", not corrected; `None` below [`MIN_BLOCKS`].
    pub fn p(&self) -> Option<f64> {
        (self.0.len() >= MIN_BLOCKS as usize).then(|| signed_rank(&self.0))
    }
}

/// Logarithm of the ratio by block.
pub(crate) fn block_ratios(cell: &CellRuns, base: &CellRuns, metric: &str) -> Option<BTreeMap<u32, f64>> {
    let value = |r: &RunRecord| r.metrics.get(metric).copied();
    ratios_of(cell, base, |run, twin| Some((value(run)?, value(twin)?)))
}

/// Logarithm of the ratio of what `of` makes of a run and the baseline's run of the same block.
pub(crate) fn ratios_of(
    cell: &CellRuns,
    base: &CellRuns,
    of: impl Fn(&RunRecord, &RunRecord) -> Option<(f64, f64)>,
) -> Option<BTreeMap<u32, f64>> {
    let pairs: Vec<(u32, (f64, f64))> = cell
        .ok
        .iter()
        .filter_map(|run| {
            let twin = base.ok.iter().find(|b| b.repetition == run.repetition)?;
            Some((run.repetition, of(run, twin)?))
        })
        .collect();
    let ratios = LogRatios::of_pairs(&pairs.iter().map(|p| p.1).collect::<Vec<_>>())?;
    Some(pairs.iter().map(|p| p.0).zip(ratios.0).collect())
}

/// The baseline against its own copy in one figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aa {
    /// Farther end of the interval, `|ratio − 1|`: the noise floor.
    pub floor: f64,
    /// Whether the copies differ from each other beyond chance: then something but the allocator made a difference, and
    /// the interval of a claim must lie beyond the floor too.
    pub differs: bool,
}

impl Aa {
    /// From the copies' ratios.
    pub fn new(copies: &LogRatios) -> Self {
        let i = copies.interval();
        Self { floor: (i.lo - 1.0).abs().max((i.hi - 1.0).abs()), differs: copies.p().is_some_and(|p| p <= LEVEL) }
    }
}

/// Blocks after which one of so many cells can be told apart from chance at all: the least p of the signed-rank test of n
/// blocks is 2^(1 − n), and the correction multiplies it by the number of cells.
pub fn blocks_needed(cells: usize) -> u32 {
    let needed = (cells.max(1) as f64 / LEVEL).log2() + 1.0;
    (needed.ceil() as u32).max(MIN_BLOCKS)
}

/// Effects of several cells in the same figure, corrected for their number. Without an A/A pair nothing is told apart
/// from noise. A cell with fewer blocks than the corrected test needs to pass at all has no p: until then the preliminary
/// rule holds, so that a further block never takes away what the blocks before it agreed on.
pub(crate) fn effects(cells: &[(LogRatios, Option<Aa>)], relevant: f64) -> Vec<Contrast> {
    let needed = blocks_needed(cells.len()) as usize;
    let p: Vec<Option<f64>> = cells.iter().map(|(ratios, _)| ratios.p().filter(|_| ratios.0.len() >= needed)).collect();
    let mut corrected = holm(&p.iter().flatten().copied().collect::<Vec<_>>()).into_iter();
    cells
        .iter()
        .zip(p)
        .map(|((ratios, aa), p)| {
            let ratio = ratios.interval();
            let p = p.and_then(|_| corrected.next());
            Contrast {
                ratio,
                p,
                noise: aa.map(|aa| aa.floor),
                standing: aa.map_or(Standing::Noise, |aa| standing(ratios, &ratio, p, &aa)),
                relevant: beyond(&ratio, relevant),
            }
        })
        .collect()
}

/// Whether chance is excluded.
pub(crate) fn standing(ratios: &LogRatios, ratio: &Interval, p: Option<f64>, aa: &Aa) -> Standing {
    match p {
        Some(p) if p <= LEVEL && (!aa.differs || beyond(ratio, aa.floor)) => Standing::Significant,
        None if ratio.n >= 2 && ratios.all_beyond(PRELIMINARY_FLOORS * aa.floor) => Standing::Preliminary,
        _ => Standing::Noise,
    }
}

/// Whether the whole interval is farther than `share` from 1, on one side.
pub(crate) fn beyond(ratio: &Interval, share: f64) -> bool {
    ratio.hi < 1.0 - share || ratio.lo > 1.0 + share
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_distr::{Distribution, Normal};
    use rand_pcg::Pcg64Mcg;

    /// What a run is multiplied with by chance.
    type Noise = fn(&mut Pcg64Mcg) -> f64;

    fn percent(rng: &mut Pcg64Mcg, percent: f64) -> f64 {
        Normal::new(0.0, percent / 100.0).unwrap().sample(rng).exp()
    }

    const NOISES: [(&str, Noise); 3] = [
        ("two percent", |rng| percent(rng, 2.0)),
        // Resident memory that lands on one of two levels.
        ("two levels", |rng| if rng.random_bool(0.3) { 1.25 } else { 1.0 }),
        // One run in ten is far off.
        ("tails", |rng| if rng.random_bool(0.1) { percent(rng, 30.0) } else { percent(rng, 1.0) }),
    ];

    /// In how many of 200 results of these blocks a claim is made of any of the cells, all of which are `shift` times the
    /// baseline. In every block the machine is slower by up to a half for all alike.
    fn claims(noise: Noise, blocks: usize, cells: usize, shift: f64) -> usize {
        let mut rng = Pcg64Mcg::seed_from_u64(blocks as u64);
        (0..200)
            .filter(|_| {
                let drift: Vec<f64> = (0..blocks).map(|_| 1.0 + 0.5 * rng.random::<f64>()).collect();
                let mut run = |shift: f64| drift.iter().map(|d| d * shift * noise(&mut rng)).collect::<Vec<f64>>();
                let (base, copy) = (run(1.0), run(1.0));
                let ratios = |values: &[f64]| {
                    LogRatios::of_pairs(&values.iter().copied().zip(base.iter().copied()).collect::<Vec<_>>()).unwrap()
                };
                let aa = Some(Aa::new(&ratios(&copy)));
                let cells: Vec<_> = (0..cells).map(|_| (ratios(&run(shift)), aa)).collect();
                effects(&cells, 0.05).iter().any(|e| e.standing == Standing::Significant)
            })
            .count()
    }

    /// More than this many of 200 come from a rate of 5 % less than once in a thousand times.
    const FALSE_OF_200: usize = 21;

    #[test]
    fn equal_things_are_told_apart_no_more_often_than_said() {
        for (name, noise) in NOISES {
            let false_claims = claims(noise, 15, 1, 1.0);
            assert!(false_claims <= FALSE_OF_200, "{name}: {false_claims} of 200");
        }
        // What the correction is for: eight comparisons, not eight times as many false claims.
        let false_claims = claims(NOISES[0].1, 15, 8, 1.0);
        assert!(false_claims <= FALSE_OF_200, "eight cells: {false_claims} of 200");
    }

    #[test]
    fn a_shift_of_three_percent_under_two_percent_of_noise_is_found_in_fifteen_blocks() {
        let found = claims(NOISES[0].1, 15, 1, 1.03);
        assert!(found >= 180, "{found} of 200");
        assert_eq!(claims(NOISES[0].1, 5, 1, 2.0), 0, "fewer than six blocks never exclude chance");
    }

    #[test]
    fn the_interval_of_paired_ratios_covers_the_truth_and_ignores_drift() {
        let mut rng = Pcg64Mcg::seed_from_u64(9);
        let mut covered = 0;
        for _ in 0..200 {
            let pairs: Vec<(f64, f64)> = (0..15)
                .map(|_| {
                    let machine = 1.0 + rng.random::<f64>();
                    (0.8 * machine * percent(&mut rng, 1.0), machine)
                })
                .collect();
            let i = LogRatios::of_pairs(&pairs).unwrap().interval();
            covered += usize::from(i.lo <= 0.8 && 0.8 <= i.hi);
            assert!((i.hi - i.lo) < 0.03, "the machine's swings by a factor of two are not in it: {i:?}");
        }
        assert!(covered >= 180, "{covered} of 200");
    }

    #[test]
    fn joined_ratios_are_geometric_means_over_whole_blocks() {
        let part = |ratios: &[(u32, f64)]| Some(ratios.iter().map(|(b, r)| (*b, r.ln())).collect::<BTreeMap<_, _>>());
        let joined = LogRatios::joined(&[part(&[(0, 0.5), (1, 0.5), (2, 9.0)]), part(&[(0, 2.0), (1, 2.0)])]).unwrap();
        let i = joined.interval();
        assert!((i.median - 1.0).abs() < 1e-12 && i.n == 2, "{i:?}");
        assert_eq!(
            LogRatios::joined(&[part(&[(0, 1.0)]), None]),
            None,
            "a workload that is missing is not left out silently"
        );
        assert_eq!(LogRatios::joined(&[]), None);
        assert_eq!(LogRatios::of_pairs(&[(1.0, 0.0)]), None);
    }

    #[test]
    fn a_baseline_that_differs_from_itself_raises_the_bar() {
        let interval = |median: f64| Interval { median, lo: median - 0.01, hi: median + 0.01, n: 15 };
        let aa = |differs| Aa { floor: 0.05, differs };
        let standing = |ratio: &Interval, p: Option<f64>, aa: &Aa| {
            super::standing(&LogRatios(vec![ratio.lo.ln(), ratio.median.ln(), ratio.hi.ln()]), ratio, p, aa)
        };
        assert_eq!(standing(&interval(0.97), Some(0.001), &aa(false)), Standing::Significant);
        assert_eq!(standing(&interval(0.97), Some(0.001), &aa(true)), Standing::Noise);
        assert_eq!(standing(&interval(0.9), Some(0.001), &aa(true)), Standing::Significant);
        assert_eq!(standing(&interval(0.9), Some(0.2), &aa(false)), Standing::Noise);
        assert_eq!(standing(&interval(0.88), None, &aa(false)), Standing::Preliminary);
        assert_eq!(standing(&interval(0.92), None, &aa(false)), Standing::Noise, "within twice the floor");
        assert_eq!(
            super::standing(&LogRatios(vec![-0.2, -0.2, 0.1]), &interval(0.82), None, &aa(false)),
            Standing::Noise,
            "one block on the other side"
        );
        assert_eq!(standing(&Interval { n: 1, ..interval(0.5) }, None, &aa(false)), Standing::Noise);
    }
}
