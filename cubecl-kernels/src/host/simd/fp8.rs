//! Codes of FP8 as numbers, sixteen at a time, for every instruction set.
//!
//! Vectors go by way of FP16, which has every value of either format, E4M3's times `2^-8`: an
//! instruction widens several of them, subnormal ones as fast as others.

use super::registers::LANES;
use crate::definition::Fp8Format;

/// The values of sixteen codes, without registers.
#[inline(always)]
pub(crate) fn plain(codes: &[u8; LANES], format: Fp8Format) -> [f32; LANES] {
    let mut values = [0.0; LANES];
    // Loops of a fixed length and without a choice in them are vectorized.
    match format {
        Fp8Format::E4M3 => (0..LANES).for_each(|i| values[i] = e4m3(codes[i])),
        Fp8Format::E5M2 => (0..LANES).for_each(|i| values[i] = e5m2(codes[i])),
    }
    values
}

/// The value of a code, by arithmetic that vectorises. Subnormal codes go through a difference of
/// normal numbers: no FP32 subnormal arises, which some processors are slow at.
#[inline(always)]
fn e4m3(code: u8) -> f32 {
    let magnitude = u32::from(code & 0x7F);
    let subnormal = magnitude < 8;
    let bits = (magnitude << 20) + ((120 + u32::from(subnormal)) << 23);
    let value = f32::from_bits(bits) - if subnormal { 0.015_625 } else { 0.0 };
    let value = if magnitude == 0x7F { f32::NAN } else { value };
    f32::from_bits(value.to_bits() | u32::from(code & 0x80) << 24)
}

/// The value of a code, by arithmetic that vectorises as [`e4m3`]; infinities and NaN land on those
/// of FP32 by themselves.
#[inline(always)]
fn e5m2(code: u8) -> f32 {
    let magnitude = u32::from(code & 0x7F);
    let subnormal = magnitude < 4;
    let exponent = if magnitude >= 0x7C { 224 } else { 112 + u32::from(subnormal) };
    let bits = (magnitude << 21) + (exponent << 23);
    let value = f32::from_bits(bits) - if subnormal { 6.103_515_6e-5 } else { 0.0 };
    f32::from_bits(value.to_bits() | u32::from(code & 0x80) << 24)
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{factor, halves, halves_of_32, widen, widen8};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use crate::definition::Fp8Format;

    /// What FP16 numbers of [`halves`] are still to be multiplied by.
    #[inline(always)]
    pub(crate) const fn factor(format: Fp8Format) -> f32 {
        match format {
            Fp8Format::E4M3 => 256.0,
            Fp8Format::E5M2 => 1.0,
        }
    }

    /// FP16 numbers of sixteen codes, still to be multiplied by [`factor`].
    ///
    /// # Safety
    /// AVX2 is there.
    #[inline(always)]
    pub(crate) unsafe fn halves(codes: __m128i, format: Fp8Format) -> __m256i {
        // SAFETY: registers alone, and the caller vouches for AVX2.
        unsafe {
            match format {
                Fp8Format::E4M3 => {
                    // The sign goes to two bits, of which one is taken away.
                    let shifted = _mm256_slli_epi16::<7>(_mm256_cvtepi8_epi16(codes));
                    let magnitude = _mm256_and_si256(shifted, _mm256_set1_epi16(0x3F80));
                    let nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x3F80));
                    let sign = _mm256_set1_epi16(0xBF80_u16.cast_signed());
                    _mm256_or_si256(_mm256_and_si256(shifted, sign), nan)
                }
                Fp8Format::E5M2 => _mm256_slli_epi16::<8>(_mm256_cvtepu8_epi16(codes)),
            }
        }
    }

    /// FP16 numbers of 32 codes, as [`halves`].
    ///
    /// # Safety
    /// AVX-512 F and BW are there.
    #[inline(always)]
    pub(crate) unsafe fn halves_of_32(codes: __m256i, format: Fp8Format) -> __m512i {
        // SAFETY: registers alone, and the caller vouches for the instruction set.
        unsafe {
            match format {
                Fp8Format::E4M3 => {
                    let shifted = _mm512_slli_epi16::<7>(_mm512_cvtepi8_epi16(codes));
                    let magnitude = _mm512_and_si512(shifted, _mm512_set1_epi16(0x3F80));
                    let nan = _mm512_cmpeq_epi16_mask(magnitude, _mm512_set1_epi16(0x3F80));
                    let sign = _mm512_set1_epi16(0xBF80_u16.cast_signed());
                    let value = _mm512_and_si512(shifted, sign);
                    _mm512_mask_mov_epi16(value, nan, _mm512_set1_epi16(0x7E00))
                }
                Fp8Format::E5M2 => _mm512_slli_epi16::<8>(_mm512_cvtepu8_epi16(codes)),
            }
        }
    }

    /// Sixteen FP16 numbers of [`halves`] as FP32, times [`factor`] or a multiple of it each.
    ///
    /// # Safety
    /// AVX-512 F is there.
    #[inline(always)]
    pub(crate) unsafe fn widen(halves: __m256i, factors: __m512) -> __m512 {
        // SAFETY: registers alone, and the caller vouches for the instruction set.
        unsafe { _mm512_mul_ps(_mm512_cvtph_ps(halves), factors) }
    }

    /// Eight FP16 numbers of [`halves`] as FP32, times [`factor`] or a multiple of it each.
    ///
    /// # Safety
    /// AVX and F16C are there.
    #[inline(always)]
    pub(crate) unsafe fn widen8(halves: __m128i, factors: __m256) -> __m256 {
        // SAFETY: registers alone, and the caller vouches for the instruction set.
        unsafe { _mm256_mul_ps(_mm256_cvtph_ps(halves), factors) }
    }
}

#[cfg(test)]
mod tests {
    use crate::definition::{Fp8Format, decode_fp8};
    use crate::host::simd::*;

    fn check<S: Simd>() {
        // Every code, in an order in which neighbours differ in each bit.
        let codes: Vec<u8> = (0..16 * 80).map(|i| (i * 37 + i / 256) as u8).collect();
        for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
            for codes in codes.as_chunks::<LANES>().0 {
                let values = S::lanes(S::fp8(codes, format));
                for (value, &code) in values.into_iter().zip(codes) {
                    let expected = decode_fp8(code, format);
                    assert!(
                        value.to_bits() == expected.to_bits()
                            || (value.is_nan() && expected.is_nan()),
                        "{format:?} {code:#x}: {value}"
                    );
                }
            }
        }
    }

    fn check_bytes<S: Simd>() {
        // What is above the lowest bits, and below the sign, does not matter.
        let low: [u32; BYTES] = std::array::from_fn(|i| 0xFFFF_FF00 | (i as u32 * 0x4D));
        let signs: [f32; BYTES] =
            std::array::from_fn(|i| if i % 3 == 0 { -0.0 } else { f32::NAN } * i as f32);
        let bytes = S::bytes(&low.map(f32::from_bits), &signs);
        for i in 0..BYTES {
            let sign = u8::from(signs[i].is_sign_negative()) << 7;
            assert_eq!(bytes[i], low[i] as u8 & 0x7F | sign, "{i}");
        }
    }

    #[test]
    fn every_code_on_every_instruction_set() {
        check_bytes::<Plain>();
        check::<Plain>();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") {
                check::<Avx2>();
                check_bytes::<Avx2>();
            }
            if is_x86_feature_detected!("avx512bw") {
                check::<Avx512>();
                check_bytes::<Avx512>();
            }
        }
    }
}
