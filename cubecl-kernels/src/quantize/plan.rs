//! How a cast is cut into cubes.
//!
//! A cube takes one 128x128 block, a unit 8x8 entries of it in registers: each entry is read once,
//! whichever orientations are written, and a block, a row tile and a column tile are all within one
//! cube. A software renderer casts tiles by planes in place of cubes, a launch an orientation: see
//! [`planes`](super::kernel::planes).
//!
//! # Rejected
//! - A unit a word with 32 units reducing a row tile: half the shared memory, but columns would
//!   need a kernel and a read of their own.
//! - 4x16 entries a unit: the column reduction takes 16 KiB of shared memory, all that a device
//!   must have by WebGPU's default limits.
//! - Reduction over planes: a plane is 8 to 64 units wide by device, and a row is spread over 16
//!   units.
//! - `x * (1 / scale)` and the device's own division alone: see `codec::quotient_code`.

use super::kernel::SIDE;
use crate::definition::{KernelError, TILE};
use crate::device::UNITS;
use cubecl::prelude::*;

const _: () = assert!(SIDE * SIDE == UNITS);

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
