//! E5M6: the input of the linear after attention (3.3.3).

use std::mem::MaybeUninit;
use std::ops::Range;

use super::amax;
use super::columns::{self, columns_layout};
use super::cut::{ENTRIES_A_PANEL, for_panels};
use super::decode::decode_e5m6_row;
use super::dequantize::by_rows;
use super::encode::encode_e5m6_row;
use super::panel::{Element, Matrix, Panel, Source, computed_rows};
use crate::definition::{
    E5M6_MAX, E5m6, KernelError, QuantizeOptions, Quantized, ScaleFormat, TILE, check_length,
    e5m6_multiplier, e5m6_words, element_count, scale_of, tiles,
};
use crate::host::buffer::Buffer;
use crate::host::output::{Parts, build_two};
use crate::host::simd::multiversion;

/// Casts to E5M6 in row tiles: `scale = max(amax, 1e-4) / 65024`, or the power of two at or above,
/// `code = round(x * (1 / scale))`; NaN stays NaN.
///
/// [`encode_e5m6`](crate::definition::encode_e5m6) says how is rounded,
/// [`e5m6_multiplier`](crate::definition::e5m6_multiplier) what is multiplied by, [`E5m6`] how the
/// codes lie.
///
/// # Shapes
/// - `x [rows, cols]` -> codes `[rows, e5m6_words(cols)]`, scales `[rows, tiles(cols)]`
///
/// # Errors
/// [`KernelError::Length`] naming `x`.
///
/// Source: technical report 3.3.3.
pub fn quantize_e5m6<E: Element>(
    x: &[E],
    rows: usize,
    cols: usize,
    scale: ScaleFormat,
) -> Result<E5m6, KernelError> {
    const OP: &str = "quantize_e5m6";
    check_length(OP, "x", x.len(), &[rows, cols])?;
    element_count(OP, "codes", &[rows, e5m6_words(cols)])?;
    element_count(OP, "scales", &[rows, tiles(cols)])?;
    let source = Matrix { x, cols };
    let (row_words, row_tiles) = (e5m6_words(cols), tiles(cols));
    // SAFETY: the panels cover all rows and columns, and each writes its words and scales.
    let (codes, scales) = unsafe {
        build_two([rows * row_words, rows * row_tiles], |codes, scales| {
            let (codes_out, scales_out) = (Parts::new(codes), Parts::new(scales));
            for_panels(rows, cols, |panels| {
                let (mut buffer, mut multipliers) = (Buffer::take(), Multipliers::default());
                let (mut codes, mut largest) = ([0; ENTRIES_A_PANEL], [0.0; TILE]);
                for (panel_rows, columns) in panels {
                    let panel = source.panel(panel_rows.clone(), columns.clone(), &mut buffer);
                    let panel_tiles = tiles(columns.len());
                    amax::of_rows(panel, &mut largest[..panel.rows * panel_tiles]);
                    for (i, r) in panel_rows.enumerate() {
                        multipliers.set(&largest[i * panel_tiles..][..panel_tiles], scale);
                        let codes = &mut codes[..columns.len()];
                        encode_e5m6_row(panel.row(i), &multipliers, codes);
                        // A panel starts at a whole tile, so at a whole word.
                        let out = codes_out.part(
                            r * row_words + e5m6_words(columns.start),
                            e5m6_words(columns.len()),
                        );
                        pack(codes, out);
                        let out =
                            scales_out.part(r * row_tiles + columns.start / TILE, panel_tiles);
                        out.write_copy_of_slice(multipliers.scales());
                    }
                }
            });
        })
    };
    Ok(E5m6 { codes, scales })
}

/// Computes what E5M6 codes stand for, `scale * decode(code)`.
///
/// # Shapes
/// - codes `[rows, e5m6_words(cols)]`, scales `[rows, tiles(cols)]` -> `[rows, cols]`
///
/// # Errors
/// [`KernelError::Length`] naming `codes` or `scales`.
pub fn dequantize_e5m6(
    codes: &[u32],
    scales: &[f32],
    rows: usize,
    cols: usize,
) -> Result<Vec<f32>, KernelError> {
    let source = E5m6Tiles::new("dequantize_e5m6", codes, scales, rows, cols)?;
    Ok(by_rows(rows, cols, |r, out| source.row(r, 0, out)))
}

