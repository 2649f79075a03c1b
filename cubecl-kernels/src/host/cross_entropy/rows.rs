//! The stable log-softmax of one row of logits.

use crate::host::simd::{LANES, exp, lane_sum, max, multiversion, round_to_bf16};

/// What a logit counts for, in scalar operations.
pub(super) const WORK: usize = 8;

multiversion! {
    /// The loss of one row.
    pub(super) fn loss(row: &[f32], target: usize) -> f32 {
        let largest = max(row);
        let (chunks, tail) = row.as_chunks::<LANES>();
        let mut sums = [0.0f32; LANES];
        for chunk in chunks {
            for l in 0..LANES {
                sums[l] += exp::<S>(chunk[l] - largest);
            }
        }
        for (sum, &x) in sums.iter_mut().zip(tail) {
            *sum += exp::<S>(x - largest);
        }
        lane_sum(sums).ln() + (largest - row[target])
    }
}

multiversion! {
    /// The loss of one row, whose logits become `weight (softmax - onehot)`, rounded to BF16 where
    /// `ROUNDED` is one.
    pub(super) fn loss_into_gradient<const ROUNDED: usize>(
        row: &mut [f32],
        target: usize,
        weight: f32,
    ) -> f32 {
        let largest = max(row);
        let above = largest - row[target];
        let (chunks, tail) = row.as_chunks_mut::<LANES>();
        let mut sums = [0.0f32; LANES];
        for chunk in chunks {
            for l in 0..LANES {
                chunk[l] = exp::<S>(chunk[l] - largest);
                sums[l] += chunk[l];
            }
        }
        for (sum, x) in sums.iter_mut().zip(tail) {
            *x = exp::<S>(*x - largest);
            *sum += *x;
        }
        let sum = lane_sum(sums);
        let factor = weight / sum;
        let of_target = row[target] * factor - weight;
        for x in row.iter_mut() {
            *x *= factor;
            if ROUNDED == 1 {
                *x = round_to_bf16(*x);
            }
        }
        row[target] = if ROUNDED == 1 { round_to_bf16(of_target) } else { of_target };
        sum.ln() + above
    }
}
