//! Codes of a panel, one byte (FP8) or two (E5M6) each.

use std::mem::MaybeUninit;

use super::divisor::Divisors;
use super::e5m6::Multipliers;
use super::format::{E4M3, enlarged, for_format};
use super::panel::Panel;
use super::store::CodeRows;
use super::turn::CodePanel;
use crate::definition::{Fp8Format, TILE, encode_fp8};
use crate::host::simd::{BYTES, Simd, madd, multiversion};

/// Rows whose codes' place is asked for before they are cast in both orientations: their lines lie
/// far from each other.
const ROWS_AHEAD: usize = 4;

/// A number whose lowest seven bits are the code nearest to `q / enlarged`, which is not negative
/// and no larger than the format's largest value.
///
/// Adding a power of two that is `2^shift` times the power below `q`, or below the smallest normal
/// value, rounds `q` to the format's step (to nearest, ties to even) and leaves the number of steps
/// in the lowest bits of the sum. If those bits of what is added are the exponent already, times
/// the steps of a power, then the sum's are the code.
#[inline(always)]
fn steps<S: Simd, const FORMAT: usize>(q: f32) -> f32 {
    let (mantissa_bits, bias) = if FORMAT == E4M3 { (3, 7) } else { (2, 15) };
    let shift = 23 - mantissa_bits;
    // The smallest normal value is 2^(1 - bias), and no smaller power rounds.
    let smallest = (127 + 1 - bias) << 23;
    let smallest = smallest + (enlarged(FORMAT).to_bits() as i32 - (127 << 23));
    let power = (q.to_bits() as i32).max(smallest) & 0x7F80_0000;
    let with_exponent = f32::from_bits((power | power >> shift) as u32);
    madd::<S>(with_exponent, f32::from_bits((127 + shift as u32) << 23), q)
}

/// The code of a number of this sign whose [`steps`] are these.
#[inline(always)]
fn code(steps: f32, signed: f32) -> u8 {
    (steps.to_bits() & 0x7F | signed.to_bits() >> 24 & 0x80) as u8
}

/// `|x / scale|`, or what has the same code (see [`Divisors`]), times [`enlarged`], as `high` and
/// `low` are already.
#[inline(always)]
fn quotient<S: Simd, const FORMAT: usize>(x: f32, scale: f32, high: f32, low: f32) -> f32 {
    let x = x.abs();
    if S::FMA { x.mul_add(high, x * low) } else { x / scale * enlarged(FORMAT) }
}

/// Codes of some numbers that share a scale.
#[inline(always)]
fn of_row<S: Simd, const FORMAT: usize>(
    x: &[f32; BYTES],
    [scale, high, low]: [f32; 3],
) -> [u8; BYTES] {
    let mut sums = [0.0; BYTES];
    for i in 0..BYTES {
        sums[i] = steps::<S, FORMAT>(quotient::<S, FORMAT>(x[i], scale, high, low));
    }
    S::bytes(&sums, x)
}

/// Codes of some numbers with a scale each: those from the `index`-th group of columns on.
#[inline(always)]
fn of_columns<S: Simd, const FORMAT: usize>(
    x: &[f32; BYTES],
    divisors: &Divisors,
    index: usize,
) -> [u8; BYTES] {
    let scale = &divisors.scale.as_chunks::<BYTES>().0[index];
    let high = &divisors.high.as_chunks::<BYTES>().0[index];
    let low = &divisors.low.as_chunks::<BYTES>().0[index];
    let mut sums = [0.0; BYTES];
    for i in 0..BYTES {
        sums[i] = steps::<S, FORMAT>(quotient::<S, FORMAT>(x[i], scale[i], high[i], low[i]));
    }
    S::bytes(&sums, x)
}

