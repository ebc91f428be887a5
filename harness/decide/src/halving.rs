//! The search behind `tune`: which settings get more runs. Successive halving on several objectives: all candidates get a
//! few blocks, those beaten by the most others are dropped, the rest get as much time again, and so on.
//!
//! Time is shared out evenly between the rungs, so the last few candidates get most of the blocks and chance is excluded
//! where it matters; where a run takes long, the first rungs give of their time so that the last can do its test. What beats what allows for noise in every objective, and the number of those that beat a candidate
//! ranks it. The best of each family (glibc, jemalloc, mimalloc) stays to the end, since a recommendation has to stand
//! beside them. Where the time would not even suffice for all candidates once, the search begins with fewer, from each
//! family in turns. After the first rung settings of different kinds that did well alone are joined: the space of all
//! combinations is never walked.
//!
//! Sources: K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS
//! 2016 (successive halving); L. Li et al., "Hyperband", JMLR 18 (2018) (η = 3); C. M. Fonseca, P. J. Fleming, "Genetic
//! algorithms for multiobjective optimization", ICGA 1993 (rank by the number of those that dominate); R. Schmucker et al.,
//! "Multi-objective asynchronous successive halving", arXiv 2106.12639 (halving on a front).

use fragbench_model::Settings;

use crate::paired::blocks_needed;

/// Of this many candidates one goes on to the next rung.
const ETA: usize = 3;
/// Rungs of a search.
const RUNGS: u32 = 3;
/// Candidates that the last rung has at least.
const FINALISTS: usize = 4;
/// Share of the time left that is kept for the last rung at the most.
const MOST_OF_THE_TIME: f64 = 0.6;
/// How many of the best are tried in pairs after the first rung.
const JOINED: usize = 4;

/// What a candidate costs, each as the natural logarithm of the ratio to the baseline; less is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Resident memory.
    pub memory: f64,
    /// Time for the same work: throughput's ratio, negated.
    pub time: f64,
    /// 99th percentile of an allocation; 0 where it is not known.
    pub p99: f64,
}

impl Cost {
    fn objectives(&self) -> [f64; 3] {
        [self.memory, self.time, self.p99]
    }

    /// Whether this one beats `other`: clearly less in one objective, and in none clearly more.
    fn beats(&self, other: &Cost, tolerance: &Cost) -> bool {
        let differences = || {
            let pairs = self.objectives().into_iter().zip(other.objectives());
            pairs.zip(tolerance.objectives()).map(|((a, b), t)| (a - b, t))
        };
        differences().all(|(d, t)| d <= t) && differences().any(|(d, t)| d < -t)
    }

    /// Memory for the same throughput: what two candidates of equal rank are ordered by.
    fn joint(&self) -> f64 {
        self.memory + self.time
    }
}

/// A search in progress: which candidates are alive, and how often they are run next.
#[derive(Debug, Clone)]
pub struct Halving {
    live: Vec<usize>,
    rung: u32,
}

impl Halving {
    /// Begins with these candidates: indices into what costs and families are given by.
    pub fn new(candidates: impl IntoIterator<Item = usize>) -> Self {
        Self { live: candidates.into_iter().collect(), rung: 0 }
    }

    /// Goes on with a search that had come to this rung, with these candidates alive.
    pub fn resume(rung: u32, live: Vec<usize>) -> Self {
        Self { live, rung }
    }

    /// Runs of a search that tries `candidates` once, with `fixed` further cells in every block, and what is left at the end
    /// `blocks` times: each rung takes as much time as the first.
    pub fn runs(candidates: u32, fixed: u32, blocks: u32) -> u32 {
        let last = (candidates / (ETA * ETA) as u32).max(FINALISTS as u32) + fixed;
        RUNGS * (candidates + fixed).max(last * blocks)
    }

    /// Candidates to be run in this rung, ascending.
    pub fn live(&self) -> &[usize] {
        &self.live
    }

    /// Rung, from 0.
    pub fn rung(&self) -> u32 {
        self.rung
    }

    /// Whether this is the last rung.
    pub fn is_last(&self) -> bool {
        self.rung + 1 >= RUNGS
    }

