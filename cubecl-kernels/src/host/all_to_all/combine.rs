//! Sums of rows on the wire, weighted or not, and their gradients.

use std::mem::MaybeUninit;

use super::values::{F32, for_wire, format_of, row_values, tile_values};
use crate::definition::{KernelError, RowSums, TILE, WireFormat, check_length, element_count};
use crate::host::output::{as_words, build, fill, for_rows};
use crate::host::parallel::rows_a_task;
use crate::host::simd::{dot, madd, multiversion};

/// Values that one task reads.
const VALUES_A_TASK: usize = 1 << 14;

/// Sums the rows of each token, `out[t] = sum_i weights[i] y[rows[i]]` over its terms `i`, in their
/// order and in FP32; without weights each is one. A result without terms is zero.
///
/// # Shapes
/// - `wire [sums.bound(), format.row_words(width)]`, `weights [sums.terms()]` ->
///   `[sums.results(), width]`
///
/// # Errors
/// [`KernelError::Length`] naming `wire` or `weights`, [`KernelError::Overflow`] naming what cannot
/// be addressed.
///
/// Source: technical report 2.1.2, 3.2.2.
pub fn combine(
    wire: &[u32],
    weights: Option<&[f32]>,
    sums: &RowSums,
    width: usize,
    format: WireFormat,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "combine";
    format.check(OP, wire, sums.bound(), width)?;
    check_weights(OP, weights, sums)?;
    element_count(OP, "out", &[sums.results(), width])?;
    Ok(for_wire!(format, sum_rows(wire, weights, sums, width)))
}

/// Sums FP32 rows as [`combine`] does, without weights.
///
/// # Shapes
/// - `x [sums.bound(), width]` -> `[sums.results(), width]`
///
/// # Errors
/// [`KernelError::Length`] naming `x`, [`KernelError::Overflow`] naming what cannot be addressed.
pub fn sum_values(x: &[f32], sums: &RowSums, width: usize) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "sum_values";
    check_length(OP, "x", x.len(), &[sums.bound(), width])?;
    element_count(OP, "out", &[sums.results(), width])?;
    Ok(sum_rows::<F32>(as_words(x), None, sums, width))
}

/// Computes the gradients of [`combine`]: `dy[r]` is the sum of `weights[i] dout[t]` over the terms
/// `i` that name row `r`, and `dweights[i] = dout[t] . y[rows[i]]`. A row that no term names gets
/// zero. The cast of `y` passes the gradient straight through.
///
/// # Shapes
/// - as [`combine`]; `dout [sums.results(), width]` -> `dy [sums.bound(), width]`,
///   `dweights [sums.terms()]`
///
/// # Errors
/// The errors of [`combine`], and [`KernelError::Length`] naming `dout`.
pub fn combine_backward(
    wire: &[u32],
    weights: Option<&[f32]>,
    sums: &RowSums,
    dout: &[f32],
    width: usize,
    format: WireFormat,
) -> Result<(Vec<f32>, Vec<f32>), KernelError> {
    const OP: &str = "combine_backward";
    format.check(OP, wire, sums.bound(), width)?;
    check_weights(OP, weights, sums)?;
    check_length(OP, "dout", dout.len(), &[sums.results(), width])?;
    let transposed = sums.transposed();
    // The sum that gives `dy` has `dout` for its rows.
    let terms = transposed.terms.rows();
    let rows: Vec<u32> =
        terms.iter().map(|&term| transposed.result_of_term[term as usize]).collect();
    let ordered: Option<Vec<f32>> =
        weights.map(|weights| terms.iter().map(|&term| weights[term as usize]).collect());
    let dy = sum_terms::<F32>(
        as_words(dout),
        ordered.as_deref(),
        transposed.terms.starts(),
        &rows,
        width,
    );
    let dweights = for_wire!(format, row_dots(wire, sums, &transposed.result_of_term, dout, width));
    Ok((dy, dweights))
}

fn check_weights(
    op: &'static str,
    weights: Option<&[f32]>,
    sums: &RowSums,
) -> Result<(), KernelError> {
    weights.map_or(Ok(()), |weights| check_length(op, "weights", weights.len(), &[sums.terms()]))
}

/// All sums of rows that have been checked.
pub(super) fn sum_rows<const FORMAT: usize>(
    wire: &[u32],
    weights: Option<&[f32]>,
    sums: &RowSums,
    width: usize,
) -> Vec<f32> {
    sum_terms::<FORMAT>(wire, weights, sums.starts(), sums.rows(), width)
}

