//! The left operand as BF16 pairs, packed: where its words lie.

use super::tile_unit::{BLOCK, STEP_WORDS};
use crate::definition::TILE;

/// Words of a row's depth tile.
pub(super) const ROW_WORDS: usize = TILE / 2;

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
    /// `[tile][step][32 rows][16]`, in the order in which a tile unit reads them.
    pub(super) const BLOCKS: Self =
        Self { tile: BLOCK * ROW_WORDS, row: STEP_WORDS, step: BLOCK * STEP_WORDS };

    /// `[tile][row][64]`, for vectors.
    #[inline(always)]
    pub(super) fn rows(count: usize) -> Self {
        Self { tile: count * ROW_WORDS, row: ROW_WORDS, step: STEP_WORDS }
    }
}
