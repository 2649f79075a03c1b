//! Truncation to an accumulator of few bits, sixteen lanes at a time, for each instruction set.

use crate::host::simd::{Plain, Simd};

/// What truncation needs beyond [`Simd`]. Its functions may only run where the instruction set has
/// been found.
pub(super) trait Truncate: Simd {
    /// The magnitude of `x` where it is larger than `magnitude`; NaN is larger than any.
    fn larger(magnitude: Self::V, x: Self::V) -> Self::V;
    /// The integer part of numbers of at most 24 bits.
    fn truncate(x: Self::V) -> Self::V;
    /// The unit of a number of `bits` bits as large as `magnitude`, NaN where that is not finite,
    /// and its inverse; both kept normal.
    fn quantum(magnitude: Self::V, bits: u32) -> (Self::V, Self::V);
}

impl Truncate for Plain {
    #[inline(always)]
    fn larger(magnitude: Self::V, x: Self::V) -> Self::V {
        std::array::from_fn(|l| {
            f32::from_bits(magnitude[l].to_bits().max(x[l].to_bits() & 0x7FFF_FFFF))
        })
    }
    #[inline(always)]
    fn truncate(x: Self::V) -> Self::V {
        // There may be no instruction for it, except by way of an integer.
        std::array::from_fn(|l| x[l] as i32 as f32)
    }
    #[inline(always)]
    fn quantum(magnitude: Self::V, bits: u32) -> (Self::V, Self::V) {
        let exponents = magnitude.map(|x| (x.to_bits() >> 23).max(bits));
        let quantum =
            |e: u32| if e == 255 { f32::NAN } else { f32::from_bits((e + 1 - bits) << 23) };
        (exponents.map(quantum), exponents.map(|e| f32::from_bits((253 + bits - e) << 23)))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Truncate;
    use crate::host::simd::{Avx2, Avx512};

    impl Truncate for Avx512 {
        #[inline(always)]
        fn larger(magnitude: __m512, x: __m512) -> __m512 {
            // SAFETY: registers alone; `Truncate` only runs where AVX-512 has been found.
            unsafe {
                _mm512_castsi512_ps(_mm512_max_epu32(
                    _mm512_castps_si512(magnitude),
                    _mm512_castps_si512(_mm512_abs_ps(x)),
                ))
            }
        }
        #[inline(always)]
        fn truncate(x: __m512) -> __m512 {
            // SAFETY: registers alone; `Truncate` only runs where AVX-512 has been found.
            unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(x) }
        }
        #[inline(always)]
        fn quantum(magnitude: __m512, bits: u32) -> (__m512, __m512) {
            let bits = bits.cast_signed();
            // SAFETY: registers alone; `Truncate` only runs where AVX-512 has been found.
            unsafe {
                let exponent = _mm512_max_epu32(
                    _mm512_srli_epi32::<23>(_mm512_castps_si512(magnitude)),
                    _mm512_set1_epi32(bits),
                );
                let quantum = _mm512_slli_epi32::<23>(_mm512_sub_epi32(
                    exponent,
                    _mm512_set1_epi32(bits - 1),
                ));
                let infinite = _mm512_cmpeq_epi32_mask(exponent, _mm512_set1_epi32(255));
                let quantum = _mm512_mask_set1_epi32(quantum, infinite, -1);
                let inverse = _mm512_slli_epi32::<23>(_mm512_sub_epi32(
                    _mm512_set1_epi32(253 + bits),
                    exponent,
                ));
                (_mm512_castsi512_ps(quantum), _mm512_castsi512_ps(inverse))
            }
        }
    }

    impl Truncate for Avx2 {
        #[inline(always)]
        fn larger(magnitude: [__m256; 2], x: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: registers alone; `Truncate` only runs where AVX2 has been found.
            unsafe {
                let mask = _mm256_set1_epi32(i32::MAX);
                let mut larger = magnitude;
                for i in 0..2 {
                    let x = _mm256_and_si256(_mm256_castps_si256(x[i]), mask);
                    larger[i] =
                        _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(magnitude[i]), x));
                }
                larger
            }
        }
        #[inline(always)]
        fn truncate(x: [__m256; 2]) -> [__m256; 2] {
            const MODE: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
            // SAFETY: registers alone; `Truncate` only runs where AVX2 has been found.
            unsafe { [_mm256_round_ps::<MODE>(x[0]), _mm256_round_ps::<MODE>(x[1])] }
        }
        #[inline(always)]
        fn quantum(magnitude: [__m256; 2], bits: u32) -> ([__m256; 2], [__m256; 2]) {
            let bits = bits.cast_signed();
            let (mut quanta, mut inverses) = (magnitude, magnitude);
            for i in 0..2 {
                // SAFETY: registers alone; `Truncate` only runs where AVX2 has been found.
                unsafe {
                    let exponent = _mm256_srli_epi32::<23>(_mm256_castps_si256(magnitude[i]));
                    let exponent = _mm256_max_epu32(exponent, _mm256_set1_epi32(bits));
                    let quantum = _mm256_slli_epi32::<23>(_mm256_sub_epi32(
                        exponent,
                        _mm256_set1_epi32(bits - 1),
                    ));
                    // All ones are a NaN.
                    let infinite = _mm256_cmpeq_epi32(exponent, _mm256_set1_epi32(255));
                    quanta[i] = _mm256_castsi256_ps(_mm256_or_si256(quantum, infinite));
                    let inverse = _mm256_slli_epi32::<23>(_mm256_sub_epi32(
                        _mm256_set1_epi32(253 + bits),
                        exponent,
                    ));
                    inverses[i] = _mm256_castsi256_ps(inverse);
                }
            }
            (quanta, inverses)
        }
    }
}
