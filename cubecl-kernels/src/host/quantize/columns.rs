//! Column tiles (128x1), transposed, by groups of rows; alone or together with row tiles in one
//! read.

use super::amax;
use super::coarse;
use super::cut::{bands, for_bands};
use super::divisor::Divisors;
use super::encode::{encode_columns, encode_rows};
use super::panel::{Element, Matrix, Source};
use super::rows::{self, check_row_tiles};
use super::store::{pack, pack_transposed};
use crate::definition::{
    CODES_A_WORD, Granularity, GroupedColumns, KernelError, QuantizeOptions, Quantized, TILE,
    check_length, element_count, tiles, words,
};
use crate::host::output::{Parts, build_two};
use crate::host::parallel::chunk;

/// Casts to FP8 in column tiles, 128 rows of a group each, and transposes: what Wgrad sums over
/// (3.3.1, 3.5.2).
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

/// [`quantize_rows`](super::quantize_rows) and [`quantize_columns`] in one read of `x`: (rows,
/// columns).
///
/// # Shapes
/// - As both; `rows` is the last of `offsets`.
///
/// # Errors
/// As [`quantize_columns`].
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
    let source = Matrix { x, cols };
    if options.granularity != Granularity::Tile {
        // A study that shares scales reads more than once anyway.
        return Ok((
            rows::quantize(&source, rows, cols, options),
            quantize(&source, offsets, &layout, cols, options),
        ));
    }
    Ok(both(&source, offsets, &layout, cols, options))
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
    let (row_words, row_tiles) = (layout.words[groups], layout.tiles[groups]);
    // SAFETY: the bands cover every word and tile of a transposed row, and the tasks every column
    // of each band.
    let (codes, scales) = unsafe {
        build_two([cols * row_words, cols * row_tiles], |codes, scales| {
            let (codes_out, scales_out) = (Parts::new(codes), Parts::new(scales));
            for_bands(&bands(offsets, layout), rows, cols, |band, columns| {
                let (mut buffer, mut divisors, mut codes) =
                    (Vec::new(), Divisors::fp8(options.format), [0; TILE * TILE]);
                for part in 0..columns.len().div_ceil(TILE) {
                    let part = chunk(part, TILE, columns.len());
                    let part = columns.start + part.start..columns.start + part.end;
                    let panel = source.panel(band.rows.clone(), part.clone(), &mut buffer);
                    let mut largest = [0.0; TILE];
                    if let Some(scales) = &coarse {
                        part.clone()
                            .zip(&mut largest)
                            .for_each(|(c, scale)| *scale = scales[c * row_tiles + band.tile]);
                        divisors.set_scales(&largest[..part.len()]);
                    } else {
                        amax::of_columns(panel, &mut largest[..part.len()]);
                        divisors.set_amax(&largest[..part.len()], options.scale);
                    }
                    encode_columns(panel, &divisors, &mut codes, options.format);
                    pack_transposed(
                        &mut codes,
                        panel.rows,
                        part.len(),
                        &codes_out,
                        part.start * row_words + band.word,
                        row_words,
                    );
                    for (c, &scale) in part.zip(divisors.scales()) {
                        scales_out.part(c * row_tiles + band.tile, 1)[0].write(scale);
                    }
                }
            });
        })
    };
    Quantized { codes, scales }
}

/// Row and column tiles of any source, tile by tile.
pub(super) fn both(
    source: &impl Source,
    offsets: &[usize],
    layout: &GroupedColumns,
    cols: usize,
    options: &QuantizeOptions,
) -> (Quantized, Quantized) {
    let (groups, rows) = (offsets.len() - 1, offsets[offsets.len() - 1]);
    let (col_words, col_tiles) = (layout.words[groups], layout.tiles[groups]);
    let (row_words, row_tiles) = (words(cols), tiles(cols));
    let mut by_columns = Quantized::default();
    // SAFETY: the bands cover every row once, and every word and tile of a transposed row; the
    // tasks cover every column of each band.
    let (codes, scales) = unsafe {
        build_two([rows * row_words, rows * row_tiles], |codes, scales| {
            let (row_codes, row_scales) = (Parts::new(codes), Parts::new(scales));
            let (codes, scales) =
                build_two([cols * col_words, cols * col_tiles], |codes, scales| {
                    let (codes_out, scales_out) = (Parts::new(codes), Parts::new(scales));
                    for_bands(&bands(offsets, layout), rows, cols, |band, columns| {
                        let (mut buffer, mut divisors, mut codes) =
                            (Vec::new(), Divisors::fp8(options.format), [0; TILE * TILE]);
                        for part in 0..columns.len().div_ceil(TILE) {
                            let part = chunk(part, TILE, columns.len());
                            let part = columns.start + part.start..columns.start + part.end;
                            let panel = source.panel(band.rows.clone(), part.clone(), &mut buffer);
                            let (mut of_rows, mut of_columns) = ([0.0; TILE], [0.0; TILE]);
                            amax::of_both(
                                panel,
                                &mut of_rows[..panel.rows],
                                &mut of_columns[..part.len()],
                            );

                            divisors.set_amax(&of_rows[..panel.rows], options.scale);
                            encode_rows(panel, &divisors, &mut codes, TILE, options.format);
                            for (i, r) in band.rows.clone().enumerate() {
                                let out = row_codes.part(
                                    r * row_words + part.start / CODES_A_WORD,
                                    words(part.len()),
                                );
                                pack(&codes[i * TILE..][..part.len()], out);
                                row_scales.part(r * row_tiles + part.start / TILE, 1)[0]
                                    .write(divisors.scale[i]);
                            }

                            divisors.set_amax(&of_columns[..part.len()], options.scale);
                            encode_columns(panel, &divisors, &mut codes, options.format);
                            pack_transposed(
                                &mut codes,
                                panel.rows,
                                part.len(),
                                &codes_out,
                                part.start * col_words + band.word,
                                col_words,
                            );
                            for (c, &scale) in part.zip(divisors.scales()) {
                                scales_out.part(c * col_tiles + band.tile, 1)[0].write(scale);
                            }
                        }
                    });
                });
            by_columns = Quantized { codes, scales };
        })
    };
    (Quantized { codes, scales }, by_columns)
}
