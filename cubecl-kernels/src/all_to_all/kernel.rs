//! Device code: rows to words, words to rows, sums of rows and what their gradients need.

use super::plan::{QUAD, UNITS_A_DOT, UNITS_A_SCALE_WORD, UNITS_A_TILE};
use crate::definition::{Fp8Format, ScaleFormat, TILE, WireFormat};
use crate::device::UNITS;
use crate::device::codec::{
    Conversion, INFINITY_BITS, Minifloat, bf16_bits, decode, encode_quad, reciprocal,
    round_magnitude, scale_bits,
};
use cubecl::prelude::*;

const BLOCK: u32 = TILE as u32;

/// Words of a row of `width` values.
#[cube]
fn row_words(width: u32, #[comptime] format: WireFormat) -> u32 {
    match comptime!(format) {
        WireFormat::F32 => width,
        WireFormat::Bf16 => width.div_ceil(2u32),
        WireFormat::Fp8 => width.div_ceil(4u32) + width.div_ceil(BLOCK).div_ceil(4u32),
    }
}

/// Rows as FP32 or BF16, one word a unit.
///
/// # Shapes
/// `x` (as bits) `[rows, width]`, `index` `[m]`; `wire` `[m, row_words]`, `total` words.
#[cube(launch_unchecked)]
pub(crate) fn pack_words(
    x: &[u32],
    index: &[u32],
    wire: &mut [u32],
    total: u32,
    width: u32,
    #[comptime] format: WireFormat,
) {
    let place = ABSOLUTE_POS as u32;
    if place < total {
        let words = row_words(width, format);
        let first = index[(place / words) as usize] * width;
        let word = place % words;
        if comptime!(matches!(format, WireFormat::F32)) {
            wire[place as usize] = x[(first + word) as usize];
        } else {
            let column = word * 2u32;
            let mut pair = bf16_bits(x[(first + column) as usize]);
            if column + 1u32 < width {
                pair |= bf16_bits(x[(first + column + 1u32) as usize]) << 16u32;
            }
            wire[place as usize] = pair;
        }
    }
}

/// The E4M3 code of `x / scale` for a scale that is a power of two: dividing takes the scale's
/// exponent away. A quotient that is no normal number is far below half of the least code.
#[cube]
fn encode_scaled(x_bits: u32, scale_bits: u32) -> u32 {
    let format = comptime!(Minifloat::fp8(Fp8Format::E4M3));
    let sign = (x_bits >> 24u32) & 0x80u32;
    let magnitude = x_bits & 0x7FFF_FFFFu32;
    let normal =
        magnitude >= comptime!(1u32 << 23) && (magnitude >> 23u32) + 127u32 > scale_bits >> 23u32;
    let quotient = select(normal, magnitude + (127u32 << 23u32) - scale_bits, 0u32);
    let code = select(
        magnitude == INFINITY_BITS,
        comptime!(format.largest_code),
        round_magnitude(quotient, format),
    );
    select(magnitude > INFINITY_BITS, comptime!(format.nan_code()), code | sign)
}

