//! What the tile in registers needs of an instruction set, and its two kinds: FP32 words, and BF16
//! pairs.

use std::marker::PhantomData;

use crate::host::simd::Simd;

/// What a tile in registers needs of an instruction set.
///
/// Operands are packed into 32-bit words, each of [`Lanes::DEPTH`] entries along the depth. Its
/// functions may only run where the instruction set has been found.
pub(super) trait Lanes {
    /// Sixteen sums.
    type S: Simd;
    /// Sixteen words.
    type W: Copy;
    /// Entries in a word.
    const DEPTH: usize;

    /// One word in all lanes.
    ///
    /// # Safety
    /// `word` can be read, and the instruction set is there.
    unsafe fn broadcast(word: *const u32) -> Self::W;
    /// Sixteen words.
    ///
    /// # Safety
    /// All of `words` can be read, and the instruction set is there.
    unsafe fn load(words: *const u32) -> Self::W;
    /// `sum + left * right`, over the entries of each word.
    fn dot(left: Self::W, right: Self::W, sum: <Self::S as Simd>::V) -> <Self::S as Simd>::V;
}

/// FP32 words.
pub(super) struct F32<S>(PhantomData<S>);

impl<S: Simd> Lanes for F32<S> {
    type S = S;
    type W = S::V;
    const DEPTH: usize = 1;

    #[inline(always)]
    unsafe fn broadcast(word: *const u32) -> S::V {
        // SAFETY: the caller vouches that the word can be read.
        S::splat(f32::from_bits(unsafe { *word }))
    }
    #[inline(always)]
    unsafe fn load(words: *const u32) -> S::V {
        // SAFETY: the caller vouches that sixteen words can be read; any bits are a number.
        S::load(unsafe { &*words.cast() })
    }
    #[inline(always)]
    fn dot(left: S::V, right: S::V, sum: S::V) -> S::V {
        S::madd(left, right, sum)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::Bf16;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;
    use crate::host::simd::Avx512;

    /// BF16 pairs, multiplied and added into FP32 by one instruction (which flushes subnormal
    /// numbers to zero).
    pub(in super::super) struct Bf16;

    impl Lanes for Bf16 {
        type S = Avx512;
        type W = __m512i;
        const DEPTH: usize = 2;

        #[inline(always)]
        unsafe fn broadcast(word: *const u32) -> __m512i {
            // SAFETY: the caller vouches that the word can be read, and for the instruction set.
            unsafe { _mm512_set1_epi32((*word).cast_signed()) }
        }
        #[inline(always)]
        unsafe fn load(words: *const u32) -> __m512i {
            // SAFETY: the caller vouches that sixteen words can be read, and for the instruction
            // set.
            unsafe { _mm512_loadu_si512(words.cast()) }
        }
        #[inline(always)]
        fn dot(left: __m512i, right: __m512i, sum: __m512) -> __m512 {
            // SAFETY: these functions only run where its instruction set has been found; the
            // types are of one size.
            unsafe {
                let (left, right) = (
                    std::mem::transmute::<__m512i, __m512bh>(left),
                    std::mem::transmute::<__m512i, __m512bh>(right),
                );
                _mm512_dpbf16_ps(sum, right, left)
            }
        }
    }
}
