//! Row tiles (1x128).

use std::ops::Range;

use super::amax;
use super::coarse;
use super::cut::for_panels;
use super::divisor::Divisors;
use super::encode::encode_rows;
use super::panel::{Element, Matrix, Panel, Source};
use super::store::RowTilesOut;
use crate::definition::{
    Fp8Format, Granularity, KernelError, QuantizeOptions, Quantized, TILE, check_length,
    element_count, tiles, words,
};
use crate::host::buffer::Buffer;
use crate::host::output::build_two;

/// Casts to FP8 in row tiles: `scale = max(amax, 1e-4) / max`, `code = RNE(x / scale)`, saturating.
///
/// # Shapes
/// - `x [rows, cols]` -> codes `[rows, words(cols)]`, scales `[rows, tiles(cols)]`
///
/// # Errors
/// [`KernelError::Length`] naming `x`.
///
/// Source: technical report 3.3.2.
pub fn quantize_rows<E: Element>(
    x: &[E],
    rows: usize,
    cols: usize,
    options: &QuantizeOptions,
) -> Result<Quantized, KernelError> {
    check_length("quantize_rows", "x", x.len(), &[rows, cols])?;
    check_row_tiles("quantize_rows", rows, cols)?;
    Ok(quantize(&Matrix { x, cols }, rows, cols, options))
}

/// Checks that codes and scales of row tiles can be addressed: a narrow row is padded to a word.
pub(super) fn check_row_tiles(
    op: &'static str,
    rows: usize,
    cols: usize,
) -> Result<(), KernelError> {
    element_count(op, "codes", &[rows, words(cols)])?;
    element_count(op, "scales", &[rows, tiles(cols)]).map(|_| ())
}

/// Row tiles of any source.
pub(super) fn quantize(
    source: &impl Source,
    rows: usize,
    cols: usize,
    options: &QuantizeOptions,
) -> Quantized {
    let coarse = (options.granularity != Granularity::Tile)
        .then(|| coarse::row_scales(source, rows, cols, options));
    let (row_words, row_tiles) = (words(cols), tiles(cols));
    // SAFETY: the panels cover all rows and columns, and each writes its words and scales.
    let (codes, scales) = unsafe {
        build_two([rows * row_words, rows * row_tiles], |codes, scales| {
            let out = RowTilesOut::new(codes, scales, cols);
            for_panels(rows, cols, |panels| {
                let (mut buffer, mut divisors) = (Buffer::take(), Divisors::fp8(options.format));
                let mut largest = [0.0; TILE];
                for (panel_rows, columns) in panels {
                    let panel = source.panel(panel_rows.clone(), columns.clone(), &mut buffer);
                    let (first, panel_tiles) = (columns.start / TILE, tiles(columns.len()));
                    let count = panel.rows * panel_tiles;
                    if let Some(scales) = &coarse {
                        for (i, r) in panel_rows.clone().enumerate() {
                            largest[i * panel_tiles..][..panel_tiles]
                                .copy_from_slice(&scales[r * row_tiles + first..][..panel_tiles]);
                        }
                        divisors.set_scales(&largest[..count]);
                    } else {
                        amax::of_rows(panel, &mut largest[..count]);
                        divisors.set_amax(&largest[..count], options.scale);
                    }
                    write(panel, &divisors, &out, panel_rows, columns.start, options.format);
                }
            });
        })
    };
    Quantized { codes, scales }
}

/// Casts a panel whose tiles have scales of their own: these rows of a result, from this column on,
/// at which a tile begins.
///
/// # Safety
/// Nobody else uses these tiles of `out` meanwhile.
pub(super) unsafe fn cast(
    panel: Panel<'_>,
    divisors: &mut Divisors,
    out: &RowTilesOut<'_>,
    rows: Range<usize>,
    column: usize,
    options: &QuantizeOptions,
) {
    let mut largest = [0.0; TILE];
    let largest = &mut largest[..panel.rows * tiles(panel.columns)];
    amax::of_rows(panel, largest);
    divisors.set_amax(largest, options.scale);
    // SAFETY: the caller's promise.
    unsafe { write(panel, divisors, out, rows, column, options.format) };
}

/// Writes codes and scales of a panel.
///
/// # Safety
/// Nobody else uses these tiles of `out` meanwhile.
unsafe fn write(
    panel: Panel<'_>,
    divisors: &Divisors,
    out: &RowTilesOut<'_>,
    rows: Range<usize>,
    column: usize,
    format: Fp8Format,
) {
    // SAFETY: the caller vouches for the tiles.
    unsafe {
        let codes = out.codes(rows.clone(), column..column + panel.columns);
        encode_rows(panel, divisors, codes, format);
        for (r, scales) in rows.zip(divisors.scales().chunks(tiles(panel.columns))) {
            out.write_scales(r, column, scales);
        }
    }
}
