//! Rows to words by index, and words to rows by index.

use super::combine::sum_rows;
use super::values::{F32, bf16_words, for_wire, row_values};
use crate::definition::{KernelError, RowSums, WireFormat, check_length, element_count};
use crate::host::buffer::Buffer;
use crate::host::output::{as_words, build, for_rows};
use crate::host::parallel::rows_a_task;
use crate::host::permute::check_indices;
use crate::host::quantize::{Element, Gathered, Source, pack_fp8};

/// Values that one task reads.
const VALUES_A_TASK: usize = 1 << 14;

/// From so many copies of a row on, on average, rows are cast once each and their words copied.
const CASTS_SAVED: usize = 2;

/// Packs rows by index as they go to other ranks, permuted and cast in one read. (FP8 rows that go
/// to several places are cast once.)
///
/// In FP8 each 1x128 tile has the scale `2^ceil(log2(max(amax, 1e-4) / 448))` and a code is the one
/// nearest to `x / scale`, ties to even. A tile with a NaN or an infinity has scale `2^127`: the
/// NaN stays NaN, infinities stay infinite, and the tile's other values become zero unless they are
/// as large as that.
///
/// # Shapes
/// - `x [rows, width]`, `index [m]` -> `[m, format.row_words(width)]`
///
/// # Errors
/// [`KernelError::Length`] naming `x`, [`KernelError::Index`] naming the place in `index`,
/// [`KernelError::Overflow`] naming what cannot be addressed.
///
/// Source: technical report 3.2.2, 3.3.3.
pub fn pack<E: Element>(
    x: &[E],
    index: &[u32],
    rows: usize,
    width: usize,
    format: WireFormat,
) -> Result<Vec<u32>, KernelError> {
    const OP: &str = "pack";
    check_length(OP, "x", x.len(), &[rows, width])?;
    check_indices(OP, "index", index, rows)?;
    let row_words = format.row_words(width);
    let size = element_count(OP, "wire", &[index.len(), row_words])?;
    if size == 0 {
        return Ok(Vec::new());
    }
    if format == WireFormat::Fp8 && index.len() >= CASTS_SAVED * rows {
        let all: Vec<u32> = (0..rows as u32).collect();
        return Ok(gather_words(
            &pack_fp8(&Gathered { x, index: &all, cols: width }),
            index,
            row_words,
        ));
    }
    let rows = Gathered { x, index, cols: width };
    if format == WireFormat::Fp8 {
        return Ok(pack_fp8(&rows));
    }
    let work = index.len() * width;
    // SAFETY: each task writes all of its rows.
    Ok(unsafe {
        build(size, |out| {
            for_rows(out, row_words, rows_a_task(VALUES_A_TASK, width), work, |part, out| {
                let mut buffer = Buffer::take();
                for (i, out) in part.zip(out.chunks_exact_mut(row_words)) {
                    let panel = rows.panel(i..i + 1, 0..width, &mut buffer);
                    match format {
                        WireFormat::F32 => drop(out.write_copy_of_slice(as_words(panel.row(0)))),
                        _ => bf16_words(panel.row(0), out),
                    }
                }
            });
        })
    })
}

fn gather_words(wire: &[u32], index: &[u32], row_words: usize) -> Vec<u32> {
    let (rows_a_task, work) = (rows_a_task(VALUES_A_TASK, row_words), index.len() * row_words);
    // SAFETY: each task writes all of its rows.
    unsafe {
        build(index.len() * row_words, |out| {
            for_rows(out, row_words, rows_a_task, work, |part, out| {
                for (&i, out) in index[part].iter().zip(out.chunks_exact_mut(row_words)) {
                    out.write_copy_of_slice(&wire[i as usize * row_words..][..row_words]);
                }
            });
        })
    }
}

/// Unpacks the rows that have arrived, in the order of the experts that are here: row `i` is row
/// `index[i]` of the wire.
///
/// # Shapes
/// - `wire [rows, format.row_words(width)]`, `index [n]` -> `[n, width]`
///
/// # Errors
/// The errors of [`pack`], naming `wire`.
pub fn unpack(
    wire: &[u32],
    index: &[u32],
    rows: usize,
    width: usize,
    format: WireFormat,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "unpack";
    format.check(OP, wire, rows, width)?;
    check_indices(OP, "index", index, rows)?;
    let row_words = format.row_words(width);
    let size = element_count(OP, "rows", &[index.len(), width])?;
    // SAFETY: `row_values` writes all of a row, for each of a task's rows.
    Ok(unsafe {
        build(size, |out| {
            for_rows(out, width, rows_a_task(VALUES_A_TASK, width), size, |part, out| {
                for (&i, out) in index[part].iter().zip(out.chunks_exact_mut(width)) {
                    let row = &wire[i as usize * row_words..][..row_words];
                    for_wire!(format, row_values(row, width, out));
                }
            });
        })
    })
}

/// Computes the gradient of [`pack`] for `x`, straight through the cast: `dx[r]` is the sum of
/// `d[i]` over all `i` with `index[i] == r`, ascending.
///
/// # Shapes
/// - `d [index.len(), width]` -> `[rows, width]`
///
/// # Errors
/// [`KernelError::Length`] naming `d`, [`KernelError::Index`] naming the place in `index`.
pub fn pack_backward(
    d: &[f32],
    index: &[u32],
    rows: usize,
    width: usize,
) -> Result<Vec<f32>, KernelError> {
    gather_backward("pack_backward", d, index, rows, width)
}

/// Computes the gradient of [`unpack`] for the rows that arrived: row `r` gets the sum of `d[i]`
/// over all `i` with `index[i] == r`, ascending.
///
/// # Shapes
/// - `d [index.len(), width]` -> `[rows, width]`
///
/// # Errors
/// The errors of [`pack_backward`].
pub fn unpack_backward(
    d: &[f32],
    index: &[u32],
    rows: usize,
    width: usize,
) -> Result<Vec<f32>, KernelError> {
    gather_backward("unpack_backward", d, index, rows, width)
}

fn gather_backward(
    op: &'static str,
    d: &[f32],
    index: &[u32],
    rows: usize,
    width: usize,
) -> Result<Vec<f32>, KernelError> {
    check_length(op, "d", d.len(), &[index.len(), width])?;
    check_indices(op, "index", index, rows)?;
    element_count(op, "x", &[rows, width])?;
    let sums = RowSums::of_gather(index, rows)?;
    Ok(sum_rows::<F32>(as_words(d), None, &sums, width))
}
