//! Sixteen lanes in the registers of each instruction set.

use super::{fp8, transpose};
use crate::definition::Fp8Format;

/// Lanes that loops are cut by, whatever the machine: so a result does not depend on the width of
/// its registers.
pub(crate) const LANES: usize = 16;

/// Bytes that [`Simd::bytes`] makes at once.
pub(crate) const BYTES: usize = 2 * LANES;

/// Sixteen lanes in the registers of one instruction set.
///
/// Its functions may only run where that set has been found: inside
/// [`multiversion!`](super::multiversion).
pub(crate) trait Simd {
    /// Whether multiply and add fuse.
    const FMA: bool;
    /// Sixteen numbers.
    type V: Copy;
    /// Sixteen zeros.
    #[inline(always)]
    fn zero() -> Self::V {
        Self::splat(0.0)
    }
    /// Sixteen times `x`.
    fn splat(x: f32) -> Self::V;
    /// Reads sixteen numbers from memory.
    fn load(x: &[f32; LANES]) -> Self::V;
    /// Writes sixteen numbers to memory.
    fn lanes(x: Self::V) -> [f32; LANES];
    /// `a + b`.
    fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`.
    fn madd(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The values of sixteen codes.
    #[inline(always)]
    fn fp8(codes: &[u8; LANES], format: Fp8Format) -> Self::V {
        Self::fp8_times(codes, format, 1.0)
    }
    /// The values of sixteen codes times a number, infinite from 2^120 on.
    fn fp8_times(codes: &[u8; LANES], format: Fp8Format, by: f32) -> Self::V;
    /// The lowest seven bits of numbers, with the signs of others above them. (Left to itself the
    /// compiler narrows the words of one register at a time.)
    #[inline(always)]
    fn bytes(low: &[f32; BYTES], signs: &[f32; BYTES]) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        for i in 0..BYTES {
            bytes[i] = (low[i].to_bits() & 0x7F | signs[i].to_bits() >> 24 & 0x80) as u8;
        }
        bytes
    }
    /// Writes 16 x 16 numbers with rows and columns exchanged. Their rows lie one every
    /// `from_stride`, those of the result one every `to_stride`.
    ///
    /// # Safety
    /// All of `from` can be read and all of `to` written, they do not overlap, and the instruction
    /// set is there.
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);
    /// The sum of all, as a tree.
    #[inline(always)]
    fn sum(x: Self::V) -> f32 {
        lane_sum(Self::lanes(x))
    }
}

/// `a * b + c`, fused where the instruction set has it (a library call elsewhere, hence the
/// constant).
#[inline(always)]
pub(crate) fn madd<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::FMA { a.mul_add(b, c) } else { a * b + c }
}

/// The sum of 16 lanes, as a tree.
#[inline(always)]
pub(crate) fn lane_sum(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The target's baseline.
pub(crate) struct Plain;

impl Simd for Plain {
    const FMA: bool = cfg!(target_arch = "aarch64");
    type V = [f32; LANES];
    #[inline(always)]
    fn splat(x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(x: &[f32; LANES]) -> Self::V {
        *x
    }
    #[inline(always)]
    fn lanes(x: Self::V) -> [f32; LANES] {
        x
    }
    #[inline(always)]
    fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|l| a[l] + b[l])
    }
    #[inline(always)]
    fn mul(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|l| a[l] * b[l])
    }
    #[inline(always)]
    fn madd(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|l| madd::<Self>(a[l], b[l], c[l]))
    }
    #[inline(always)]
    fn fp8_times(codes: &[u8; LANES], format: Fp8Format, by: f32) -> Self::V {
        fp8::plain(codes, format).map(|value| value * by)
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { transpose::plain(from, from_stride, to, to_stride) };
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    // Loops over the indices of fixed arrays keep them in registers.
    #![allow(clippy::needless_range_loop)]

    use std::arch::x86_64::*;

    use super::{BYTES, LANES, Simd, fp8, transpose};
    use crate::definition::Fp8Format;

    /// AVX-512: one register.
    pub(crate) struct Avx512;

    impl Simd for Avx512 {
        const FMA: bool = true;
        type V = __m512;
        #[inline(always)]
        fn splat(x: f32) -> __m512 {
            // SAFETY: registers alone; `Simd` only runs where AVX-512 has been found.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        fn load(x: &[f32; LANES]) -> __m512 {
            // SAFETY: `Simd` only runs where AVX-512 has been found; an unaligned access to
            // sixteen numbers.
            unsafe { _mm512_loadu_ps(x.as_ptr()) }
        }
        #[inline(always)]
        fn lanes(x: __m512) -> [f32; LANES] {
            let mut lanes = [0.0; LANES];
            // SAFETY: `Simd` only runs where AVX-512 has been found; an unaligned access to
            // sixteen numbers.
            unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), x) };
            lanes
        }
        #[inline(always)]
        fn add(a: __m512, b: __m512) -> __m512 {
            // SAFETY: registers alone; `Simd` only runs where AVX-512 has been found.
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        fn mul(a: __m512, b: __m512) -> __m512 {
            // SAFETY: registers alone; `Simd` only runs where AVX-512 has been found.
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        fn madd(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: registers alone; `Simd` only runs where AVX-512 has been found.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        fn fp8_times(codes: &[u8; LANES], format: Fp8Format, by: f32) -> __m512 {
            // SAFETY: `Simd` only runs where AVX-512 has been found; an unaligned access to
            // sixteen codes.
            unsafe {
                let halves = fp8::halves(_mm_loadu_si128(codes.as_ptr().cast()), format);
                fp8::widen(halves, _mm512_set1_ps(by * fp8::factor(format)))
            }
        }
        #[inline(always)]
        unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            // SAFETY: the caller's promise.
            unsafe { transpose::avx512(from, from_stride, to, to_stride) };
        }
    }

    /// AVX2 with FMA: two registers.
    pub(crate) struct Avx2;

    impl Simd for Avx2 {
        const FMA: bool = true;
        type V = [__m256; 2];
        #[inline(always)]
        fn splat(x: f32) -> [__m256; 2] {
            // SAFETY: registers alone; `Simd` only runs where AVX2 has been found.
            unsafe { [_mm256_set1_ps(x); 2] }
        }
        #[inline(always)]
        fn load(x: &[f32; LANES]) -> [__m256; 2] {
            // SAFETY: `Simd` only runs where AVX2 has been found; an unaligned access to
            // sixteen numbers.
            unsafe { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))] }
        }
        #[inline(always)]
        fn lanes(x: [__m256; 2]) -> [f32; LANES] {
            let mut lanes = [0.0; LANES];
            // SAFETY: `Simd` only runs where AVX2 has been found; an unaligned access to
            // sixteen numbers.
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), x[0]);
                _mm256_storeu_ps(lanes.as_mut_ptr().add(8), x[1]);
            }
            lanes
        }
        #[inline(always)]
        fn add(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: registers alone; `Simd` only runs where AVX2 has been found.
            unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
        }
        #[inline(always)]
        fn mul(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: registers alone; `Simd` only runs where AVX2 has been found.
            unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
        }
        #[inline(always)]
        fn madd(a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: registers alone; `Simd` only runs where AVX2 has been found.
            unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
        }
        #[inline(always)]
        fn fp8_times(codes: &[u8; LANES], format: Fp8Format, by: f32) -> [__m256; 2] {
            // SAFETY: `Simd` only runs where AVX2 and F16C have been found; an unaligned access to
            // sixteen codes.
            unsafe {
                let halves = fp8::halves(_mm_loadu_si128(codes.as_ptr().cast()), format);
                let second = _mm256_extracti128_si256::<1>(halves);
                let first = _mm256_castsi256_si128(halves);
                let factors = _mm256_set1_ps(by * fp8::factor(format));
                [fp8::widen8(first, factors), fp8::widen8(second, factors)]
            }
        }
        #[inline(always)]
        fn bytes(low: &[f32; BYTES], signs: &[f32; BYTES]) -> [u8; BYTES] {
            let mut bytes = [0; BYTES];
            // SAFETY: `Simd` only runs where AVX2 has been found; unaligned accesses to 32 numbers
            // and 32 bytes.
            unsafe {
                // No closure: it would be compiled without the instruction set.
                let mut lows = [_mm256_setzero_si256(); 4];
                let mut tops = lows;
                for i in 0..4 {
                    let low = _mm256_loadu_si256(low.as_ptr().add(8 * i).cast());
                    lows[i] = _mm256_and_si256(low, _mm256_set1_epi32(0x7F));
                    tops[i] = _mm256_loadu_si256(signs.as_ptr().add(8 * i).cast());
                }
                let low = _mm256_packus_epi16(
                    _mm256_packus_epi32(lows[0], lows[1]),
                    _mm256_packus_epi32(lows[2], lows[3]),
                );
                // Saturation keeps a sign.
                let signs = _mm256_packs_epi16(
                    _mm256_packs_epi32(tops[0], tops[1]),
                    _mm256_packs_epi32(tops[2], tops[3]),
                );
                let signs = _mm256_and_si256(signs, _mm256_set1_epi8(i8::MIN));
                // Packing goes by halves of registers.
                let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                let all = _mm256_permutevar8x32_epi32(_mm256_or_si256(low, signs), order);
                _mm256_storeu_si256(bytes.as_mut_ptr().cast(), all);
            }
            bytes
        }
        #[inline(always)]
        unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            // SAFETY: the caller's promise.
            unsafe { transpose::avx2(from, from_stride, to, to_stride) };
        }
    }
}