/// Codes of numbers that share a scale.
#[inline(always)]
fn tile<S: Simd, const FORMAT: usize>(x: &[f32], divisor: [f32; 3], codes: &mut [MaybeUninit<u8>]) {
    let ((x, last), (codes, last_codes)) = (x.as_chunks(), codes.as_chunks_mut::<BYTES>());
    for (x, codes) in x.iter().zip(codes) {
        codes.write_copy_of_slice(&of_row::<S, FORMAT>(x, divisor));
    }
    let [scale, high, low] = divisor;
    for (&x, out) in last.iter().zip(last_codes) {
        out.write(code(steps::<S, FORMAT>(quotient::<S, FORMAT>(x, scale, high, low)), x));
    }
}

multiversion! {
    fn rows<const FORMAT: usize>(
        panel: Panel<'_>,
        divisors: &Divisors,
        codes: &mut CodeRows<'_>,
    ) {
        let mut index = 0;
        for r in 0..panel.rows {
            panel.prefetch_next(r);
            let (full, tail) = panel.row(r).as_chunks::<TILE>();
            let (codes, padding) = codes.row(r).split_at_mut(panel.columns);
            padding.fill(MaybeUninit::new(0));
            let (full_codes, tail_codes) = codes.as_chunks_mut::<TILE>();
            for (x, codes) in full.iter().zip(full_codes) {
                tile::<S, FORMAT>(x, divisors.of_tile(index), codes);
                index += 1;
            }
            if !tail.is_empty() {
                tile::<S, FORMAT>(tail, divisors.of_tile(index), tail_codes);
                index += 1;
            }
        }
    }
}

/// Codes of row tiles: `divisors` of `[rows, tiles(columns)]`.
pub(super) fn encode_rows(
    panel: Panel<'_>,
    divisors: &Divisors,
    mut codes: CodeRows<'_>,
    format: Fp8Format,
) {
    for_format!(format, rows(panel, divisors, &mut codes));
    slow_rows(panel, divisors, &mut codes, format);
}

/// Divides the row tiles that must be.
fn slow_rows(panel: Panel<'_>, divisors: &Divisors, codes: &mut CodeRows<'_>, format: Fp8Format) {
    let row_tiles = panel.columns.div_ceil(TILE);
    for tile in divisors.slow() {
        let (r, first) = (tile / row_tiles, tile % row_tiles * TILE);
        for (c, x) in panel.row(r).iter().enumerate().skip(first).take(TILE) {
            codes.row(r)[c].write(encode_fp8(x / divisors.scale[tile], format));
        }
    }
}

multiversion! {
    fn columns<const FORMAT: usize>(panel: Panel<'_>, divisors: &Divisors, codes: &mut [u8]) {
        let whole = panel.columns / BYTES * BYTES;
        for r in 0..panel.rows {
            panel.prefetch_next(r);
            let (x, codes) = (panel.row(r), &mut codes[r * TILE..][..panel.columns]);
            for (index, codes) in codes.as_chunks_mut::<BYTES>().0.iter_mut().enumerate() {
                let x = &x.as_chunks::<BYTES>().0[index];
                *codes = of_columns::<S, FORMAT>(x, divisors, index);
            }
            for c in whole..panel.columns {
                let [scale, high, low] = divisors.of_tile(c);
                let q = quotient::<S, FORMAT>(x[c], scale, high, low);
                codes[c] = code(steps::<S, FORMAT>(q), x[c]);
            }
        }
    }
}

/// Codes of column tiles, not transposed yet: a divisor for each of at most [`TILE`] columns,
/// `codes` in rows of [`TILE`].
pub(super) fn encode_columns(
    panel: Panel<'_>,
    divisors: &Divisors,
    codes: &mut [u8],
    format: Fp8Format,
) {
    for_format!(format, columns(panel, divisors, codes));
    slow_columns(panel, divisors, codes, format);
}

/// Divides the columns that must be.
fn slow_columns(panel: Panel<'_>, divisors: &Divisors, codes: &mut [u8], format: Fp8Format) {
    for c in divisors.slow() {
        for r in 0..panel.rows {
            codes[r * TILE + c] = encode_fp8(panel.row(r)[c] / divisors.scale[c], format);
        }
    }
}

