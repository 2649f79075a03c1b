//! Device code of the portable products: `C = A B^T` of FP8 codes, tiles of `C` in registers, on
//! any runtime.

use super::problem::{
    DEPTH, GemmForm, Operand, Problem, RowSpan, ScaleOf, Sizes, TILE_WORDS, a_rows, a_scales,
    at_most, b_rows, b_scale, b_scales, locate, place_of, write_result,
};
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

/// How an operand is decoded into shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stage {
    format: Fp8Format,
    /// Rows of the operand in a tile.
    lines: u32,
    /// Units that load.
    units: u32,
}

impl Stage {
    /// Numbers in shared memory.
    const fn values(&self) -> usize {
        (STAGED_DEPTH * self.lines) as usize
    }
}

/// What a unit holds in registers.
#[derive(CubeType)]
struct Registers {
    /// Sums of its elements of `C`, row by row, in FP32.
    total: Array<f32>,
    /// Sums of their products in one tile of the depth.
    partial: Array<f32>,
    /// Values of `A`, and its scales.
    a: Array<f32>,
    /// The unit's place in the cube along both.
    m: u32,
    n: u32,
}

/// Rows of the whole of `A`, and columns of `C`, both clamped to what there is.
#[derive(CubeType)]
struct Lines {
    a_rows: Array<u32>,
    columns: Array<u32>,
}

/// `c[i, j] (+)= sum over tiles t of a_scale[i, t] b_scale[j, t] p[t]`, where
/// `p[t] = sum over k in t of a[i, k] b[j, k]`; sums in FP32 (3.3.2).
///
/// A cube computes the tile of `plan`; what lies outside is computed from the last row or column
/// inside and not written.
#[cube(launch_unchecked)]
pub(in crate::gemm) fn gemm_tiles<O: Float>(
    a: &Operand,
    b: &Operand,
    groups: &[u32],
    c: &mut [O],
    sizes: Sizes,
    #[comptime] form: GemmForm,
    #[comptime] plan: TilePlan,
) {
    // The cube's part of the product, and the unit's part of that.
    let problem = locate(groups, sizes, CUBE_POS_Y, plan.rows(), form);
    let row0 = problem.tile_row;
    let column0 = CUBE_POS_X * comptime!(plan.columns());
    let a_rows = a_rows(&problem);
    let b_rows = b_rows(&problem, column0);
    let mut registers = registers(plan);
    clear_partial(&mut registers, plan);

    let depth = select(row0 < problem.rows, problem.depth, 0u32);
    let words = depth.div_ceil(4u32);
    if comptime!(plan.staged) {
        let a_stage =
            comptime!(Stage { format: form.a_format, lines: plan.rows(), units: plan.cube() });
        let b_stage =
            comptime!(Stage { format: form.b_format, lines: plan.columns(), units: plan.cube() });
        let mut a_shared = Shared::<[f32]>::new_slice(comptime!(a_stage.values()));
        let mut b_shared = Shared::<[f32]>::new_slice(comptime!(b_stage.values()));
        for tile in 0..depth.div_ceil(DEPTH) {
            let first = tile * TILE_WORDS;
            let count = at_most(words - first, TILE_WORDS);
            for step in 0..count.div_ceil(STAGED_WORDS) {
                let start = problem.word + (first + step * STAGED_WORDS);
                let end = problem.word + words;
                sync_cube();
                load_stage(&a.codes, &a_rows, start, end, &mut a_shared, a_stage);
                load_stage(&b.codes, &b_rows, start, end, &mut b_shared, b_stage);
                sync_cube();
                multiply_stage(&a_shared, &b_shared, &mut registers, plan);
            }
            promote(a, b, &problem, tile, &mut registers, plan);
        }
    } else {
        let lines = own_lines(&a_rows, &b_rows, &registers, plan);
        for tile in 0..depth.div_ceil(DEPTH) {
            let first = tile * TILE_WORDS;
            for w in 0..at_most(words - first, TILE_WORDS) {
                let word = problem.word + first + w;
                multiply_word(a, b, &problem, word, &lines, &mut registers, plan);
            }
            promote(a, b, &problem, tile, &mut registers, plan);
        }
    }

    #[unroll]
    for i in 0..comptime!(plan.each.0) {
        let row = row0 + registers.m + i * comptime!(plan.units.0);
        #[unroll]
        for j in 0..comptime!(plan.each.1) {
            let column = column0 + registers.n + j * comptime!(plan.units.1);
            let sum = registers.total[comptime!((i * plan.each.1 + j) as usize)];
            write_result(c, &problem, row, column, sum);
        }
    }
}

/// The unit's place and registers.
#[cube]
fn registers(#[comptime] plan: TilePlan) -> Registers {
    let (tm, tn) = comptime!(plan.each);
    let units_n = comptime!(plan.units.1);
    Registers {
        total: Array::<f32>::new(comptime!((tm * tn) as usize)),
        partial: Array::<f32>::new(comptime!((tm * tn) as usize)),
        a: Array::<f32>::new(comptime!((tm * 4) as usize)),
        m: UNIT_POS / units_n,
        n: UNIT_POS % units_n,
    }
}

/// Rows and columns of a unit that decodes for itself.
#[cube]
fn own_lines(
    a_span: &RowSpan,
    b_span: &RowSpan,
    registers: &Registers,
    #[comptime] plan: TilePlan,
) -> Lines {
    let (tm, tn) = comptime!(plan.each);
    let (units_m, units_n) = comptime!(plan.units);
    let mut a_rows = Array::<u32>::new(comptime!(tm as usize));
    let mut columns = Array::<u32>::new(comptime!(tn as usize));
    #[unroll]
    for i in 0..tm {
        let row = at_most(a_span.first + registers.m + i * units_m, a_span.last);
        a_rows[i as usize] = a_span.base + row;
    }
    #[unroll]
    for j in 0..tn {
        columns[j as usize] = at_most(b_span.first + registers.n + j * units_n, b_span.last);
    }
    Lines { a_rows, columns }
}

