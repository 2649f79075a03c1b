//! Packing into BF16 pairs with AVX-512: codes decoded by table, 16 x 16 words transposed in
//! registers.

// SAFETY of every block below: these functions are only called where AVX-512 F, BW, BF16 and VBMI
// have been found; loads and stores are unaligned; masked loads touch nothing past their masks;
// `words` has the room that the caller vouches for.

// Loops run over the indices of fixed arrays, and nothing is a closure: so arrays stay in
// registers, and everything in the one function that has the features.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::LazyLock;

use super::source::{Floats, Source};
use crate::definition::{CODES_A_WORD, Fp8Format, OperandView, TILE, decode_fp8};
use crate::host::simd::LANES;

/// Words of a row's tile.
const WORDS: usize = TILE / 2;

/// High and low bytes of the BF16 value of each magnitude.
struct Table {
    high: [u8; 128],
    low: [u8; 128],
}

static TABLES: LazyLock<[Table; 2]> = LazyLock::new(|| {
    [Fp8Format::E4M3, Fp8Format::E5M2].map(|format| {
        let byte =
            |code: usize, byte: usize| decode_fp8(code as u8, format).to_bits().to_le_bytes()[byte];
        Table {
            high: std::array::from_fn(|code| byte(code, 3)),
            low: std::array::from_fn(|code| byte(code, 2)),
        }
    })
});

/// A [`Table`] in registers.
#[derive(Clone, Copy)]
struct Decoder {
    high: [__m512i; 2],
    low: [__m512i; 2],
}

impl Decoder {
    #[inline(always)]
    unsafe fn new(format: Fp8Format) -> Self {
        let table = &TABLES[usize::from(format == Fp8Format::E5M2)];
        // SAFETY: above.
        let load = |bytes: &[u8; 128]| unsafe {
            [
                _mm512_loadu_si512(bytes.as_ptr().cast()),
                _mm512_loadu_si512(bytes[64..].as_ptr().cast()),
            ]
        };
        Self { high: load(&table.high), low: load(&table.low) }
    }

    /// 64 codes as BF16: of each 128-bit lane, the lower eight, and the upper eight.
    #[inline(always)]
    unsafe fn decode(&self, codes: __m512i) -> [__m512i; 2] {
        // SAFETY: above. The lookup ignores the sign bit, which is then put back.
        unsafe {
            let high = _mm512_permutex2var_epi8(self.high[0], codes, self.high[1]);
            let high = _mm512_ternarylogic_epi32::<0xF8>(high, codes, _mm512_set1_epi8(-128));
            let low = _mm512_permutex2var_epi8(self.low[0], codes, self.low[1]);
            [_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)]
        }
    }
}

/// The lowest `len` of `LANES` lanes, of none, or of all.
#[inline(always)]
fn first_lanes(len: usize) -> __mmask16 {
    if len >= LANES { !0 } else { (1 << len) - 1 }
}

/// The lowest `len` of 64 bytes.
#[inline(always)]
fn first_bytes(len: usize) -> __mmask64 {
    if len >= 64 { !0 } else { (1 << len) - 1 }
}

/// Two times 16 numbers as 32 BF16, the first in the lower half.
#[inline(always)]
unsafe fn round(first: __m512, second: __m512) -> __m512i {
    // SAFETY: above; both types are 512 bits.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)) }
}

/// Exchanges rows and columns of 16 x 16 words.
///
/// # Safety
/// AVX-512 F is there.
#[inline(always)]
pub(super) unsafe fn transpose(x: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: above.
    unsafe {
        let zero = _mm512_setzero_si512();
        let (mut a, mut b, mut y) = ([zero; 16], [zero; 16], [zero; 16]);
        for half in 0..8 {
            let i = 2 * half;
            a[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
            a[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
        }
        for quarter in 0..4 {
            let i = 4 * quarter;
            b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
            b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
            b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
            b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
        }
        // Now lane q of b[4 g + c] holds column 4 q + c of rows 4 g .. 4 g + 4.
        for c in 0..4 {
            let even = [
                _mm512_shuffle_i32x4::<0x88>(b[c], b[4 + c]),
                _mm512_shuffle_i32x4::<0x88>(b[8 + c], b[12 + c]),
            ];
            let odd = [
                _mm512_shuffle_i32x4::<0xDD>(b[c], b[4 + c]),
                _mm512_shuffle_i32x4::<0xDD>(b[8 + c], b[12 + c]),
            ];
            y[c] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
            y[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
            y[8 + c] = _mm512_shuffle_i32x4::<0xDD>(even[0], even[1]);
            y[12 + c] = _mm512_shuffle_i32x4::<0xDD>(odd[0], odd[1]);
        }
        y
    }
}

/// `[tile][row][WORDS]`.
///
/// # Safety
/// As [`Kernel::pack_left`](super::kernel::Kernel::pack_left).
#[inline(always)]
pub(super) unsafe fn left(
    source: &Source<'_>,
    rows: Range<usize>,
    depth: Range<usize>,
    words: *mut u32,
) {
    for (t, first) in depth.clone().step_by(TILE).enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let (len, words) = (TILE.min(depth.end - first), words.add(t * rows.len() * WORDS));
            match source {
                Source::Codes(x) => left_codes(x, rows.clone(), first, len, words),
                Source::Floats(x) if x.depth_stride == 1 => {
                    left_floats(x, rows.clone(), first, len, words)
                }
                Source::Floats(x) => left_transposed(x, rows.clone(), first, len, words),
            }
        }
    }
}

#[inline(always)]
unsafe fn left_codes(
    x: &OperandView<'_>,
    rows: Range<usize>,
    first: usize,
    len: usize,
    words: *mut u32,
) {
    // SAFETY: above.
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
                _mm512_storeu_si512(words.add(r * WORDS + half * 2 * LANES).cast(), values[0]);
                _mm512_storeu_si512(
                    words.add(r * WORDS + (half * 2 + 1) * LANES).cast(),
                    values[1],
                );
            }
        }
    }
}