    /// Seconds of those left that this rung may take: an even share of the rungs to come, less where the last rung would not
    /// have the time its test needs. `run_s`: seconds a run takes.
    pub fn share(&self, seconds_left: f64, run_s: f64) -> f64 {
        let rungs = f64::from(RUNGS.saturating_sub(self.rung).max(1));
        if rungs <= 1.0 {
            return seconds_left;
        }
        // A block of the last rung is the baseline, its copy and the finalists, which have had a block a rung before.
        let blocks = f64::from(blocks_needed(FINALISTS).saturating_sub(RUNGS - 1));
        let needed = (run_s * (FINALISTS + 2) as f64 * blocks).min(MOST_OF_THE_TIME * seconds_left);
        (seconds_left / rungs).min((seconds_left - needed) / (rungs - 1.0))
    }

    /// Begins with so many of the candidates only: those of `first`, whatever the number, then from each family in turns, of a
    /// family in the order given. One stays in any case. `family` by candidate.
    pub fn limit(&mut self, most: usize, first: &[usize], order: &[usize], family: &[usize]) {
        let rest: Vec<usize> = order.iter().copied().filter(|candidate| !first.contains(candidate)).collect();
        let mut places: Vec<(usize, usize)> = Vec::new();
        for (at, candidate) in rest.iter().enumerate() {
            let before = rest[..at].iter().filter(|c| family[**c] == family[*candidate]).count();
            places.push((before, *candidate));
        }
        places.sort_by_key(|(before, _)| *before);
        let all = first.iter().copied().chain(places.into_iter().map(|(_, candidate)| candidate));
        self.live = all.take(most.max(first.len()).max(1)).collect();
        self.live.sort_unstable();
    }

    /// Goes on to the next rung with the better third, the best of each family among them. `costs` by candidate; one
    /// without (its runs failed) is dropped. `family` by candidate.
    pub fn next(&mut self, costs: &[Option<Cost>], family: &[usize], tolerance: &Cost) {
        let ranked = ranked(&self.live, costs, tolerance);
        let keep = self.live.len().div_ceil(ETA).max(FINALISTS);
        let mut kept: Vec<usize> = ranked.iter().copied().take(keep).collect();
        for (place, candidate) in ranked.iter().enumerate().skip(keep) {
            let first = !ranked[..place].iter().any(|before| family[*before] == family[*candidate]);
            kept.extend(first.then_some(*candidate));
        }
        kept.sort_unstable();
        self.live = kept;
        self.rung += 1;
    }

    /// Leaves so many of `order`, best first, that the blocks their test needs can still be run: `runs_left` is what the time
    /// suffices for, `blocks` what those alive have had already. One stays in any case.
    pub fn narrow(&mut self, runs_left: usize, blocks: u32, mut order: Vec<usize>) {
        let affordable = |n: &usize| {
            // A block is the baseline, its copy, and each of them.
            blocks_needed(*n).saturating_sub(blocks) as usize * (n + 2) <= runs_left
        };
        let most = (1..=order.len()).rev().find(affordable).unwrap_or(1);
        order.truncate(most);
        order.sort_unstable();
        self.live = order;
    }

    /// Takes a further candidate in.
    pub fn enter(&mut self, candidate: usize) {
        self.live.push(candidate);
    }
}

/// Candidates that have a cost, best first: by the number of those that beat them, then by their joint cost.
pub fn ranked(live: &[usize], costs: &[Option<Cost>], tolerance: &Cost) -> Vec<usize> {
    let known: Vec<(usize, Cost)> = live.iter().filter_map(|&i| Some((i, costs[i]?))).collect();
    let mut order: Vec<(usize, f64, usize)> = known
        .iter()
        .map(|(i, cost)| (known.iter().filter(|(_, other)| other.beats(cost, tolerance)).count(), cost.joint(), *i))
        .collect();
    order.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    order.into_iter().map(|(.., i)| i).collect()
}

/// The best settings, joined in pairs: those of the first few that change different things. What is already among `known`
/// is left out.
pub fn joined(best_first: &[&Settings], known: &[Settings]) -> Vec<Settings> {
    let best: Vec<&Settings> = best_first.iter().copied().filter(|s| !s.is_empty()).take(JOINED).collect();
    let mut new: Vec<Settings> = Vec::new();
    for (i, a) in best.iter().enumerate() {
        for b in best[i + 1..].iter().filter(|b| !b.keys().any(|key| a.contains_key(key))) {
            let both: Settings = a.iter().chain(b.iter()).map(|(k, v)| (k.clone(), v.clone())).collect();
            if !known.contains(&both) && !new.contains(&both) {
                new.push(both);
            }
        }
    }
    new
}

