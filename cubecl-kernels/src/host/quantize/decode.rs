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
        let (codes, scales) = (&codes[first / 8 * 3..], &scales[first / TILE..]);
        for (i, (out, codes)) in out.chunks_mut(8).zip(codes.chunks(3)).enumerate() {
            let word = |w: usize| codes.get(w).copied().unwrap_or(0);
            let (a, b, c) = (word(0), word(1), word(2));
            let eight =
                [a >> 20, a >> 8, a << 4 | b >> 28, b >> 16, b >> 4, b << 8 | c >> 24, c >> 12, c];
            for (out, code) in out.iter_mut().zip(eight) {
                *out = scales[i * 8 / TILE] * value::<E5M6>(code & 0xFFF);
            }
        }
    }
}
