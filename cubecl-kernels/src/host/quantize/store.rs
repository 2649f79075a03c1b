//! Codes of a panel into words, as they are or transposed.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::cut::Band;
use super::turn::{CodePanel, pack_transposed};
use crate::definition::{CODES_A_WORD, GroupedColumns, TILE, tiles, words};
use crate::host::output::Parts;
use crate::host::simd::multiversion;

multiversion! {
    /// Packs codes, of which there may be up to three fewer than the words hold; the rest is zero.
    pub(super) fn pack(codes: &[u8], out: &mut [MaybeUninit<u32>]) {
        let (full, tail) = codes.as_chunks::<CODES_A_WORD>();
        let (out, last) = out.split_at_mut(full.len());
        for (codes, out) in full.iter().zip(out) {
            out.write(u32::from_le_bytes(*codes));
        }
        for out in last {
            let mut codes = [0; CODES_A_WORD];
            codes[..tail.len()].copy_from_slice(tail);
            out.write(u32::from_le_bytes(codes));
        }
    }
}

/// Row tiles that tasks write: codes `[rows, row_words]` and scales `[rows, row_tiles]`.
pub(super) struct RowTilesOut<'a> {
    codes: Parts<'a, u32>,
    scales: Parts<'a>,
    row_words: usize,
    row_tiles: usize,
}

impl<'a> RowTilesOut<'a> {
    /// The row tiles of a matrix of `cols` columns.
    pub(super) fn new(
        codes: &'a mut [MaybeUninit<u32>],
        scales: &'a mut [MaybeUninit<f32>],
        cols: usize,
    ) -> Self {
        let (codes, scales) = (Parts::new(codes), Parts::new(scales));
        Self { codes, scales, row_words: words(cols), row_tiles: tiles(cols) }
    }

    /// Writes the codes of a row in the columns from `first` on, which is a whole tile, and their
    /// scales.
    ///
    /// # Safety
    /// No other task writes these tiles.
    pub(super) unsafe fn write(&self, row: usize, first: usize, codes: &[u8], scales: &[f32]) {
        let word = row * self.row_words + first / CODES_A_WORD;
        let tile = row * self.row_tiles + first / TILE;
        // SAFETY: the caller vouches that the tiles, and so their words, are of one task.
        unsafe {
            pack(codes, self.codes.part(word, words(codes.len())));
            match scales {
                // Not worth the call of a copy.
                [scale] => {
                    self.scales.part(tile, 1)[0].write(*scale);
                }
                _ => {
                    self.scales.part(tile, scales.len()).write_copy_of_slice(scales);
                }
            }
        }
    }
}

/// Column tiles that tasks write: codes `[cols, col_words]` and scales `[cols, col_tiles]`.
pub(super) struct ColumnTilesOut<'a> {
    codes: Parts<'a, u32>,
    scales: Parts<'a>,
    col_words: usize,
    col_tiles: usize,
}

impl<'a> ColumnTilesOut<'a> {
    /// The column tiles of rows in groups.
    pub(super) fn new(
        codes: &'a mut [MaybeUninit<u32>],
        scales: &'a mut [MaybeUninit<f32>],
        layout: &GroupedColumns,
    ) -> Self {
        let total = |firsts: &[usize]| firsts[firsts.len() - 1];
        Self {
            codes: Parts::new(codes),
            scales: Parts::new(scales),
            col_words: total(&layout.words),
            col_tiles: total(&layout.tiles),
        }
    }

    /// Asks for the places of a band's codes in some columns: each lies in lines of its own, far
    /// from the next.
    pub(super) fn prefetch(&self, band: &Band, columns: Range<usize>) {
        for c in columns {
            self.codes.prefetch(c * self.col_words + band.word, words(band.rows.len()));
        }
    }

    /// Writes a band's codes in some columns, which are turned on the way, and their scales.
    ///
    /// # Safety
    /// No other task writes these columns of the band.
    pub(super) unsafe fn write(
        &self,
        band: &Band,
        columns: Range<usize>,
        codes: &mut CodePanel,
        scales: &[f32],
    ) {
        let start = columns.start * self.col_words + band.word;
        // SAFETY: the caller vouches that the band's word and tile of these columns are of one
        // task.
        unsafe {
            let (rows, count) = (band.rows.len(), columns.len());
            pack_transposed(codes, rows, count, &self.codes, start, self.col_words);
            for (c, &scale) in columns.zip(scales) {
                self.scales.part(c * self.col_tiles + band.tile, 1)[0].write(scale);
            }
        }
    }
}