#[inline(always)]
unsafe fn left_floats(
    x: &Floats<'_>,
    rows: Range<usize>,
    first: usize,
    len: usize,
    words: *mut u32,
) {
    for (r, row) in rows.enumerate() {
        let row = x.data.as_ptr().wrapping_add(row * x.row_stride + first);
        for i in 0..WORDS / LANES {
            // SAFETY: above.
            unsafe {
                _mm512_storeu_si512(
                    words.add(r * WORDS + i * LANES).cast(),
                    pairs(row, i * 2 * LANES, len),
                )
            };
        }
    }
}

/// 16 words of a contiguous row from entry `at` on, zero from the `len`-th entry on.
#[inline(always)]
unsafe fn pairs(row: *const f32, at: usize, len: usize) -> __m512i {
    // SAFETY: above.
    unsafe {
        let first =
            _mm512_maskz_loadu_ps(first_lanes(len.saturating_sub(at)), row.wrapping_add(at));
        let second = _mm512_maskz_loadu_ps(
            first_lanes(len.saturating_sub(at + LANES)),
            row.wrapping_add(at + LANES),
        );
        round(first, second)
    }
}

/// Word `step` of 16 rows (or `count`) that lie side by side, from row `row` on.
#[inline(always)]
unsafe fn pair_of_rows(
    x: &Floats<'_>,
    row: usize,
    count: usize,
    first: usize,
    step: usize,
    len: usize,
) -> __m512i {
    // SAFETY: above.
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
        _mm512_permutexvar_epi16(order, round(lower, upper))
    }
}

#[inline(always)]
unsafe fn left_transposed(
    x: &Floats<'_>,
    rows: Range<usize>,
    first: usize,
    len: usize,
    words: *mut u32,
) {
    // All rows of a few depths before the next: what lies side by side is read in turn.
    for block in 0..WORDS / LANES {
        for at in rows.clone().step_by(LANES) {
            let count = LANES.min(rows.end - at);
            // SAFETY: above.
            unsafe {
                let mut block_words = [_mm512_setzero_si512(); LANES];
                for i in 0..LANES {
                    block_words[i] = pair_of_rows(x, at, count, first, block * LANES + i, len);
                }
                let by_row = transpose(block_words);
                for r in 0..LANES {
                    if r < count {
                        _mm512_storeu_si512(
                            words.add((at - rows.start + r) * WORDS + block * LANES).cast(),
                            by_row[r],
                        );
                    }
                }
            }
        }
    }
}

/// `[tile][WORDS][LANES * vectors]`.
///
/// # Safety
/// As [`Kernel::pack_right`](super::kernel::Kernel::pack_right).
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
            // SAFETY: the caller's promise.
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
                        for step in 0..len.div_ceil(2) {
                            let pair = pair_of_rows(x, row, count, first, step, len);
                            _mm512_storeu_si512(words.add(step * vectors * LANES).cast(), pair);
                        }
                    }
                }
            }
        }
    }
}

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
    // SAFETY: above.
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
        // SAFETY: above.
        unsafe {
            let mut words_by_row = [_mm512_setzero_si512(); LANES];
            for r in 0..LANES {
                let start = x.data.as_ptr().wrapping_add((row + r) * x.row_stride + first);
                words_by_row[r] = pairs(start, block * 2 * LANES, if r < count { len } else { 0 });
            }
            let by_step = transpose(words_by_row);
            for i in 0..LANES {
                _mm512_storeu_si512(words.add((block * LANES + i) * stride).cast(), by_step[i]);
            }
        }
    }
}
