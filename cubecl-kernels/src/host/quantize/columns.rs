//! Column tiles (128x1), transposed, by groups of rows; alone or together with row tiles in one
//! read.

use super::amax;
use super::coarse;
use super::cut::{bands, for_bands};
use super::divisor::Divisors;
use super::encode::{encode_both, encode_columns};
use super::panel::{Element, Matrix, Source};
use super::rows::{self, check_row_tiles};
use super::store::{ColumnTilesOut, RowTilesOut};
use crate::definition::{
    Granularity, GroupedColumns, KernelError, QuantizeOptions, Quantized, TILE, check_length,
    element_count, tiles, words,
};
use crate::host::buffer::Buffer;
use crate::host::output::build_two;

/// Casts to FP8 in column tiles, 128 rows of a group each, and transposes: the result is what Wgrad
/// sums over (3.3.1, 3.5.2).
///
/// Each group of rows (an expert's) starts a new word and a new tile, as [`GroupedColumns`] says.
/// `&[0, rows]` is one group.
///
/// # Shapes
/// - `x [rows, cols]`, `offsets [groups + 1]` rising from 0 to `rows` -> codes
///   `[cols, total words]`, scales `[cols, total tiles]`
///
/// # Errors
/// [`KernelError::Length`] naming `x`, [`KernelError::Invalid`] naming `offsets`.
pub fn quantize_columns<E: Element>(
    x: &[E],
    offsets: &[usize],
    cols: usize,
    options: &QuantizeOptions,
) -> Result<Quantized, KernelError> {
    const OP: &str = "quantize_columns";
    let layout = check_columns(OP, x.len(), offsets, cols)?;
    Ok(quantize(&Matrix { x, cols }, offsets, &layout, cols, options))
}

/// Casts to FP8 as [`quantize_rows`](super::quantize_rows) and as [`quantize_columns`] do, in one
/// read of `x`: (rows, columns).
///
/// # Shapes
/// - As both; `rows` is the last of `offsets`.
///
/// # Errors
/// The errors of [`quantize_columns`].
pub fn quantize_both<E: Element>(
    x: &[E],
    offsets: &[usize],
    cols: usize,
    options: &QuantizeOptions,
) -> Result<(Quantized, Quantized), KernelError> {
    const OP: &str = "quantize_both";
    let layout = check_columns(OP, x.len(), offsets, cols)?;
    let rows = offsets.last().copied().unwrap_or(0);
    check_row_tiles(OP, rows, cols)?;
    Ok(by_rows_and_columns(&Matrix { x, cols }, offsets, &layout, cols, options))
}

/// Row and column tiles of any source.
pub(super) fn by_rows_and_columns(
    source: &impl Source,
    offsets: &[usize],
    layout: &GroupedColumns,
    cols: usize,
    options: &QuantizeOptions,
) -> (Quantized, Quantized) {
    if options.granularity == Granularity::Tile {
        return both(source, offsets, layout, cols, options);
    }
    // A study that shares scales reads more than once anyway.
    let rows = offsets[offsets.len() - 1];
    (rows::quantize(source, rows, cols, options), quantize(source, offsets, layout, cols, options))
}

/// Checks `x` of `len` entries and `offsets`, and lays the columns out.
pub(super) fn check_columns(
    op: &'static str,
    len: usize,
    offsets: &[usize],
    cols: usize,
) -> Result<GroupedColumns, KernelError> {
    let rows = offsets.last().copied().unwrap_or(0);
    check_length(op, "x", len, &[rows, cols])?;
    columns_layout(op, offsets, cols)
}

/// The layout of columns by `offsets`, which fits in memory.
pub(super) fn columns_layout(
    op: &'static str,
    offsets: &[usize],
    cols: usize,
) -> Result<GroupedColumns, KernelError> {
    let rows = offsets.last().copied().unwrap_or(0);
    element_count(op, "x", &[rows, cols])?;
    let layout = GroupedColumns::new(op, offsets, rows)?;
    element_count(op, "codes", &[cols, layout.words[offsets.len() - 1]])?;
    Ok(layout)
}

