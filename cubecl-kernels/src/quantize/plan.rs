//! How a cast is cut into cubes.
//!
//! A cube takes one 128x128 block, a unit 8x8 entries of it in registers: each entry is read once,
//! whichever orientations are written, and a block, a row tile and a column tile are all within one
//! cube.
//!
//! # Rejected
//! - A unit a word with 32 units reducing a row tile: half the shared memory, but columns would
//!   need a kernel and a read of their own.
//! - 4x16 entries a unit: the column reduction takes 16 KiB of shared memory, all that a device
//!   must have by WebGPU's default limits.
//! - Reduction over planes: a plane is 8 to 64 units wide by device, and a row is spread over 16
//!   units.
//! - `x * (1 / scale)` and the device's own division alone: see `codec::round_quotient`.

use super::kernel::SIDE;
use crate::definition::{KernelError, TILE};
use cubecl::prelude::*;

/// Units of a cube.
pub(crate) const UNITS: u32 = SIDE * SIDE;

/// Cubes of the first pass over a tensor for its largest magnitude.
pub(crate) const AMAX_CUBES: usize = 256;

/// One cube a tile of rows, a tile of columns and an expert.
///
/// # Errors
/// [`KernelError::Overflow`] where the device cannot count so many cubes.
pub(crate) fn block_cubes(
    client: &Client,
    op: &'static str,
    row_tiles: usize,
    columns: usize,
    experts: usize,
) -> Result<CubeCount, KernelError> {
    let (x, y, z) = (row_tiles, columns.div_ceil(TILE), experts);
    let most = client.properties().hardware.max_cube_count;
    if x > most.0 as usize || y > most.1 as usize || z > most.2 as usize {
        return Err(KernelError::Overflow {
            op,
            argument: "x",
            shape: vec![x * TILE, y * TILE, z],
        });
    }
    Ok(CubeCount::Static(x as u32, y as u32, z as u32))
}

/// Entries a unit loads at once.
pub(crate) const fn load_width(columns: usize) -> usize {
    if columns.is_multiple_of(4) { 4 } else { 1 }
}

/// Cubes of [`UNITS`] for one unit an item; more cubes than a dimension holds continue in the next.
pub(crate) fn elementwise_cubes(client: &Client, items: usize) -> CubeCount {
    let cubes = items.div_ceil(UNITS as usize);
    let most = (client.properties().hardware.max_cube_count.0 as usize).min(1 << 15);
    let x = cubes.min(most).max(1);
    CubeCount::Static(x as u32, cubes.div_ceil(x) as u32, 1)
}

/// Whether the device is a software renderer, by its planes of 8 units at most.
///
/// Such a device compiles a kernel by what it unrolls (a cast of 64 unrolled entries takes a
/// minute), has no registers to fill, and no shared memory that is nearer than any other.
pub(crate) fn is_software(client: &Client) -> bool {
    client.properties().hardware.plane_size_max <= 8
}
