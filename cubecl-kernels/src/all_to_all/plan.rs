//! How the kernels are cut into units.
//!
//! A unit has four values of a row (a *quad*): a word of FP8 codes, two of BF16, four of FP32. A
//! cast to FP8 has 128 units for the four tiles whose scales are one word, so that a cube writes
//! whole words alone.
//!
//! # Rejected
//! - A cube a row: a row of 33 values would leave 247 of 256 units idle, and one of 7168 needs a
//!   loop.
//! - Sums by atomic addition from the terms: their order, and so the result, would be chance.

use crate::device::UNITS;

/// Values of a unit.
pub(crate) const QUAD: u32 = 4;
/// Units that cast four tiles, whose scales are one word.
pub(crate) const UNITS_A_SCALE_WORD: u32 = 128;
/// Units of one tile.
pub(crate) const UNITS_A_TILE: u32 = 32;
/// Units of a cube that sums one product of rows.
pub(crate) const UNITS_A_DOT: u32 = 64;
/// From so many copies of a row on, on average, rows are cast once each and their words copied: of
/// 8 copies of an FP32 row 21 bytes a value are moved instead of 40, and one in eight is cast.
pub(crate) const CASTS_SAVED: usize = 2;

const _: () = assert!(UNITS.is_multiple_of(UNITS_A_SCALE_WORD));