/// Column tiles of any source.
pub(super) fn quantize(
    source: &impl Source,
    offsets: &[usize],
    layout: &GroupedColumns,
    cols: usize,
    options: &QuantizeOptions,
) -> Quantized {
    let coarse = (options.granularity != Granularity::Tile)
        .then(|| coarse::column_scales(source, offsets, layout, cols, options));
    let (groups, rows) = (offsets.len() - 1, offsets[offsets.len() - 1]);
    let (col_words, col_tiles) = (layout.words[groups], layout.tiles[groups]);
    // SAFETY: the bands cover every word and tile of a transposed row, and the tasks every column
    // of each band.
    let (codes, scales) = unsafe {
        build_two([cols * col_words, cols * col_tiles], |codes, scales| {
            let out = ColumnTilesOut::new(codes, scales, layout);
            for_bands(&bands(offsets, layout), rows, cols, |band, panels| {
                let (mut buffer, mut divisors, mut codes) =
                    (Buffer::take(), Divisors::fp8(options.format), [0; TILE * TILE]);
                for columns in panels {
                    out.prefetch(band, columns.clone());
                    let panel = source.panel(band.rows.clone(), columns.clone(), &mut buffer);
                    let mut largest = [0.0; TILE];
                    if let Some(scales) = &coarse {
                        columns
                            .clone()
                            .zip(&mut largest)
                            .for_each(|(c, scale)| *scale = scales[c * col_tiles + band.tile]);
                        divisors.set_scales(&largest[..columns.len()]);
                    } else {
                        amax::of_columns(panel, &mut largest[..columns.len()]);
                        divisors.set_amax(&largest[..columns.len()], options.scale);
                    }
                    encode_columns(panel, &divisors, &mut codes, options.format);
                    out.write(band, columns, &mut codes, divisors.scales());
                }
            });
        })
    };
    Quantized { codes, scales }
}

/// Row and column tiles of any source, tile by tile, in one read.
fn both(
    source: &impl Source,
    offsets: &[usize],
    layout: &GroupedColumns,
    cols: usize,
    options: &QuantizeOptions,
) -> (Quantized, Quantized) {
    let (groups, rows) = (offsets.len() - 1, offsets[offsets.len() - 1]);
    let (col_words, col_tiles) = (layout.words[groups], layout.tiles[groups]);
    let (row_words, row_tiles) = (words(cols), tiles(cols));
    let mut columns = Quantized::default();
    // SAFETY: the bands cover every row once, and every word and tile of a transposed row; the
    // tasks cover every column of each band.
    let (codes, scales) = unsafe {
        build_two([rows * row_words, rows * row_tiles], |codes, scales| {
            let rows_out = RowTilesOut::new(codes, scales, cols);
            let (codes, scales) =
                build_two([cols * col_words, cols * col_tiles], |codes, scales| {
                    let columns_out = ColumnTilesOut::new(codes, scales, layout);
                    for_bands(&bands(offsets, layout), rows, cols, |band, panels| {
                        let (mut buffer, mut codes) = (Buffer::take(), [0; TILE * TILE]);
                        let (mut by_rows, mut by_columns) =
                            (Divisors::fp8(options.format), Divisors::fp8(options.format));
                        for columns in panels {
                            let count = columns.len();
                            columns_out.prefetch(band, columns.clone());
                            let panel =
                                source.panel(band.rows.clone(), columns.clone(), &mut buffer);
                            let (mut of_rows, mut of_columns) = ([0.0; TILE], [0.0; TILE]);
                            let (of_rows, of_columns) =
                                (&mut of_rows[..panel.rows], &mut of_columns[..count]);
                            amax::of_both(panel, of_rows, of_columns);

                            by_rows.set_amax(of_rows, options.scale);
                            by_columns.set_amax(of_columns, options.scale);
                            let rows = rows_out.codes(band.rows.clone(), columns.clone());
                            let divisors = [&by_rows, &by_columns];
                            encode_both(panel, divisors, rows, &mut codes, options.format);
                            for (r, scale) in band.rows.clone().zip(by_rows.scales().chunks(1)) {
                                rows_out.write_scales(r, columns.start, scale);
                            }
                            columns_out.write(band, columns, &mut codes, by_columns.scales());
                        }
                    });
                });
            columns = Quantized { codes, scales };
        })
    };
    (Quantized { codes, scales }, columns)
}
