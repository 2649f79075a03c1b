//! Device code of the portable products: `C = A B^T` of FP8 codes, tiles of `C` in registers, on
//! any runtime.

use super::problem::{DEPTH, GemmForm, Sizes, TILE_WORDS, at_most, b_scale_index, locate};
use crate::definition::Fp8Format;
use crate::device::codec::decode;
use cubecl::prelude::*;

/// Words of each row that are decoded into shared memory at once.
pub(in crate::gemm) const STAGED_WORDS: u32 = 8;
const STAGED_DEPTH: u32 = STAGED_WORDS * 4;

/// The tile of `C` that a cube computes, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TilePlan {
    /// Rows and columns that one unit holds in registers.
    pub each: (u32, u32),
    /// Units along rows and columns.
    pub units: (u32, u32),
    /// Whether operands are decoded into shared memory, once a cube, or by each unit into
    /// registers.
    pub staged: bool,
}

impl TilePlan {
    /// Rows of `C` a cube computes.
    pub const fn rows(&self) -> u32 {
        self.each.0 * self.units.0
    }

    /// Columns of `C` a cube computes.
    pub const fn columns(&self) -> u32 {
        self.each.1 * self.units.1
    }

    /// Units of a cube.
    pub const fn cube(&self) -> u32 {
        self.units.0 * self.units.1
    }
}