multiversion! {
    fn both<const FORMAT: usize>(
        panel: Panel<'_>,
        by_rows: &Divisors,
        by_columns: &Divisors,
        row_codes: &mut CodeRows<'_>,
        column_codes: &mut CodePanel,
    ) {
        let rows_of_codes = column_codes.as_chunks_mut::<TILE>().0;
        for (r, column_codes) in rows_of_codes.iter_mut().take(panel.rows).enumerate() {
            panel.prefetch_next(r);
            row_codes.prefetch(r + ROWS_AHEAD);
            let divisor = by_rows.of_tile(r);
            let x = panel.row(r).as_chunks::<BYTES>().0;
            let row_codes = row_codes.row(r).as_chunks_mut::<BYTES>().0;
            let column_codes = column_codes.as_chunks_mut::<BYTES>().0;
            for index in 0..TILE / BYTES {
                let x = &x[index];
                row_codes[index].write_copy_of_slice(&of_row::<S, FORMAT>(x, divisor));
                column_codes[index] = of_columns::<S, FORMAT>(x, by_columns, index);
            }
        }
    }
}

/// Codes of the row tiles and of the column tiles of a panel of at most a tile of columns, in one
/// read: [`encode_rows`] and [`encode_columns`].
pub(super) fn encode_both(
    panel: Panel<'_>,
    [by_rows, by_columns]: [&Divisors; 2],
    mut row_codes: CodeRows<'_>,
    column_codes: &mut CodePanel,
    format: Fp8Format,
) {
    if panel.columns < TILE {
        encode_rows(panel, by_rows, row_codes, format);
        return encode_columns(panel, by_columns, column_codes, format);
    }
    for_format!(format, both(panel, by_rows, by_columns, &mut row_codes, column_codes));
    slow_rows(panel, by_rows, &mut row_codes, format);
    slow_columns(panel, by_columns, column_codes, format);
}

multiversion! {
    /// [`encode_e5m6`](crate::definition::encode_e5m6) of `x * multiplier`, without a branch.
    fn tile_e5m6(x: &[f32], multiplier: f32, codes: &mut [u16]) {
        const INFINITY: u32 = 0x7F80_0000;
        const LEAST_NORMAL: u32 = 1 << 23;
        for (&x, code) in x.iter().zip(codes) {
            let sign = (x.to_bits() >> 31) << 11;
            let magnitude = x.to_bits() & 0x7FFF_FFFF;
            let magnitude = if magnitude < LEAST_NORMAL { 0 } else { magnitude };
            let q = (f32::from_bits(magnitude) * multiplier).to_bits();
            let q = if q < LEAST_NORMAL { 0 } else { q };
            // Steps below the smallest normal code: the sum has the nearest number of them in its
            // lowest bits, which is one too many where it was rounded up.
            let steps = f32::from_bits(q) * 20f32.exp2();
            let sum = steps + 23f32.exp2();
            let up = u32::from(sum - 23f32.exp2() > steps);
            let small = (sum.to_bits() & (LEAST_NORMAL - 1)).wrapping_sub(up);
            let large = (q >> 17).wrapping_sub((127 - 15) << 6);
            let cut = if q < (127 - 14) << 23 { small } else { large };
            let up = u32::from((cut & 1) + (q & 0x1_FFFF) > 0x1_0000);
            let finite = (cut + up).min(0x7BF) | sign;
            *code = if q > INFINITY { 0x7FF } else { finite as u16 };
        }
    }
}

/// E5M6 codes of the row tiles of one row.
pub(super) fn encode_e5m6_row(x: &[f32], multipliers: &Multipliers, codes: &mut [u16]) {
    let tiles = x.chunks(TILE).zip(codes.chunks_mut(TILE));
    for ((x, codes), &multiplier) in tiles.zip(multipliers.values()) {
        tile_e5m6(x, multiplier, codes);
    }
}
