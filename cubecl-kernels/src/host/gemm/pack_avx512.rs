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
use crate::host::simd::{LANES, prefetch, transpose_avx512 as transpose};

/// Functions of their own, with the instruction set: within the loops of a product, constants would
/// be loaded and addresses kept in memory for each row.
macro_rules! packing {
    ($(
        $(#[$about:meta])*
        unsafe fn $name:ident$(<const $WHOLE:ident: bool>)?($($arg:ident: $Arg:ty),* $(,)?) $body:block
    )*) => {
        $(
            $(#[$about])*
            #[target_feature(
                enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma"
            )]
            #[inline(never)]
            #[allow(clippy::too_many_arguments)]
            unsafe fn $name$(<const $WHOLE: bool>)?($($arg: $Arg),*) $body
        )*
    };
}

/// Packs rows as a left operand: zero past the end of the depth, as far as a step of 32.
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
            let (rows, whole) = (rows.clone(), len == TILE);
            match source {
                Source::Codes(x) if whole => left_codes::<true>(x, rows, first, len, layout, words),
                Source::Codes(x) => left_codes::<false>(x, rows, first, len, layout, words),
                Source::Floats(x) if x.depth_stride != 1 => {
                    left_transposed(x, rows, first, len, layout, words)
                }
                Source::Floats(x) if whole && !x.taken.is_rest() => {
                    left_floats::<true>(x, rows, first, len, layout, words)
                }
                Source::Floats(x) => left_floats::<false>(x, rows, first, len, layout, words),
            }
        }
    }
}

