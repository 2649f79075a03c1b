//! Packing into BF16 pairs with AVX-512: 64 codes or 32 numbers at a time, 16 x 16 words transposed
//! in registers.

// Loops run over the indices of fixed arrays, and nothing is a closure: so arrays stay in
// registers, and everything in the one function that has the features.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::left::{LeftLayout, ROW_WORDS as WORDS};
use super::registers_avx512::{Decoder, first_bytes, first_lanes, rest, round};
use super::source::{Floats, Source, Taken};
use crate::definition::{CODES_A_WORD, OperandView, TILE};
use crate::host::simd::{LANES, transpose_avx512 as transpose};

/// Packs rows as a left operand, all of each tile: zero past the end of the depth.
///
/// # Safety
/// AVX-512 F, BW, BF16 and VBMI are there, rows and depth lie inside `source`, depth starts at a
/// tile, and `words` has room for every row of every tile in this layout.
#[inline(always)]
pub(super) unsafe fn left(
    source: &Source<'_>,
    rows: Range<usize>,
    depth: Range<usize>,
    layout: LeftLayout,
    words: *mut u32,
) {
    for (t, first) in depth.clone().step_by(TILE).enumerate() {
        // SAFETY: the caller vouches for the instruction set, the operand and the room, of which
        // this tile takes its own part.
        unsafe {
            let (len, words) = (TILE.min(depth.end - first), words.add(t * layout.tile));
            match source {
                Source::Codes(x) => left_codes(x, rows.clone(), first, len, layout, words),
                Source::Floats(x) if x.depth_stride == 1 => {
                    left_floats(x, rows.clone(), first, len, layout, words)
                }
                Source::Floats(x) => left_transposed(x, rows.clone(), first, len, layout, words),
            }
        }
    }
}

/// Packs a tile of rows of codes.
///
/// # Safety
/// AVX-512 F, BW, BF16 and VBMI are there, the rows and the `len` entries from `first` on lie
/// inside `x`, and `words` has room for [`WORDS`] of each row.
#[inline(always)]
unsafe fn left_codes(
    x: &OperandView<'_>,
    rows: Range<usize>,
    first: usize,
    len: usize,
    layout: LeftLayout,
    words: *mut u32,
) {
    // SAFETY: masked loads touch only the `len` codes of a row, which lie inside `x`; unaligned
    // stores fill the row's words; the caller vouches for these and for the instruction set.
    unsafe {
        let decoder = Decoder::new(x.format);
        // So that what `decode` takes from all lanes are 32 codes in a row.
        let order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
        for (r, row) in rows.enumerate() {
            let codes = x.codes.as_ptr().add(row * x.row_words).cast::<u8>().add(first);
            for half in 0..2 {
                let mask = first_bytes(len.saturating_sub(half * 64));
                let codes = _mm512_maskz_loadu_epi8(mask, codes.wrapping_add(half * 64).cast());
                let values = decoder.decode(_mm512_permutexvar_epi64(order, codes));
                let words = words.add(r * layout.row + half * 2 * layout.step);
                _mm512_storeu_si512(words.cast(), values[0]);
                _mm512_storeu_si512(words.add(layout.step).cast(), values[1]);
            }
        }
    }
}

/// Packs a tile of contiguous rows of numbers.
///
/// # Safety
/// AVX-512 F, BW, BF16 and VBMI are there, the rows and the `len` entries from `first` on lie
/// inside `x`, and `words` has room for [`WORDS`] of each row.
#[inline(always)]
unsafe fn left_floats(
    x: &Floats<'_>,
    rows: Range<usize>,
    first: usize,
    len: usize,
    layout: LeftLayout,
    words: *mut u32,
) {
    for (r, row) in rows.enumerate() {
        let row = x.data.as_ptr().wrapping_add(row * x.row_stride + first);
        for i in 0..WORDS / LANES {
            // SAFETY: the row's `len` numbers lie inside `x`, an unaligned store fills its words;
            // the caller vouches for these and for the instruction set.
            unsafe {
                _mm512_storeu_si512(
                    words.add(r * layout.row + i * layout.step).cast(),
                    pairs(row, i * 2 * LANES, len, x.taken),
                )
            };
        }
    }
}

