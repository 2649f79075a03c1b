//! Row tiles (1x128).

use super::WORK;
use super::amax;
use super::coarse;
use super::divisor::Divisors;
use super::encode::encode_rows;
use super::panel::{Element, Matrix, Source};
use super::store::pack;
use crate::definition::{
    CODES_A_WORD, Granularity, KernelError, QuantizeOptions, Quantized, TILE, check_length,
    element_count, tiles, words,
};
use crate::host::output::{Parts, build_two};
use crate::host::parallel::{chunk, for_each};

/// Entries that one task quantizes.
const ENTRIES_A_TASK: usize = 1 << 15;
/// Tiles of one row that are quantized together.
const TILES_A_PANEL: usize = 16;
/// Entries of a panel.
pub(super) const ENTRIES_A_PANEL: usize = TILES_A_PANEL * TILE;

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
            let (codes_out, scales_out) = (Parts::new(codes), Parts::new(scales));
            for_panels(rows, cols, |panels| {
                let (mut buffer, mut divisors) = (Vec::new(), Divisors::fp8(options.format));
                let mut codes = [0; ENTRIES_A_PANEL + TILE * CODES_A_WORD];
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
                    let stride = words(columns.len()) * CODES_A_WORD;
                    encode_rows(panel, &divisors, &mut codes, stride, options.format);
                    for (i, r) in panel_rows.enumerate() {
                        let out = codes_out.part(
                            r * row_words + columns.start / CODES_A_WORD,
                            words(columns.len()),
                        );
                        pack(&codes[i * stride..][..columns.len()], out);
                        let out = scales_out.part(r * row_tiles + first, panel_tiles);
                        out.write_copy_of_slice(
                            &divisors.scales()[i * panel_tiles..][..panel_tiles],
                        );
                    }
                }
            });
        })
    };
    Quantized { codes, scales }
}

/// Cuts a matrix into panels of at most [`TILES_A_PANEL`] tiles of one row, or of several short
/// rows, and runs `task` with the panels of each task.
pub(super) fn for_panels(
    rows: usize,
    cols: usize,
    task: impl Fn(&mut dyn Iterator<Item = Panels>) + Send + Sync,
) {
    if rows == 0 || cols == 0 {
        return;
    }
    let width = cols.next_multiple_of(TILE).min(ENTRIES_A_PANEL);
    let height = (ENTRIES_A_PANEL / width).min(TILE);
    let rows_a_task = (ENTRIES_A_TASK / cols).max(1).next_multiple_of(height);
    for_each(rows.div_ceil(rows_a_task), rows * cols * WORK, |index| {
        let band = chunk(index, rows_a_task, rows);
        let mut panels = (0..band.len().div_ceil(height)).flat_map(|part| {
            let part = chunk(part, height, band.len());
            let rows = band.start + part.start..band.start + part.end;
            (0..cols.div_ceil(width)).map(move |c| (rows.clone(), chunk(c, width, cols)))
        });
        task(&mut panels);
    });
}

/// Rows and columns of a panel.
pub(super) type Panels = (std::ops::Range<usize>, std::ops::Range<usize>);
