//! Codes back to numbers.

use super::format::{E4M3, E5M2, E5M6, for_format};
use crate::definition::{CODES_A_WORD, Fp8Format, TILE};
use crate::host::simd::{LANES, multiversion};

/// The value of a code.
#[inline(always)]
fn value<const FORMAT: usize>(code: u32) -> f32 {
    let (mantissa_bits, bias, sign_bit, largest) = match FORMAT {
        E4M3 => (3, 7, 7, 0x7E),
        E5M2 => (2, 15, 7, 0x7B),
        _ => (6, 15, 11, 0x7BF),
    };
    let magnitude = (code & ((1 << sign_bit) - 1)) as i32;
    let normal =
        f32::from_bits(((magnitude << (23 - mantissa_bits)) + ((127 - bias) << 23)) as u32);
    // Below the smallest normal value, steps of its exponent's size.
    let step = f32::from_bits(((127 + 1 - bias - mantissa_bits) << 23) as u32);
    let finite = if magnitude < 1 << mantissa_bits { magnitude as f32 * step } else { normal };
    let special = if FORMAT != E4M3 && magnitude == largest + 1 { f32::INFINITY } else { f32::NAN };
    let value = if magnitude > largest { special } else { finite };
    f32::from_bits(value.to_bits() | (code >> sign_bit) << 31)
}

/// The value of an E4M3 code.
#[inline(always)]
pub(in crate::host) fn e4m3_value(code: u32) -> f32 {
    value::<E4M3>(code)
}

multiversion! {
    fn tile<const FORMAT: usize>(codes: &[u8], scale: f32, out: &mut [f32]) {
        let format = if FORMAT == E4M3 { Fp8Format::E4M3 } else { Fp8Format::E5M2 };
        let (codes, last_codes) = codes.as_chunks::<LANES>();
        let (out, last) = out.as_chunks_mut::<LANES>();
        for (out, codes) in out.iter_mut().zip(codes) {
            *out = S::lanes(S::mul(S::splat(scale), S::fp8(codes, format)));
        }
        for (out, &code) in last.iter_mut().zip(last_codes) {
            *out = scale * value::<FORMAT>(u32::from(code));
        }
    }
}

/// Entries `first..` of a row of row tiles, as many as `out` takes.
///
/// # Shapes
/// - `codes [words(cols)]`, `scales [tiles(cols)]`, `out [<= cols - first]`
pub(super) fn decode_row(
    codes: &[u32],
    scales: &[f32],
    first: usize,
    out: &mut [f32],
    format: Fp8Format,
) {
    let mut bytes = [0u8; TILE + CODES_A_WORD];
    let mut done = 0;
    while done < out.len() {
        let start = first + done;
        let count = (TILE - start % TILE).min(out.len() - done);
        let (word, skip) = (start / CODES_A_WORD, start % CODES_A_WORD);
        let words = &codes[word..word + (skip + count).div_ceil(CODES_A_WORD)];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        let (codes, out) = (&bytes[skip..skip + count], &mut out[done..done + count]);
        for_format!(format, tile(codes, scales[start / TILE], out));
        done += count;
    }
}

multiversion! {
    /// Entries `first..` of a row of E5M6 codes, as many as `out` takes; `first` is a multiple of
    /// [`TILE`].
    ///
    /// # Shapes
    /// - `codes [e5m6_words(cols)]`, `scales [tiles(cols)]`, `out [<= cols - first]`
    pub(super) fn decode_e5m6_row(codes: &[u32], scales: &[f32], first: usize, out: &mut [f32]) {
        let codes = &codes[first / CODES_TOGETHER * WORDS_TOGETHER..];
        let tiles = codes.chunks(TILE / CODES_TOGETHER * WORDS_TOGETHER);
        for ((out, codes), &scale) in out.chunks_mut(TILE).zip(tiles).zip(&scales[first / TILE..]) {
            let (full, tail) = out.as_chunks_mut::<CODES_TOGETHER>();
            let (words, last) = codes.as_chunks::<WORDS_TOGETHER>();
            for (out, &words) in full.iter_mut().zip(words) {
                *out = eight_e5m6(words, scale);
            }
            if !tail.is_empty() {
                // The words that hold the last codes, where others would follow.
                let mut whole = [0; WORDS_TOGETHER];
                let words = words.get(full.len()).map_or(last, |words| words.as_slice());
                whole[..words.len()].copy_from_slice(words);
                tail.copy_from_slice(&eight_e5m6(whole, scale)[..tail.len()]);
            }
        }
    }
}

/// E5M6 codes that fill words, and those words.
const CODES_TOGETHER: usize = 8;
const WORDS_TOGETHER: usize = 3;

/// The values of the codes of three words, times their scale: each code is of one word, or of the
/// end of one and the beginning of the next.
#[inline(always)]
fn eight_e5m6([a, b, c]: [u32; WORDS_TOGETHER], scale: f32) -> [f32; CODES_TOGETHER] {
    const LEFT: [u32; CODES_TOGETHER] = [0, 0, 4, 0, 0, 8, 0, 0];
    const RIGHT: [u32; CODES_TOGETHER] = [20, 8, 28, 16, 4, 24, 12, 0];
    let (begun, ended) = ([0, 0, a, 0, 0, b, 0, 0], [a, a, b, b, b, c, c, c]);
    let mut values = [0.0; CODES_TOGETHER];
    for i in 0..CODES_TOGETHER {
        let code = (begun[i] << LEFT[i] | ended[i] >> RIGHT[i]) & 0xFFF;
        values[i] = scale * value::<E5M6>(code);
    }
    values
}
