//! In which order the cubes of a product take its tiles, in device code.

use cubecl::prelude::*;

/// Rows of tiles that are computed together, so that cubes at work at one time share operands in
/// the cache.
const RASTER: u32 = 16;

/// Column and row of this cube's tile: [`RASTER`] rows of tiles, column by column, then the next.
#[cube]
pub(crate) fn tile_of_cube() -> (u32, u32) {
    let linear = CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X;
    let band = RASTER * CUBE_COUNT_X;
    let first = linear / band * RASTER;
    let left = CUBE_COUNT_Y - first;
    let rows = select(left < RASTER, left, RASTER);
    let within = linear % band;
    (within / rows, first + within % rows)
}
