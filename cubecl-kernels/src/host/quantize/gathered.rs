//! Rows of a matrix by index, cast on the way: permuted and quantized in one read (3.2.2, 3.3.3).

use std::ops::Range;

use super::amax;
use super::cut::{ENTRIES_A_PANEL, for_panels};
use super::divisor::Divisors;
use super::encode::encode_rows;
use super::panel::{Element, Panel, Source, computed_rows};
use super::store::pack;
use crate::definition::{CODES_A_WORD, Fp8Format, ScaleFormat, TILE, WireFormat, tiles, words};
use crate::host::output::{Parts, build};

/// Row `i` is row `index[i]` of a matrix in memory.
pub(in crate::host) struct Gathered<'a, E> {
    pub(in crate::host) x: &'a [E],
    pub(in crate::host) index: &'a [u32],
    pub(in crate::host) cols: usize,
}

impl<E: Element> Gathered<'_, E> {
    fn load<'a>(
        &'a self,
        row: usize,
        columns: Range<usize>,
        buffer: &'a mut Vec<f32>,
    ) -> Panel<'a> {
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
        buffer: &'a mut Vec<f32>,
    ) -> Panel<'a> {
        if rows.len() == 1 {
            return self.load(rows.start, columns, buffer);
        }
        // Several short rows, which lie apart.
        let mut of_row = Vec::new();
        computed_rows(rows, columns.len(), buffer, |row, out| {
            out.copy_from_slice(self.load(row, columns.clone(), &mut of_row).row(0));
        })
    }
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
                let (mut buffer, mut divisors) = (Vec::new(), Divisors::fp8(Fp8Format::E4M3));
                let mut codes = [0; ENTRIES_A_PANEL + TILE * CODES_A_WORD];
                let mut largest = [0.0; TILE];
                for (panel_rows, columns) in panels {
                    let panel = rows.panel(panel_rows.clone(), columns.clone(), &mut buffer);
                    let (first, panel_tiles) = (columns.start / TILE, tiles(columns.len()));
                    let largest = &mut largest[..panel.rows * panel_tiles];
                    amax::of_rows(panel, largest);
                    divisors.set_amax(largest, ScaleFormat::PowerOfTwo);
                    let stride = words(columns.len()) * CODES_A_WORD;
                    encode_rows(panel, &divisors, &mut codes, stride, Fp8Format::E4M3);
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
