//! The left operand, packed: where its words lie.

use super::tile_unit::{BLOCK, STEP_WORDS};
use crate::definition::TILE;
use crate::host::simd::LANES;

/// Words of a row's depth tile of BF16 pairs.
pub(super) const ROW_WORDS: usize = TILE / 2;

/// Words from one row to the next for vectors: a chunk of depth at most, and a line, so that rows
/// do not fall on the same sets of a cache.
pub(super) const VECTOR_ROW: usize = 4 * TILE + LANES;

/// Where the words of each depth tile, of each row and of every 16 words of a row begin.
#[derive(Clone, Copy)]
pub(super) struct LeftLayout {
    /// Words from one depth tile to the next.
    pub(super) tile: usize,
    /// Words from one row to the next.
    pub(super) row: usize,
    /// Words from 16 of a row to its next 16.
    pub(super) step: usize,
}

impl LeftLayout {
    /// `[tile][step][32 rows][16]` pairs, in the order in which a tile unit reads them.
    pub(super) const BLOCKS: Self =
        Self { tile: BLOCK * ROW_WORDS, row: STEP_WORDS, step: BLOCK * STEP_WORDS };

    /// `[row][chunk of depth]`, for vectors.
    pub(super) const fn rows(depth_a_word: usize) -> Self {
        Self { tile: TILE / depth_a_word, row: VECTOR_ROW, step: LANES }
    }

    /// `[tile][row][TILE]` FP32 words.
    #[inline(always)]
    pub(super) fn tiles(rows: usize) -> Self {
        Self { tile: rows * TILE, row: TILE, step: LANES }
    }
}