/// Packs a tile of rows of numbers that lie side by side.
///
/// # Safety
/// AVX-512 F, BW, BF16 and VBMI are there, the rows and the `len` entries from `first` on lie
/// inside `x`, and `words` has room for [`WORDS`] of each row.
#[inline(always)]
unsafe fn left_transposed(
    x: &Floats<'_>,
    rows: Range<usize>,
    first: usize,
    len: usize,
    layout: LeftLayout,
    words: *mut u32,
) {
    // All rows of a few depths before the next: what lies side by side is read in turn.
    for block in 0..WORDS / LANES {
        for at in rows.clone().step_by(LANES) {
            let count = LANES.min(rows.end - at);
            // SAFETY: only rows and entries inside `x` are read, unaligned stores fill the words of
            // these rows; the caller vouches for both and for the instruction set.
            unsafe {
                let mut block_words = [_mm512_setzero_si512(); LANES];
                for i in 0..LANES {
                    block_words[i] = pair_of_rows(x, at, count, first, block * LANES + i, len);
                }
                let by_row = transpose(block_words);
                for r in 0..LANES {
                    if r < count {
                        _mm512_storeu_si512(
                            words
                                .add((at - rows.start + r) * layout.row + block * layout.step)
                                .cast(),
                            by_row[r],
                        );
                    }
                }
            }
        }
    }
}

/// Packs rows as a panel of a right operand, `[tile][WORDS][LANES * vectors]`.
///
/// # Safety
/// AVX-512 F, BW, BF16 and VBMI are there, rows and depth lie inside `source`, depth starts at a
/// tile, and `words` has room for every tile of a panel of `LANES * vectors` rows.
#[inline(always)]
pub(super) unsafe fn right(
    source: &Source<'_>,
    rows: Range<usize>,
    vectors: usize,
    depth: Range<usize>,
    words: *mut u32,
) {
    for (t, first) in depth.clone().step_by(TILE).enumerate() {
        let len = TILE.min(depth.end - first);
        for v in 0..vectors {
            let row = rows.start + v * LANES;
            let count = rows.end.saturating_sub(row).min(LANES);
            // SAFETY: the caller vouches for the instruction set, the operand and the room, of
            // which these sixteen columns of this tile take their own part.
            unsafe {
                let words = words.add((t * WORDS * vectors + v) * LANES);
                match source {
                    Source::Codes(x) => {
                        right_codes(x, row, count, first, len, words, vectors * LANES)
                    }
                    Source::Floats(x) if x.depth_stride == 1 => {
                        right_floats(x, row, count, first, len, words, vectors * LANES)
                    }
                    Source::Floats(x) => {
                        // Steps of 16 words are whole, the rest of the last one zero.
                        for step in 0..len.div_ceil(2 * LANES) * LANES {
                            let pair = pair_of_rows(x, row, count, first, step, len);
                            _mm512_storeu_si512(words.add(step * vectors * LANES).cast(), pair);
                        }
                    }
                }
            }
        }
    }
}

/// Packs a tile of sixteen (or `count`) rows of codes.
///
/// # Safety
/// AVX-512 F, BW, BF16 and VBMI are there, the `count` rows and the `len` entries from `first` on
/// lie inside `x`, and `words` has room for the tile's steps, [`LANES`] words every `stride`.
#[inline(always)]
unsafe fn right_codes(
    x: &OperandView<'_>,
    row: usize,
    count: usize,
    first: usize,
    len: usize,
    words: *mut u32,
    stride: usize,
) {
    // SAFETY: masked loads touch only `len` codes of `count` rows, which lie inside `x`; unaligned
    // stores fill the tile's steps; the caller vouches for these and for the instruction set.
    unsafe {
        let decoder = Decoder::new(x.format);
        // In each lane of four words: the first two codes of each, then the last two.
        let order = _mm512_broadcast_i32x4(_mm_setr_epi8(
            0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
        ));
        for block in 0..len.div_ceil(64) {
            let mask = first_bytes(len - block * 64);
            let start = x
                .codes
                .as_ptr()
                .wrapping_add(row * x.row_words)
                .cast::<u8>()
                .wrapping_add(first + block * 64);
            let mut codes = [_mm512_setzero_si512(); LANES];
            for r in 0..LANES {
                let mask = if r < count { mask } else { 0 };
                codes[r] = _mm512_maskz_loadu_epi8(
                    mask,
                    start.wrapping_add(r * x.row_words * CODES_A_WORD).cast(),
                );
            }
            let codes = transpose(codes);
            for i in 0..LANES {
                let pairs = decoder.decode(_mm512_shuffle_epi8(codes[i], order));
                let words = words.add((block * 32 + i * 2) * stride);
                _mm512_storeu_si512(words.cast(), pairs[0]);
                _mm512_storeu_si512(words.add(stride).cast(), pairs[1]);
            }
        }
    }
}