packing! {
    /// Packs a tile of rows of codes, of which `WHOLE` says that it is one.
    ///
    /// # Safety
    /// AVX-512 F, BW, BF16 and VBMI are there, the rows and the `len` entries from `first` on lie
    /// inside `x`, and `words` has room for [`WORDS`] of each row.
    unsafe fn left_codes<const WHOLE: bool>(
        x: &OperandView<'_>,
        rows: Range<usize>,
        first: usize,
        len: usize,
        layout: LeftLayout,
        words: *mut u32,
    ) {
        // SAFETY: masked loads touch only the `len` codes of a row, which lie inside `x`, others
        // those of a tile; unaligned stores fill the row's words; the caller vouches for these and
        // for the instruction set.
        unsafe {
            let decoder = Decoder::new(x.format);
            // So that what `decode` takes from all lanes are 32 codes in a row.
            let order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
            for (r, row) in rows.enumerate() {
                let codes = x.codes.as_ptr().add(row * x.row_words).cast::<u8>().add(first);
                for half in 0..2 {
                    let at = codes.wrapping_add(half * 64);
                    let codes = if WHOLE {
                        _mm512_loadu_si512(at.cast())
                    } else {
                        let mask = first_bytes(len.saturating_sub(half * 64));
                        _mm512_maskz_loadu_epi8(mask, at.cast())
                    };
                    let values = decoder.decode(_mm512_permutexvar_epi64(order, codes));
                    let words = words.add(r * layout.row + half * 2 * layout.step);
                    _mm512_storeu_si512(words.cast(), values[0]);
                    _mm512_storeu_si512(words.add(layout.step).cast(), values[1]);
                }
            }
        }
    }

    /// Packs a tile of contiguous rows of numbers; `WHOLE` says that it is one, of numbers that are
    /// taken as they are.
    ///
    /// # Safety
    /// AVX-512 F, BW, BF16 and VBMI are there, the rows and the `len` entries from `first` on lie
    /// inside `x`, and `words` has room for [`WORDS`] of each row.
    unsafe fn left_floats<const WHOLE: bool>(
        x: &Floats<'_>,
        rows: Range<usize>,
        first: usize,
        len: usize,
        layout: LeftLayout,
        words: *mut u32,
    ) {
        for (r, row) in rows.enumerate() {
            let row = x.data.as_ptr().wrapping_add(row * x.row_stride + first);
            for i in 0..len.div_ceil(2 * LANES) {
                // SAFETY: the row's `len` numbers lie inside `x`, an unaligned store fills its
                // words; the caller vouches for these and for the instruction set.
                unsafe {
                    _mm512_storeu_si512(
                        words.add(r * layout.row + i * layout.step).cast(),
                        pairs::<WHOLE>(row, i * 2 * LANES, len, x.taken),
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
    unsafe fn left_transposed(
        x: &Floats<'_>,
        rows: Range<usize>,
        first: usize,
        len: usize,
        layout: LeftLayout,
        words: *mut u32,
    ) {
        // All rows of a few depths before the next: what lies side by side is read in turn.
        for block in 0..len.div_ceil(2 * LANES) {
            for at in rows.clone().step_by(LANES) {
                let count = LANES.min(rows.end - at);
                let (first_pair, whole) = (block * LANES, (block + 1) * 2 * LANES <= len);
                // SAFETY: only rows and entries inside `x` are read, unaligned stores fill the
                // words of these rows; the caller vouches for both and for the instruction set.
                unsafe {
                    let words = words.add((at - rows.start) * layout.row + block * layout.step);
                    let block_words = if whole && count == LANES && !x.taken.is_rest() {
                        pairs_of_rows::<true>(x, at, count, first, first_pair, len)
                    } else {
                        pairs_of_rows::<false>(x, at, count, first, first_pair, len)
                    };
                    let by_row = transpose(block_words);
                    for r in 0..LANES {
                        if r < count {
                            _mm512_storeu_si512(words.add(r * layout.row).cast(), by_row[r]);
                        }
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
    let stride = vectors * LANES;
    for (t, first) in depth.clone().step_by(TILE).enumerate() {
        let len = TILE.min(depth.end - first);
        for v in 0..vectors {
            let row = rows.start + v * LANES;
            let count = rows.end.saturating_sub(row).min(LANES);
            let whole = count == LANES && len == TILE;
            // SAFETY: the caller vouches for the instruction set, the operand and the room, of
            // which these sixteen columns of this tile take their own part.
            unsafe {
                let words = words.add((t * WORDS * vectors + v) * LANES);
                match source {
                    Source::Codes(x) if whole => {
                        right_codes::<true>(x, row, count, first, len, words, stride)
                    }
                    Source::Codes(x) => {
                        right_codes::<false>(x, row, count, first, len, words, stride)
                    }
                    Source::Floats(x) if x.depth_stride == 1 && whole && !x.taken.is_rest() => {
                        right_floats::<true>(x, row, count, first, len, words, stride)
                    }
                    Source::Floats(x) if x.depth_stride == 1 => {
                        right_floats::<false>(x, row, count, first, len, words, stride)
                    }
                    Source::Floats(x) if whole && !x.taken.is_rest() => {
                        right_side_by_side::<true>(x, row, count, first, len, words, stride)
                    }
                    Source::Floats(x) => {
                        right_side_by_side::<false>(x, row, count, first, len, words, stride)
                    }
                }
            }
        }
    }
}

packing! {
    /// Packs a tile of sixteen (or `count`) rows of codes; `WHOLE` says that both are whole.
    ///
    /// # Safety
    /// AVX-512 F, BW, BF16 and VBMI are there, the `count` rows and the `len` entries from `first`
    /// on lie inside `x`, and `words` has room for the tile's steps, [`LANES`] words every
    /// `stride`.
    unsafe fn right_codes<const WHOLE: bool>(
        x: &OperandView<'_>,
        row: usize,
        count: usize,
        first: usize,
        len: usize,
        words: *mut u32,
        stride: usize,
    ) {
        // SAFETY: masked loads touch only `len` codes of `count` rows, which lie inside `x`, others
        // those of whole tiles; unaligned stores fill the tile's steps; the caller vouches for
        // these and for the instruction set.
        unsafe {
            let decoder = Decoder::new(x.format);
            // In each lane of four words: the first two codes of each, then the last two.
            let order = _mm512_broadcast_i32x4(_mm_setr_epi8(
                0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
            ));
            for block in 0..len.div_ceil(64) {
                let start = x
                    .codes
                    .as_ptr()
                    .wrapping_add(row * x.row_words)
                    .cast::<u8>()
                    .wrapping_add(first + block * 64);
                let mut codes = [_mm512_setzero_si512(); LANES];
                for r in 0..LANES {
                    let at = start.wrapping_add(r * x.row_words * CODES_A_WORD);
                    codes[r] = if WHOLE {
                        _mm512_loadu_si512(at.cast())
                    } else {
                        let mask = if r < count { first_bytes(len - block * 64) } else { 0 };
                        _mm512_maskz_loadu_epi8(mask, at.cast())
                    };
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

    /// Packs a tile of sixteen (or `count`) contiguous rows of numbers; `WHOLE` says that both are
    /// whole, of numbers that are taken as they are.
    ///
    /// # Safety
    /// AVX-512 F, BW, BF16 and VBMI are there, the `count` rows and the `len` entries from `first`
    /// on lie inside `x`, and `words` has room for the tile's steps, [`LANES`] words every
    /// `stride`.
    unsafe fn right_floats<const WHOLE: bool>(
        x: &Floats<'_>,
        row: usize,
        count: usize,
        first: usize,
        len: usize,
        words: *mut u32,
        stride: usize,
    ) {
        for block in 0..len.div_ceil(2 * LANES) {
            // SAFETY: `len` numbers are read of `count` rows and none of the others; unaligned
            // stores fill the tile's steps; the caller vouches for these and for the instruction
            // set.
            unsafe {
                let mut words_by_row = [_mm512_setzero_si512(); LANES];
                for r in 0..LANES {
                    let start = x.data.as_ptr().wrapping_add((row + r) * x.row_stride + first);
                    let len = if r < count { len } else { 0 };
                    words_by_row[r] = pairs::<WHOLE>(start, block * 2 * LANES, len, x.taken);
                }
                let by_step = transpose(words_by_row);
                for i in 0..LANES {
                    _mm512_storeu_si512(words.add((block * LANES + i) * stride).cast(), by_step[i]);
                }
            }
        }
    }

    /// Packs a tile of sixteen (or `count`) rows of numbers that lie side by side; `WHOLE` as for
    /// [`right_floats`].
    ///
    /// # Safety
    /// As for [`right_floats`].
    unsafe fn right_side_by_side<const WHOLE: bool>(
        x: &Floats<'_>,
        row: usize,
        count: usize,
        first: usize,
        len: usize,
        words: *mut u32,
        stride: usize,
    ) {
        // Steps of 16 words are whole, the rest of the last one zero.
        for step in 0..len.div_ceil(2 * LANES) * LANES {
            // SAFETY: only `count` rows of `len` entries are read, and an unaligned store fills a
            // step; the caller vouches for both and for the instruction set.
            unsafe {
                let pair = pair_of_rows::<WHOLE>(x, row, count, first, step, len);
                _mm512_storeu_si512(words.add(step * stride).cast(), pair);
            }
        }
    }
}

/// Loads 16 words of a contiguous row from entry `at` on, zero from the `len`-th entry on; `WHOLE`
/// says that there are as many, of numbers that are taken as they are.
///
/// # Safety
/// AVX-512 F and BF16 are there, and `len` numbers can be read from `row` on.
#[inline(always)]
unsafe fn pairs<const WHOLE: bool>(
    row: *const f32,
    at: usize,
    len: usize,
    taken: Taken,
) -> __m512i {
    // SAFETY: masked loads touch only the first `len` numbers, which the caller vouches for as for
    // the instruction set, others as many as there are.
    unsafe {
        if WHOLE {
            return round(_mm512_loadu_ps(row.add(at)), _mm512_loadu_ps(row.add(at + LANES)));
        }
        let first =
            _mm512_maskz_loadu_ps(first_lanes(len.saturating_sub(at)), row.wrapping_add(at));
        let second = _mm512_maskz_loadu_ps(
            first_lanes(len.saturating_sub(at + LANES)),
            row.wrapping_add(at + LANES),
        );
        round(part(first, taken), part(second, taken))
    }
}

/// Sixteen words of [`pair_of_rows`], from word `step` on.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn pairs_of_rows<const WHOLE: bool>(
    x: &Floats<'_>,
    row: usize,
    count: usize,
    first: usize,
    step: usize,
    len: usize,
) -> [__m512i; LANES] {
    // SAFETY: the caller vouches for the rows, the entries and the instruction set.
    unsafe {
        let mut words = [_mm512_setzero_si512(); LANES];
        for i in 0..LANES {
            words[i] = pair_of_rows::<WHOLE>(x, row, count, first, step + i, len);
        }
        words
    }
}

/// Loads word `step` of 16 rows (or `count`) that lie side by side, from row `row` on; `WHOLE` says
/// that all of it is there, of numbers that are taken as they are.
///
/// # Safety
/// AVX-512 F, BW and BF16 are there, and the rows and the `len` entries from `first` on lie inside
/// `x`.
#[inline(always)]
unsafe fn pair_of_rows<const WHOLE: bool>(
    x: &Floats<'_>,
    row: usize,
    count: usize,
    first: usize,
    step: usize,
    len: usize,
) -> __m512i {
    // SAFETY: masked loads touch only `count` rows of entries before the `len`-th, which the caller
    // vouches for as for the instruction set.
    unsafe {
        let column = x.data.as_ptr().wrapping_add(row + (first + 2 * step) * x.depth_stride);
        // The rows of a depth are far from those of the next: the hardware does not foresee it.
        prefetch(column.wrapping_add(16 * x.depth_stride).cast(), 1);
        prefetch(column.wrapping_add(17 * x.depth_stride).cast(), 1);
        let next = column.wrapping_add(x.depth_stride);
        let (lower, upper) = if WHOLE {
            (_mm512_loadu_ps(column), _mm512_loadu_ps(next))
        } else {
            let lower = first_lanes(if 2 * step < len { count } else { 0 });
            let upper = first_lanes(if 2 * step + 1 < len { count } else { 0 });
            let lower = _mm512_maskz_loadu_ps(lower, column);
            let upper = _mm512_maskz_loadu_ps(upper, next);
            (part(lower, x.taken), part(upper, x.taken))
        };
        let order = _mm512_set_epi16(
            31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20,
            4, 19, 3, 18, 2, 17, 1, 16, 0,
        );
        _mm512_permutexvar_epi16(order, round(lower, upper))
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
