//! Codes of a panel into words, as they are or transposed.

use std::mem::MaybeUninit;

use crate::definition::{CODES_A_WORD, TILE, words};
use crate::host::output::Parts;
use crate::host::simd::multiversion;

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

/// Writes a panel of codes transposed and packed: column `c`'s words go to `out[start + c * stride..]`.
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
    let mut packed = [0; TILE / CODES_A_WORD * TILE];
    pack_down(codes, words(rows), &mut packed);
    for c in 0..columns {
        // SAFETY: the caller's promise.
        let out = unsafe { out.part(start + c * stride, words(rows)) };
        for (w, out) in out.iter_mut().enumerate() {
            out.write(packed[w * TILE + c]);
        }
    }
}

multiversion! {
    /// Packs four codes of each column into a word.
    fn pack_down(codes: &CodePanel, count: usize, packed: &mut [u32; TILE / CODES_A_WORD * TILE]) {
        let rows = codes.as_chunks::<{ CODES_A_WORD * TILE }>().0;
        for (rows, packed) in rows.iter().zip(packed.as_chunks_mut::<TILE>().0).take(count) {
            for c in 0..TILE {
                let code = |row: usize| u32::from(rows[row * TILE + c]);
                packed[c] = code(0) | code(1) << 8 | code(2) << 16 | code(3) << 24;
            }
        }
    }
}
