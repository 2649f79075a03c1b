//! Device code: tiles of 64x64, staged in shared memory, 4x4 a unit.
//!
//! # Rejected
//! - Tiles of 128x128: a router of 256 experts over 4096 tokens has 64 of them, half of what a large
//!   device runs at once.
//! - Operands in three parts of ten bits on tensor cores: six products for one, and the parts are
//!   lost to a compiler that simplifies sums.

use cubecl::prelude::*;

/// Rows and columns of `C` a cube computes, and a unit.
pub(super) const BLOCK: u32 = 64;
const EACH: u32 = 4;
const ACROSS: u32 = BLOCK / EACH;
/// Units of a cube.
pub(super) const UNITS: u32 = ACROSS * ACROSS;
/// Depth that is staged at once.
const STEP: u32 = 16;
/// From one depth of a stage to the next, so that neither reading nor writing one meets itself in a
/// bank too often.
const STRIDE: u32 = BLOCK + 4;
const MOVED: u32 = BLOCK * STEP / UNITS;

/// Where an operand begins, and the steps from one row and one depth of it to the next.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Lines {
    pub(super) base: u32,
    pub(super) row: u32,
    pub(super) depth: u32,
}

/// Sizes of a product.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Sizes {
    pub(super) m: u32,
    pub(super) n: u32,
    pub(super) k: u32,
    pub(super) a: Lines,
    pub(super) b: Lines,
    pub(super) c_base: u32,
}

/// `c[i, j] (+)= sum over l of a[i, l] b[j, l]`, in the order of `l`; added to what is there where
/// `added`.
///
/// # Shapes
/// `a` and `b` by their steps, `c` `[m, n]` from its base on.
#[cube(launch_unchecked)]
pub(super) fn product(a: &[f32], b: &[f32], c: &mut [f32], sizes: Sizes, #[comptime] added: bool) {
    let row0 = CUBE_POS_Y * BLOCK;
    let column0 = CUBE_POS_X * BLOCK;
    let unit_row = UNIT_POS / ACROSS;
    let unit_column = UNIT_POS % ACROSS;
    let mut a_stage = Shared::<[f32]>::new_slice(comptime!((STEP * STRIDE) as usize));
    let mut b_stage = Shared::<[f32]>::new_slice(comptime!((STEP * STRIDE) as usize));
    let mut total = Array::<f32>::new(comptime!((EACH * EACH) as usize));
    #[unroll]
    for e in 0..(EACH * EACH) as usize {
        total[e] = 0.0f32;
    }
    for step in 0..sizes.k.div_ceil(STEP) {
        let depth = step * STEP;
        sync_cube();
        load(a, &mut a_stage, row0, sizes.m, depth, sizes.k, &sizes.a);
        load(b, &mut b_stage, column0, sizes.n, depth, sizes.k, &sizes.b);
        sync_cube();
        #[unroll]
        for l in 0..STEP {
            let mut left = Array::<f32>::new(EACH as usize);
            #[unroll]
            for i in 0..EACH {
                left[i as usize] = a_stage[(l * STRIDE + unit_row * EACH + i) as usize];
            }
            #[unroll]
            for j in 0..EACH {
                let right = b_stage[(l * STRIDE + unit_column * EACH + j) as usize];
                #[unroll]
                for i in 0..EACH {
                    let e = comptime!((i * EACH + j) as usize);
                    total[e] = fma(left[i as usize], right, total[e]);
                }
            }
        }
    }
    #[unroll]
    for i in 0..EACH {
        let row = row0 + unit_row * EACH + i;
        #[unroll]
        for j in 0..EACH {
            let column = column0 + unit_column * EACH + j;
            if row < sizes.m && column < sizes.n {
                let place = (sizes.c_base + row * sizes.n + column) as usize;
                let sum = total[comptime!((i * EACH + j) as usize)];
                if comptime!(added) {
                    c[place] += sum;
                } else {
                    c[place] = sum;
                }
            }
        }
    }
}

/// Stages [`STEP`] depths of the rows from `row0` on, zeros outside. Neighbours take what lies
/// together in memory.
#[cube]
#[allow(clippy::too_many_arguments)]
fn load(
    x: &[f32],
    stage: &mut Shared<[f32]>,
    row0: u32,
    rows: u32,
    depth0: u32,
    depths: u32,
    lines: &Lines,
) {
    #[unroll]
    for i in 0..MOVED {
        let item = i * UNITS + UNIT_POS;
        let along = lines.depth == 1u32;
        let line = select(along, item / STEP, item % BLOCK);
        let l = select(along, item % STEP, item / BLOCK);
        let row = row0 + line;
        let depth = depth0 + l;
        let mut value = 0.0f32;
        if row < rows && depth < depths {
            value = x[(lines.base + row * lines.row + depth * lines.depth) as usize];
        }
        stage[(l * STRIDE + line) as usize] = value;
    }
}