/// Makes FP8 column tiles of E5M6 row tiles, as backward does with the kept input of the linear
/// after attention, whose 1x128 tiles become 128x1 (3.3.3).
///
/// # Shapes
/// - codes `[rows, e5m6_words(cols)]`, scales `[rows, tiles(cols)]`, `offsets [groups + 1]` ->
///   codes `[cols, total words]`, scales `[cols, total tiles]`
///
/// # Errors
/// [`KernelError::Length`] naming `codes` or `scales`, [`KernelError::Invalid`] naming `offsets`.
pub fn quantize_columns_from_e5m6(
    codes: &[u32],
    scales: &[f32],
    offsets: &[usize],
    cols: usize,
    options: &QuantizeOptions,
) -> Result<Quantized, KernelError> {
    const OP: &str = "quantize_columns_from_e5m6";
    let layout = columns_layout(OP, offsets, cols)?;
    let source = E5m6Tiles::new(OP, codes, scales, offsets[offsets.len() - 1], cols)?;
    Ok(columns::quantize(&source, offsets, &layout, cols, options))
}

multiversion! {
    /// Packs 12-bit codes, eight in three words from the highest bit down; what is left of the last
    /// word is zero.
    fn pack(codes: &[u16], out: &mut [MaybeUninit<u32>]) {
        let three = |codes: &[u16; 8]| {
            let code = |i: usize| u32::from(codes[i]);
            [
                code(0) << 20 | code(1) << 8 | code(2) >> 4,
                code(2) << 28 | code(3) << 16 | code(4) << 4 | code(5) >> 8,
                code(5) << 24 | code(6) << 12 | code(7),
            ]
        };
        let (eights, tail) = codes.as_chunks();
        let (full, last) = out.split_at_mut(eights.len() * 3);
        for (codes, out) in eights.iter().zip(full.as_chunks_mut::<3>().0) {
            out.write_copy_of_slice(&three(codes));
        }
        let mut codes = [0; 8];
        codes[..tail.len()].copy_from_slice(tail);
        last.write_copy_of_slice(&three(&codes)[..last.len()]);
    }
}

/// Scales of the tiles of a row of a panel, and what its entries are multiplied by.
pub(super) struct Multipliers {
    scales: [f32; TILE],
    multipliers: [f32; TILE],
    count: usize,
}

impl Default for Multipliers {
    fn default() -> Self {
        Self { scales: [0.0; TILE], multipliers: [0.0; TILE], count: 0 }
    }
}

impl Multipliers {
    /// Sets those of tiles with these largest magnitudes; at most [`TILE`] of them.
    fn set(&mut self, amax: &[f32], format: ScaleFormat) {
        self.count = amax.len();
        for ((scale, multiplier), &amax) in
            self.scales.iter_mut().zip(&mut self.multipliers).zip(amax)
        {
            *scale = scale_of(amax, E5M6_MAX, format);
            *multiplier = e5m6_multiplier(amax, format);
        }
    }

    fn scales(&self) -> &[f32] {
        &self.scales[..self.count]
    }

    /// What the entries of each tile are multiplied by.
    pub(super) fn values(&self) -> &[f32] {
        &self.multipliers[..self.count]
    }
}

/// A matrix in E5M6.
struct E5m6Tiles<'a> {
    codes: &'a [u32],
    scales: &'a [f32],
    cols: usize,
}

impl<'a> E5m6Tiles<'a> {
    fn new(
        op: &'static str,
        codes: &'a [u32],
        scales: &'a [f32],
        rows: usize,
        cols: usize,
    ) -> Result<Self, KernelError> {
        check_length(op, "codes", codes.len(), &[rows, e5m6_words(cols)])?;
        check_length(op, "scales", scales.len(), &[rows, tiles(cols)])?;
        element_count(op, "x", &[rows, cols])?;
        Ok(Self { codes, scales, cols })
    }

    fn row(&self, row: usize, first: usize, out: &mut [f32]) {
        let (row_words, row_tiles) = (e5m6_words(self.cols), tiles(self.cols));
        decode_e5m6_row(
            &self.codes[row * row_words..][..row_words],
            &self.scales[row * row_tiles..][..row_tiles],
            first,
            out,
        );
    }
}

impl Source for E5m6Tiles<'_> {
    fn panel<'a>(
        &'a self,
        rows: Range<usize>,
        columns: Range<usize>,
        buffer: &'a mut Buffer,
    ) -> Panel<'a> {
        computed_rows(rows, columns.len(), buffer, |r, out| self.row(r, columns.start, out))
    }
}
