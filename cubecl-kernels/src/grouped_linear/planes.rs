//! Device code: one tile of the product of one expert a plane, for a software renderer.

use super::problem::{Along, Sizes, locate};
use crate::device::plane_tile::{
    LANES, PAIR, PlaneTile, add_plane_dots, column_lines, row_lines, write_row, zero_sums,
};
use cubecl::prelude::*;

/// Units of a cube.
pub(super) const UNITS: u32 = 32;

/// `c[i, j] = sum over l of a[i, l] b[j, l]` of each expert, in the order of `l`.
///
/// # Shapes
/// Those of [`grouped_product`](super::kernel::grouped_product), in words of two numbers, and so the steps of
/// `sizes`; `planes` tiles.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn grouped_planes(
    a: &[u64],
    b: &[u64],
    bounds: &[u32],
    c: &mut [u64],
    sizes: Sizes,
    planes: u32,
    #[comptime] along: Along,
    #[comptime] tile: PlaneTile,
) {
    let plane = ABSOLUTE_POS as u32 / LANES;
    if plane < planes {
        let across = sizes.n.div_ceil(comptime!(tile.columns()));
        let column = plane % across * comptime!(tile.columns());
        let rows = comptime!(tile.rows);
        // Along the rows nobody asks for the expert.
        let down = sizes.m.div_ceil(rows);
        let piece = plane / across;
        let expert = piece / down;
        let piece = if comptime!(matches!(along, Along::Rows)) { piece } else { piece % down };
        let problem = locate(bounds, &sizes, column, piece, expert, along, rows);
        if problem.row < problem.row_end {
            let a_base = problem.depth * sizes.a_depth;
            let b_base = problem.b_start + problem.depth * sizes.b_depth;
            let a_lines = row_lines(a_base, problem.row, problem.row_end, sizes.a_row, tile);
            let b_lines = column_lines(b_base, column, sizes.n, sizes.b_row, tile);
            let mut sums = zero_sums(tile);
            let depth = problem.depth_end - problem.depth;
            let (a_apart, b_apart) = (sizes.a_depth, sizes.b_depth);
            add_plane_dots(a, &a_lines, a_apart, b, &b_lines, b_apart, depth, &mut sums, tile);
            #[unroll]
            for i in 0..comptime!(tile.rows) {
                if problem.row + i < problem.row_end {
                    let at = (problem.c_row + problem.row + i) * (sizes.n / PAIR);
                    write_row(&sums, c, at, column, sizes.n, i, false, tile);
                }
            }
        }
    }
}
