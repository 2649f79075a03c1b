//! Device code: products of FP32 matrices by tiles of a plane, for a software renderer.

use super::direct::Steps;
use crate::device::plane_tile::{
    LANES, PAIR, PlaneTile, add_plane_dots, column_lines, row_lines, write_row, zero_sums,
};
use cubecl::prelude::*;

/// Units of a cube.
pub(crate) const UNITS: u32 = 32;

/// Sizes of a product; steps and bases are counted in words of two numbers.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(crate) struct PlaneSizes {
    pub(crate) m: u32,
    pub(crate) n: u32,
    pub(crate) k: u32,
    pub(crate) a: Steps,
    pub(crate) b: Steps,
    pub(crate) c_base: u32,
}

/// `c[i, j] (+)= sum over l of a[i, l] b[j, l]`, in the order of `l`, a tile a plane; added to what
/// is there where `added`.
///
/// # Shapes
/// `a` and `b` by their steps, `c` `[m, n]` from its base on, all in words.
#[cube(launch_unchecked)]
pub(crate) fn product_planes(
    a: &[u64],
    b: &[u64],
    c: &mut [u64],
    sizes: PlaneSizes,
    #[comptime] tile: PlaneTile,
    #[comptime] added: bool,
) {
    let across = sizes.n.div_ceil(comptime!(tile.columns()));
    let plane = ABSOLUTE_POS as u32 / LANES;
    let row = plane / across * comptime!(tile.rows);
    let column = plane % across * comptime!(tile.columns());
    if row < sizes.m {
        let a_lines = row_lines(sizes.a.base, row, sizes.m, sizes.a.row, tile);
        let b_lines = column_lines(sizes.b.base, column, sizes.n, sizes.b.row, tile);
        let mut sums = zero_sums(tile);
        let (a_apart, b_apart) = (sizes.a.depth, sizes.b.depth);
        add_plane_dots(a, &a_lines, a_apart, b, &b_lines, b_apart, sizes.k, &mut sums, tile);
        #[unroll]
        for i in 0..comptime!(tile.rows) {
            if row + i < sizes.m {
                let at = sizes.c_base + (row + i) * (sizes.n / PAIR);
                write_row(&sums, c, at, column, sizes.n, i, added, tile);
            }
        }
    }
}
