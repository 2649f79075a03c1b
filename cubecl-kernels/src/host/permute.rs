//! Rows to their experts and back: gather, weighted combine, and their gradients.

use std::mem::MaybeUninit;

use super::output::{build, build_two, fill, for_rows};
use super::parallel::rows_a_task;
use super::simd::{dot, madd, multiversion};
use crate::definition::{KernelError, PermuteShape, check_index, check_length, element_count};

/// Elements that one task writes.
const ELEMENTS_A_TASK: usize = 1 << 14;

/// Gathers rows by index, `out[i] = x[index[i]]`.
///
/// # Shapes
/// - `x [rows, width]`, `index [m]` -> `[m, width]`
///
/// # Errors
/// [`KernelError::Length`] naming `x`, [`KernelError::Index`] naming the place in `index`.
pub fn gather_rows(
    x: &[f32],
    index: &[u32],
    rows: usize,
    width: usize,
) -> Result<Vec<f32>, KernelError> {
    check_length("gather_rows", "x", x.len(), &[rows, width])?;
    check_indices("gather_rows", "index", index, rows)?;
    let size = element_count("gather_rows", "out", &[index.len(), width])?;
    // SAFETY: each task writes all of its rows.
    Ok(unsafe {
        build(size, |out| {
            for_rows(out, width, rows_a_task(ELEMENTS_A_TASK, width), size, |rows, out| {
                for (&i, out) in index[rows].iter().zip(out.chunks_exact_mut(width)) {
                    out.write_copy_of_slice(&x[i as usize * width..][..width]);
                }
            });
        })
    })
}

/// Computes the gradient of [`gather_rows`] for `x`, given where each row went:
/// `dx[t] = sum_s dy[inverse[t, s]]`, slots in order.
///
/// # Shapes
/// - `dy [sorted, width]`, `inverse [tokens, slots]` -> `[tokens, width]`
///
/// # Errors
/// [`KernelError::Length`] naming the argument, [`KernelError::Index`] naming the place in
/// `inverse`.
pub fn gather_rows_backward(
    dy: &[f32],
    inverse: &[u32],
    shape: &PermuteShape,
) -> Result<Vec<f32>, KernelError> {
    check("gather_rows_backward", "dy", dy, inverse, shape)?;
    mix("gather_rows_backward", dy, None, inverse, shape)
}

/// Sums the experts' rows back to their tokens, `out[t] = sum_s weights[t, s] y[inverse[t, s]]`,
/// slots in order.
///
/// # Shapes
/// - `y [sorted, width]`, `weights [tokens, slots]`, `inverse [tokens, slots]` -> `[tokens, width]`
///
/// # Errors
/// [`KernelError::Length`] naming the argument, [`KernelError::Index`] naming the place in
/// `inverse`.
///
/// Source: technical report 2.1.2.
pub fn combine(
    y: &[f32],
    weights: &[f32],
    inverse: &[u32],
    shape: &PermuteShape,
) -> Result<Vec<f32>, KernelError> {
    check("combine", "y", y, inverse, shape)?;
    check_length("combine", "weights", weights.len(), &[shape.tokens, shape.slots])?;
    mix("combine", y, Some(weights), inverse, shape)
}

/// Computes the gradients of [`combine`]: `dy[inverse[t, s]] = weights[t, s] dout[t]` and
/// `dweights[t, s] = dout[t] . y[inverse[t, s]]`.
///
/// A sorted row that no slot names gets zero.
///
/// # Shapes
/// - `y [sorted, width]`, `weights` and `inverse [tokens, slots]`, `dout [tokens, width]` ->
///   `dy [sorted, width]`, `dweights [tokens, slots]`
///
/// # Errors
/// The errors of [`combine`]; [`KernelError::Invalid`] where two slots name the same sorted row.
pub fn combine_backward(
    y: &[f32],
    weights: &[f32],
    inverse: &[u32],
    dout: &[f32],
    shape: &PermuteShape,
) -> Result<(Vec<f32>, Vec<f32>), KernelError> {
    const OP: &str = "combine_backward";
    /// A sorted row that no slot names.
    const NONE: usize = usize::MAX;
    let PermuteShape { tokens, slots, sorted, width } = *shape;
    check(OP, "y", y, inverse, shape)?;
    check_length(OP, "weights", weights.len(), &[tokens, slots])?;
    check_length(OP, "dout", dout.len(), &[tokens, width])?;
    let mut slot_of_row = vec![NONE; sorted];
    for (slot, &row) in inverse.iter().enumerate() {
        if std::mem::replace(&mut slot_of_row[row as usize], slot) != NONE {
            return Err(KernelError::Invalid {
                op: OP,
                argument: "inverse",
                requirement: "must not name a row twice",
            });
        }
    }
    let work = inverse.len() * width;
    // SAFETY: each task writes all of its rows, of `dy` as of `dweights`.
    Ok(unsafe {
        build_two([sorted * width, tokens * slots], |dy, dweights| {
            for_rows(dy, width, rows_a_task(ELEMENTS_A_TASK, width), work, |rows, dy| {
                for (&slot, dy) in slot_of_row[rows].iter().zip(dy.chunks_exact_mut(width)) {
                    match slot {
                        NONE => fill(dy, 0.0),
                        _ => scale_row(&dout[slot / slots * width..][..width], weights[slot], dy),
                    }
                }
            });
            let tokens_a_task = rows_a_task(ELEMENTS_A_TASK, slots * width);
            for_rows(dweights, slots, tokens_a_task, work, |part, dweights| {
                let inverse = &inverse[part.start * slots..part.end * slots];
                let dout = &dout[part.start * width..part.end * width];
                row_dots(dout, y, inverse, slots, width, dweights);
            });
        })
    })
}

