//! Device code of products with an emulated accumulator, one unit an element of `C`: slow, for
//! studies (3.3.2).

use super::problem::{
    DEPTH, GemmForm, Operand, Problem, Sizes, TILE_WORDS, a_scale, b_scale, locate, write_result,
};
use crate::device::codec::{NAN_BITS, decode};
use cubecl::prelude::*;

/// Words of the 32 products that an accumulator takes at once.
const GROUP_WORDS: u32 = 8;
/// Units of a cube along `C`'s columns; one row of `C` a cube.
pub(in crate::gemm) const UNITS: u32 = 64;

/// An accumulator of `bits` bits that is promoted every 128 of K or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::gemm) struct Accumulator {
    pub(in crate::gemm) bits: u32,
    pub(in crate::gemm) promote: bool,
}

/// Words of a row of each operand that the accumulator takes at once.
#[derive(CubeType, Clone, Copy)]
struct Group {
    /// First word of the row of `A` and of the row of `B`.
    a: u32,
    b: u32,
    /// Words taken, from the row's first.
    start: u32,
    stop: u32,
    /// What each product is multiplied by.
    factor: f32,
}

/// The product of [`gemm_tiles`](super::tiles::gemm_tiles) with an accumulator as
/// [`Accumulation::Emulated`](crate::definition::Accumulation::Emulated) defines it.
#[cube(launch_unchecked)]
pub(in crate::gemm) fn gemm_emulated<O: Float>(
    a: &Operand,
    b: &Operand,
    groups: &[u32],
    c: &mut [O],
    sizes: Sizes,
    #[comptime] form: GemmForm,
    #[comptime] accumulator: Accumulator,
) {
    let problem = locate(groups, sizes, CUBE_POS_Y, 1u32, form);
    let row = problem.tile_row;
    let column = CUBE_POS_X * UNITS + UNIT_POS;
    let mut total = 0.0f32;
    if row < problem.rows && column < problem.sizes.n && problem.depth > 0u32 {
        let mut sum = 0.0f32;
        let first = scale(a, b, &problem, row, column, 0u32);
        let a_start = (problem.a_row + row) * problem.sizes.a_words + problem.word;
        let b_start = (problem.b_row + column) * problem.sizes.b_words + problem.word;
        let words = problem.depth.div_ceil(4u32);
        for tile in 0..problem.depth.div_ceil(DEPTH) {
            let own = scale(a, b, &problem, row, column, tile);
            // Without promotion all tiles meet in one accumulator, in units of the first's scale.
            let factor = if comptime!(accumulator.promote) { f32::new(1.0) } else { own / first };
            let end = smaller(words, (tile + 1u32) * TILE_WORDS);
            let mut start = tile * TILE_WORDS;
            while start < end {
                let stop = smaller(start + GROUP_WORDS, end);
                let group = Group { a: a_start, b: b_start, start, stop, factor };
                sum = accumulate(a, b, &group, sum, form, accumulator.bits);
                start = stop;
            }
            if comptime!(accumulator.promote) {
                total += own * sum;
                sum = 0.0f32;
            }
        }
        if comptime!(!accumulator.promote) {
            total = first * sum;
        }
    }
    write_result(c, &problem, row, column, total);
}

/// One step of the accumulator: the products of a group and the running sum, cut to multiples of
/// one quantum and added.
#[cube]
fn accumulate(
    a: &Operand,
    b: &Operand,
    group: &Group,
    sum: f32,
    #[comptime] form: GemmForm,
    #[comptime] bits: u32,
) -> f32 {
    // The largest exponent, at least that at which a unit in the last place is still normal.
    let mut exponent = larger(bits, exponent_of(sum));
    for w in group.start..group.stop {
        #[unroll]
        for s in 0..4u32 {
            exponent = larger(exponent, exponent_of(product(a, b, group, w, s, form)));
        }
    }
    let mut result = f32::reinterpret(NAN_BITS);
    if exponent != 255u32 {
        let quantum = f32::reinterpret((exponent + 1u32 - bits) << 23u32);
        let inverse = f32::reinterpret((253u32 + bits - exponent) << 23u32);
        let mut counted = (sum * inverse).trunc();
        for w in group.start..group.stop {
            #[unroll]
            for s in 0..4u32 {
                counted += (product(a, b, group, w, s, form) * inverse).trunc();
            }
        }
        result = counted * quantum;
    }
    result
}

/// The scale of the products of a row and a column in a tile.
#[cube]
fn scale(a: &Operand, b: &Operand, problem: &Problem, row: u32, column: u32, tile: u32) -> f32 {
    a_scale(&a.scales, problem, row, tile) * b_scale(&b.scales, problem, column, tile)
}

/// The product of the codes `s` of the words `w` of both rows.
#[cube]
fn product(
    a: &Operand,
    b: &Operand,
    group: &Group,
    w: u32,
    #[comptime] s: u32,
    #[comptime] form: GemmForm,
) -> f32 {
    let a = a.codes[(group.a + w) as usize];
    let b = b.codes[(group.b + w) as usize];
    decode(a >> (8u32 * s), form.a_format) * decode(b >> (8u32 * s), form.b_format) * group.factor
}

#[cube]
fn exponent_of(x: f32) -> u32 {
    (u32::reinterpret(x) >> 23u32) & 0xFFu32
}

#[cube]
fn larger(a: u32, b: u32) -> u32 {
    select(a > b, a, b)
}

#[cube]
fn smaller(a: u32, b: u32) -> u32 {
    select(a < b, a, b)
}
