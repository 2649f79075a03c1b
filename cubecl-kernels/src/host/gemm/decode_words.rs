//! Codes as FP32 words, for every instruction set: what they stand for, along a row, and with rows
//! and columns exchanged; and numbers rounded to BF16, as FP32 words.

use super::source::Taken;
use crate::definition::Fp8Format;
use crate::host::simd::{LANES, Plain, Simd, round_to_bf16};

/// Codes of a row that [`DecodeWords::columns`] takes at once.
pub(super) const CODES: usize = 64;

/// Decodes codes.
pub(super) trait DecodeWords: Simd {
    /// Writes the values of sixteen codes, times their scale.
    ///
    /// # Safety
    /// The codes can be read and the values written, and the instruction set is there.
    #[inline(always)]
    unsafe fn row(codes: *const u8, format: Fp8Format, scale: f32, to: *mut f32) {
        // SAFETY: the caller vouches for sixteen codes, as many values, and the instruction set.
        unsafe {
            let codes = &*codes.cast::<[u8; LANES]>();
            *to.cast::<[f32; LANES]>() = Self::lanes(Self::fp8_times(codes, format, scale));
        }
    }

    /// Rounds sixteen numbers to BF16, as [`round_to_bf16`] does. (Left to itself the compiler does
    /// it one number at a time where loops over sixteen are unrolled.)
    ///
    /// # Safety
    /// They can be read and written, and the instruction set is there.
    unsafe fn round(from: *const f32, to: *mut f32);

    /// Takes sixteen numbers.
    ///
    /// # Safety
    /// They can be read and written, and the instruction set is there.
    #[inline(always)]
    unsafe fn take(taken: Taken, from: *const f32, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            match taken {
                Taken::High => Self::round(from, to),
                _ => {
                    let from = &*from.cast::<[f32; LANES]>();
                    taken.of_all(from, &mut *to.cast::<[f32; LANES]>());
                }
            }
        }
    }

    /// Writes the values of [`CODES`] codes of each of sixteen rows, one every `row_bytes`, times
    /// the row's scale, as columns: the first of each row, then the second, one every `to_stride`.
    ///
    /// # Safety
    /// The codes can be read and the values written, and the instruction set is there.
    #[inline(always)]
    unsafe fn columns(
        codes: *const u8,
        row_bytes: usize,
        format: Fp8Format,
        scales: &[f32; LANES],
        to: *mut f32,
        to_stride: usize,
    ) {
        for first in (0..CODES).step_by(LANES) {
            let mut block = [[0.0; LANES]; LANES];
            // SAFETY: the caller vouches for the codes, the room and the instruction set.
            unsafe {
                for (r, block) in block.iter_mut().enumerate() {
                    let codes = codes.add(r * row_bytes + first);
                    Self::row(codes, format, scales[r], block.as_mut_ptr());
                }
                let to = to.add(first * to_stride);
                Self::transpose(block.as_flattened().as_ptr(), LANES, to, to_stride);
            }
        }
    }
}