#[cube]
fn clear_partial(registers: &mut Registers, #[comptime] plan: TilePlan) {
    #[unroll]
    for e in 0..comptime!(plan.each.0 * plan.each.1) {
        registers.partial[e as usize] = 0.0f32;
    }
}

/// Decodes [`STAGED_WORDS`] words of each of a tile's rows into shared memory, `[k][line]`; words
/// from `end` on are zeros.
#[cube]
fn load_stage(
    codes: &[u32],
    rows: &RowSpan,
    first_word: u32,
    end: u32,
    shared: &mut Shared<[f32]>,
    #[comptime] stage: Stage,
) {
    let lines = comptime!(stage.lines);
    #[unroll]
    for i in 0..comptime!((STAGED_WORDS * stage.lines).div_ceil(stage.units)) {
        // Neighbours take neighbouring rows: their stores fall into different banks, their loads
        // into the same lines word by word.
        let item = UNIT_POS + comptime!(i * stage.units);
        if comptime!((STAGED_WORDS * stage.lines).is_multiple_of(stage.units))
            || item < STAGED_WORDS * lines
        {
            let line = item % lines;
            let w = item / lines;
            let row = at_most(rows.first + line, rows.last);
            let mut word = 0u32;
            if first_word + w < end {
                word = codes[((rows.base + row) * rows.stride + first_word + w) as usize];
            }
            #[unroll]
            for s in 0..4u32 {
                shared[((w * 4u32 + s) * lines + line) as usize] =
                    decode(word >> (8u32 * s), stage.format);
            }
        }
    }
}

/// Adds the products of a stage, each value of `A` in a register for all columns.
#[cube]
fn multiply_stage(
    a_shared: &Shared<[f32]>,
    b_shared: &Shared<[f32]>,
    registers: &mut Registers,
    #[comptime] plan: TilePlan,
) {
    let (tm, tn) = comptime!(plan.each);
    let (units_m, units_n) = comptime!(plan.units);
    for k in 0..STAGED_DEPTH {
        #[unroll]
        for i in 0..tm {
            let line = k * comptime!(plan.rows()) + registers.m + i * units_m;
            registers.a[i as usize] = a_shared[line as usize];
        }
        #[unroll]
        for j in 0..tn {
            let line = k * comptime!(plan.columns()) + registers.n + j * units_n;
            let b = b_shared[line as usize];
            #[unroll]
            for i in 0..tm {
                let e = comptime!((i * tn + j) as usize);
                registers.partial[e] += registers.a[i as usize] * b;
            }
        }
    }
}

/// Adds the products of one word of each of the unit's rows, decoded by the unit itself.
#[cube]
fn multiply_word(
    a: &Operand,
    b: &Operand,
    problem: &Problem,
    word: u32,
    lines: &Lines,
    registers: &mut Registers,
    #[comptime] plan: TilePlan,
) {
    let (tm, tn) = comptime!(plan.each);
    let form = comptime!(problem.form);
    #[unroll]
    for i in 0..tm {
        let row = lines.a_rows[i as usize];
        let codes = a.codes[(row * problem.sizes.a_words + word) as usize];
        #[unroll]
        for s in 0..4u32 {
            registers.a[(i * 4u32 + s) as usize] = decode(codes >> (8u32 * s), form.a_format);
        }
    }
    #[unroll]
    for j in 0..tn {
        let row = problem.b_row + lines.columns[j as usize];
        let codes = b.codes[(row * problem.sizes.b_words + word) as usize];
        #[unroll]
        for s in 0..4u32 {
            let b = decode(codes >> (8u32 * s), form.b_format);
            #[unroll]
            for i in 0..tm {
                let e = comptime!((i * tn + j) as usize);
                registers.partial[e] += registers.a[(i * 4u32 + s) as usize] * b;
            }
        }
    }
}

/// The promotion: a partial sum of 128 leaves its accumulator for one of FP32, scaled (3.3.2).
#[cube]
fn promote(
    a: &Operand,
    b: &Operand,
    problem: &Problem,
    tile: u32,
    registers: &mut Registers,
    #[comptime] plan: TilePlan,
) {
    let (tm, tn) = comptime!(plan.each);
    let (units_m, units_n) = comptime!(plan.units);
    let of = comptime!(problem.form.b_scale);
    let column0 = CUBE_POS_X * comptime!(plan.columns());
    let own = column0 + registers.n;
    let a_places = a_scales(problem, registers.m, problem.tile + tile);
    let b_places = b_scales(problem, own, problem.tile + tile);
    #[unroll]
    for i in 0..tm {
        registers.a[i as usize] = a.scales[place_of(&a_places, comptime!(i * units_m))];
    }
    #[unroll]
    for j in 0..tn {
        let scale = if comptime!(matches!(of, ScaleOf::Row)) {
            b.scales[place_of(&b_places, comptime!(j * units_n))]
        } else if comptime!(DEPTH.is_multiple_of(plan.columns())) {
            // A cube's columns are in one block, and its scale is one load.
            b_scale(&b.scales, problem, column0, tile)
        } else {
            let column = at_most(own + j * units_n, problem.sizes.n - 1u32);
            b_scale(&b.scales, problem, column, tile)
        };
        #[unroll]
        for i in 0..tm {
            let e = comptime!((i * tn + j) as usize);
            registers.total[e] += registers.a[i as usize] * scale * registers.partial[e];
        }
    }
    clear_partial(registers, plan);
}
