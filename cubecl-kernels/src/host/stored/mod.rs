//! Products with weights that stay as a checkpoint stores them, BF16 or E4M3 in blocks, for decoding
//! and evaluation.
//!
//! Values are widened to FP32 on the way into the product: a row at a time in the registers where
//! few rows are multiplied, else a panel at a time into memory that stays in a core's cache. The
//! results are those of [`linear`](super::linear) and [`grouped_linear`](super::grouped_linear) on
//! the whole weight in FP32, bit for bit.

mod product;
#[cfg(test)]
mod tests;
mod widened;

use self::product::product;
use super::cross_entropy::{CrossEntropy, cross_entropy_of};
use super::embedding::check_ids;
use super::grouped_linear::check_groups;
use super::output::{build, for_rows};
use super::parallel::rows_a_task;
use crate::definition::{
    GroupedLinearShape, KernelError, StoredMatrix, check_length, element_count,
};

/// Elements that one task widens.
const ELEMENTS_A_TASK: usize = 1 << 15;

/// Computes `y = x w^T` in FP32 with a stored weight.
///
/// # Shapes
/// - `x [rows, inputs]`, `w [outputs, inputs]` -> `[rows, outputs]`
///
/// # Errors
/// [`KernelError::Length`] naming `x`.
pub fn stored_linear(
    x: &[f32],
    w: &StoredMatrix<'_>,
    rows: usize,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "stored_linear";
    check_length(OP, "x", x.len(), &[rows, w.inputs()])?;
    let len = element_count(OP, "y", &[rows, w.rows()])?;
    // SAFETY: the product of all rows writes all of `y`.
    Ok(unsafe { build(len, |y| product(y, x, w, &[0, rows], w.rows())) })
}

/// Computes each expert's linear map of its rows, `y[r] = x[r] w[e]^T` for
/// `offsets[e] <= r < offsets[e + 1]`, in FP32 with stored weights.
///
/// # Shapes
/// - `x [rows, inputs]` sorted by expert, `w [experts * outputs, inputs]`,
///   `offsets [experts + 1]` -> `[rows, outputs]`
///
/// # Errors
/// [`KernelError::Length`] naming the argument, [`KernelError::Invalid`] where `offsets` do not
/// rise from 0 to `rows`.
pub fn stored_grouped_linear(
    x: &[f32],
    w: &StoredMatrix<'_>,
    offsets: &[usize],
    shape: &GroupedLinearShape,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "stored_grouped_linear";
    let GroupedLinearShape { rows, experts, inputs, outputs } = *shape;
    check_length(OP, "x", x.len(), &[rows, inputs])?;
    let elements = element_count(OP, "w", &[w.rows(), w.inputs()])?;
    check_length(OP, "w", elements, &[experts, outputs, inputs])?;
    check_length(OP, "row of w", w.inputs(), &[inputs])?;
    check_groups(OP, offsets, shape)?;
    let len = element_count(OP, "y", &[rows, outputs])?;
    // SAFETY: the experts' rows are all rows, and each product writes all of its own.
    Ok(unsafe { build(len, |y| product(y, x, w, offsets, outputs)) })
}

/// Looks up a stored table's rows of some tokens, `out[i] = table[ids[i]]`.
///
/// # Shapes
/// - `table [vocab, width]`, `ids [n]` -> `[n, width]`
///
/// # Errors
/// [`KernelError::Index`] naming the place in `ids`.
pub fn stored_embedding(table: &StoredMatrix<'_>, ids: &[i64]) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "stored_embedding";
    check_ids(OP, ids, table.rows())?;
    let width = table.inputs();
    let len = element_count(OP, "out", &[ids.len(), width])?;
    // SAFETY: each task writes all of its rows.
    Ok(unsafe {
        build(len, |out| {
            for_rows(out, width, rows_a_task(ELEMENTS_A_TASK, width), len, |rows, out| {
                for (&id, out) in ids[rows].iter().zip(out.chunks_exact_mut(width)) {
                    let id = id as usize;
                    widened::write(table, id..id + 1, out);
                }
            });
        })
    })
}

/// Computes what a stored weight stands for, in FP32.
///
/// # Shapes
/// - `w [rows, inputs]` -> `[rows, inputs]`
pub fn widen(w: &StoredMatrix<'_>) -> Vec<f32> {
    let (len, width) = (w.rows() * w.inputs(), w.inputs());
    // SAFETY: each task writes all of its rows.
    unsafe {
        build(len, |out| {
            for_rows(out, width, rows_a_task(ELEMENTS_A_TASK, width), len, |rows, out| {
                widened::write(w, rows, out);
            });
        })
    }
}

/// Computes the cross entropy of `x w^T`, whose logits never exist whole, with a stored weight.
///
/// # Shapes
/// - `x [rows, inputs]`, `w [vocab, inputs]`, `targets [rows]` (negative: ignored, at no cost)
///
/// # Errors
/// [`KernelError::Length`] naming `x` or `targets`, [`KernelError::Index`] naming the row whose
/// target is outside the vocabulary.
pub fn stored_linear_cross_entropy(
    x: &[f32],
    w: &StoredMatrix<'_>,
    targets: &[i64],
    rows: usize,
) -> Result<CrossEntropy, KernelError> {
    const OP: &str = "stored_linear_cross_entropy";
    check_length(OP, "x", x.len(), &[rows, w.inputs()])?;
    cross_entropy_of(OP, x, targets, [rows, w.inputs(), w.rows()], |x, rows, logits| {
        product(logits, x, w, &[0, rows], w.rows());
    })
}
