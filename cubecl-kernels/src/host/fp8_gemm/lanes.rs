//! What the tile in registers needs of an instruction set, and its two kinds: FP32 words, and BF16
//! pairs.

use std::marker::PhantomData;
use std::ops::Range;

use super::pack::{self, Transpose};
use super::source::Source;
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
    /// Rows of a tile at most.
    const ROWS: usize;

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

    /// Packs rows as a left operand: `[tile][row][TILE / DEPTH]` words, of which those are written
    /// that hold a part of the depth, the rest of the last such word zero.
    ///
    /// # Safety
    /// `words` has room for it, rows and depth lie inside `source`, depth starts at a tile, and the
    /// instruction set is there.
    unsafe fn pack_left(
        source: &Source<'_>,
        rows: Range<usize>,
        depth: Range<usize>,
        words: *mut u32,
    );
    /// Packs up to `LANES * vectors` rows as a panel of a right operand:
    /// `[tile][TILE / DEPTH][row]` words, zero past the end of the rows, and past that of the depth
    /// as [`Lanes::pack_left`].
    ///
    /// # Safety
    /// `words` has room for it, rows and depth lie inside `source`, depth starts at a tile, and the
    /// instruction set is there.
    unsafe fn pack_right(
        source: &Source<'_>,
        rows: Range<usize>,
        vectors: usize,
        depth: Range<usize>,
        words: *mut u32,
    );
}

/// FP32 words, for instruction sets without BF16 products.
pub(super) struct F32<S, const ROWS: usize>(PhantomData<S>);

impl<S: Transpose, const ROWS: usize> Lanes for F32<S, ROWS> {
    type S = S;
    type W = S::V;
    const DEPTH: usize = 1;
    const ROWS: usize = ROWS;

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
    #[inline(always)]
    unsafe fn pack_left(
        source: &Source<'_>,
        rows: Range<usize>,
        depth: Range<usize>,
        words: *mut u32,
    ) {
        // SAFETY: the caller vouches for the operand, the room and the instruction set.
        unsafe { pack::left::<S>(source, rows, depth, words) }
    }
    #[inline(always)]
    unsafe fn pack_right(
        source: &Source<'_>,
        rows: Range<usize>,
        vectors: usize,
        depth: Range<usize>,
        words: *mut u32,
    ) {
        // SAFETY: the caller vouches for the operand, the room and the instruction set.
        unsafe { pack::right::<S>(source, rows, vectors, depth, words) }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::Bf16;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::ops::Range;

    use super::Lanes;
    use crate::host::fp8_gemm::left::LeftLayout;
    use crate::host::fp8_gemm::pack_avx512;
    use crate::host::fp8_gemm::source::Source;
    use crate::host::simd::Avx512;

    /// BF16 pairs, multiplied and added into FP32 by one instruction (which flushes subnormal
    /// numbers to zero).
    pub(in super::super) struct Bf16<const ROWS: usize>;

    impl<const ROWS: usize> Lanes for Bf16<ROWS> {
        type S = Avx512;
        type W = __m512i;
        const DEPTH: usize = 2;
        const ROWS: usize = ROWS;

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
        #[inline(always)]
        unsafe fn pack_left(
            source: &Source<'_>,
            rows: Range<usize>,
            depth: Range<usize>,
            words: *mut u32,
        ) {
            // SAFETY: the caller vouches for the operand, the room and the instruction set.
            unsafe {
                let layout = LeftLayout::rows(rows.len());
                pack_avx512::left(source, rows, depth, layout, words)
            }
        }
        #[inline(always)]
        unsafe fn pack_right(
            source: &Source<'_>,
            rows: Range<usize>,
            vectors: usize,
            depth: Range<usize>,
            words: *mut u32,
        ) {
            // SAFETY: the caller vouches for the operand, the room and the instruction set.
            unsafe { pack_avx512::right(source, rows, vectors, depth, words) }
        }
    }
}
