//! Which tile of `C` a cube and a unit compute.
//!
//! On a GPU operands are decoded once a cube into shared memory and units share them. A software
//! renderer has no such memory, runs a load as a loop over the lanes of a vector, and a barrier as
//! a switch between coroutines; arithmetic is what it does well. There each unit loads words, four
//! codes a load, and decodes them into registers for itself.
//!
//! # Rejected
//! Measured with Mesa's lavapipe (22.3, LLVM 15) at 512^3 and 1024^3 on two busy cores, by CPU time
//! in turn with Burn's F32 product:
//! - operands staged in shared memory there: 0.23 of Burn's speed, against 1.9 of 8x8 in registers;
//! - 1x1 a unit: 0.34; 4x4: 1.4; 6x6: 1.3;
//! - 12x8, 12x12, 8x12: 1.9 to 2.1, for 5 to 8 times the compilation (1 to 1.7 s a kernel, against
//!   0.2);
//! - 16x16: 2.7 at 1024^3, and 12 s of compilation: right for one size used for hours, not for a
//!   test or a first step;
//! - 8 units or 64 a cube instead of 32: nothing in it.

use super::kernel::tiles::{STAGED_WORDS, TilePlan};
use crate::definition::KernelError;
use crate::device::is_software;
use cubecl::prelude::*;

/// The tile for a product of `rows` rows a group and `columns` columns.
pub(crate) fn tile(client: &Client, rows: usize, columns: usize) -> TilePlan {
    if is_software(client) {
        let each = rows.clamp(1, 8).next_power_of_two() as u32;
        return TilePlan {
            each: (each, 8),
            units: (if rows > 8 { 4 } else { 1 }, 8),
            staged: false,
        };
    }
    let large = TilePlan { each: (8, 8), units: (16, 16), staged: true };
    let small = TilePlan { each: (4, 4), ..large };
    let few = TilePlan { each: (1, 4), ..large };
    // A large tile is worth it only where there are enough of them to fill a device.
    let tiles = (rows / large.rows() as usize) * (columns / large.columns() as usize);
    if tiles >= 64 && check(client, "tile", &large).is_ok() {
        large
    } else if rows > 16 {
        small
    } else {
        few
    }
}

/// Refuses a tile that the device cannot run.
///
/// # Errors
/// [`KernelError::Invalid`].
pub(crate) fn check(client: &Client, op: &'static str, tile: &TilePlan) -> Result<(), KernelError> {
    let hardware = &client.properties().hardware;
    let shared =
        if tile.staged { 4 * 4 * STAGED_WORDS * (tile.rows() + tile.columns()) } else { 0 };
    if tile.cube() == 0
        || tile.each.0 * tile.each.1 == 0
        || tile.cube() > hardware.max_units_per_cube
    {
        return Err(KernelError::Invalid {
            op,
            argument: "tile",
            requirement: "must have units, as many as the device runs in a cube",
        });
    }
    if shared as usize > hardware.max_shared_memory_size {
        return Err(KernelError::Invalid {
            op,
            argument: "tile",
            requirement: "must fit the device's shared memory",
        });
    }
    Ok(())
}

/// So many cubes along the columns, the rows and the groups of a result.
///
/// # Errors
/// [`KernelError::Overflow`] where the device cannot count as many.
pub(crate) fn cubes(
    client: &Client,
    op: &'static str,
    [x, y, z]: [usize; 3],
) -> Result<CubeCount, KernelError> {
    let most = client.properties().hardware.max_cube_count;
    if x > most.0 as usize || y > most.1 as usize || z > most.2 as usize {
        return Err(KernelError::Overflow { op, argument: "c", shape: vec![z, y, x] });
    }
    Ok(CubeCount::Static(x as u32, y as u32, z as u32))
}
