//! Device code: products of FP32 matrices by tiles in the registers of one unit, for devices whose
//! shared memory is no nearer than any other.

use crate::device::tile::{Along, EACH, Lines, Loads, add_dots, lines, zero_tile};
use cubecl::prelude::*;

/// Units of a cube.
pub(crate) const UNITS: u32 = 32;

/// An operand: where it begins, the steps from one row and one depth to the next, in vectors. Along
/// [`Along::Lines`] rows lie together and have no step.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(crate) struct Steps {
    pub(crate) base: u32,
    pub(crate) row: u32,
    pub(crate) depth: u32,
}

/// Sizes of a product.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(crate) struct DirectSizes {
    pub(crate) m: u32,
    pub(crate) n: u32,
    pub(crate) k: u32,
    pub(crate) a: Steps,
    pub(crate) b: Steps,
    pub(crate) c_base: u32,
    /// Units of a cube along the columns.
    pub(crate) across: u32,
}

/// `c[i, j] (+)= sum over l of a[i, l] b[j, l]`, in the order of `l`, a tile of [`EACH`] squared a
/// unit; added to what is there where `added`.
///
/// # Shapes
/// `a` and `b` by their steps, `c` `[m, n]` from its base on.
#[cube(launch_unchecked)]
pub(crate) fn product_direct<N: Size>(
    a: &[Vector<f32, N>],
    b: &[Vector<f32, N>],
    c: &mut [f32],
    sizes: DirectSizes,
    #[comptime] loads: Loads,
    #[comptime] added: bool,
) {
    let down = UNITS / sizes.across;
    let row = (CUBE_POS_Y * down + UNIT_POS / sizes.across) * EACH;
    let column = (CUBE_POS_X * sizes.across + UNIT_POS % sizes.across) * EACH;
    if row < sizes.m && column < sizes.n {
        let a_lines = operand_lines(sizes.a, row, sizes.m, comptime!(loads.a), loads);
        let b_lines = operand_lines(sizes.b, column, sizes.n, comptime!(loads.b), loads);
        let mut tile = zero_tile();
        let (a_apart, b_apart) = (sizes.a.depth, sizes.b.depth);
        add_dots(a, &a_lines, a_apart, b, &b_lines, b_apart, sizes.k, &mut tile, loads);
        #[unroll]
        for i in 0..EACH {
            if row + i < sizes.m {
                #[unroll]
                for j in 0..EACH {
                    if column + j < sizes.n {
                        let place = (sizes.c_base + (row + i) * sizes.n + column + j) as usize;
                        let sum = tile.sums[comptime!((i * EACH + j) as usize)];
                        if comptime!(added) {
                            c[place] += sum;
                        } else {
                            c[place] = sum;
                        }
                    }
                }
            }
        }
    }
}

/// The lines of an operand from `first` on, or the vectors that hold them.
#[cube]
fn operand_lines(
    steps: Steps,
    first: u32,
    count: u32,
    #[comptime] along: Along,
    #[comptime] loads: Loads,
) -> Lines {
    if comptime!(along == Along::Depth) {
        lines(steps.base, first, count, steps.row)
    } else {
        let width = comptime!(loads.width);
        lines(steps.base, first / width, count / width, 1u32)
    }
}
