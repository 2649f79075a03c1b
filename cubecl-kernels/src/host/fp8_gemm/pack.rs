//! Packing into FP32 words, for every instruction set.

use std::ops::Range;

use super::source::{Source, round_to_bf16, tile_values};
use crate::definition::TILE;
use crate::host::simd::LANES;

/// `[tile][row][TILE]` words.
///
/// # Safety
/// `words` has room for `tiles * rows * TILE`.
#[inline(always)]
pub(super) unsafe fn left(source: &Source<'_>, rows: Range<usize>, depth: Range<usize>, words: *mut u32) {
    let count = rows.len();
    for (t, first) in depth.clone().step_by(TILE).enumerate() {
        let len = TILE.min(depth.end - first);
        for (r, row) in rows.clone().enumerate() {
            let values = tile_values(source, row, first, len);
            // SAFETY: row `r` of tile `t` lies in the room the caller vouches for.
            unsafe { *words.add((t * count + r) * TILE).cast() = values };
        }
    }
}

/// `[tile][TILE][LANES * vectors]` words, zero in the columns past `rows`.
///
/// # Safety
/// `words` has room for `tiles * TILE * LANES * vectors`.
#[inline(always)]
pub(super) unsafe fn right(source: &Source<'_>, rows: Range<usize>, vectors: usize, depth: Range<usize>, words: *mut u32) {
    for (t, first) in depth.clone().step_by(TILE).enumerate() {
        let len = TILE.min(depth.end - first);
        for v in 0..vectors {
            let start = rows.start + v * LANES;
            let count = rows.end.saturating_sub(start).min(LANES);
            // SAFETY: the steps of vector `v` in tile `t` lie in the room the caller vouches for.
            let step = |i: usize| unsafe { &mut *words.add(((t * TILE + i) * vectors + v) * LANES).cast::<[f32; LANES]>() };
            match source {
                Source::Floats(x) if x.row_stride == 1 => {
                    for i in 0..TILE {
                        let mut values = [0.0; LANES];
                        if i < len && count > 0 {
                            let row = &x.data[start + (first + i) * x.depth_stride..][..count];
                            for (value, &x) in values.iter_mut().zip(row) {
                                *value = round_to_bf16(x);
                            }
                        }
                        *step(i) = values;
                    }
                }
                _ => {
                    let mut block = [[0.0; TILE]; LANES];
                    for (r, block) in block[..count].iter_mut().enumerate() {
                        *block = tile_values(source, start + r, first, len);
                    }
                    for i in 0..TILE {
                        *step(i) = std::array::from_fn(|r| block[r][i]);
                    }
                }
            }
        }
    }
}
