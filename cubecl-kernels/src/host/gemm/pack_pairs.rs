//! Packing into BF16 pairs: for every instruction set, and by AVX-512 where there is VBMI.

use std::ops::Range;

use super::left::{LeftLayout, ROW_WORDS};
use super::pack::Pack;
#[cfg(target_arch = "x86_64")]
use super::pack_avx512;
use super::source::{Source, write_values};
use crate::definition::TILE;
use crate::host::simd::LANES;

/// Entries that are packed together: 16 pairs.
const STEP: usize = 2 * LANES;

/// On every machine, an entry at a time.
pub(super) struct PlainPairs;

impl Pack for PlainPairs {
    const DEPTH: usize = 2;

    #[inline(always)]
    unsafe fn left(
        source: &Source<'_>,
        rows: Range<usize>,
        depth: Range<usize>,
        layout: LeftLayout,
        words: *mut u32,
    ) {
        for (t, first) in depth.clone().step_by(TILE).enumerate() {
            for (step, at) in (first..depth.end.min(first + TILE)).step_by(STEP).enumerate() {
                for (r, row) in rows.clone().enumerate() {
                    let to = t * layout.tile + step * layout.step + r * layout.row;
                    // SAFETY: these 16 words lie in the room that the caller vouches for.
                    unsafe { *words.add(to).cast() = pairs(source, row, at, depth.end) };
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn right(
        source: &Source<'_>,
        rows: Range<usize>,
        vectors: usize,
        depth: Range<usize>,
        words: *mut u32,
    ) {
        let width = vectors * LANES;
        for (t, first) in depth.clone().step_by(TILE).enumerate() {
            for (step, at) in (first..depth.end.min(first + TILE)).step_by(STEP).enumerate() {
                for column in 0..width {
                    let row = rows.start + column;
                    let pairs =
                        if row < rows.end { pairs(source, row, at, depth.end) } else { [0; LANES] };
                    for (i, pair) in pairs.into_iter().enumerate() {
                        let to = (t * ROW_WORDS + step * LANES + i) * width + column;
                        // SAFETY: the word lies in the room that the caller vouches for.
                        unsafe { *words.add(to) = pair };
                    }
                }
            }
        }
    }
}

/// Sixteen pairs of a row from entry `first` on, the first of each in the lower half; zero from
/// entry `end` on.
#[inline(always)]
fn pairs(source: &Source<'_>, row: usize, first: usize, end: usize) -> [u32; LANES] {
    let mut entries = [0.0; STEP];
    for (i, entries) in entries.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let at = first + i * LANES;
        if at < end {
            write_values(source, row, at, end - at, entries);
        }
    }
    // Every value is a BF16 number: its lower half is zero.
    std::array::from_fn(|i| entries[2 * i].to_bits() >> 16 | entries[2 * i + 1].to_bits())
}

/// With AVX-512 F, BW, BF16 and VBMI.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx512Pairs;

#[cfg(target_arch = "x86_64")]
impl Pack for Avx512Pairs {
    const DEPTH: usize = 2;

    #[inline(always)]
    unsafe fn left(
        source: &Source<'_>,
        rows: Range<usize>,
        depth: Range<usize>,
        layout: LeftLayout,
        words: *mut u32,
    ) {
        // SAFETY: the caller vouches for the operand, the room and the instruction set.
        unsafe { pack_avx512::left(source, rows, depth, layout, words) }
    }

    #[inline(always)]
    unsafe fn right(
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