/// `out[t] = sum_s weights[t, s] y[inverse[t, s]]`, weights of one where absent.
fn mix(
    op: &'static str,
    y: &[f32],
    weights: Option<&[f32]>,
    inverse: &[u32],
    shape: &PermuteShape,
) -> Result<Vec<f32>, KernelError> {
    let PermuteShape { tokens, slots, width, .. } = *shape;
    let size = element_count(op, "out", &[tokens, width])?;
    let (rows_a_task, work) = (rows_a_task(ELEMENTS_A_TASK, width), size.saturating_mul(slots));
    // SAFETY: `mix_row` writes all of a row, for each of a task's rows.
    Ok(unsafe {
        build(size, |out| {
            for_rows(out, width, rows_a_task, work, |rows, out| {
                for (t, out) in rows.zip(out.chunks_exact_mut(width)) {
                    let weights = weights.map(|w| &w[t * slots..][..slots]);
                    mix_row(y, &inverse[t * slots..][..slots], weights, width, out);
                }
            });
        })
    })
}

multiversion! {
    fn mix_row(
        y: &[f32],
        rows: &[u32],
        weights: Option<&[f32]>,
        width: usize,
        out: &mut [MaybeUninit<f32>],
    ) {
        let row = |slot: usize| {
            (&y[rows[slot] as usize * width..][..width], weights.map_or(1.0, |w| w[slot]))
        };
        if rows.is_empty() {
            return fill(out, 0.0);
        }
        let (first, weight) = row(0);
        if rows.len() == 1 {
            for (out, &a) in out.iter_mut().zip(first) {
                out.write(weight * a);
            }
            return;
        }
        let (second, weight_2) = row(1);
        for ((out, &a), &b) in out.iter_mut().zip(first).zip(second) {
            out.write(madd::<S>(weight_2, b, weight * a));
        }
        // SAFETY: the loop above wrote all of it: rows are as long as `out`.
        let out = unsafe { out.assume_init_mut() };
        for slot in 2..rows.len() {
            let (next, weight) = row(slot);
            for (out, &x) in out.iter_mut().zip(next) {
                *out = madd::<S>(weight, x, *out);
            }
        }
    }
}

multiversion! {
    fn scale_row(x: &[f32], weight: f32, out: &mut [MaybeUninit<f32>]) {
        for (out, &x) in out.iter_mut().zip(x) {
            out.write(weight * x);
        }
    }
}

multiversion! {
    fn row_dots(
        dout: &[f32],
        y: &[f32],
        inverse: &[u32],
        slots: usize,
        width: usize,
        out: &mut [MaybeUninit<f32>],
    ) {
        for (i, (out, &row)) in out.iter_mut().zip(inverse).enumerate() {
            out.write(dot::<S>(
                &dout[i / slots * width..][..width],
                &y[row as usize * width..][..width],
            ));
        }
    }
}

/// Checks what all that take `inverse` share.
fn check(
    op: &'static str,
    argument: &'static str,
    sorted: &[f32],
    inverse: &[u32],
    shape: &PermuteShape,
) -> Result<(), KernelError> {
    check_length(op, argument, sorted.len(), &[shape.sorted, shape.width])?;
    check_length(op, "inverse", inverse.len(), &[shape.tokens, shape.slots])?;
    check_indices(op, "inverse", inverse, shape.sorted)
}

/// Checks that every index names one of `bound` rows.
pub(super) fn check_indices(
    op: &'static str,
    argument: &'static str,
    index: &[u32],
    bound: usize,
) -> Result<(), KernelError> {
    let wrong = index.iter().position(|&i| i as usize >= bound);
    wrong.map_or(Ok(()), |position| check_index(op, argument, position, index[position], bound))
}

#[cfg(test)]
#[path = "permute_tests.rs"]
mod tests;
