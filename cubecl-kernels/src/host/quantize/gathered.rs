//! Rows of a matrix by index, cast on the way: permuted and quantized in one read (3.2.2, 3.3.3).

use std::ops::Range;

use super::amax;
use super::columns::{self, columns_layout};
use super::cut::{ENTRIES_A_PANEL, for_panels};
use super::divisor::Divisors;
use super::encode::encode_rows;
use super::panel::{Element, Panel, Source, computed_rows};
use super::rows::{self, check_row_tiles};
use super::store::{CodeRows, pack};
use crate::definition::{
    CODES_A_WORD, Fp8Format, KernelError, QuantizeOptions, Quantized, ScaleFormat, TILE,
    WireFormat, check_length, tiles, words,
};
use crate::host::buffer::Buffer;
use crate::host::output::{Parts, build};
use crate::host::permute::check_indices;

/// Row `i` is row `index[i]` of a matrix in memory.
pub(in crate::host) struct Gathered<'a, E> {
    pub(in crate::host) x: &'a [E],
    pub(in crate::host) index: &'a [u32],
    pub(in crate::host) cols: usize,
}

impl<'g, E: Element> Gathered<'g, E> {
    /// Rows of a matrix `[rows, cols]`, each of which is there.
    fn new(
        op: &'static str,
        x: &'g [E],
        index: &'g [u32],
        rows: usize,
        cols: usize,
    ) -> Result<Self, KernelError> {
        check_length(op, "x", x.len(), &[rows, cols])?;
        check_indices(op, "index", index, rows)?;
        Ok(Self { x, index, cols })
    }

    fn load<'a>(&'a self, row: usize, columns: Range<usize>, buffer: &'a mut Buffer) -> Panel<'a> {
        E::load(
            &self.x[self.index[row] as usize * self.cols + columns.start..],
            self.cols,
            1,
            columns.len(),
            buffer,
        )
    }
}

impl<E: Element> Source for Gathered<'_, E> {
    fn panel<'a>(
        &'a self,
        rows: Range<usize>,
        columns: Range<usize>,
        buffer: &'a mut Buffer,
    ) -> Panel<'a> {
        if rows.len() == 1 {
            return self.load(rows.start, columns, buffer);
        }
        // Several short rows, which lie apart.
        let mut of_row = Buffer::take();
        computed_rows(rows, columns.len(), buffer, |row, out| {
            out.copy_from_slice(self.load(row, columns.clone(), &mut of_row).row(0));
        })
    }
}

/// Casts rows by index as [`quantize_rows`](super::quantize_rows) does of their copies, which are
/// never in memory as a whole.
///
/// # Shapes
/// - `x [rows, cols]`, `index [m]` -> codes `[m, words(cols)]`, scales `[m, tiles(cols)]`
///
/// # Errors
/// [`KernelError::Length`] naming `x`, [`KernelError::Index`] naming the place in `index`.
///
/// Source: technical report 3.2.2, 3.3.2.
pub fn quantize_gathered_rows<E: Element>(
    x: &[E],
    index: &[u32],
    rows: usize,
    cols: usize,
    options: &QuantizeOptions,
) -> Result<Quantized, KernelError> {
    const OP: &str = "quantize_gathered_rows";
    let source = Gathered::new(OP, x, index, rows, cols)?;
    check_row_tiles(OP, index.len(), cols)?;
    Ok(rows::quantize(&source, index.len(), cols, options))
}

/// Casts rows by index as [`quantize_both`](super::quantize_both) does of their copies: (rows,
/// columns).
///
/// # Shapes
/// - `x [rows, cols]`, `index [m]`, `offsets [groups + 1]` rising from 0 to `m` -> as there
///
/// # Errors
/// The errors of [`quantize_gathered_rows`], [`KernelError::Invalid`] naming `offsets`, and
/// [`KernelError::Length`] naming `index` where it has not the rows of `offsets`.
pub fn quantize_gathered<E: Element>(
    x: &[E],
    index: &[u32],
    offsets: &[usize],
    rows: usize,
    cols: usize,
    options: &QuantizeOptions,
) -> Result<(Quantized, Quantized), KernelError> {
    const OP: &str = "quantize_gathered";
    let source = Gathered::new(OP, x, index, rows, cols)?;
    let layout = columns_layout(OP, offsets, cols)?;
    check_length(OP, "index", index.len(), &[offsets[offsets.len() - 1]])?;
    check_row_tiles(OP, index.len(), cols)?;
    Ok(columns::by_rows_and_columns(&source, offsets, &layout, cols, options))
}

/// Rows in [`WireFormat::Fp8`].
///
/// # Shapes
/// - `rows [m, cols]` -> `[m, row_words(cols)]`
pub(in crate::host) fn pack_fp8<E: Element>(rows: &Gathered<'_, E>) -> Vec<u32> {
    let (count, cols) = (rows.index.len(), rows.cols);
    let row_words = WireFormat::Fp8.row_words(cols);
    // SAFETY: the panels cover all rows and columns, and each writes the words of its codes and of
    // its scales; panels start at a multiple of four tiles, so that no word of scales is of two of
    // them.
    unsafe {
        build(count * row_words, |out| {
            let out = Parts::new(out);
            for_panels(count, cols, |panels| {
                let (mut buffer, mut divisors) = (Buffer::take(), Divisors::fp8(Fp8Format::E4M3));
                let mut codes = [0; ENTRIES_A_PANEL + TILE * CODES_A_WORD];
                let mut largest = [0.0; TILE];
                for (panel_rows, columns) in panels {
                    let panel = rows.panel(panel_rows.clone(), columns.clone(), &mut buffer);
                    let (first, panel_tiles) = (columns.start / TILE, tiles(columns.len()));
                    let largest = &mut largest[..panel.rows * panel_tiles];
                    amax::of_rows(panel, largest);
                    divisors.set_amax(largest, ScaleFormat::PowerOfTwo);
                    let stride = words(columns.len()) * CODES_A_WORD;
                    let places = CodeRows::of(&mut codes, panel.rows, panel.columns, stride);
                    encode_rows(panel, &divisors, places, Fp8Format::E4M3);
                    for (i, r) in panel_rows.enumerate() {
                        let place = r * row_words + columns.start / CODES_A_WORD;
                        pack(
                            &codes[i * stride..][..columns.len()],
                            out.part(place, words(columns.len())),
                        );
                        let place = r * row_words + words(cols) + first / CODES_A_WORD;
                        pack_exponents(
                            &divisors.scales()[i * panel_tiles..][..panel_tiles],
                            out.part(place, words(panel_tiles)),
                        );
                    }
                }
            });
        })
    }
}

/// Four biased exponents a word.
fn pack_exponents(scales: &[f32], out: &mut [std::mem::MaybeUninit<u32>]) {
    for (out, scales) in out.iter_mut().zip(scales.chunks(CODES_A_WORD)) {
        let bytes = scales.iter().enumerate().map(|(i, scale)| (scale.to_bits() >> 23) << (8 * i));
        out.write(bytes.sum());
    }
}
