//! Weights in the forms in which checkpoints store them.

use std::ops::Range;

use half::bf16;

use super::{KernelError, check_length, tiles};

/// Rows of a weight, as one tensor of a checkpoint holds them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StoredRows<'a> {
    /// BF16 values, `[rows, inputs]`.
    Bf16(&'a [bf16]),
    /// E4M3 in 128x128 blocks (3.3.2): a value is its code's times its block's scale.
    E4m3 {
        /// Codes, `[rows, inputs]`.
        codes: &'a [u8],
        /// What a block is multiplied by, `[tiles(rows), tiles(inputs)]`.
        scales: &'a [f32],
    },
}

/// A weight `[rows, inputs]` whose rows are those of several stored tensors, one after the other;
/// each has a grid of blocks of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMatrix<'a> {
    inputs: usize,
    rows: usize,
    pieces: Vec<(Range<usize>, StoredRows<'a>)>,
}

/// Consecutive rows of one piece.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredPart<'a> {
    /// The piece.
    pub stored: StoredRows<'a>,
    /// Which of its rows.
    pub rows: Range<usize>,
}

impl<'a> StoredMatrix<'a> {
    /// A weight of pieces with so many rows each.
    ///
    /// # Errors
    /// [`KernelError::Length`] naming `values`, `codes` or `scales` of a piece.
    ///
    /// # Example
    /// ```
    /// use cubecl_kernels::definition::{StoredMatrix, StoredRows};
    /// use cubecl_kernels::host;
    ///
    /// // 0x38 is the code of 1.
    /// let piece = StoredRows::E4m3 { codes: &[0x38, 0xB8], scales: &[0.5] };
    /// let w = StoredMatrix::new(2, [(1, piece), (1, piece)])?;
    /// assert_eq!(host::widen(&w), [0.5, -0.5, 0.5, -0.5]);
    /// # Ok::<(), cubecl_kernels::KernelError>(())
    /// ```
    pub fn new(
        inputs: usize,
        pieces: impl IntoIterator<Item = (usize, StoredRows<'a>)>,
    ) -> Result<Self, KernelError> {
        const OP: &str = "stored_matrix";
        let mut matrix = Self { inputs, rows: 0, pieces: Vec::new() };
        for (rows, stored) in pieces {
            match stored {
                StoredRows::Bf16(values) => {
                    check_length(OP, "values", values.len(), &[rows, inputs])?;
                }
                StoredRows::E4m3 { codes, scales } => {
                    check_length(OP, "codes", codes.len(), &[rows, inputs])?;
                    check_length(OP, "scales", scales.len(), &[tiles(rows), tiles(inputs)])?;
                }
            }
            // A piece without rows is no part of any run of rows.
            if rows > 0 {
                matrix.pieces.push((matrix.rows..matrix.rows + rows, stored));
                matrix.rows += rows;
            }
        }
        Ok(matrix)
    }

    /// Width of a row, `k`.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Rows of all pieces together.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Some of its rows, piece by piece.
    pub(crate) fn parts(&self, rows: Range<usize>) -> impl Iterator<Item = StoredPart<'a>> + '_ {
        let first = self.pieces.partition_point(|(piece, _)| piece.end <= rows.start);
        self.pieces[first..].iter().map_while(move |(piece, stored)| {
            let (start, end) = (rows.start.max(piece.start), rows.end.min(piece.end));
            (start < end).then(|| StoredPart {
                stored: *stored,
                rows: start - piece.start..end - piece.start,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_at_the_pieces() {
        let values = [bf16::ONE; 12];
        let piece = |rows: usize| (rows, StoredRows::Bf16(&values[..2 * rows]));
        let matrix = StoredMatrix::new(2, [piece(3), piece(0), piece(1), piece(6)]).unwrap();
        let cut = |rows| matrix.parts(rows).map(|part| part.rows).collect::<Vec<_>>();
        assert_eq!(cut(0..10), [0..3, 0..1, 0..6]);
        assert_eq!(cut(1..3), std::slice::from_ref(&(1..3)));
        assert_eq!(cut(3..5), [0..1, 0..1]);
        assert_eq!(cut(5..10), std::slice::from_ref(&(1..6)));
        assert_eq!(cut(4..4), []);
    }

    #[test]
    fn a_piece_that_does_not_fit_is_named() {
        let wrong = |stored| StoredMatrix::new(130, [(2, stored)]).unwrap_err().to_string();
        assert_eq!(
            wrong(StoredRows::Bf16(&[])),
            "stored_matrix: `values` has 0 elements, its shape [2, 130] needs 260"
        );
        assert_eq!(
            wrong(StoredRows::E4m3 { codes: &[0; 260], scales: &[1.0] }),
            "stored_matrix: `scales` has 1 elements, its shape [1, 2] needs 2"
        );
    }
}
