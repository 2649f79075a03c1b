//! The microkernel: a tile of the result in registers, written once for every instruction set.

use std::marker::PhantomData;
use std::ops::Range;

use super::pack::{self, Transpose};
use super::source::Source;
use crate::definition::TILE;
use crate::host::simd::{LANES, Simd};

/// Not scaled: BF16 operands.
pub(super) const UNSCALED: usize = 0;
/// A scale for each row's tile on the left, for each block on the right.
pub(super) const BLOCK_SCALED: usize = 1;
/// A scale for each row's tile on both sides.
pub(super) const ROW_SCALED: usize = 2;

/// The most rows of any tile.
pub(super) const MAX_ROWS: usize = 7;

/// What a microkernel needs of an instruction set.
///
/// Operands are packed into 32-bit words, each of [`Kernel::DEPTH`] entries along the depth. Its
/// functions may only run where the instruction set has been found.
pub(super) trait Kernel {
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
    /// as [`Kernel::pack_left`].
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

/// Where the operands and the result of one tile are.
pub(super) struct TileCall {
    /// First row's words of the first depth tile.
    pub(super) left: *const u32,
    /// Words from one depth tile to the next.
    pub(super) left_stride: usize,
    /// First row's scale in the first depth tile.
    pub(super) left_scales: *const f32,
    /// Scales from one depth tile to the next.
    pub(super) left_scale_stride: usize,
    /// The panel.
    pub(super) right: *const u32,
    /// A scale for each depth tile (block), or one for each column of each depth tile (row).
    pub(super) right_scales: *const f32,
    /// Entries to sum over.
    pub(super) depth: usize,
    /// The tile's first element.
    pub(super) out: *mut f32,
    /// Elements from one row to the next.
    pub(super) out_stride: usize,
    /// Whether to add to what is there.
    pub(super) add: bool,
}

/// Computes a tile of `R` rows and `16 V` columns:
/// `out (+)= sum over depth tiles of scales * (left right^T)`.
///
/// Sums of one depth tile stay apart from the total until they are scaled (3.3.2); unscaled, there
/// is one sum.
///
/// # Safety
/// Every pointer of `call` is good for what the tile needs, and the instruction set is there.
#[inline(always)]
pub(super) unsafe fn tile<K: Kernel, const R: usize, const V: usize, const SCALES: usize>(
    call: &TileCall,
) {
    // SAFETY: the caller's promise covers every address below, all of which lie in the tile's
    // operands and result.
    unsafe {
        let words = TILE / K::DEPTH;
        let mut total = [[K::S::zero(); V]; R];
        if call.add {
            for (r, total) in total.iter_mut().enumerate() {
                for (v, total) in total.iter_mut().enumerate() {
                    *total = K::S::load(&*call.out.add(r * call.out_stride + v * LANES).cast());
                }
            }
        }
        prefetch::<R, V>(call);
        for t in 0..call.depth.div_ceil(TILE) {
            let left = call.left.add(t * call.left_stride);
            let right = call.right.add(t * words * V * LANES);
            let steps = (call.depth - t * TILE).min(TILE).div_ceil(K::DEPTH);
            let mut sums = if SCALES == UNSCALED { total } else { [[K::S::zero(); V]; R] };
            for step in 0..steps {
                let columns: [K::W; V] =
                    std::array::from_fn(|v| K::load(right.add((step * V + v) * LANES)));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let row = K::broadcast(left.add(r * words + step));
                    for v in 0..V {
                        sums[v] = K::dot(row, columns[v], sums[v]);
                    }
                }
            }
            if SCALES == UNSCALED {
                total = sums;
                continue;
            }
            for r in 0..R {
                let row = *call.left_scales.add(t * call.left_scale_stride + r);
                for v in 0..V {
                    let scale = if SCALES == BLOCK_SCALED {
                        K::S::splat(row * *call.right_scales.add(t))
                    } else {
                        let columns =
                            K::S::load(&*call.right_scales.add((t * V + v) * LANES).cast());
                        K::S::madd(K::S::splat(row), columns, K::S::zero())
                    };
                    total[r][v] = K::S::madd(scale, sums[r][v], total[r][v]);
                }
            }
        }
        for (r, total) in total.iter().enumerate() {
            for (v, &total) in total.iter().enumerate() {
                *call.out.add(r * call.out_stride + v * LANES).cast() = K::S::lanes(total);
            }
        }
    }
}

/// Asks for the result's lines, which are rarely in a cache, before they are written.
#[inline(always)]
fn prefetch<const R: usize, const V: usize>(call: &TileCall) {
    #[cfg(target_arch = "x86_64")]
    for r in 0..R {
        for v in 0..V {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: the instruction is part of x86-64, and no address is wrong for it.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(
                    call.out.wrapping_add(r * call.out_stride + v * LANES).cast(),
                )
            };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = call;
}

/// FP32 words, for instruction sets without BF16 products.
pub(super) struct F32<S, const ROWS: usize>(PhantomData<S>);

impl<S: Transpose, const ROWS: usize> Kernel for F32<S, ROWS> {
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
        unsafe { pack::left(source, rows, depth, words) }
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

    use super::Kernel;
    use crate::host::fp8_gemm::pack_avx512;
    use crate::host::fp8_gemm::source::Source;
    use crate::host::simd::Avx512;

    /// BF16 pairs, multiplied and added into FP32 by one instruction (which flushes subnormal
    /// numbers to zero).
    pub(in super::super) struct Bf16<const ROWS: usize>;

    impl<const ROWS: usize> Kernel for Bf16<ROWS> {
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
            // SAFETY: a kernel's functions only run where its instruction set has been found; the
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
            unsafe { pack_avx512::left(source, rows, depth, words) }
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
