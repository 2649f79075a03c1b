//! Values of a row on the wire, tile by tile, and values to words.

use std::mem::MaybeUninit;

use crate::definition::{TILE, WireFormat, scale_byte, scale_from_exponent};
use crate::host::quantize::e4m3_value;
use crate::host::simd::{bf16_bits, multiversion};

/// The formats, as constants that functions are compiled for.
pub(super) const F32: usize = 0;
pub(super) const BF16: usize = 1;
pub(super) const FP8: usize = 2;

/// Calls a function compiled for each wire format.
macro_rules! for_wire {
    ($format:expr, $name:ident $args:tt) => {
        match $format {
            $crate::definition::WireFormat::F32 => {
                $name::<{ $crate::host::all_to_all::values::F32 }> $args
            }
            $crate::definition::WireFormat::Bf16 => {
                $name::<{ $crate::host::all_to_all::values::BF16 }> $args
            }
            $crate::definition::WireFormat::Fp8 => {
                $name::<{ $crate::host::all_to_all::values::FP8 }> $args
            }
        }
    };
}
pub(super) use for_wire;

/// The format of a constant.
pub(super) const fn format_of(format: usize) -> WireFormat {
    match format {
        F32 => WireFormat::F32,
        BF16 => WireFormat::Bf16,
        _ => WireFormat::Fp8,
    }
}

/// The values of tile `tile` of a row of `width`; those past the end of the row are anything.
#[inline(always)]
pub(super) fn tile_values<const FORMAT: usize>(
    row: &[u32],
    width: usize,
    tile: usize,
    out: &mut [f32; TILE],
) {
    let (first, count) = (tile * TILE, TILE.min(width - tile * TILE));
    match FORMAT {
        F32 => {
            let words = &row[first..first + count];
            match <&[u32; TILE]>::try_from(words) {
                // A length that is known makes loops of vectors; so in the other formats.
                Ok(words) => {
                    out.iter_mut().zip(words).for_each(|(out, &word)| *out = f32::from_bits(word))
                }
                Err(_) => {
                    out.iter_mut().zip(words).for_each(|(out, &word)| *out = f32::from_bits(word))
                }
            }
        }
        BF16 => {
            let words = &row[first / 2..(first + count).div_ceil(2)];
            match <&[u32; TILE / 2]>::try_from(words) {
                Ok(words) => bf16_values(words, out),
                Err(_) => {
                    let mut padded = [0; TILE / 2];
                    padded[..words.len()].copy_from_slice(words);
                    bf16_values(&padded, out);
                }
            }
        }
        _ => {
            let scale = scale_from_exponent(scale_byte(row, width, tile));
            let words = &row[first / 4..(first + count).div_ceil(4)];
            match <&[u32; TILE / 4]>::try_from(words) {
                Ok(words) => fp8_values(words, scale, out),
                Err(_) => {
                    let mut padded = [0; TILE / 4];
                    padded[..words.len()].copy_from_slice(words);
                    fp8_values(&padded, scale, out);
                }
            }
        }
    }
}

#[inline(always)]
fn bf16_values(words: &[u32; TILE / 2], out: &mut [f32; TILE]) {
    let mut halves = [0u16; TILE];
    for (halves, &word) in halves.as_chunks_mut::<2>().0.iter_mut().zip(words) {
        *halves = [word as u16, (word >> 16) as u16];
    }
    for (out, half) in out.iter_mut().zip(halves) {
        *out = f32::from_bits(u32::from(half) << 16);
    }
}

#[inline(always)]
fn fp8_values(words: &[u32; TILE / 4], scale: f32, out: &mut [f32; TILE]) {
    let mut codes = [0u8; TILE];
    for (codes, word) in codes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *codes = word.to_le_bytes();
    }
    for (out, code) in out.iter_mut().zip(codes) {
        *out = scale * e4m3_value(u32::from(code));
    }
}

multiversion! {
    /// All values of a row.
    pub(super) fn row_values<const FORMAT: usize>(
        row: &[u32],
        width: usize,
        out: &mut [MaybeUninit<f32>],
    ) {
        if FORMAT == F32 {
            for (out, &word) in out.iter_mut().zip(row) {
                out.write(f32::from_bits(word));
            }
            return;
        }
        let mut values = [0.0; TILE];
        for (tile, out) in out.chunks_mut(TILE).enumerate() {
            tile_values::<FORMAT>(row, width, tile, &mut values);
            match <&mut [MaybeUninit<f32>; TILE]>::try_from(&mut *out) {
                Ok(out) => out.write_copy_of_slice(&values),
                Err(_) => out.write_copy_of_slice(&values[..out.len()]),
            };
        }
    }
}

multiversion! {
    /// Two values a word, rounded to BF16.
    pub(super) fn bf16_words(x: &[f32], out: &mut [MaybeUninit<u32>]) {
        let (pairs, last) = x.as_chunks::<2>();
        for (out, &[low, high]) in out.iter_mut().zip(pairs) {
            out.write(bf16_bits(low) | bf16_bits(high) << 16);
        }
        if let (Some(out), Some(&x)) = (out.get_mut(pairs.len()), last.first()) {
            out.write(bf16_bits(x));
        }
    }
}
