//! Device code of products with an emulated accumulator, one unit an element of `C`: slow, for
//! studies (3.3.2).

use super::problem::{DEPTH, GemmForm, Problem, Sizes, b_scale_index, locate};
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

/// The product of [`gemm_tiles`](super::tiles::gemm_tiles) with an accumulator as
/// [`Accumulation::Emulated`](crate::definition::Accumulation::Emulated) defines it.
#[cube(launch_unchecked)]
pub(in crate::gemm) fn gemm_emulated<O: Float>(
    a_codes: &[u32],
    a_scales: &[f32],
    b_codes: &[u32],
    b_scales: &[f32],
    groups: &[u32],
    c: &mut [O],
    sizes: Sizes,
    #[comptime] form: GemmForm,
    #[comptime] accumulator: Accumulator,
) {
    let problem = locate(groups, &sizes, CUBE_POS_Y, 1u32, form.grouping);
    let row = problem.tile_row;
    let column = CUBE_POS_X * UNITS + UNIT_POS;
    if row < problem.written && column < sizes.n {
        let mut total = 0.0f32;
        if row < problem.rows && problem.depth > 0u32 {
            let mut sum = 0.0f32;
            let first = scale(a_scales, b_scales, &sizes, &problem, row, column, 0u32, form);
            let a_start = (problem.a_row + row) * sizes.a_words + problem.word;
            let b_start = (problem.b_row + column) * sizes.b_words + problem.word;
            let words = problem.depth.div_ceil(4u32);
            for tile in 0..problem.depth.div_ceil(DEPTH) {
                let own = scale(a_scales, b_scales, &sizes, &problem, row, column, tile, form);
                let factor =
                    if comptime!(accumulator.promote) { f32::new(1.0) } else { own / first };
                let end = select(
                    words < (tile + 1u32) * (DEPTH / 4u32),
                    words,
                    (tile + 1u32) * (DEPTH / 4u32),
                );
                let mut start = tile * (DEPTH / 4u32);
                while start < end {
                    let stop = select(start + GROUP_WORDS < end, start + GROUP_WORDS, end);
                    // The largest exponent, at least that at which a unit in the last place is
                    // still normal.
                    let mut exponent = larger(accumulator.bits, exponent_of(sum));
                    for w in start..stop {
                        #[unroll]
                        for s in 0..4u32 {
                            let product = product(
                                a_codes[(a_start + w) as usize],
                                b_codes[(b_start + w) as usize],
                                factor,
                                s,
                                form,
                            );
                            exponent = larger(exponent, exponent_of(product));
                        }
                    }
                    if exponent == 255u32 {
                        sum = f32::reinterpret(NAN_BITS);
                    } else {
                        let quantum =
                            f32::reinterpret((exponent + 1u32 - accumulator.bits) << 23u32);
                        let inverse =
                            f32::reinterpret((253u32 + accumulator.bits - exponent) << 23u32);
                        let mut counted = (sum * inverse).trunc();
                        for w in start..stop {
                            #[unroll]
                            for s in 0..4u32 {
                                let product = product(
                                    a_codes[(a_start + w) as usize],
                                    b_codes[(b_start + w) as usize],
                                    factor,
                                    s,
                                    form,
                                );
                                counted += (product * inverse).trunc();
                            }
                        }
                        sum = counted * quantum;
                    }
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
        let index = ((problem.c_row + row) * sizes.n + column) as usize;
        if comptime!(form.accumulate) {
            c[index] = O::cast_from(f32::cast_from(c[index]) + total);
        } else {
            c[index] = O::cast_from(total);
        }
    }
}

#[cube]
fn scale(
    a_scales: &[f32],
    b_scales: &[f32],
    sizes: &Sizes,
    problem: &Problem,
    row: u32,
    column: u32,
    tile: u32,
    #[comptime] form: GemmForm,
) -> f32 {
    let a = a_scales[((problem.a_row + row) * sizes.a_tiles + problem.tile + tile) as usize];
    a * b_scales[b_scale_index(sizes, problem, column, tile, form.b_scale) as usize]
}

#[cube]
fn product(a: u32, b: u32, factor: f32, #[comptime] s: u32, #[comptime] form: GemmForm) -> f32 {
    decode(a >> (8u32 * s), form.a_format) * decode(b >> (8u32 * s), form.b_format) * factor
}

#[cube]
fn exponent_of(x: f32) -> u32 {
    (u32::reinterpret(x) >> 23u32) & 0xFFu32
}

#[cube]
fn larger(a: u32, b: u32) -> u32 {
    select(a > b, a, b)
}
