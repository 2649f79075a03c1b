//! Where codes of a panel go: rows of an output or of a buffer, or words, as they are or transposed.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::cut::Band;
use super::turn::{CodePanel, pack_transposed};
use crate::definition::{CODES_A_WORD, GroupedColumns, TILE, tiles, words};
use crate::host::output::Parts;
use crate::host::simd::{multiversion, prefetch};

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

/// Places of the codes of a panel's rows, each padded to a whole word.
pub(super) struct CodeRows<'a> {
    first: *mut MaybeUninit<u8>,
    rows: usize,
    len: usize,
    stride: usize,
    owner: PhantomData<&'a mut [MaybeUninit<u8>]>,
}

impl<'a> CodeRows<'a> {
    /// Rows of `columns` codes at the start of a buffer, one every `stride`.
    pub(super) fn of(codes: &'a mut [u8], rows: usize, columns: usize, stride: usize) -> Self {
        let len = words(columns) * CODES_A_WORD;
        let reach = if rows == 0 { 0 } else { (rows - 1) * stride + len };
        assert!(
            len <= stride && reach <= codes.len(),
            "invariant: a buffer has room for its panel's codes"
        );
        Self { first: codes.as_mut_ptr().cast(), rows, len, stride, owner: PhantomData }
    }

    /// Asks for the place of a row, if there is one.
    #[inline(always)]
    pub(super) fn prefetch(&self, row: usize) {
        let first = self.first.wrapping_add(row.min(self.rows) * self.stride).cast();
        prefetch(first, self.len);
    }

    /// The place of a row.
    #[inline(always)]
    pub(super) fn row(&mut self, row: usize) -> &mut [MaybeUninit<u8>] {
        assert!(row < self.rows, "invariant: a panel has this row");
        // SAFETY: the row lies inside what this was made of, which is borrowed for 'a.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.len) }
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

    /// Where the codes of some rows go in some columns, of which the first begins a tile.
    ///
    /// # Safety
    /// Nobody else uses these tiles while this is alive.
    pub(super) unsafe fn codes(&self, rows: Range<usize>, columns: Range<usize>) -> CodeRows<'_> {
        let len = words(columns.len());
        let start = rows.start * self.row_words + columns.start / CODES_A_WORD;
        let reach = if rows.is_empty() { 0 } else { (rows.len() - 1) * self.row_words + len };
        CodeRows {
            first: self.codes.address(start, reach).cast(),
            rows: rows.len(),
            len: len * CODES_A_WORD,
            stride: self.row_words * CODES_A_WORD,
            owner: PhantomData,
        }
    }

    /// Writes the scales of a row's tiles, from column `first` on.
    ///
    /// # Safety
    /// No other task writes these tiles.
    pub(super) unsafe fn write_scales(&self, row: usize, first: usize, scales: &[f32]) {
        let tile = row * self.row_tiles + first / TILE;
        // SAFETY: the caller vouches that the tiles are of one task.
        let out = unsafe { self.scales.part(tile, scales.len()) };
        match scales {
            // Not worth the call of a copy.
            [scale] => {
                out[0].write(*scale);
            }
            _ => {
                out.write_copy_of_slice(scales);
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
