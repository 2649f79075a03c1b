//! Device code of the portable products: `C = A B^T` of FP8 codes, tiles of `C` in registers, on
//! any runtime.
//!
//! One kernel serves dense, grouped, masked and K-grouped products; they differ in which rows and
//! words a cube takes ([`Grouping`], [`locate`]).

use crate::definition::{Fp8Format, TILE};
use crate::quantize::codec::decode;
use cubecl::prelude::*;

const DEPTH: u32 = TILE as u32;
const WORDS: u32 = DEPTH / 4;
/// Words of each row that are decoded into shared memory at once.
pub(crate) const STAGED_WORDS: u32 = 8;
const STAGED_DEPTH: u32 = STAGED_WORDS * 4;

/// Which part of the operands a cube multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Grouping {
    /// All of them.
    Dense,
    /// The rows of one group of `A` with that expert's `B`.
    Rows,
    /// The first `counts[g]` of an expert's `max_rows` rows with its `B`.
    Masked,
    /// The words of one group of both: K-grouped Wgrad.
    Depth,
}

/// What shares a scale of `B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ScaleOf {
    Row,
    Block,
}

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

/// What a product computes and writes, fixed when the kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct GemmForm {
    pub(crate) a_format: Fp8Format,
    pub(crate) b_format: Fp8Format,
    pub(crate) grouping: Grouping,
    pub(crate) b_scale: ScaleOf,
    /// Adds to what `C` holds.
    pub(crate) accumulate: bool,
}

/// The sizes of a product and the strides of its operands, in words, scales and elements.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Sizes {
    /// Rows of `C`: of each expert when masked, of all groups otherwise.
    pub(crate) m: u32,
    pub(crate) n: u32,
    /// Depth, where it is not a group's.
    pub(crate) k: u32,
    pub(crate) groups: u32,
    /// Words and scales from one row of `A` to the next.
    pub(crate) a_words: u32,
    pub(crate) a_tiles: u32,
    /// Words from one row of `B` to the next.
    pub(crate) b_words: u32,
    /// Scales of `B` from one row (or block of rows) to the next, from one tile to the next, from
    /// one expert to the next.
    pub(crate) b_scale_row: u32,
    pub(crate) b_scale_tile: u32,
    pub(crate) b_scale_expert: u32,
}

/// What one cube multiplies.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Problem {
    /// First row of `A`, and of `C`, of the group.
    pub(crate) a_row: u32,
    pub(crate) c_row: u32,
    /// Rows of the group, and of the result that is written (the rest of it zero).
    pub(crate) rows: u32,
    pub(crate) written: u32,
    /// First row of the cube's tile within the group.
    pub(crate) tile_row: u32,
    /// First row of `B`, and the expert whose scales it takes.
    pub(crate) b_row: u32,
    pub(crate) expert: u32,
    pub(crate) depth: u32,
    /// First word and first scale of each row of both operands.
    pub(crate) word: u32,
    pub(crate) tile: u32,
}

/// The problem of the cube of the tile of rows `y`. `groups` holds offsets, first words and first
/// tiles of [`Grouping::Rows`] and [`Grouping::Depth`], counts of [`Grouping::Masked`].
#[cube]
pub(crate) fn locate(
    groups: &[u32],
    sizes: &Sizes,
    y: u32,
    tile_rows: u32,
    #[comptime] grouping: Grouping,
) -> Problem {
    let group = CUBE_POS_Z;
    if comptime!(matches!(grouping, Grouping::Rows)) {
        // The tiles of all groups are numbered in one row: a cube counts through the groups until
        // it comes to its own.
        let mut found = 0u32;
        let mut before = 0u32;
        let mut own = (groups[1] - groups[0]).div_ceil(tile_rows);
        while y >= before + own {
            before += own;
            found += 1u32;
            own = (groups[(found + 1u32) as usize] - groups[found as usize]).div_ceil(tile_rows);
        }
        let start = groups[found as usize];
        let rows = groups[(found + 1u32) as usize] - start;
        Problem {
            a_row: start,
            c_row: start,
            rows,
            written: rows,
            tile_row: (y - before) * tile_rows,
            b_row: found * sizes.n,
            expert: found,
            depth: sizes.k,
            word: 0u32,
            tile: 0u32,
        }
    } else if comptime!(matches!(grouping, Grouping::Masked)) {
        Problem {
            a_row: group * sizes.m,
            c_row: group * sizes.m,
            rows: at_most(groups[group as usize], sizes.m),
            written: sizes.m,
            tile_row: y * tile_rows,
            b_row: group * sizes.n,
            expert: group,
            depth: sizes.k,
            word: 0u32,
            tile: 0u32,
        }
    } else if comptime!(matches!(grouping, Grouping::Depth)) {
        let stride = sizes.groups + 1u32;
        Problem {
            a_row: 0u32,
            c_row: group * sizes.m,
            rows: sizes.m,
            written: sizes.m,
            tile_row: y * tile_rows,
            b_row: 0u32,
            expert: 0u32,
            depth: groups[(group + 1u32) as usize] - groups[group as usize],
            word: groups[(stride + group) as usize],
            tile: groups[(2u32 * stride + group) as usize],
        }
    } else {
        Problem {
            a_row: 0u32,
            c_row: 0u32,
            rows: sizes.m,
            written: sizes.m,
            tile_row: y * tile_rows,
            b_row: 0u32,
            expert: 0u32,
            depth: sizes.k,
            word: 0u32,
            tile: 0u32,
        }
    }
}

/// Where the scale of `column` and `tile` of `B` lies.
#[cube]
pub(crate) fn b_scale_index(
    sizes: &Sizes,
    problem: &Problem,
    column: u32,
    tile: u32,
    #[comptime] of: ScaleOf,
) -> u32 {
    let row = if comptime!(matches!(of, ScaleOf::Block)) { column / DEPTH } else { column };
    problem.expert * sizes.b_scale_expert
        + row * sizes.b_scale_row
        + (problem.tile + tile) * sizes.b_scale_tile
}

#[cube]
fn at_most(x: u32, most: u32) -> u32 {
    select(x > most, most, x)
}

/// `c[i, j] (+)= sum over tiles t of a_scale[i, t] b_scale[j, t] (sum over k in t of a[i, k] b[j, k])`,
/// sums in FP32 (3.3.2).
///
/// A cube computes the tile of `plan`; what lies outside is computed from the last row or column
/// inside and not written.
#[cube(launch_unchecked)]
pub(crate) fn gemm_tiles<O: Float>(
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
        let first = tile * WORDS;
        let count = at_most(words - first, WORDS);
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
