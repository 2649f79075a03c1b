//! Device code of E5M6.
//!
//! A cube casts 16 rows of one tile: 16 units a row, each with 8 entries in registers, which are 3
//! whole words of codes. With scales that are powers of two no division is needed, so nothing here
//! depends on how a device divides.

use crate::definition::{AMAX_FLOOR, E5M6_MAX, TILE};
use crate::device::codec::{
    INFINITY_BITS, Minifloat, clamp_min_bits, decode_minifloat, round_magnitude,
};
use cubecl::prelude::*;

/// Rows of a cube.
pub(crate) const ROWS: u32 = 16;
/// Units of a row.
const ACROSS: u32 = 16;
/// Units of a cube.
pub(crate) const UNITS: u32 = ROWS * ACROSS;
/// Entries of a unit, and the words that their codes fill.
const EACH: u32 = 8;
const EACH_WORDS: u32 = 3;
const BLOCK: u32 = TILE as u32;

/// Bits of the smallest power of two at or above `max(amax, 1e-4) / 65024`, which is how
/// [`scale_of`](crate::definition::scale_of) rounds, from the bits of `amax`; `2^127` where that is
/// not finite.
///
/// 65024 is `127/64 * 2^15`: a significand up to 127/64 divides to at most a power of two, a larger
/// one to more than it by over half a unit in the last place, which rounding keeps.
#[cube]
fn scale_bits(amax_bits: u32) -> u32 {
    let safe = clamp_min_bits(amax_bits, comptime!(AMAX_FLOOR.to_bits()));
    let largest = comptime!(E5M6_MAX.to_bits() & 0x7F_FFFF);
    let down = comptime!((E5M6_MAX.to_bits() >> 23) - 127);
    let exponent = (safe >> 23u32) - down + select((safe & 0x7F_FFFFu32) > largest, 1u32, 0u32);
    select(amax_bits < INFINITY_BITS, exponent << 23u32, 254u32 << 23u32)
}

/// The code of `x / scale` for a scale that is a power of two.
#[cube]
fn encode(x_bits: u32, scale_bits: u32) -> u32 {
    let format = comptime!(Minifloat::E5M6);
    let sign = (x_bits >> 31u32) << comptime!(format.sign_shift());
    let magnitude = x_bits & 0x7FFF_FFFFu32;
    // Dividing takes the scale's exponent away. A quotient that is no normal number is far below
    // half of the least code.
    let exponent = (magnitude >> 23u32) + 127u32;
    let scale_exponent = scale_bits >> 23u32;
    let normal = magnitude >= comptime!(1u32 << 23) && exponent > scale_exponent;
    let quotient = select(normal, magnitude + (127u32 << 23u32) - scale_bits, 0u32);
    let code = select(
        magnitude == INFINITY_BITS,
        comptime!(format.largest_code),
        round_magnitude(quotient, format),
    );
    select(magnitude > INFINITY_BITS, comptime!(format.nan_code()), code | sign)
}

/// Casts 16 rows of one tile a cube; a cube past the last block of rows does nothing.
///
/// # Shapes
/// `x` `[rows, columns]` in vectors of `N`, `1` or `4`; codes `[rows, row_words]`, scales (as bits)
/// `[rows, tiles(columns)]`.
#[cube(launch_unchecked)]
pub(crate) fn cast_e5m6<F: Float, N: Size>(
    x: &[Vector<F, N>],
    codes: &mut [u32],
    scales: &mut [u32],
    rows: u32,
    columns: u32,
    row_words: u32,
    #[comptime] vector: u32,
) {
    let tiles = columns.div_ceil(BLOCK);
    let cube = CUBE_POS as u32;
    let tile = cube % tiles;
    let unit = UNIT_POS % ACROSS;
    let line = UNIT_POS / ACROSS;
    let row = cube / tiles * ROWS + line;
    let column0 = tile * BLOCK + unit * EACH;

    // What lies outside is zero, which changes no largest magnitude and has the code of padding.
    let mut bits = Array::<u32>::new(EACH as usize);
    let mut own = 0u32;
    #[unroll]
    for v in 0..EACH / vector {
        let column = column0 + v * vector;
        let mut loaded = Vector::<F, N>::zero();
        if row < rows && column < columns {
            loaded = x[((row * columns + column) / vector) as usize];
        }
        #[unroll]
        for i in 0..vector {
            let entry = u32::reinterpret(f32::cast_from(loaded.extract(i as usize)));
            let magnitude = entry & 0x7FFF_FFFFu32;
            own = select(magnitude > own, magnitude, own);
            bits[(v * vector + i) as usize] = entry;
        }
    }

    let mut largest_of_units = Shared::<[u32]>::new_slice(comptime!(UNITS as usize));
    largest_of_units[UNIT_POS as usize] = own;
    sync_cube();
    let mut amax = 0u32;
    for i in 0..ACROSS {
        let entry = largest_of_units[(line * ACROSS + i) as usize];
        amax = select(entry > amax, entry, amax);
    }
    let scale = scale_bits(amax);

    if row < rows {
        let mut words = Array::<u32>::new(EACH_WORDS as usize);
        #[unroll]
        for w in 0..EACH_WORDS {
            words[w as usize] = 0u32;
        }
        #[unroll]
        for i in 0..EACH {
            let code = encode(bits[i as usize], scale);
            let word = comptime!((12 * i / 32) as usize);
            let shift = comptime!(12 * i % 32);
            words[word] |= code << shift;
            if comptime!(shift > 20) {
                words[comptime!(word + 1)] |= code >> comptime!(32 - shift);
            }
        }
        let first = tile * comptime!(BLOCK / EACH * EACH_WORDS) + unit * EACH_WORDS;
        #[unroll]
        for w in 0..EACH_WORDS {
            if first + w < row_words {
                codes[(row * row_words + first + w) as usize] = words[w as usize];
            }
        }
        if unit == 0u32 {
            scales[(row * tiles + tile) as usize] = scale;
        }
    }
}

/// `y = scale * decode(code)`, one code a unit.
///
/// # Shapes
/// Codes and scales as [`cast_e5m6`] writes them; `y` `[rows, columns]`, `total` entries.
#[cube(launch_unchecked)]
pub(crate) fn values_of_e5m6(
    codes: &[u32],
    scales: &[f32],
    y: &mut [f32],
    total: u32,
    columns: u32,
    row_words: u32,
) {
    let index = ABSOLUTE_POS as u32;
    if index < total {
        let row = index / columns;
        let column = index % columns;
        let bit = column % EACH * 12u32;
        let word = row * row_words + column / EACH * EACH_WORDS + bit / 32u32;
        let shift = bit % 32u32;
        let mut code = codes[word as usize] >> shift;
        // A code that starts in a word's last bits goes on in the next.
        if shift > 20u32 {
            code |= codes[(word + 1u32) as usize] << (32u32 - shift);
        }
        let scale = scales[(row * columns.div_ceil(BLOCK) + column / BLOCK) as usize];
        y[index as usize] = scale * decode_minifloat(code, comptime!(Minifloat::E5M6));
    }
}