/// Settings with one of them left out each, where there are several.
pub fn without_one(settings: &Settings) -> Vec<Settings> {
    if settings.len() < 2 {
        return Vec::new();
    }
    settings
        .keys()
        .map(|key| {
            let mut less = settings.clone();
            less.remove(key);
            less
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    const NONE: Cost = Cost { memory: 0.0, time: 0.0, p99: 0.0 };
    const FIVE: Cost = Cost { memory: 0.05, time: 0.05, p99: 0.05 };

    #[test]
    fn the_last_rung_has_as_many_as_can_reach_the_blocks_their_test_needs() {
        let costs: Vec<Option<Cost>> = (0..6).map(|i| Some(Cost { memory: -f64::from(i), ..NONE })).collect();
        let left = |runs_left: usize, blocks: u32| {
            let mut halving = Halving::new(0..6);
            halving.narrow(runs_left, blocks, ranked(&[0, 1, 2, 3, 4, 5], &costs, &FIVE));
            halving.live().to_vec()
        };
        // Six take eight blocks of eight runs, of which two blocks are done.
        assert_eq!(left(48, 2), [0, 1, 2, 3, 4, 5]);
        assert_eq!(left(47, 2).len(), 5, "the best five take six more blocks of seven runs");
        assert_eq!(left(20, 2), [4, 5]);
        assert_eq!(left(19, 2), [5], "six blocks of one, the best: four more of three runs");
        assert_eq!(left(0, 0), [5], "one stays in any case");
    }

    /// Twelve draws of an even law, less their mean: near enough a normal one of deviation 1.
    fn normal(rng: &mut Pcg64Mcg) -> f64 {
        (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
    }

    /// A landscape: true costs, in which the last of `n` candidates alone saves half the memory; three save a third at a
    /// tenth of the throughput, the rest change little.
    fn landscape(n: usize, rng: &mut Pcg64Mcg) -> Vec<Cost> {
        (0..n)
            .map(|i| match i {
                i if i == n - 1 => Cost { memory: -0.7, time: 0.03, p99: 0.1 },
                i if i + 4 >= n => Cost { memory: -0.4, time: 0.1, p99: 0.0 },
                _ => Cost { memory: 0.04 * normal(rng), time: 0.02 * normal(rng), p99: 0.0 },
            })
            .collect()
    }

    /// One search on a landscape under noise; gives the finalists and the runs it took.
    fn search(truth: &[Cost], noise: f64, family: &[usize], rng: &mut Pcg64Mcg) -> (Vec<usize>, usize) {
        let seconds = 300.0;
        let mut left = seconds;
        let mut halving = Halving::new(0..truth.len());
        let mut sums = vec![(NONE, 0.0_f64); truth.len()];
        let mut runs = 0;
        loop {
            // A block: each candidate, the baseline and its copy, a second each.
            let block = halving.live().len() as f64 + 2.0;
            for _ in 0..((halving.share(left, 1.0) / block) as u32).max(1) {
                for &i in halving.live() {
                    let (sum, n) = &mut sums[i];
                    sum.memory += truth[i].memory + noise * normal(rng);
                    sum.time += truth[i].time + noise * normal(rng);
                    sum.p99 += truth[i].p99 + 3.0 * noise * normal(rng);
                    *n += 1.0;
                }
                runs += halving.live().len() + 2;
            }
            left = seconds - runs as f64;
            if halving.is_last() {
                return (halving.live().to_vec(), runs);
            }
            let costs: Vec<Option<Cost>> = sums
                .iter()
                .map(|(s, n)| (*n > 0.0).then(|| Cost { memory: s.memory / n, time: s.time / n, p99: s.p99 / n }))
                .collect();
            let tolerance = Cost { p99: 3.0 * noise, ..FIVE };
            halving.next(&costs, family, &tolerance);
        }
    }

    #[test]
    fn the_best_of_a_noisy_landscape_is_among_the_finalists_at_a_fraction_of_a_grid() {
        let mut rng = Pcg64Mcg::seed_from_u64(3);
        for noise in [0.02, 0.05, 0.1] {
            let mut found = 0;
            for _ in 0..200 {
                let truth = landscape(40, &mut rng);
                let (finalists, runs) = search(&truth, noise, &[0; 40], &mut rng);
                found += usize::from(finalists.contains(&39));
                assert!(finalists.len() <= 6 && runs <= 310, "{finalists:?} in {runs} runs");
            }
            assert!(found >= 198, "noise {noise}: {found} of 200");
        }
    }

    #[test]
    fn the_best_of_each_family_stays_and_what_failed_does_not() {
        let mut halving = Halving::new(0..12);
        let family = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1];
        // The second family is worse throughout; of it, candidate 10 is the best.
        let mut costs: Vec<Option<Cost>> =
            (0..12).map(|i| Some(Cost { memory: -0.1 * f64::from(8 - i), ..NONE })).collect();
        for (i, memory) in [(9, 0.9), (10, 0.5), (11, 0.7)] {
            costs[i] = Some(Cost { memory, time: 0.2, p99: 0.0 });
        }
        costs[0] = None;
        halving.next(&costs, &family, &FIVE);
        assert_eq!(halving.live(), [1, 2, 3, 4, 10]);
        assert_eq!(halving.rung(), 1);
    }

    #[test]
    fn a_price_paid_for_memory_is_no_defeat_and_noise_is_no_victory() {
        let cheap = Cost { memory: -0.5, time: 0.3, p99: 0.0 };
        assert!(!cheap.beats(&NONE, &FIVE) && !NONE.beats(&cheap, &FIVE));
        let hair = Cost { memory: -0.04, ..NONE };
        assert!(!hair.beats(&NONE, &FIVE));
        assert!(Cost { memory: -0.06, time: 0.04, ..NONE }.beats(&NONE, &FIVE));
        assert!(!Cost { memory: -0.06, time: 0.06, ..NONE }.beats(&NONE, &FIVE));
    }

    #[test]
    fn time_is_shared_out_evenly_among_the_rungs_to_come_as_long_as_the_last_can_do_its_test() {
        let mut halving = Halving::new(0..28);
        assert_eq!(halving.share(300.0, 0.1), 100.0);
        // Four finalists need eight blocks of six runs, of which two blocks come of the rungs before.
        assert_eq!(halving.share(300.0, 4.0), 78.0);
        assert_eq!(halving.share(300.0, 40.0), 60.0, "for what cannot be had not everything is given up");
        halving.next(&[Some(NONE); 28], &[0; 28], &FIVE);
        assert_eq!((halving.live().len(), halving.share(200.0, 0.1)), (10, 100.0));
        halving.enter(28);
        assert!(halving.live().contains(&28) && !halving.is_last());
        halving.next(&[Some(NONE); 29], &[0; 29], &FIVE);
        assert_eq!((halving.live().len(), halving.share(60.0, 9.0), halving.is_last()), (4, 60.0, true));
    }

    #[test]
    fn fewer_candidates_are_taken_from_each_family_in_turns() {
        let limited = |most| {
            let mut halving = Halving::new(2..10);
            halving.limit(most, &[], &[2, 3, 4, 5, 6, 7, 8, 9], &[0, 0, 0, 0, 0, 0, 0, 1, 1, 2]);
            halving.live().to_vec()
        };
        let mut preferred = Halving::new(2..10);
        preferred.limit(1, &[5, 6], &[6, 5, 2, 3, 4, 7, 8, 9], &[0, 0, 0, 0, 0, 0, 0, 1, 1, 2]);
        assert_eq!(preferred.live(), [5, 6], "what must be tried is, however short the time");
        preferred.limit(4, &[5, 6], &[6, 5, 4, 2, 3, 8, 7, 9], &[0, 0, 0, 0, 0, 0, 0, 1, 1, 2]);
        assert_eq!(preferred.live(), [4, 5, 6, 8], "then in turns, in the order given");
        assert_eq!(limited(5), [2, 3, 7, 8, 9]);
        assert_eq!(limited(1), [2]);
        assert_eq!(limited(0), [2], "one at least");
        assert_eq!(limited(99), [2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn each_setting_is_left_out_once() {
        let of = |keys: &[&str]| -> Settings { keys.iter().map(|k| ((*k).to_owned(), "1".to_owned())).collect() };
        assert_eq!(without_one(&of(&["a", "b"])), [of(&["b"]), of(&["a"])]);
        assert!(without_one(&of(&["a"])).is_empty() && without_one(&of(&[])).is_empty());
    }

    #[test]
    fn settings_that_change_different_things_are_joined() {
        let of = |pairs: &[(&str, &str)]| -> Settings {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let (one, two, trim) = (of(&[("A", "1")]), of(&[("A", "2")]), of(&[("T", "9")]));
        let new = joined(&[&Settings::new(), &one, &trim, &two], &[of(&[("A", "2"), ("T", "9")])]);
        assert_eq!(new, [of(&[("A", "1"), ("T", "9")])]);
    }
}
