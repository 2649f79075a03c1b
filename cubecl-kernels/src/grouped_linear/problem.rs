//! Device code: which part of which expert's product a cube or a plane computes.

use crate::device::piece_of_rows;
use cubecl::prelude::*;

/// Which part of the operands an expert has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Along {
    /// Its rows of `A`, all of the depth.
    Rows,
    /// Its rows are the depth.
    Depth,
}

/// Sizes of a product, and the steps from one row, one depth and one expert of each operand to the
/// next, in entries or in vectors of them.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Sizes {
    /// Rows of `C` an expert, where they are not its rows of `A`.
    pub(super) m: u32,
    pub(super) n: u32,
    /// Depth, where it is not an expert's.
    pub(super) k: u32,
    pub(super) experts: u32,
    pub(super) a_row: u32,
    pub(super) a_depth: u32,
    pub(super) b_row: u32,
    pub(super) b_depth: u32,
    pub(super) b_expert: u32,
}

/// What one cube or plane multiplies.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Problem {
    /// First row of the tile, and the first that is not to be taken; of `A` and of `C` alike but
    /// for `c_row`.
    pub(super) row: u32,
    pub(super) row_end: u32,
    /// From a row of `A` to that of `C`.
    pub(super) c_row: u32,
    pub(super) column: u32,
    pub(super) depth: u32,
    pub(super) depth_end: u32,
    /// Where the expert's `B` begins.
    pub(super) b_start: u32,
}

/// The tile from `column` on of piece `piece` of the rows of all experts, which are cut into pieces
/// of `rows` and numbered in one row; along the depth piece `piece` of the rows of `expert`.
#[cube]
pub(super) fn locate(
    bounds: &[u32],
    sizes: &Sizes,
    column: u32,
    piece: u32,
    expert: u32,
    #[comptime] along: Along,
    #[comptime] rows: u32,
) -> Problem {
    if comptime!(matches!(along, Along::Rows)) {
        let piece = piece_of_rows(bounds, sizes.experts, piece, rows);
        Problem {
            row: piece.first,
            row_end: piece.end,
            c_row: 0u32,
            column,
            depth: 0u32,
            depth_end: sizes.k,
            b_start: piece.group * sizes.b_expert,
        }
    } else {
        Problem {
            row: piece * rows,
            row_end: sizes.m,
            c_row: expert * sizes.m,
            column,
            depth: bounds[expert as usize],
            depth_end: bounds[(expert + 1u32) as usize],
            b_start: 0u32,
        }
    }
}
