//! Quantized matrices as the operands of a product: codes, scales and sizes together, borrowed.

use super::{Fp8Format, KernelError, TILE, check_length, tiles, words};

/// A matrix with a scale for each row and each [`TILE`] of its depth (1x128): an activation, a
/// gradient, or either of them tiled along the tokens and stored transposed (3.3.2).
///
/// # Shapes
/// - `codes [rows, words(depth)]`, `scales [rows, tiles(depth)]`
#[derive(Debug, Clone, Copy)]
pub struct RowTiled<'a> {
    /// Four codes a word; each row padded with zero codes.
    pub codes: &'a [u32],
    /// Multipliers that dequantize.
    pub scales: &'a [f32],
    /// Rows.
    pub rows: usize,
    /// Entries of a row: the dimension that a product sums over.
    pub depth: usize,
    /// The format of the codes.
    pub format: Fp8Format,
}

/// In which order the scales of a [`BlockTiled`] lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum BlockScales {
    /// `[tiles(rows), tiles(depth)]`: the scales were made of the matrix as it stands (Fprop).
    #[default]
    Stored,
    /// `[tiles(depth), tiles(rows)]`: the codes were transposed since, the scales were not (Dgrad).
    Transposed,
}

/// A weight with a scale for each block of [`TILE`] x [`TILE`], or several of them (experts),
/// stacked (3.3.2).
///
/// # Shapes
/// - `codes [experts, rows, words(depth)]`, `scales [experts, tiles(rows), tiles(depth)]`, the last
///   two exchanged with [`BlockScales::Transposed`]
#[derive(Debug, Clone, Copy)]
pub struct BlockTiled<'a> {
    /// Four codes a word; each row padded with zero codes.
    pub codes: &'a [u32],
    /// Multipliers that dequantize.
    pub scales: &'a [f32],
    /// The order of the scales.
    pub scale_layout: BlockScales,
    /// Rows of one matrix.
    pub rows: usize,
    /// Entries of a row: the dimension that a product sums over.
    pub depth: usize,
    /// The format of the codes.
    pub format: Fp8Format,
}

impl RowTiled<'_> {
    /// Checks both lengths; `names` are those of the codes and of the scales.
    ///
    /// # Errors
    /// [`KernelError::Length`] or [`KernelError::Overflow`].
    pub(crate) fn check(
        &self,
        op: &'static str,
        names: [&'static str; 2],
    ) -> Result<(), KernelError> {
        check_length(op, names[0], self.codes.len(), &[self.rows, words(self.depth)])?;
        check_length(op, names[1], self.scales.len(), &[self.rows, tiles(self.depth)])
    }
}

impl BlockTiled<'_> {
    /// Checks both lengths of `experts` matrices; `names` are those of the codes and of the scales.
    ///
    /// # Errors
    /// [`KernelError::Length`] or [`KernelError::Overflow`].
    pub(crate) fn check(
        &self,
        op: &'static str,
        names: [&'static str; 2],
        experts: usize,
    ) -> Result<(), KernelError> {
        check_length(op, names[0], self.codes.len(), &[experts, self.rows, words(self.depth)])?;
        check_length(
            op,
            names[1],
            self.scales.len(),
            &[experts, tiles(self.rows), tiles(self.depth)],
        )
    }
}

/// Either kind, or a part of one, in the one form that products read: entry `(row, i)` is
/// `scale(row, i / TILE) * decode(codes[first_word + row * row_words + i / 4])`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OperandView<'a> {
    pub(crate) codes: &'a [u32],
    pub(crate) row_words: usize,
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) format: Fp8Format,
    pub(crate) scales: &'a [f32],
    /// Rows that share a scale, 1 or [`TILE`].
    pub(crate) scale_rows: usize,
    pub(crate) scale_row_stride: usize,
    pub(crate) scale_tile_stride: usize,
}

impl<'a> OperandView<'a> {
    /// The rows `first..first + rows` of a matrix that has been checked.
    pub(crate) fn rows_of(x: &RowTiled<'a>, first: usize, rows: usize) -> Self {
        Self {
            codes: &x.codes[first * words(x.depth)..][..rows * words(x.depth)],
            row_words: words(x.depth),
            rows,
            depth: x.depth,
            format: x.format,
            scales: &x.scales[first * tiles(x.depth)..][..rows * tiles(x.depth)],
            scale_rows: 1,
            scale_row_stride: tiles(x.depth),
            scale_tile_stride: 1,
        }
    }

    /// One expert's weight.
    pub(crate) fn expert_of(x: &BlockTiled<'a>, expert: usize) -> Self {
        let (words, table) = (x.rows * words(x.depth), tiles(x.rows) * tiles(x.depth));
        let (scale_row_stride, scale_tile_stride) = match x.scale_layout {
            BlockScales::Stored => (tiles(x.depth), 1),
            BlockScales::Transposed => (1, tiles(x.rows)),
        };
        Self {
            codes: &x.codes[expert * words..][..words],
            row_words: super::words(x.depth),
            rows: x.rows,
            depth: x.depth,
            format: x.format,
            scales: &x.scales[expert * table..][..table],
            scale_rows: TILE,
            scale_row_stride,
            scale_tile_stride,
        }
    }

    /// The scale of a row's tile.
    #[inline(always)]
    pub(crate) fn scale(&self, row: usize, tile: usize) -> f32 {
        // By a constant: a division takes as long as decoding a dozen codes.
        let row = if self.scale_rows == 1 { row } else { row / TILE };
        self.scales[row * self.scale_row_stride + tile * self.scale_tile_stride]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposed_scales_are_read_from_the_same_table() {
        // 130 x 260: tiles 2 x 3.
        let scales: Vec<f32> = (0..6u8).map(f32::from).collect();
        let stored = BlockTiled {
            codes: &vec![0; 130 * 65],
            scales: &scales,
            scale_layout: BlockScales::Stored,
            rows: 130,
            depth: 260,
            format: Fp8Format::E4M3,
        };
        let transposed = BlockTiled {
            codes: &vec![0; 260 * 33],
            scale_layout: BlockScales::Transposed,
            rows: 260,
            depth: 130,
            ..stored
        };
        stored.check("op", ["codes", "scales"], 1).unwrap();
        transposed.check("op", ["codes", "scales"], 1).unwrap();
        let (stored, transposed) =
            (OperandView::expert_of(&stored, 0), OperandView::expert_of(&transposed, 0));
        for (row, i) in [(0, 0), (127, 128), (128, 259), (129, 5)] {
            assert_eq!(stored.scale(row, i / TILE), transposed.scale(i, row / TILE));
        }
        assert_eq!(stored.scale(129, 2), 5.0);
    }
}
