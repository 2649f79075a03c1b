//! FP8 matrices back to FP32, and from row tiles to column tiles.

use std::ops::Range;

use super::columns::{self, columns_layout};
use super::cut::{ENTRIES_A_TASK, WORK, bands};
use super::decode::decode_row;
use super::panel::{Panel, Source, computed_rows};
use crate::definition::{
    Fp8Format, KernelError, QuantizeOptions, Quantized, TILE, check_length, element_count, tiles,
    words,
};
use crate::host::buffer::Buffer;
use crate::host::output::{Parts, build, for_rows, zeroed};
use crate::host::parallel::{for_each, rows_a_task};

/// Computes what row tiles stand for, `scale * decode(code)`.
///
/// # Shapes
/// - codes `[rows, words(cols)]`, scales `[rows, tiles(cols)]` -> `[rows, cols]`
///
/// # Errors
/// [`KernelError::Length`] naming `codes` or `scales`.
pub fn dequantize_rows(
    codes: &[u32],
    scales: &[f32],
    rows: usize,
    cols: usize,
    format: Fp8Format,
) -> Result<Vec<f32>, KernelError> {
    let source = RowTiles::new("dequantize_rows", codes, scales, rows, cols, format)?;
    Ok(by_rows(rows, cols, |r, out| source.row(r, 0, out)))
}

/// Computes what 128x128 blocks stand for.
///
/// # Shapes
/// - codes `[experts, n, words(k)]`, scales `[experts, tiles(n), tiles(k)]` -> `[experts, n, k]`
///
/// # Errors
/// [`KernelError::Length`] naming `codes` or `scales`.
pub fn dequantize_blocks(
    codes: &[u32],
    scales: &[f32],
    experts: usize,
    n: usize,
    k: usize,
    format: Fp8Format,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "dequantize_blocks";
    check_length(OP, "codes", codes.len(), &[experts, n, words(k)])?;
    check_length(OP, "scales", scales.len(), &[experts, tiles(n), tiles(k)])?;
    element_count(OP, "w", &[experts, n, k])?;
    Ok(by_rows(experts * n, k, |r, out| {
        let band = r / n * tiles(n) + r % n / TILE;
        decode_row(
            &codes[r * words(k)..][..words(k)],
            &scales[band * tiles(k)..][..tiles(k)],
            0,
            out,
            format,
        );
    }))
}

/// Computes what column tiles stand for, turned back.
///
/// # Shapes
/// - codes `[cols, total words]`, scales `[cols, total tiles]`, `offsets [groups + 1]` ->
///   `[rows, cols]`
///
/// # Errors
/// [`KernelError::Length`] naming `codes` or `scales`, [`KernelError::Invalid`] naming `offsets`.
pub fn dequantize_columns(
    codes: &[u32],
    scales: &[f32],
    offsets: &[usize],
    cols: usize,
    format: Fp8Format,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "dequantize_columns";
    let layout = columns_layout(OP, offsets, cols)?;
    let (groups, rows) = (offsets.len() - 1, offsets[offsets.len() - 1]);
    let (row_words, row_tiles) = (layout.words[groups], layout.tiles[groups]);
    check_length(OP, "codes", codes.len(), &[cols, row_words])?;
    check_length(OP, "scales", scales.len(), &[cols, row_tiles])?;
    let bands = bands(offsets, &layout);
    // SAFETY: the bands cover all rows, and each task writes all columns of its band.
    Ok(unsafe {
        build(rows * cols, |out| {
            let out = Parts::new(out);
            for_each(bands.len(), rows * cols * WORK, |index| {
                let band = &bands[index];
                let out = out.part(band.rows.start * cols, band.rows.len() * cols);
                let mut column = [0.0; TILE];
                let column = &mut column[..band.rows.len()];
                for c in 0..cols {
                    let codes = &codes[c * row_words + band.word..][..words(column.len())];
                    decode_row(codes, &scales[c * row_tiles + band.tile..][..1], 0, column, format);
                    for (out, &value) in out.iter_mut().skip(c).step_by(cols).zip(&*column) {
                        out.write(value);
                    }
                }
            });
        })
    })
}

/// Makes column tiles of row tiles: dequantizes, transposes and quantizes again, as the report's
/// hardware does with what it kept of the forward pass (3.5.2). The error of the first cast stays
/// in the result; casting the original in both ways ([`quantize_both`](super::quantize_both))
/// avoids that.
///
/// # Shapes
/// - codes `[rows, words(cols)]`, scales `[rows, tiles(cols)]` of `format`, `offsets [groups + 1]`
///   -> codes `[cols, total words]`, scales `[cols, total tiles]` of `options.format`
///
/// # Errors
/// [`KernelError::Length`] naming `codes` or `scales`, [`KernelError::Invalid`] naming `offsets`.
pub fn requantize_columns(
    codes: &[u32],
    scales: &[f32],
    format: Fp8Format,
    offsets: &[usize],
    cols: usize,
    options: &QuantizeOptions,
) -> Result<Quantized, KernelError> {
    const OP: &str = "requantize_columns";
    let layout = columns_layout(OP, offsets, cols)?;
    let source = RowTiles::new(OP, codes, scales, offsets[offsets.len() - 1], cols, format)?;
    Ok(columns::quantize(&source, offsets, &layout, cols, options))
}

/// A matrix in row tiles.
pub(super) struct RowTiles<'a> {
    codes: &'a [u32],
    scales: &'a [f32],
    cols: usize,
    format: Fp8Format,
}

impl<'a> RowTiles<'a> {
    /// Checks lengths, of the matrix that the codes stand for too.
    pub(super) fn new(
        op: &'static str,
        codes: &'a [u32],
        scales: &'a [f32],
        rows: usize,
        cols: usize,
        format: Fp8Format,
    ) -> Result<Self, KernelError> {
        check_length(op, "codes", codes.len(), &[rows, words(cols)])?;
        check_length(op, "scales", scales.len(), &[rows, tiles(cols)])?;
        element_count(op, "x", &[rows, cols])?;
        Ok(Self { codes, scales, cols, format })
    }

    /// Entries `first..` of a row.
    pub(super) fn row(&self, row: usize, first: usize, out: &mut [f32]) {
        let (row_words, row_tiles) = (words(self.cols), tiles(self.cols));
        let (codes, scales) = (
            &self.codes[row * row_words..][..row_words],
            &self.scales[row * row_tiles..][..row_tiles],
        );
        decode_row(codes, scales, first, out, self.format);
    }
}

impl Source for RowTiles<'_> {
    fn panel<'a>(
        &'a self,
        rows: Range<usize>,
        columns: Range<usize>,
        buffer: &'a mut Buffer,
    ) -> Panel<'a> {
        computed_rows(rows, columns.len(), buffer, |r, out| self.row(r, columns.start, out))
    }
}

/// A matrix whose rows `fill(row, out)` writes.
pub(super) fn by_rows(
    rows: usize,
    cols: usize,
    fill: impl Fn(usize, &mut [f32]) + Send + Sync,
) -> Vec<f32> {
    let rows_a_task = rows_a_task(ENTRIES_A_TASK, cols);
    // SAFETY: `zeroed` has written all of a row before `fill` does.
    unsafe {
        build(rows * cols, |out| {
            for_rows(out, cols, rows_a_task, rows * cols * WORK, |rows, out| {
                for (r, out) in rows.zip(out.chunks_exact_mut(cols)) {
                    fill(r, zeroed(out));
                }
            });
        })
    }
}
