//! Device code: casts, the largest magnitude of a tensor, and values from codes.

pub(super) mod amax;
pub(super) mod cast;
pub(super) mod dequantize;
pub(super) mod form;
pub(super) mod planes;

use crate::definition::TILE;

/// Units of a cube along each side of a 128x128 block.
pub(super) const SIDE: u32 = 16;
/// Entries of a block's side, and of a tile.
const BLOCK: u32 = TILE as u32;
/// Words of a full tile.
const WORDS: u32 = BLOCK / 4;