/// `c[i, j] (+)= sum over tiles t of a_scale[i, t] b_scale[j, t] p[t]`, where
/// `p[t] = sum over k in t of a[i, k] b[j, k]`; sums in FP32 (3.3.2).
///
/// A cube computes the tile of `plan`; what lies outside is computed from the last row or column
/// inside and not written.
#[cube(launch_unchecked)]
pub(in crate::gemm) fn gemm_tiles<O: Float>(
    a_codes: &[u32],
    a_scales: &[f32],
    b_codes: &[u32],
    b_scales: &[f32],
    groups: &[u32],
    c: &mut [O],
    sizes: Sizes,
    #[comptime] form: GemmForm,
    #[comptime] plan: TilePlan,
) {
    let tm = comptime!(plan.each.0);
    let tn = comptime!(plan.each.1);
    let units_m = comptime!(plan.units.0);
    let units_n = comptime!(plan.units.1);
    let block_m = comptime!(plan.rows());
    let block_n = comptime!(plan.columns());

    let problem = locate(groups, &sizes, CUBE_POS_Y, block_m, form.grouping);
    let unit_m = UNIT_POS / units_n;
    let unit_n = UNIT_POS % units_n;
    let row0 = problem.tile_row;
    let column0 = CUBE_POS_X * block_n;
    let live = row0 < problem.rows;
    let last_row = select(live, problem.rows - 1u32, 0u32);
    let last_column = sizes.n - 1u32;
    let depth = select(live, problem.depth, 0u32);

    let mut total = Array::<f32>::new(comptime!((tm * tn) as usize));
    let mut partial = Array::<f32>::new(comptime!((tm * tn) as usize));
    let mut a = Array::<f32>::new(comptime!((tm * 4) as usize));
    let mut a_index = Array::<u32>::new(tm as usize);
    let mut b_index = Array::<u32>::new(tn as usize);
    #[unroll]
    for i in 0..tm {
        let row = at_most(row0 + unit_m + i * units_m, last_row);
        a_index[i as usize] = problem.a_row + row;
    }
    #[unroll]
    for j in 0..tn {
        b_index[j as usize] = at_most(column0 + unit_n + j * units_n, last_column);
    }

    let mut a_shared = Shared::<[f32]>::new_slice(comptime!(if plan.staged {
        (STAGED_DEPTH * block_m) as usize
    } else {
        1
    }));
    let mut b_shared = Shared::<[f32]>::new_slice(comptime!(if plan.staged {
        (STAGED_DEPTH * block_n) as usize
    } else {
        1
    }));

    let tiles = depth.div_ceil(DEPTH);
    let words = depth.div_ceil(4u32);
    for tile in 0..tiles {
        let first = tile * TILE_WORDS;
        let count = at_most(words - first, TILE_WORDS);
        #[unroll]
        for e in 0..tm * tn {
            partial[e as usize] = 0.0f32;
        }
        if comptime!(plan.staged) {
            let steps = count.div_ceil(STAGED_WORDS);
            for step in 0..steps {
                let start = first + step * STAGED_WORDS;
                sync_cube();
                stage(
                    a_codes,
                    &mut a_shared,
                    problem.a_row,
                    row0,
                    last_row,
                    sizes.a_words,
                    problem.word + start,
                    problem.word + words,
                    form.a_format,
                    block_m,
                    plan.cube(),
                );
                stage(
                    b_codes,
                    &mut b_shared,
                    problem.b_row,
                    column0,
                    last_column,
                    sizes.b_words,
                    problem.word + start,
                    problem.word + words,
                    form.b_format,
                    block_n,
                    plan.cube(),
                );
                sync_cube();
                for k in 0..STAGED_DEPTH {
                    #[unroll]
                    for i in 0..tm {
                        a[i as usize] = a_shared[(k * block_m + unit_m + i * units_m) as usize];
                    }
                    #[unroll]
                    for j in 0..tn {
                        let b = b_shared[(k * block_n + unit_n + j * units_n) as usize];
                        #[unroll]
                        for i in 0..tm {
                            let e = comptime!((i * tn + j) as usize);
                            partial[e] += a[i as usize] * b;
                        }
                    }
                }
            }
        } else {
            for w in 0..count {
                let word = problem.word + first + w;
                #[unroll]
                for i in 0..tm {
                    let codes = a_codes[(a_index[i as usize] * sizes.a_words + word) as usize];
                    #[unroll]
                    for s in 0..4u32 {
                        a[(i * 4u32 + s) as usize] = decode(codes >> (8u32 * s), form.a_format);
                    }
                }
                #[unroll]
                for j in 0..tn {
                    let codes = b_codes
                        [((problem.b_row + b_index[j as usize]) * sizes.b_words + word) as usize];
                    #[unroll]
                    for s in 0..4u32 {
                        let b = decode(codes >> (8u32 * s), form.b_format);
                        #[unroll]
                        for i in 0..tm {
                            let e = comptime!((i * tn + j) as usize);
                            partial[e] += a[(i * 4u32 + s) as usize] * b;
                        }
                    }
                }
            }
        }
        // The promotion: a partial sum of 128 leaves its accumulator for one of FP32, scaled.
        #[unroll]
        for i in 0..tm {
            a[i as usize] =
                a_scales[(a_index[i as usize] * sizes.a_tiles + problem.tile + tile) as usize];
        }
        #[unroll]
        for j in 0..tn {
            let scale = b_scales
                [b_scale_index(&sizes, &problem, b_index[j as usize], tile, form.b_scale) as usize];
            #[unroll]
            for i in 0..tm {
                let e = comptime!((i * tn + j) as usize);
                total[e] += a[i as usize] * scale * partial[e];
            }
        }
    }

    #[unroll]
    for i in 0..tm {
        let row = row0 + unit_m + i * units_m;
        #[unroll]
        for j in 0..tn {
            let column = column0 + unit_n + j * units_n;
            if row < problem.written && column < sizes.n {
                let index = ((problem.c_row + row) * sizes.n + column) as usize;
                let sum =
                    select(row < problem.rows, total[comptime!((i * tn + j) as usize)], 0.0f32);
                if comptime!(form.accumulate) {
                    c[index] = O::cast_from(f32::cast_from(c[index]) + sum);
                } else {
                    c[index] = O::cast_from(sum);
                }
            }
        }
    }
}

/// Decodes [`STAGED_WORDS`] words of each of `lines` rows into shared memory, `[k][line]`; words
/// from `end` on are zeros.
#[cube]
fn stage(
    codes: &[u32],
    shared: &mut Shared<[f32]>,
    row_base: u32,
    first_row: u32,
    last_row: u32,
    row_words: u32,
    first_word: u32,
    end: u32,
    #[comptime] format: Fp8Format,
    #[comptime] lines: u32,
    #[comptime] units: u32,
) {
    let mut item = UNIT_POS;
    while item < STAGED_WORDS * lines {
        // Neighbours take neighbouring rows: their stores fall into different banks, their loads
        // into the same lines word by word.
        let line = item % lines;
        let w = item / lines;
        let row = at_most(first_row + line, last_row);
        let mut word = 0u32;
        if first_word + w < end {
            word = codes[((row_base + row) * row_words + first_word + w) as usize];
        }
        #[unroll]
        for s in 0..4u32 {
            shared[((w * 4u32 + s) * lines + line) as usize] = decode(word >> (8u32 * s), format);
        }
        item += units;
    }
}
