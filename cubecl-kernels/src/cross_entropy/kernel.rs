//! Device code: the log-softmax of rows of logits in two passes over them, neither of which waits for
//! another unit, and the mean over rows.
//!
//! # Rejected
//! - A row a unit: rows of a vocabulary lie far apart, and neighbours would read as far from each
//!   other.
//! - A cube a row with sums through shared memory: barriers, each of which costs a software
//!   renderer what is in its registers.
//! - The largest logit in a pass of its own: an exponential a vector is cheaper than another load of
//!   each logit.

use super::plan::LANES;
use crate::device::codec::NAN_BITS;
use cubecl::prelude::*;

/// Below every logit.
const LOWEST: f32 = -3.0e38;

/// `1 / max(1, number of targets that are not negative)`. One unit.
///
/// # Shapes
/// `targets` `[rows]`, `inverse` `[1]`.
#[cube(launch_unchecked)]
pub(super) fn inverse_count(targets: &[i32], inverse: &mut [f32], rows: u32) {
    if ABSOLUTE_POS == 0usize {
        let mut count = 0u32;
        for row in 0..rows {
            count += select(targets[row as usize] >= 0i32, 1u32.runtime(), 0u32.runtime());
        }
        inverse[0] = 1.0f32 / f32::cast_from(select(count > 0u32, count, 1u32.runtime()));
    }
}

/// The mean of the rows' losses, summed in their order. One unit.
///
/// # Shapes
/// `losses` `[rows]`, `inverse` and `loss` `[1]`.
#[cube(launch_unchecked)]
pub(super) fn mean_loss(losses: &[f32], inverse: &[f32], loss: &mut [f32], rows: u32) {
    if ABSOLUTE_POS == 0usize {
        // Eight sums side by side: rounding is that of an eighth of the rows.
        let mut sums = Array::<f32>::new(8usize);
        #[unroll]
        for i in 0..8usize {
            sums[i] = 0.0f32;
        }
        for step in 0..rows.div_ceil(8u32) {
            #[unroll]
            for i in 0..8u32 {
                let row = step * 8u32 + i;
                if row < rows {
                    sums[i as usize] += losses[row as usize];
                }
            }
        }
        let pairs = ((sums[0] + sums[1]) + (sums[2] + sums[3]))
            + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
        loss[0] = pairs * inverse[0];
    }
}

/// The largest logit of every [`LANES`]th vector of a row, and the sum of exponentials over it; a
/// part of a row a unit.
///
/// # Shapes
/// `logits` `[rows, vectors]` of `width`, `parts` `[rows, LANES, 2]`, `units` parts.
#[cube(launch_unchecked)]
pub(super) fn row_parts<N: Size>(
    logits: &[Vector<f32, N>],
    parts: &mut [f32],
    vectors: u32,
    units: u32,
    #[comptime] width: u32,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit < units {
        let base = unit / LANES * vectors;
        let first = unit % LANES;
        let mut largest = LOWEST.runtime();
        let mut sum = 0.0f32;
        let mut column = first;
        while column < vectors {
            let logit = logits[(base + column) as usize];
            let before = largest;
            #[unroll]
            for s in 0..width as usize {
                // NaN is no larger and no smaller than anything: it shows in the sum.
                largest = select(logit.extract(s) > largest, logit.extract(s), largest);
            }
            // The sum so far is over another largest one.
            sum *= (before - largest).exp();
            #[unroll]
            for s in 0..width as usize {
                sum += (logit.extract(s) - largest).exp();
            }
            column += LANES;
        }
        parts[(2u32 * unit) as usize] = largest;
        parts[(2u32 * unit + 1u32) as usize] = sum;
    }
}

/// Each row's log of the sum of exponentials, and its loss: zero where its target is negative, NaN
/// where that is not in the vocabulary. A row a unit.
///
/// # Shapes
/// `logits` `[rows, vocab]`, `parts` as [`row_parts`] has them; of all rows `targets` and `losses`,
/// those of `first` on; `lse` `[rows]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn row_losses(
    logits: &[f32],
    parts: &[f32],
    targets: &[i32],
    losses: &mut [f32],
    lse: &mut [f32],
    first: u32,
    rows: u32,
    vocab: u32,
) {
    let row = ABSOLUTE_POS as u32;
    if row < rows {
        let base = row * LANES;
        let mut largest = LOWEST.runtime();
        for lane in 0..LANES {
            let own = parts[(2u32 * (base + lane)) as usize];
            largest = select(own > largest, own, largest);
        }
        let mut sum = 0.0f32;
        for lane in 0..LANES {
            let place = 2u32 * (base + lane);
            let factor = (parts[place as usize] - largest).exp();
            sum += parts[(place + 1u32) as usize] * factor;
        }
        let log_sum = largest + sum.ln();
        lse[row as usize] = log_sum;
        let target = targets[(first + row) as usize];
        let mut loss = 0.0f32;
        if target >= 0i32 {
            let column = u32::cast_from(target);
            if column < vocab {
                loss = log_sum - logits[(row * vocab + column) as usize];
            } else {
                loss = f32::reinterpret(NAN_BITS);
            }
        }
        losses[(first + row) as usize] = loss;
    }
}

/// Logits become their gradients, `(softmax - one at the target) / counted rows`; zero in rows
/// whose target is negative. A vector of logits a unit.
///
/// # Shapes
/// Those of [`row_losses`], `logits` `[rows, vectors]` of `width`; `total` vectors.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn logit_gradients<N: Size>(
    logits: &mut [Vector<f32, N>],
    targets: &[i32],
    lse: &[f32],
    inverse: &[f32],
    first: u32,
    vectors: u32,
    total: u32,
    #[comptime] width: u32,
) {
    let place = ABSOLUTE_POS as u32;
    if place < total {
        let row = place / vectors;
        let target = targets[(first + row) as usize];
        let log_sum = lse[row as usize];
        let factor = select(target >= 0i32, inverse[0], 0.0f32);
        let logit = logits[place as usize];
        let column = place % vectors * width;
        let mut result = Vector::<f32, N>::zero();
        #[unroll]
        for s in 0..width as usize {
            let p = (logit.extract(s) - log_sum).exp();
            let hit = target >= 0i32 && u32::cast_from(target) == column + comptime!(s as u32);
            let gradient = (p - select(hit, 1.0f32, 0.0f32)) * factor;
            // An infinite number times zero is none.
            result.insert(s, select(target >= 0i32, gradient, 0.0f32));
        }
        logits[place as usize] = result;
    }
}
