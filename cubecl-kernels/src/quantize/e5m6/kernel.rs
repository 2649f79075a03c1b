//! Device code of E5M6.
//!
//! A cube casts 16 rows of one tile: 16 units a row, each with 8 entries in registers, which are 3
//! whole words of codes. Entries, products and codes are taken apart as bits, so nothing here
//! depends on how a device divides or flushes.

use crate::definition::{AMAX_FLOOR, E5M6_MAX, ScaleFormat, TILE};
use crate::device::codec::{
    INFINITY_BITS, Minifloat, NAN_BITS, clamp_min_bits, decode_minifloat, round_quotient,
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

/// Bits of the scale of a tile from the bits of its largest magnitude, as
/// [`scale_of`](crate::definition::scale_of) has them.
///
/// A power of two needs no division: 65024 is `127/64 * 2^15`, so a significand up to 127/64 divides
/// to at most a power of two, a larger one to more than it by over half a unit in the last place,
/// which rounding keeps.
#[cube]
fn scale_bits(amax_bits: u32, #[comptime] scale: ScaleFormat) -> u32 {
    let finite = amax_bits < INFINITY_BITS;
    let floor = comptime!(AMAX_FLOOR.to_bits());
    let safe = select(finite, clamp_min_bits(amax_bits, floor), floor);
    if comptime!(matches!(scale, ScaleFormat::PowerOfTwo)) {
        let largest = comptime!(E5M6_MAX.to_bits() & 0x7F_FFFF);
        let down = comptime!((E5M6_MAX.to_bits() >> 23) - 127);
        let exponent = (safe >> 23u32) - down + select((safe & 0x7F_FFFFu32) > largest, 1u32, 0u32);
        select(finite, exponent << 23u32, 254u32 << 23u32)
    } else {
        let approximate = u32::reinterpret(f32::reinterpret(safe) / comptime!(E5M6_MAX));
        let exact = round_quotient(safe, comptime!(E5M6_MAX.to_bits()), approximate);
        select(finite, exact, select(amax_bits == INFINITY_BITS, INFINITY_BITS, NAN_BITS))
    }
}

/// Bits of `65024 / max(amax, 1e-4)`, for a finite `amax`.
#[cube]
fn multiplier_bits(amax_bits: u32) -> u32 {
    let finite = amax_bits < INFINITY_BITS;
    let floor = comptime!(AMAX_FLOOR.to_bits());
    let safe = select(finite, clamp_min_bits(amax_bits, floor), floor);
    let approximate = u32::reinterpret(comptime!(E5M6_MAX) / f32::reinterpret(safe));
    round_quotient(comptime!(E5M6_MAX.to_bits()), safe, approximate)
}

/// The code of an entry of a tile, as [`encode_e5m6`](crate::definition::encode_e5m6) has it for the
/// product with the tile's multiplier.
#[cube]
fn encode(
    x_bits: u32,
    scale_bits: u32,
    multiplier_bits: u32,
    #[comptime] scale: ScaleFormat,
) -> u32 {
    let format = comptime!(Minifloat::E5M6);
    let sign = (x_bits >> 31u32) << comptime!(format.sign_shift());
    let magnitude = x_bits & 0x7FFF_FFFFu32;
    let least = comptime!(1u32 << 23);
    if comptime!(matches!(scale, ScaleFormat::PowerOfTwo)) {
        // Dividing takes the scale's exponent away.
        let exponent = (magnitude >> 23u32) + 127u32;
        let normal = magnitude >= least && exponent > scale_bits >> 23u32;
        let product = select(normal, magnitude + (127u32 << 23u32) - scale_bits, 0u32);
        let code = select(
            magnitude == INFINITY_BITS,
            comptime!(format.largest_code),
            round_down_or_up(product),
        );
        select(magnitude > INFINITY_BITS, comptime!(format.nan_code()), code | sign)
    } else {
        let entry = select(magnitude >= least && magnitude < INFINITY_BITS, magnitude, 0u32);
        let product = u32::reinterpret(f32::reinterpret(entry) * f32::reinterpret(multiplier_bits));
        let product = select(product >= least, product, 0u32);
        // Against an infinite scale all is zero but the infinity itself.
        let code = select(scale_bits >= INFINITY_BITS, 0u32, round_down_or_up(product));
        let nan = magnitude >= INFINITY_BITS || scale_bits > INFINITY_BITS;
        select(nan, comptime!(format.nan_code()), code | sign)
    }
}

/// The code of a non-negative normal FP32 or zero: cut, and then the next where the lowest 17 bits
/// say so.
#[cube]
fn round_down_or_up(bits: u32) -> u32 {
    let format = comptime!(Minifloat::E5M6);
    let exponent = bits >> 23u32;
    let normal = exponent >= 113u32;
    // Below 2^-14 a code counts steps of 2^-20.
    let missing = select(normal, 0u32, 113u32 - exponent);
    let shift = select(missing > 14u32, 31u32, missing + 17u32);
    let significand = (bits & 0x7F_FFFFu32) | 0x80_0000u32;
    let cut = select(normal, (bits >> 17u32) - 7168u32, significand >> shift);
    let up = (cut & 1u32) + (bits & 0x1_FFFFu32) > 0x1_0000u32;
    let code = cut + select(up, 1u32, 0u32);
    let largest = comptime!(format.largest_code);
    select(code > largest, largest, code)
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
    #[comptime] scale_format: ScaleFormat,
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
    let scale = scale_bits(amax, scale_format);
    let multiplier = multiplier_bits(amax);

    if row < rows {
        let mut words = Array::<u32>::new(EACH_WORDS as usize);
        #[unroll]
        for w in 0..EACH_WORDS {
            words[w as usize] = 0u32;
        }
        #[unroll]
        for i in 0..EACH {
            let code = encode(bits[i as usize], scale, multiplier, scale_format);
            // Padding is zero beside NaN too, whose scale would make NaN of it.
            let code = select(column0 + i < columns, code, 0u32);
            // From the highest bit down; the third and the sixth code go on in the next word.
            let word = comptime!((12 * i / 32) as usize);
            let place = comptime!(12 * i % 32);
            if comptime!(place <= 20) {
                words[word] |= code << comptime!(20 - place);
            } else {
                words[word] |= code >> comptime!(place - 20);
                words[comptime!(word + 1)] |= code << comptime!(52 - place);
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
        let place = bit % 32u32;
        let mut code = codes[word as usize] << place;
        // A code that starts in a word's last bits goes on in the next.
        if place > 20u32 {
            code |= codes[(word + 1u32) as usize] >> (32u32 - place);
        }
        let code = code >> 20u32;
        let scale = scales[(row * columns.div_ceil(BLOCK) + column / BLOCK) as usize];
        y[index as usize] = scale * decode_minifloat(code, comptime!(Minifloat::E5M6));
    }
}
