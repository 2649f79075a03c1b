//! The choice of a token from logits: greedy, temperature, nucleus (top-p).

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How a token is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this; 0 takes the most probable token.
    pub temperature: f64,
    /// Only the most probable tokens whose probabilities reach this sum are drawn from; 1 takes
    /// all.
    pub top_p: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Sampling {
    /// Always the most probable token.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, seed: 0 };
}

/// Draws tokens one after another; equal seeds and logits give equal tokens.
///
/// ```
/// use burn_deepseek::generate::{Sampler, Sampling};
///
/// let logits = [0.1, 3.0, 2.0, f32::NAN];
/// assert_eq!(Sampler::new(Sampling::GREEDY).sample(&logits), 1);
///
/// let sampling = Sampling { temperature: 0.8, top_p: 0.9, seed: 7 };
/// let draw = || {
///     let mut sampler = Sampler::new(sampling);
///     [(); 16].map(|()| sampler.sample(&logits))
/// };
/// assert_eq!(draw(), draw());
/// assert!(draw().iter().all(|token| [1, 2].contains(token))); // 0 is outside of the nucleus
/// ```
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// A sampler at the beginning of its stream.
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, rng: ChaCha8Rng::seed_from_u64(sampling.seed) }
    }

    /// A token of the vocabulary that `logits` covers. Of equal logits the lower token wins; NaN is
    /// never chosen over a number.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
        let best = argmax(logits);
        if self.sampling.temperature <= 0.0 {
            return best;
        }
        let max = f64::from(logits[best as usize]);
        let mut candidates: Vec<(u32, f64)> = (0u32..)
            .zip(logits)
            .map(|(token, &logit)| {
                (token, ((f64::from(logit) - max) / self.sampling.temperature).exp())
            })
            .filter(|&(_, weight)| weight > 0.0)
            .collect();
        if self.sampling.top_p < 1.0 {
            candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            let total: f64 = candidates.iter().map(|c| c.1).sum();
            let mut reached = 0.0;
            let kept = candidates.iter().position(|c| {
                reached += c.1;
                reached >= self.sampling.top_p * total
            });
            candidates.truncate(kept.map_or(candidates.len(), |at| at + 1));
        }
        let total: f64 = candidates.iter().map(|c| c.1).sum();
        let mut target = self.rng.random::<f64>() * total;
        for &(token, weight) in &candidates {
            target -= weight;
            if target < 0.0 {
                return token;
            }
        }
        candidates.last().map_or(best, |c| c.0)
    }
}

/// Index of the largest value; of equal values the first, and NaN only where there is nothing else.
pub(crate) fn argmax(values: &[f32]) -> u32 {
    let mut best = 0;
    for (index, &value) in values.iter().enumerate() {
        if value > values[best] || (values[best].is_nan() && !value.is_nan()) {
            best = index;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_largest() {
        assert_eq!(Sampler::new(Sampling::GREEDY).sample(&[f32::NAN, 0.5, 2.0, 2.0]), 2);
    }

    #[test]
    fn draws_follow_the_probabilities_and_repeat() {
        let logits = [1f32.ln(), 2f32.ln(), 5f32.ln(), f32::NEG_INFINITY];
        let draw = |top_p| {
            let mut sampler = Sampler::new(Sampling { temperature: 1.0, top_p, seed: 3 });
            let mut counts = [0u32; 4];
            (0..8000).for_each(|_| counts[sampler.sample(&logits) as usize] += 1);
            counts
        };
        let counts = draw(1.0);
        assert_eq!(counts, draw(1.0));
        for (count, share) in counts.iter().zip([0.125, 0.25, 0.625, 0.0]) {
            assert!((f64::from(*count) / 8000.0 - share).abs() < 0.02, "{counts:?}");
        }
        let nucleus = draw(0.6);
        assert_eq!(nucleus, [0, 0, 8000, 0]);
        let nucleus = draw(0.63);
        assert!(nucleus[0] == 0 && nucleus[1] > 0, "{nucleus:?}");
    }
}
