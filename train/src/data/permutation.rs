//! A seeded permutation of 0..n that is looked up one place at a time, without memory.
//!
//! A balanced Feistel network permutes the smallest power of four that is not below n; a value
//! outside 0..n is permuted again until it is inside ("cycle walking", Black and Rogaway 2002),
//! fewer than four times on average.

use super::seeded::{derive, mix};

/// More than the four rounds that make a Feistel network a strong pseudorandom permutation (Luby
/// and Rackoff 1988), as halves of a few bits need more.
const ROUNDS: usize = 8;

/// A permutation of 0..`len`, in constant memory and time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permutation {
    len: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The permutation of 0..len that belongs to a seed.
    pub(crate) fn new(len: u64, seed: u64) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        let keys = std::array::from_fn(|round| derive(seed, round as u64));
        Self { len, half_bits: bits.div_ceil(2), keys }
    }

    /// Where `place` goes; `None` where it is not below the length.
    pub(crate) fn get(&self, place: u64) -> Option<u64> {
        if place >= self.len {
            return None;
        }
        let mut value = self.encrypt(place);
        while value >= self.len {
            value = self.encrypt(value);
        }
        Some(value)
    }

    fn encrypt(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_a_bijection(len in 1u64..3_000, seed: u64) {
            let permutation = Permutation::new(len, seed);
            let mut seen: Vec<u64> =
                (0..len).map(|place| permutation.get(place).unwrap()).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..len).collect::<Vec<_>>());
            prop_assert_eq!(permutation.get(len), None);
        }

        #[test]
        fn large_lengths_stay_in_range(len: u64, place: u64, seed: u64) {
            let found = Permutation::new(len, seed).get(place);
            prop_assert_eq!(found.is_some(), place < len);
            prop_assert!(found.is_none_or(|value| value < len));
        }
    }

    #[test]
    fn seeds_give_different_orders_that_look_random() {
        let order = |seed| -> Vec<u64> {
            (0..1000).map(|p| Permutation::new(1000, seed).get(p).unwrap()).collect()
        };
        assert_eq!(order(1), order(1));
        let agree = order(1).iter().zip(order(2)).filter(|(a, b)| **a == *b).count();
        assert!(agree < 10, "{agree}");
        let neighbours = order(1).windows(2).filter(|w| w[0].abs_diff(w[1]) == 1).count();
        assert!(neighbours < 15, "{neighbours}");
    }

    /// Every order of three things turns up about equally often.
    #[test]
    fn small_lengths_are_fair() {
        let mut counts = std::collections::HashMap::new();
        for seed in 0..6_000 {
            let permutation = Permutation::new(3, seed);
            *counts.entry([0, 1, 2].map(|p| permutation.get(p))).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|c| (800..1200).contains(c)), "{counts:?}");
    }
}
