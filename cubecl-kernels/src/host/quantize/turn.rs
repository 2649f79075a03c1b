//! A panel of codes transposed and packed, for every instruction set.

use crate::definition::{CODES_A_WORD, TILE, words};
use crate::host::output::Parts;
use crate::host::simd::multiversion;
#[cfg(target_arch = "x86_64")]
use crate::host::simd::{Isa, isa};

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
    // SAFETY: the caller vouches that nothing else that is alive overlaps the column's words.
    let column = |c: usize| unsafe { out.part(start + c * stride, words(rows)) };
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::Avx2 {
        // SAFETY: `isa` has just found AVX2.
        return unsafe { avx2::pack_columns(codes, columns, column) };
    }
    let mut packed = [0; WORDS_DOWN * TILE];
    pack_down(codes, words(rows), &mut packed);
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
mod avx2 {
    // Loops over the indices of fixed arrays keep them in registers.
    #![allow(clippy::needless_range_loop)]

    use std::arch::x86_64::*;
    use std::mem::MaybeUninit;

    use super::{CODES_A_WORD, CodePanel, TILE};
    use crate::host::simd::transpose8;

    /// Words that a register holds.
    const SIDE: usize = 8;
    /// Codes that a register holds.
    const CODES: usize = 32;

    /// Writes the first `columns` columns of a panel, packed down their rows, each to the slice that
    /// `out` gives, as long as that is: without the packed panel, which beside the codes would fill
    /// the first cache.
    #[target_feature(enable = "avx2")]
    pub(super) fn pack_columns<'a>(
        codes: &CodePanel,
        columns: usize,
        out: impl Fn(usize) -> &'a mut [MaybeUninit<u32>],
    ) {
        for first in (0..columns).step_by(CODES) {
            pack_group::<0>(codes, first, columns, &out);
            pack_group::<1>(codes, first, columns, &out);
            pack_group::<2>(codes, first, columns, &out);
            pack_group::<3>(codes, first, columns, &out);
        }
    }

    /// Packs eight columns of 32: four from `4 GROUP` on in each half, for so they come out of one
    /// register.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn pack_group<'a, const GROUP: usize>(
        codes: &CodePanel,
        first: usize,
        columns: usize,
        out: impl Fn(usize) -> &'a mut [MaybeUninit<u32>],
    ) {
        assert!(first <= TILE - CODES, "invariant: a panel has room for whole registers");
        let mut outs: [&mut [MaybeUninit<u32>]; SIDE] = Default::default();
        let mut count = usize::MAX;
        for i in 0..SIDE {
            let column = first + GROUP * 4 + i % 4 + i / 4 * (CODES / 2);
            if column < columns {
                outs[i] = out(column);
            }
            count = count.min(outs[i].len());
        }
        let longest = outs[0].len().min(TILE / CODES_A_WORD);
        for word in (0..longest).step_by(SIDE) {
            // SAFETY: registers alone, AVX2 is there, and `word` begins a whole register's words of
            // the panel.
            let turned = unsafe { transpose8(word_rows::<GROUP>(codes, word, first)) };
            if word + SIDE <= count {
                for i in 0..SIDE {
                    // SAFETY: an unaligned store of eight words, which every column has.
                    unsafe { _mm256_storeu_ps(outs[i].as_mut_ptr().add(word).cast(), turned[i]) };
                }
                continue;
            }
            for (column, out) in turned.into_iter().zip(&mut outs) {
                let Some(out) = out.get_mut(word..) else { continue };
                let mut words = [MaybeUninit::uninit(); SIDE];
                // SAFETY: an unaligned store of eight words.
                unsafe { _mm256_storeu_ps(words.as_mut_ptr().cast(), column) };
                let count = out.len().min(SIDE);
                out[..count].copy_from_slice(&words[..count]);
            }
        }
    }

    /// Eight rows of words, from `word` on, of a group of [`pack_group`].
    ///
    /// # Safety
    /// The panel has so many rows, and a register's codes in each from `first` on.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn word_rows<const GROUP: usize>(
        codes: &CodePanel,
        word: usize,
        first: usize,
    ) -> [__m256; SIDE] {
        let mut words = [_mm256_setzero_ps(); SIDE];
        for i in 0..SIDE {
            let mut rows = [_mm256_setzero_si256(); CODES_A_WORD];
            for r in 0..CODES_A_WORD {
                let at = ((word + i) * CODES_A_WORD + r) * TILE + first;
                // SAFETY: an unaligned load of codes that are there, as the caller promises.
                rows[r] = unsafe { _mm256_loadu_si256(codes.as_ptr().add(at).cast()) };
            }
            let [a, b, c, d] = rows;
            let (ab, cd) = if GROUP < 2 {
                (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d))
            } else {
                (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d))
            };
            words[i] = _mm256_castsi256_ps(if GROUP.is_multiple_of(2) {
                _mm256_unpacklo_epi16(ab, cd)
            } else {
                _mm256_unpackhi_epi16(ab, cd)
            });
        }
        words
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;
    use std::mem::MaybeUninit;

    use super::{PackedPanel, TILE};
    use crate::host::simd::transpose_avx512;

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
                // SAFETY: registers alone, and AVX-512 F is there.
                let turned = unsafe { transpose_avx512(rows) };
                for (column, out) in turned.into_iter().zip(&mut outs[..count]) {
                    let out = &mut out[word..];
                    let mask = u16::MAX >> (SIDE - out.len().min(SIDE));
                    // SAFETY: an unaligned store of no more words than `out` has.
                    unsafe { _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), mask, column) };
                }
            }
        }
    }
}