/// The sums of the terms `starts[t]..starts[t + 1]`, each of which names one of `rows`.
fn sum_terms<const FORMAT: usize>(
    wire: &[u32],
    weights: Option<&[f32]>,
    starts: &[u32],
    rows: &[u32],
    width: usize,
) -> Vec<f32> {
    let results = starts.len().saturating_sub(1);
    let results_a_task = rows_a_task(VALUES_A_TASK, width);
    let work = rows.len().max(results) * width;
    // SAFETY: `sum_row` writes all of a row, for each of a task's rows.
    unsafe {
        build(results * width, |out| {
            for_rows(out, width, results_a_task, work, |part, out| {
                for (t, out) in part.zip(out.chunks_exact_mut(width)) {
                    let terms = starts[t] as usize..starts[t + 1] as usize;
                    let weights = weights.map(|weights| &weights[terms.clone()]);
                    sum_row::<FORMAT>(wire, &rows[terms], weights, width, out);
                }
            });
        })
    }
}

multiversion! {
    fn sum_row<const FORMAT: usize>(
        wire: &[u32],
        rows: &[u32],
        weights: Option<&[f32]>,
        width: usize,
        out: &mut [MaybeUninit<f32>],
    ) {
        let row_words = format_of(FORMAT).row_words(width);
        let row = |i: usize| &wire[rows[i] as usize * row_words..][..row_words];
        let weight = |i: usize| weights.map_or(1.0, |weights| weights[i]);
        if rows.is_empty() {
            return fill(out, 0.0);
        }
        // Row by row: the sum stays in the nearest cache, and rows are read as they lie.
        let mut values = [0.0; TILE];
        for (tile, out) in out.chunks_mut(TILE).enumerate() {
            tile_values::<FORMAT>(row(0), width, tile, &mut values);
            for (out, &x) in out.iter_mut().zip(&values) {
                out.write(weight(0) * x);
            }
        }
        // SAFETY: the loop above wrote all of it.
        let out = unsafe { out.assume_init_mut() };
        for i in 1..rows.len() {
            let (row, weight) = (row(i), weight(i));
            if FORMAT == F32 {
                out.iter_mut()
                    .zip(row)
                    .for_each(|(out, &word)| *out = madd::<S>(weight, f32::from_bits(word), *out));
                continue;
            }
            for (tile, out) in out.chunks_mut(TILE).enumerate() {
                tile_values::<FORMAT>(row, width, tile, &mut values);
                match <&mut [f32; TILE]>::try_from(&mut *out) {
                    Ok(out) => out
                        .iter_mut()
                        .zip(&values)
                        .for_each(|(out, &x)| *out = madd::<S>(weight, x, *out)),
                    Err(_) => out
                        .iter_mut()
                        .zip(&values)
                        .for_each(|(out, &x)| *out = madd::<S>(weight, x, *out)),
                }
            }
        }
    }
}

/// `dout[t] . y[rows[i]]` of every term `i`.
fn row_dots<const FORMAT: usize>(
    wire: &[u32],
    sums: &RowSums,
    result_of_term: &[u32],
    dout: &[f32],
    width: usize,
) -> Vec<f32> {
    let row_words = format_of(FORMAT).row_words(width);
    let (rows, terms) = (sums.rows(), sums.terms());
    let terms_a_task = rows_a_task(VALUES_A_TASK, width);
    // SAFETY: each task writes all of its terms.
    unsafe {
        build(terms, |out| {
            for_rows(out, 1, terms_a_task, terms * width, |part, out| {
                let mut buffer = Vec::with_capacity(width);
                for (out, term) in out.iter_mut().zip(part) {
                    let row = &wire[rows[term] as usize * row_words..][..row_words];
                    row_values::<FORMAT>(row, width, &mut buffer.spare_capacity_mut()[..width]);
                    // SAFETY: `width` values have just been written.
                    let y = std::slice::from_raw_parts(buffer.as_ptr(), width);
                    out.write(row_dot(&dout[result_of_term[term] as usize * width..][..width], y));
                }
            });
        })
    }
}

multiversion! {
    fn row_dot(x: &[f32], y: &[f32]) -> f32 {
        dot::<S>(x, y)
    }
}
