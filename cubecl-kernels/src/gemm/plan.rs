//! Which kernel and which tile a product takes.

use super::kernel::{STAGED_WORDS, TilePlan};
use crate::definition::KernelError;
use crate::quantize::is_software;
use cubecl::prelude::*;

/// The tile for a product of `m` rows a group and `n` columns.
pub(crate) fn tile(client: &Client, m: usize, _n: usize) -> TilePlan {
    if is_software(client) {
        TilePlan { each: (if m <= 8 { 1 } else { 8 }, 8), units: (1, 8), staged: false }
    } else {
        TilePlan { each: (4, 4), units: (16, 16), staged: true }
    }
}

/// Refuses a tile that the device cannot run.
///
/// # Errors
/// [`KernelError::Invalid`].
pub(crate) fn check(client: &Client, op: &'static str, tile: &TilePlan) -> Result<(), KernelError> {
    let hardware = &client.properties().hardware;
    let shared = if tile.staged { 4 * 4 * STAGED_WORDS * (tile.rows() + tile.columns()) } else { 0 };
    if tile.cube() == 0 || tile.each.0 * tile.each.1 == 0 || tile.cube() > hardware.max_units_per_cube {
        return Err(KernelError::Invalid { op, argument: "tile", requirement: "must have units, as many as the device runs in a cube" });
    }
    if shared as usize > hardware.max_shared_memory_size {
        return Err(KernelError::Invalid { op, argument: "tile", requirement: "must fit the device's shared memory" });
    }
    Ok(())
}

/// So many cubes along the columns, the rows and the groups of a result.
///
/// # Errors
/// [`KernelError::Overflow`] where the device cannot count as many.
pub(crate) fn cubes(client: &Client, op: &'static str, [x, y, z]: [usize; 3]) -> Result<CubeCount, KernelError> {
    let most = client.properties().hardware.max_cube_count;
    if x > most.0 as usize || y > most.1 as usize || z > most.2 as usize {
        return Err(KernelError::Overflow { op, argument: "c", shape: vec![z, y, x] });
    }
    Ok(CubeCount::Static(x as u32, y as u32, z as u32))
}