impl DecodeWords for Plain {
    #[inline(always)]
    unsafe fn round(from: *const f32, to: *mut f32) {
        for i in 0..LANES {
            // SAFETY: the caller vouches for sixteen numbers.
            unsafe { *to.add(i) = round_to_bf16(*from.add(i)) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    // Loops over the indices of fixed arrays keep them in registers.
    #![allow(clippy::needless_range_loop)]

    use std::arch::x86_64::*;

    use super::{CODES, DecodeWords};
    use crate::definition::{CODES_A_WORD, Fp8Format};
    use crate::host::simd::{
        Avx2, Avx512, LANES, factor, halves, halves_of_32, transpose_avx512, transpose8, widen,
        widen8,
    };

    impl DecodeWords for Avx512 {
        #[inline(always)]
        unsafe fn round(from: *const f32, to: *mut f32) {
            // SAFETY: the caller vouches for sixteen numbers and for the instruction set.
            unsafe {
                let x = _mm512_loadu_ps(from);
                let bits = _mm512_castps_si512(x);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
                let upper = _mm512_set1_epi32(0xFFFF_0000_u32.cast_signed());
                let rounded = _mm512_and_si512(_mm512_add_epi32(bits, half), upper);
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
                let quiet = _mm512_set1_epi32(0x40_0000);
                let rounded = _mm512_mask_or_epi32(rounded, nan, bits, quiet);
                _mm512_storeu_si512(to.cast(), rounded);
            }
        }

        #[inline(always)]
        unsafe fn columns(
            codes: *const u8,
            row_bytes: usize,
            format: Fp8Format,
            scales: &[f32; LANES],
            to: *mut f32,
            to_stride: usize,
        ) {
            // SAFETY: the caller vouches for the codes, the room and the instruction set.
            unsafe {
                let scales = _mm512_loadu_ps(scales.as_ptr());
                let factors = _mm512_mul_ps(scales, _mm512_set1_ps(factor(format)));
                let mut rows = [_mm512_setzero_si512(); LANES];
                for r in 0..LANES {
                    rows[r] = _mm512_loadu_si512(codes.add(r * row_bytes).cast());
                }
                // Now register `i` has words `i` of all rows. Of each word the first codes come
                // together, the second, and so on: first within four words.
                let words = transpose_avx512(rows);
                let within = _mm512_broadcast_i32x4(_mm_setr_epi8(
                    0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
                ));
                let across =
                    _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
                for i in 0..LANES {
                    let codes = _mm512_shuffle_epi8(words[i], within);
                    let codes = _mm512_permutexvar_epi32(across, codes);
                    let to = to.add(i * CODES_A_WORD * to_stride);
                    let lower = halves_of_32(_mm512_castsi512_si256(codes), format);
                    let upper = halves_of_32(_mm512_extracti64x4_epi64::<1>(codes), format);
                    let both = [lower, upper];
                    for half in 0..2 {
                        let to = to.add(2 * half * to_stride);
                        let first = _mm512_castsi512_si256(both[half]);
                        _mm512_storeu_ps(to, widen(first, factors));
                        let second = _mm512_extracti64x4_epi64::<1>(both[half]);
                        _mm512_storeu_ps(to.add(to_stride), widen(second, factors));
                    }
                }
            }
        }
    }

    impl DecodeWords for Avx2 {
        #[inline(always)]
        unsafe fn round(from: *const f32, to: *mut f32) {
            for i in [0, LANES / 2] {
                // SAFETY: the caller vouches for sixteen numbers and for the instruction set.
                unsafe {
                    let x = _mm256_loadu_ps(from.add(i));
                    let bits = _mm256_castps_si256(x);
                    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                    let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
                    let upper = _mm256_set1_epi32(0xFFFF_0000_u32.cast_signed());
                    let rounded = _mm256_and_si256(_mm256_add_epi32(bits, half), upper);
                    let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
                    let rounded = _mm256_blendv_ps(
                        _mm256_castsi256_ps(rounded),
                        _mm256_castsi256_ps(quiet),
                        _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x),
                    );
                    _mm256_storeu_ps(to.add(i), rounded);
                }
            }
        }

        #[inline(always)]
        unsafe fn columns(
            codes: *const u8,
            row_bytes: usize,
            format: Fp8Format,
            scales: &[f32; LANES],
            to: *mut f32,
            to_stride: usize,
        ) {
            // SAFETY: the caller vouches for the codes, the room and the instruction set; every
            // load takes 32 codes of a row, every store eight values.
            unsafe {
                let within = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                    0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
                ));
                let across = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                for part in 0..4 {
                    let (row, first) = (part / 2 * 8, part % 2 * CODES / 2);
                    let scales = _mm256_loadu_ps(scales.as_ptr().add(row));
                    let factors = _mm256_mul_ps(scales, _mm256_set1_ps(factor(format)));
                    let mut rows = [_mm256_setzero_ps(); 8];
                    for r in 0..8 {
                        let from = codes.add((row + r) * row_bytes + first);
                        rows[r] = _mm256_loadu_ps(from.cast());
                    }
                    // Register `i` has words `i` of eight rows, as in AVX-512.
                    let words = transpose8(rows);
                    for i in 0..8 {
                        let codes = _mm256_shuffle_epi8(_mm256_castps_si256(words[i]), within);
                        let codes = _mm256_permutevar8x32_epi32(codes, across);
                        let to = to.add((first + i * CODES_A_WORD) * to_stride + row);
                        let lower = halves(_mm256_castsi256_si128(codes), format);
                        let upper = halves(_mm256_extracti128_si256::<1>(codes), format);
                        let both = [lower, upper];
                        for half in 0..2 {
                            let to = to.add(2 * half * to_stride);
                            let first = _mm256_castsi256_si128(both[half]);
                            _mm256_storeu_ps(to, widen8(first, factors));
                            let second = _mm256_extracti128_si256::<1>(both[half]);
                            _mm256_storeu_ps(to.add(to_stride), widen8(second, factors));
                        }
                    }
                }
            }
        }
    }
}
