//! Random choices of workloads: PCG-64 MCG (`pcg64_fast`: O'Neill 2014, "PCG: A Family of Simple Fast Space-Efficient
//! Statistically Good Algorithms for Random Number Generation"), drawn from by integer arithmetic alone, so that one
//! seed makes the same choices on every machine and with every version of this program.

use rand::Rng;
use rand_pcg::Pcg64Mcg;

/// A stream of choices.
#[derive(Debug, Clone)]
pub struct Random(Pcg64Mcg);

/// SplitMix64's finaliser (Steele, Lea and Flood 2014): spreads small numbers over all bits.
fn spread(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Random {
    /// The stream number `stream` of a seed: streams of one seed do not follow each other in step.
    pub fn new(seed: u64, stream: u64) -> Random {
        let high = spread(seed);
        let low = spread(high ^ spread(stream));
        Random(Pcg64Mcg::new((u128::from(high) << 64) | u128::from(low)))
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `n`, which is at least 1: multiply and shift (Lemire 2019), without rejection, so that a choice
    /// always takes one draw; the bias is below n / 2⁶⁴.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// A number from `from` to `to`, both included.
    #[inline]
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True in `parts` of `of` cases.
    #[inline]
    pub fn chance(&mut self, parts: u64, of: u64) -> bool {
        self.below(of) < parts
    }

    /// A number from `from` (at least 1) to `to`, each doubling equally likely, evenly within a doubling.
    pub fn log_between(&mut self, from: u64, to: u64) -> u64 {
        let doublings = to.ilog2() - from.ilog2() + 1;
        let low = from << self.below(u64::from(doublings));
        self.between(low.min(to), (2 * low - 1).min(to))
    }

    /// Index into `weights` (their sum at least 1), in proportion to them.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut left = self.below(weights.iter().map(|w| u64::from(*w)).sum());
        for (index, weight) in weights.iter().enumerate() {
            let weight = u64::from(*weight);
            if left < weight {
                return index;
            }
            left -= weight;
        }
        weights.len() - 1
    }

    /// Puts a slice in random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change of this stream makes all earlier results incomparable.
    #[test]
    fn the_stream_is_pinned() {
        let mut random = Random::new(1, 0);
        let first: Vec<u64> = (0..4).map(|_| random.bits()).collect();
        assert_eq!(first, GOLDEN);
        assert_ne!(Random::new(1, 1).bits(), first[0]);
        assert_ne!(Random::new(2, 0).bits(), first[0]);
    }

    const GOLDEN: [u64; 4] =
        [7_680_239_762_338_929_389, 4_398_869_964_509_083_229, 5_576_674_035_878_170_313, 12_923_838_425_205_455_391];

    #[test]
    fn draws_stay_in_their_ranges_and_reach_their_ends() {
        let mut random = Random::new(7, 7);
        let draws: Vec<u64> = (0..1000).map(|_| random.between(3, 6)).collect();
        assert_eq!((draws.iter().min(), draws.iter().max()), (Some(&3), Some(&6)));
        let logs: Vec<u64> = (0..4000).map(|_| random.log_between(1, 64)).collect();
        assert_eq!((logs.iter().min(), logs.iter().max()), (Some(&1), Some(&64)));
        assert!(logs.iter().filter(|x| **x < 8).count() > 1000, "small numbers are as likely as large ones");
        let picks: Vec<usize> = (0..1000).map(|_| random.weighted(&[0, 3, 1])).collect();
        assert!(!picks.contains(&0));
        assert!(picks.iter().filter(|p| **p == 1).count() > 600);
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..100).collect();
        Random::new(1, 2).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