/// Rows in FP8, 128 units for the tiles of one word of scales.
///
/// # Shapes
/// Those of [`pack_words`]; `total` words of scales.
#[cube(launch_unchecked)]
pub(crate) fn pack_fp8(
    x: &[u32],
    index: &[u32],
    wire: &mut [u32],
    total: u32,
    width: u32,
    #[comptime] conversion: Conversion,
) {
    let (format, power) = comptime!((Fp8Format::E4M3, ScaleFormat::PowerOfTwo));
    let tiles = width.div_ceil(BLOCK);
    let scale_words = tiles.div_ceil(4u32);
    let code_words = width.div_ceil(4u32);
    let group =
        CUBE_POS as u32 * comptime!(UNITS / UNITS_A_SCALE_WORD) + UNIT_POS / UNITS_A_SCALE_WORD;
    let here = group < total;
    // A cube past the end does what the first group's units do, and writes nothing: no unit may
    // miss a barrier.
    let group = select(here, group, 0u32);
    let row = group / scale_words;
    let scale_word = group % scale_words;
    let unit = UNIT_POS % UNITS_A_SCALE_WORD;
    let word = scale_word * UNITS_A_SCALE_WORD + unit;
    let column0 = word * QUAD;
    let first = index[row as usize] * width;

    let mut bits = Array::<u32>::new(QUAD as usize);
    let mut own = 0u32;
    #[unroll]
    for i in 0..QUAD {
        let mut entry = 0u32;
        if column0 + i < width {
            entry = x[(first + column0 + i) as usize];
        }
        let magnitude = entry & 0x7FFF_FFFFu32;
        own = select(magnitude > own, magnitude, own);
        bits[i as usize] = entry;
    }

    // The largest of each tile's 32 units.
    let mut largest = Shared::<[u32]>::new_slice(comptime!(UNITS as usize));
    largest[UNIT_POS as usize] = own;
    sync_cube();
    let mut step = comptime!(UNITS_A_TILE / 2).runtime();
    while step > 0u32 {
        if UNIT_POS % UNITS_A_TILE < step {
            let mine = largest[UNIT_POS as usize];
            let other = largest[(UNIT_POS + step) as usize];
            largest[UNIT_POS as usize] = select(other > mine, other, mine);
        }
        sync_cube();
        step /= 2u32;
    }
    let tile_unit = UNIT_POS / UNITS_A_TILE * UNITS_A_TILE;
    let scale = scale_bits(largest[tile_unit as usize], format, power, conversion);

    if here {
        let start = row * (code_words + scale_words);
        if word < code_words {
            // A padding code is 0, as that of any zero.
            let mut codes = 0u32;
            if comptime!(matches!(conversion, Conversion::Instruction)) {
                let inverse = reciprocal(scale, conversion);
                codes = encode_quad(
                    bits[0], bits[1], bits[2], bits[3], scale, inverse, format, power, conversion,
                );
            } else {
                #[unroll]
                for i in 0..QUAD {
                    codes |= encode_scaled(bits[i as usize], scale) << (8u32 * i);
                }
            }
            wire[(start + word) as usize] = codes;
        }
        if unit == 0u32 {
            let mut exponents = 0u32;
            #[unroll]
            for t in 0..4u32 {
                let tile_amax = largest[(UNIT_POS + t * UNITS_A_TILE) as usize];
                let exponent = scale_bits(tile_amax, format, power, conversion) >> 23u32;
                exponents |= select(scale_word * 4u32 + t < tiles, exponent, 0u32) << (8u32 * t);
            }
            wire[(start + code_words + scale_word) as usize] = exponents;
        }
    }
}

/// Bits of the values of a quad of a row; those past the end of the row are zero.
#[cube]
fn load_quad(
    wire: &[u32],
    row: u32,
    quad: u32,
    width: u32,
    out: &mut Array<u32>,
    #[comptime] format: WireFormat,
) {
    let start = row * row_words(width, format);
    let column = quad * QUAD;
    match comptime!(format) {
        WireFormat::F32 =>
        {
            #[unroll]
            for i in 0..QUAD {
                let mut bits = 0u32;
                if column + i < width {
                    bits = wire[(start + column + i) as usize];
                }
                out[i as usize] = bits;
            }
        }
        WireFormat::Bf16 =>
        {
            #[unroll]
            for i in 0..2u32 {
                let mut pair = 0u32;
                if column + 2u32 * i < width {
                    pair = wire[(start + column / 2u32 + i) as usize];
                }
                out[(2u32 * i) as usize] = pair << 16u32;
                out[(2u32 * i + 1u32) as usize] = pair & 0xFFFF_0000u32;
            }
        }
        WireFormat::Fp8 => {
            let tile = column / BLOCK;
            let exponents = wire[(start + width.div_ceil(4u32) + tile / 4u32) as usize];
            let scale =
                f32::reinterpret(((exponents >> (8u32 * (tile % 4u32))) & 0xFFu32) << 23u32);
            let codes = wire[(start + quad) as usize];
            #[unroll]
            for i in 0..QUAD {
                out[i as usize] =
                    u32::reinterpret(scale * decode(codes >> (8u32 * i), Fp8Format::E4M3));
            }
        }
    }
}

/// Rows of the wire by index as FP32, a quad a unit.
///
/// # Shapes
/// `wire` `[rows, row_words]`, `index` `[n]`; `y` (as bits) `[n, width]`, `total` quads.
#[cube(launch_unchecked)]
pub(crate) fn unpack_quads(
    wire: &[u32],
    index: &[u32],
    y: &mut [u32],
    total: u32,
    width: u32,
    #[comptime] format: WireFormat,
) {
    let place = ABSOLUTE_POS as u32;
    if place < total {
        let quads = width.div_ceil(QUAD);
        let row = place / quads;
        let quad = place % quads;
        let mut values = Array::<u32>::new(QUAD as usize);
        load_quad(wire, index[row as usize], quad, width, &mut values, format);
        #[unroll]
        for i in 0..QUAD {
            if quad * QUAD + i < width {
                y[(row * width + quad * QUAD + i) as usize] = values[i as usize];
            }
        }
    }
}