/// Packs a tile of sixteen (or `count`) contiguous rows of numbers.
///
/// # Safety
/// AVX-512 F, BW, BF16 and VBMI are there, the `count` rows and the `len` entries from `first` on
/// lie inside `x`, and `words` has room for the tile's steps, [`LANES`] words every `stride`.
#[inline(always)]
unsafe fn right_floats(
    x: &Floats<'_>,
    row: usize,
    count: usize,
    first: usize,
    len: usize,
    words: *mut u32,
    stride: usize,
) {
    for block in 0..len.div_ceil(2 * LANES) {
        // SAFETY: `len` numbers are read of `count` rows and none of the others; unaligned stores
        // fill the tile's steps; the caller vouches for these and for the instruction set.
        unsafe {
            let mut words_by_row = [_mm512_setzero_si512(); LANES];
            for r in 0..LANES {
                let start = x.data.as_ptr().wrapping_add((row + r) * x.row_stride + first);
                let len = if r < count { len } else { 0 };
                words_by_row[r] = pairs(start, block * 2 * LANES, len, x.taken);
            }
            let by_step = transpose(words_by_row);
            for i in 0..LANES {
                _mm512_storeu_si512(words.add((block * LANES + i) * stride).cast(), by_step[i]);
            }
        }
    }
}

/// Loads 16 words of a contiguous row from entry `at` on, zero from the `len`-th entry on.
///
/// # Safety
/// AVX-512 F and BF16 are there, and `len` numbers can be read from `row` on.
#[inline(always)]
unsafe fn pairs(row: *const f32, at: usize, len: usize, taken: Taken) -> __m512i {
    // SAFETY: masked loads touch only the first `len` numbers, which the caller vouches for as for
    // the instruction set.
    unsafe {
        let first =
            _mm512_maskz_loadu_ps(first_lanes(len.saturating_sub(at)), row.wrapping_add(at));
        let second = _mm512_maskz_loadu_ps(
            first_lanes(len.saturating_sub(at + LANES)),
            row.wrapping_add(at + LANES),
        );
        round(part(first, taken), part(second, taken))
    }
}

/// Loads word `step` of 16 rows (or `count`) that lie side by side, from row `row` on.
///
/// # Safety
/// AVX-512 F, BW and BF16 are there, and the rows and the `len` entries from `first` on lie inside
/// `x`.
#[inline(always)]
unsafe fn pair_of_rows(
    x: &Floats<'_>,
    row: usize,
    count: usize,
    first: usize,
    step: usize,
    len: usize,
) -> __m512i {
    // SAFETY: masked loads touch only `count` rows of entries before the `len`-th, which the caller
    // vouches for as for the instruction set; no address is wrong for a prefetch.
    unsafe {
        let column = x.data.as_ptr().wrapping_add(row + (first + 2 * step) * x.depth_stride);
        // The rows of a depth are far from those of the next: the hardware does not foresee it.
        _mm_prefetch::<_MM_HINT_T0>(column.wrapping_add(16 * x.depth_stride).cast());
        _mm_prefetch::<_MM_HINT_T0>(column.wrapping_add(17 * x.depth_stride).cast());
        let (lower, upper) =
            (if 2 * step < len { count } else { 0 }, if 2 * step + 1 < len { count } else { 0 });
        let lower = _mm512_maskz_loadu_ps(first_lanes(lower), column);
        let upper = _mm512_maskz_loadu_ps(first_lanes(upper), column.wrapping_add(x.depth_stride));
        let order = _mm512_set_epi16(
            31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20,
            4, 19, 3, 18, 2, 17, 1, 16, 0,
        );
        _mm512_permutexvar_epi16(order, round(part(lower, x.taken), part(upper, x.taken)))
    }
}

/// What of sixteen numbers is rounded to BF16.
///
/// # Safety
/// AVX-512 F is there.
#[inline(always)]
unsafe fn part(x: __m512, taken: Taken) -> __m512 {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        match taken {
            Taken::Middle => rest(x),
            Taken::Low => rest(rest(x)),
            _ => x,
        }
    }
}
