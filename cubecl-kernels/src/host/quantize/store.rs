//! Codes of a panel into words, as they are or transposed.

use std::mem::MaybeUninit;

use crate::definition::{CODES_A_WORD, TILE, words};
use crate::host::output::Parts;
use crate::host::simd::multiversion;
#[cfg(target_arch = "x86_64")]
use crate::host::simd::{Isa, isa};

multiversion! {
    /// Packs codes, of which there may be up to three fewer than the words hold; the rest is zero.
    pub(super) fn pack(codes: &[u8], out: &mut [MaybeUninit<u32>]) {
        let (full, tail) = codes.as_chunks::<CODES_A_WORD>();
        let (out, last) = out.split_at_mut(full.len());
        for (codes, out) in full.iter().zip(out) {
            out.write(u32::from_le_bytes(*codes));
        }
        for out in last {
            let mut codes = [0; CODES_A_WORD];
            codes[..tail.len()].copy_from_slice(tail);
            out.write(u32::from_le_bytes(codes));
        }
    }
}

/// A panel of at most [`TILE`] by [`TILE`] codes.
pub(super) type CodePanel = [u8; TILE * TILE];

/// Words of a column of a panel.
const WORDS_DOWN: usize = TILE / CODES_A_WORD;

/// A panel of codes packed down its columns.
type PackedPanel = [u32; WORDS_DOWN * TILE];

/// Writes a panel of codes transposed and packed: column `c`'s words go to
/// `out[start + c * stride..]`.
///
/// # Safety
/// No other part of `out` that is alive may overlap those words.
pub(super) unsafe fn pack_transposed(
    codes: &mut CodePanel,
    rows: usize,
    columns: usize,
    out: &Parts<'_, u32>,
    start: usize,
    stride: usize,
) {
    // The last word of a column may be short of rows.
    codes[rows * TILE..words(rows) * CODES_A_WORD * TILE].fill(0);
    let mut packed = [0; WORDS_DOWN * TILE];
    pack_down(codes, words(rows), &mut packed);
    // SAFETY: the caller vouches that nothing else that is alive overlaps the column's words.
    let column = |c: usize| unsafe { out.part(start + c * stride, words(rows)) };
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::Avx512 {
        // SAFETY: `isa` has just found the features.
        return unsafe { avx512::transpose(&packed, columns, column) };
    }
    for c in 0..columns {
        for (w, out) in column(c).iter_mut().enumerate() {
            out.write(packed[w * TILE + c]);
        }
    }
}

multiversion! {
    /// Packs four codes of each column into a word.
    fn pack_down(codes: &CodePanel, count: usize, packed: &mut PackedPanel) {
        let rows = codes.as_chunks::<{ CODES_A_WORD * TILE }>().0;
        for (rows, packed) in rows.iter().zip(packed.as_chunks_mut::<TILE>().0).take(count) {
            for c in 0..TILE {
                let code = |row: usize| u32::from(rows[row * TILE + c]);
                packed[c] = code(0) | code(1) << 8 | code(2) << 16 | code(3) << 24;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;
    use std::mem::MaybeUninit;

    use super::{PackedPanel, TILE};

    /// Words that a register holds.
    const SIDE: usize = 16;

    /// Writes the first `columns` columns of a panel, each to the slice that `out` gives, as long
    /// as that is.
    #[target_feature(enable = "avx512f")]
    pub(super) fn transpose<'a>(
        packed: &PackedPanel,
        columns: usize,
        out: impl Fn(usize) -> &'a mut [MaybeUninit<u32>],
    ) {
        for first in (0..columns).step_by(SIDE) {
            let mut outs: [&mut [MaybeUninit<u32>]; SIDE] =
                std::array::from_fn(|_| Default::default());
            let count = SIDE.min(columns - first);
            outs.iter_mut().zip(first..first + count).for_each(|(place, c)| *place = out(c));
            for word in (0..outs[0].len()).step_by(SIDE) {
                let rows = std::array::from_fn(|i| {
                    let row: &[u32] = &packed[(word + i) * TILE + first..][..SIDE];
                    // SAFETY: an unaligned load of 16 words that are there.
                    unsafe { _mm512_loadu_si512(row.as_ptr().cast()) }
                });
                for (column, out) in transposed(rows).into_iter().zip(&mut outs[..count]) {
                    let out = &mut out[word..];
                    let mask = u16::MAX >> (SIDE - out.len().min(SIDE));
                    // SAFETY: an unaligned store of no more words than `out` has.
                    unsafe { _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), mask, column) };
                }
            }
        }
    }

    /// Transposes 16 x 16 words: pairs of words, pairs of pairs, then quarters of registers.
    #[target_feature(enable = "avx512f")]
    fn transposed(rows: [__m512i; SIDE]) -> [__m512i; SIDE] {
        let mut pairs = rows;
        for i in (0..SIDE).step_by(2) {
            pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
            pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
        }
        // `fours[i + j]`, of rows `i..i + 4`, has column `4 q + j` in its quarter `q`.
        let mut fours = pairs;
        for i in (0..SIDE).step_by(4) {
            fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
            fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
            fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
            fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
        }
        let mut columns = fours;
        for j in 0..4 {
            let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
            let (even_low, even_high) =
                (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
            let (odd_low, odd_high) =
                (_mm512_shuffle_i32x4::<0xDD>(a, b), _mm512_shuffle_i32x4::<0xDD>(c, d));
            columns[j] = _mm512_shuffle_i32x4::<0x88>(even_low, even_high);
            columns[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd_low, odd_high);
            columns[8 + j] = _mm512_shuffle_i32x4::<0xDD>(even_low, even_high);
            columns[12 + j] = _mm512_shuffle_i32x4::<0xDD>(odd_low, odd_high);
        }
        columns
    }
}