/// Where the weights of a sum's terms are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Weights {
    /// Nowhere: each is one.
    One,
    /// In the order of the terms.
    ByTerm,
    /// At `terms[term]`.
    Indexed,
}

/// Sums of rows, a quad of a result a unit, term by term; with `each` above 0 a result has so many
/// terms, and `starts` is not read.
///
/// # Shapes
/// `wire` `[.., row_words]`, `starts` `[results + 1]`, `rows` `[terms]`, `weights` and `terms` as
/// `of` says; `out` `[results, width]`, `total` quads.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn sum_rows(
    wire: &[u32],
    starts: &[u32],
    rows: &[u32],
    weights: &[f32],
    terms: &[u32],
    out: &mut [f32],
    total: u32,
    width: u32,
    each: u32,
    #[comptime] of: Weights,
    #[comptime] format: WireFormat,
) {
    let place = ABSOLUTE_POS as u32;
    if place < total {
        let quads = width.div_ceil(QUAD);
        let result = place / quads;
        let quad = place % quads;
        let mut values = Array::<u32>::new(QUAD as usize);
        let mut sum = Array::<f32>::new(QUAD as usize);
        #[unroll]
        for i in 0..QUAD as usize {
            sum[i] = 0.0f32;
        }
        let mut start = result * each;
        let mut end = start + each;
        if each == 0u32 {
            start = starts[result as usize];
            end = starts[(result + 1u32) as usize];
        }
        for term in start..end {
            load_quad(wire, rows[term as usize], quad, width, &mut values, format);
            let weight = match comptime!(of) {
                Weights::One => 1.0f32.runtime(),
                Weights::ByTerm => weights[term as usize],
                Weights::Indexed => weights[terms[term as usize] as usize],
            };
            #[unroll]
            for i in 0..QUAD as usize {
                sum[i] += weight * f32::reinterpret(values[i]);
            }
        }
        #[unroll]
        for i in 0..QUAD {
            if quad * QUAD + i < width {
                out[(result * width + quad * QUAD + i) as usize] = sum[i as usize];
            }
        }
    }
}

/// `dout[result] . y[row]` of every term, a cube a term; with `each` above 0 a result has so many
/// terms, and `result_of_term` is not read.
///
/// # Shapes
/// `wire` `[.., row_words]`, `rows` and `result_of_term` `[terms]`, `dout` `[results, width]`;
/// `dweights` `[terms]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn row_dots(
    wire: &[u32],
    rows: &[u32],
    result_of_term: &[u32],
    dout: &[f32],
    dweights: &mut [f32],
    terms: u32,
    width: u32,
    each: u32,
    #[comptime] format: WireFormat,
) {
    let cube = CUBE_POS as u32;
    let here = cube < terms;
    let term = select(here, cube, 0u32);
    let row = rows[term as usize];
    let mut result = term / select(each == 0u32, 1u32, each);
    if each == 0u32 {
        result = result_of_term[term as usize];
    }
    let first = result * width;
    let quads = width.div_ceil(QUAD);
    let mut values = Array::<u32>::new(QUAD as usize);
    let mut sum = 0.0f32;
    let mut quad = UNIT_POS;
    while quad < quads {
        load_quad(wire, row, quad, width, &mut values, format);
        #[unroll]
        for i in 0..QUAD {
            if quad * QUAD + i < width {
                sum +=
                    f32::reinterpret(values[i as usize]) * dout[(first + quad * QUAD + i) as usize];
            }
        }
        quad += UNITS_A_DOT;
    }
    let mut partial = Shared::<[f32]>::new_slice(comptime!(UNITS_A_DOT as usize));
    partial[UNIT_POS as usize] = sum;
    sync_cube();
    let mut step = comptime!(UNITS_A_DOT / 2).runtime();
    while step > 0u32 {
        if UNIT_POS < step {
            partial[UNIT_POS as usize] += partial[(UNIT_POS + step) as usize];
        }
        sync_cube();
        step /= 2u32;
    }
    if here && UNIT_POS == 0u32 {
        dweights[cube as usize] = partial[0];
    }
}
